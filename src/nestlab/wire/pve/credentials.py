"""Credentials for a Proxmox VE: where they come from, and which address they belong to.

Its address (`pve_address`) holds no secret. Secrets are in the environment (NESTLAB_PVE_TOKEN, or NESTLAB_PVE_USER and
NESTLAB_PVE_PASSWORD), else in a file of its own below nestlab's state directory (`pve/HOST.toml`, 0600), else asked
for. Never on a command line, never in a lab file.

What the environment holds is for the addresses in NESTLAB_PVE_HOST, and for no others. Where that is not set it is for
an address that the user says on the command line, or for the only one that `nestlab pve trust` keeps.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.files import replace, sweep
from nestlab.base.frozen import frozen
from nestlab.lab.pve_address import Place, is_user
from nestlab.wire.pve import known_addresses as known
from nestlab.wire.pve.known_addresses import keep_at
from nestlab.wire.pve.login import Login, Password, Token
from nestlab.wire.pve.trust import Trust

__all__ = ["KEYS", "Ask", "Credentials", "find", "held", "keep", "keep_at"]

KEYS = ("token", "user", "password", "fingerprint", "ca")
"""What a file may hold. `token` is USER@REALM!ID=SECRET; a fingerprint or `ca` says which certificate is believed."""

ENVIRONMENT = tuple(f"NESTLAB_PVE_{key.upper()}" for key in KEYS)
"""The variables that say the same."""

Ask = Callable[[str], str]
"""Asks a person for a secret that is not shown."""


@frozen
class Credentials:
    """Credentials for a place, and the certificate that it must show."""

    place: Place
    login: Login
    trust: Trust


def find(
    where: Place, environ: Mapping[str, str], state: Path, ask: Ask | None = None, *, named: bool = False
) -> Credentials:
    """The credentials for a place: from the environment, else from the file below `state`, else asked for. LabError
    when the user has not named the place (`named`: on the command line; see `wire.pve.known_addresses`), when there are
    none, when they are not those that the address names, or others may read the file."""
    known.check(where, environ, state, named=named)
    kept = keep_at(state, where)
    held = _read(kept)
    environ, hidden = _for(where, environ, state, named=named)

    def value(key: str) -> str:
        return environ.get(f"NESTLAB_PVE_{key.upper()}", "") or held.get(key, "")

    believed = Trust.of(value("fingerprint"), value("ca"))
    token, user, password = _told(environ, held)
    login: Login
    if token and not (where.user and not where.token_id and password):
        login = Token.of(token)
    elif password:
        login = Password(_user(where, user), password)
    elif ask is None:
        raise _nothing(where, kept, hidden)
    elif where.token_id:
        login = Token(where.user, where.token_id, ask(f"Secret of the API token {where.user}!{where.token_id}: "))
    else:
        name = _user(where, user)
        login = Password(name, ask(f"Password of {name} on {where.host}: "))
    _same(where, login)
    return Credentials(where, login, believed)


def _for(
    where: Place, environ: Mapping[str, str], state: Path, *, named: bool
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """What of the environment belongs to a place, and the variables that do not."""
    mine = known.beside(where, environ) if known.hosts(environ) else named or known.only_one(where, state)
    held = tuple(name for name in ENVIRONMENT if environ.get(name))
    return (environ, ()) if mine else ({}, held)


def held(state: Path, where: Place) -> dict[str, str]:
    """The content of the file for a place, by KEYS; nothing if there is none. LabError as by `find`."""
    return _read(keep_at(state, where))


def keep(state: Path, where: Place, values: Mapping[str, str]) -> Path:
    """Write the file for a place anew, 0600 from its first byte on. `values` as in KEYS. LabError if that fails."""
    path = keep_at(state, where)
    unknown = set(values) - set(KEYS)
    if unknown:
        raise ValueError(f"no keys of credentials: {unknown}")
    text = "".join(f"{key} = {_quoted(values[key])}\n" for key in KEYS if values.get(key))
    sweep(path.parent)  # of what a killed nestlab left, which is as secret
    replace(path, text.encode(), 0o600)
    return path


def _quoted(text: str) -> str:
    """A string of TOML: as in JSON, but for characters beyond 16 bits and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _told(environ: Mapping[str, str], held: Mapping[str, str]) -> tuple[str, str, str]:
    """Token, user and password; what the environment says of any of them hides the file's."""
    names = ("token", "user", "password")
    told = {name: environ.get(f"NESTLAB_PVE_{name.upper()}", "") for name in names}
    if told["token"] or told["password"]:
        return told["token"], told["user"] or held.get("user", ""), told["password"]
    return held.get("token", ""), told["user"] or held.get("user", ""), held.get("password", "")


def _user(where: Place, told: str) -> str:
    name = where.user or told or "root@pam"
    if not is_user(name):
        raise LabError(f"{name!r} is no user with a realm.", hint="Write it as root@pam or lab@pve.")
    return name


def _same(where: Place, login: Login) -> None:
    """Whether it is who the address names. A token's secret for another token would only be refused, after 3 s."""
    named = f"{where.user}!{where.token_id}" if where.token_id else where.user
    if named and named != login.name and not (not where.token_id and named == login.user):
        what = f"{where} names {named}, but the credentials are those of {login.name}."
        raise LabError(what, hint="Name the same in both: NESTLAB_PVE_TOKEN, or the file in nestlab's directory.")


def _nothing(where: Place, kept: Path, hidden: tuple[str, ...]) -> LabError:
    if hidden:
        what = f"{hidden[0]} does not belong to {where.host}: {known.HOSTS} says which Proxmox VE it is for."
        return LabError(what, hint=f"Set {known.HOSTS}={where.host}, or keep its own secret in {kept} (chmod 600).")
    return LabError(
        f"There is nothing to log in to {where.host} with.",
        hint=f'Set NESTLAB_PVE_TOKEN=USER@REALM!ID=SECRET; or write `token = "…"` into {kept} (chmod 600).',
    )


def _read(path: Path) -> dict[str, str]:
    """What a file says; nothing if it is not there. It is checked as it was opened, not as it is called."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            _private(path, status)
            values = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}.", hint="Check its owner.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # its message could show the secret
        raise LabError(f"{path} is no TOML.", hint='Write lines such as `token = "lab@pve!nestlab=…"`.') from None
    if wrong := [key for key, value in values.items() if key not in KEYS or not isinstance(value, str)]:
        raise LabError(f"{path} has {wrong[0]!r}, which is none of {', '.join(KEYS)}.", hint="Correct or remove it.")
    return values


def _private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & 0o077:
        what = f"{path} holds a secret and others may read it (mode {stat.S_IMODE(status.st_mode):04o})."
        raise LabError(what, hint=f"chmod 600 {path}; and make a new secret if others use this machine.")
    if status.st_uid not in (os.geteuid(), 0):
        raise LabError(f"{path} belongs to user {status.st_uid}.", hint="It must be yours: look at what is in it.")
