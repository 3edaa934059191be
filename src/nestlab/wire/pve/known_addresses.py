"""Which addresses of a Proxmox VE the user has named: a lab file of somebody else may say any.

An address is the user's once it was said on a command line (`--set on=`, `nestlab pve check ADDRESS`), stands in
NESTLAB_PVE_HOST, or was agreed to by `nestlab pve trust`, of which a file below nestlab's state directory tells. To any
other address nothing is sent, and its name is not looked up.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.lab import pve_address
from nestlab.lab.pve_address import PORT, Place, Shell

HOSTS = "NESTLAB_PVE_HOST"

SHELLS = "shells"
"""The file, beside those of addresses of the API, with a line for each that is reached by ssh."""


def check(where: Place | Shell, environ: Mapping[str, str], state: Path, *, named: bool) -> None:
    """LabError for an address that the user has not named. `named`: it was said on this command line, or a lab of the
    user's was made there. This machine needs no name."""
    if named or (isinstance(where, Shell) and not where.host):
        return
    if not (beside(where, environ) or is_kept(where, state)):
        what = f"{where} is named by a lab file only: nothing was sent there, and its name was not looked up."
        raise LabError(what, hint=f"If it is yours: `nestlab pve trust {where}`, or set {HOSTS}={_host(where)}.")


def beside(where: Place | Shell, environ: Mapping[str, str]) -> bool:
    """Whether NESTLAB_PVE_HOST names it. LabError if something else stands there."""
    return any(same(where, each) for each in hosts(environ))


def hosts(environ: Mapping[str, str]) -> list[Place | Shell]:
    """The addresses in NESTLAB_PVE_HOST: of hosts, with ports, or whole ones, with blanks or commas between."""
    words = [word for word in re.split(r"[\s,]+", environ.get(HOSTS, "")) if word]
    found: list[Place | Shell] = []
    for word in words:
        try:
            found.append(pve_address.parse(word if word.startswith(("pve:", "pve+")) else f"pve://{word}"))
        except LabError as error:
            raise LabError(f"{HOSTS}: {error.what}", hint="Set it to a host, such as pve1.example.org.") from None
    return found


def same(one: Place | Shell, other: Place | Shell) -> bool:
    """Whether both are one door: the same host and port. Who enters, and which node is meant, is another matter."""
    if isinstance(one, Place) and isinstance(other, Place):
        return (one.host.lower(), one.port) == (other.host.lower(), other.port)
    if isinstance(one, Shell) and isinstance(other, Shell):
        return (one.host.lower(), one.port or 22) == (other.host.lower(), other.port or 22)
    return False


def keep_at(state: Path, where: Place) -> Path:
    """The file for an address of the API."""
    port = "" if where.port == PORT else f"_{where.port}"
    return state / "pve" / f"{where.host.lower().replace(':', '-')}{port}.toml"


def is_kept(where: Place | Shell, state: Path) -> bool:
    """Whether it was agreed to before."""
    if isinstance(where, Place):
        return keep_at(state, where).exists()
    return any(same(where, each) for each in shells(state))


def only_one(where: Place, state: Path) -> bool:
    """Whether no other address of the API has a file."""
    try:
        kept = [each.name for each in (state / "pve").iterdir() if each.suffix == ".toml"]
    except OSError:
        return False
    return kept == [keep_at(state, where).name]


def keep_shell(state: Path, where: Shell) -> Path:
    """Keep that an address reached by ssh was agreed to. LabError if that cannot be written."""
    path = state / "pve" / SHELLS
    kept = dict.fromkeys([*map(str, shells(state)), str(where)])
    files.replace(path, "".join(f"{each}\n" for each in kept).encode(), 0o600)
    return path


def shells(state: Path) -> list[Place | Shell]:
    """The addresses reached by ssh that were agreed to."""
    found: list[Place | Shell] = []
    with contextlib.suppress(OSError, ValueError):
        for line in (state / "pve" / SHELLS).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(LabError):
                found.append(pve_address.parse(line))
    return found


def _host(where: Place | Shell) -> str:
    if isinstance(where, Shell):
        return str(where)
    host = f"[{where.host}]" if ":" in where.host else where.host
    return host if where.port == PORT else f"{host}:{where.port}"
