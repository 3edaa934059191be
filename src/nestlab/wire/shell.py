"""Command lines for a POSIX shell at the other end (dash, bash, busybox), one per operation. Pure."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

ANNOUNCED = re.compile(rb"nestlab-pid (\d+)\n")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def command(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A command line that becomes `argv` (no shell stays between, so that signals reach the program)."""
    exports = ""
    for name, value in (env or {}).items():
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
        exports += f"export {name}={shlex.quote(value)}; "
    return f"{exports}exec {shlex.join(argv)}"


def announce(line: str) -> str:
    """The command line, which first says on stderr what process it is (ANNOUNCED)."""
    return f"echo nestlab-pid $$ >&2; {line}"


def end(pid: int) -> str:
    """End the process group of a command, or at least the command: TERM, and KILL after two seconds."""

    def send(signal: str) -> str:
        return f"{{ kill -s {signal} -- -{pid} || kill -s {signal} {pid}; }} 2>/dev/null"

    wait = f"n=0; while [ $n -lt 20 ] && {send('0')}; do sleep 0.1; n=$((n+1)); done"
    return f"{send('TERM')}; {wait}; {send('KILL')}; :"


def synced(paths: Iterable[str]) -> str:
    """Bring files or directories to the disk. A host without `sync` does that when it likes; one older than GNU
    coreutils 8.24 syncs everything."""
    return f"{{ sync -- {shlex.join(paths)} || [ $? = 127 ]; }}"


def store(path: str, size: int, mode: int) -> str:
    """Replace `path` by `size` bytes of stdin, all of them or none (a lost connection also ends stdin); when it ends
    well, they are on the disk."""
    new = f"{path}.{os.urandom(4).hex()}.new"
    temporary = shlex.quote(new)
    folder = posixpath.dirname(path)
    quoted = shlex.quote(folder)
    made = f"{{ [ -d {quoted} ] || {{ new=yes; mkdir -p -- {quoted}; }}; }} && " if folder else ""
    # A shell opens files with 0666 less the umask: chmod is another process, needed only for more than that.
    chmod = f"chmod {mode:o} {temporary} && " if mode & ~0o666 else ""
    whole = f'[ "$(wc -c <{temporary})" -eq {size} ]'
    steps = f"umask {0o777 & ~mode:03o} && {{ {chmod}cat; }} >{temporary} && {whole} && {synced([new])}"
    named = f'if [ "$new" ]; then {synced(_around(folder))}; else {synced([folder or "."])}; fi'
    return (
        f"new=; umask 077; {made}{steps} && mv -f -- {temporary} {shlex.quote(path)} && {named}"
        f" || {{ rm -f -- {temporary}; exit 1; }}"
    )


def _around(folder: str) -> list[str]:
    """A directory and those that it is in: which of them are new, is not known."""
    found = [folder or "."]
    while (outer := posixpath.dirname(found[-1])) not in ("", found[-1]):
        found.append(outer)
    return found


def unpack(paths: Iterable[str], token: str) -> str:
    """Put files of a tar archive on stdin, made by `staged` names, where they belong: each by one rename, once all are
    on the disk."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(posixpath.dirname(path), []).append(posixpath.basename(path))
    stages = {folder: posixpath.join(folder, token) for folder in folders}
    quoted = shlex.join(stages.values())
    moves = []
    for folder, names in folders.items():
        sources = shlex.join(posixpath.join(stages[folder], name) for name in names)
        moves.append(f"mv -f -- {sources} {shlex.quote(folder or '/')}/")
    new = synced(posixpath.join(stages[folder], name) for folder, names in folders.items() for name in names)
    around = synced(dict.fromkeys(each or "/" for folder in folders for each in (folder, posixpath.dirname(folder))))
    done = " && ".join(["tar -xopf - -C /", new, *moves, around])
    return f"umask 077; mkdir -p -- {quoted} && {done}; status=$?; rm -rf -- {quoted}; exit $status"


def staged(path: str, token: str) -> str:
    """The name in the archive of a file that `unpack` moves to `path`."""
    return posixpath.join(posixpath.dirname(path), token, posixpath.basename(path)).lstrip("/")
