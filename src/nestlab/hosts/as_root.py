"""Commands that need root on a machine whose login user may be another. Pure."""

from __future__ import annotations

_AS_ROOT = '[ "$(id -u)" != 0 ] || exec sh -c "$@"; exec sudo -n sh -c "$@"'


def as_root(script: str, *words: str) -> tuple[str, ...]:
    """A command that runs a script of POSIX sh with arguments as root: by sudo, without a password, for other users.
    They are the arguments of processes, which everybody may read: no secrets."""
    return ("sh", "-c", _AS_ROOT, "as-root", script, "nestlab", *words)
