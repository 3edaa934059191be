"""The user's known_hosts files, looked up and added to as OpenSSH does it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.files import append, hint_for, make_folder
from nestlab.base.frozen import frozen

if TYPE_CHECKING:
    import asyncssh

PORT = 22


@frozen
class Line:
    """A key in a known_hosts file. Lines count from 1."""

    file: Path
    number: int
    key: asyncssh.SSHKey

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@frozen
class Known:
    """The entries of known_hosts files for a host, which they call `name`.

    `keys` are its own. `bare` are those of the same host with no port said, which ssh trusts too where there are none
    for the port; another key is then a new one and not a changed one."""

    name: str
    keys: tuple[Line, ...] = ()
    bare: tuple[Line, ...] = ()
    authorities: tuple[Line, ...] = ()
    revoked: tuple[Line, ...] = ()

    @property
    def trusted(self) -> list[asyncssh.SSHKey]:
        return [line.key for line in (*self.keys, *self.bare)]


def name_of(host: str, port: int) -> str:
    """The name of a host in known_hosts files."""
    return host.lower() if port == PORT else f"[{host.lower()}]:{port}"


def kind(key: asyncssh.SSHKey) -> str:
    """The type of a key as ssh tells it to people: ED25519."""
    return key.algorithm.decode().removeprefix("ssh-").partition("-")[0].upper()


def look_up(files: Sequence[Path], host: str, port: int, alias: str | None = None) -> Known:
    """Looks a host up in the files (missing ones are skipped). `alias`: HostKeyAlias, which stands for host and port.

    Lines that cannot be understood are passed over, as ssh does. LabError if a file is there and cannot be read."""
    name = alias.lower() if alias else name_of(host, port)
    own: tuple[list[Line], ...] = ([], [], [])
    bare: tuple[list[Line], ...] = ([], [], [])
    for file in files:
        for number, text in enumerate(_read(file).splitlines(), 1):
            _sort(text, name, file, number, own)
            if not alias and port != PORT:
                _sort(text, host.lower(), file, number, bare)
    keys, authorities, revoked = map(tuple, own)
    return Known(
        name,
        keys,
        () if keys or authorities else tuple(bare[0]),
        authorities or (() if keys else tuple(bare[1])),
        revoked + tuple(bare[2]),
    )


def remember(file: Path, name: str, key: asyncssh.SSHKey) -> None:
    """Add a key; with its name hashed where the file has hashed names already. A new file has mode 0600."""
    public = key.export_public_key().decode().split()
    try:
        make_folder(file.parent)
        before = _read(file)
        shown = _hashed(name) if any(line.startswith("|1|") for line in before.splitlines()) else name
        line = f"{shown} {public[0]} {public[1]}\n"
        append(file, (line if not before or before.endswith("\n") else f"\n{line}").encode(), 0o600)
    except OSError as error:
        what = f"The host key of {name} cannot be remembered in {file}: {error.strerror}."
        raise LabError(what, hint=hint_for(error)) from error


def _sort(text: str, name: str, file: Path, number: int, into: Sequence[list[Line]]) -> None:
    """Add what a line says of `name` to the host keys, authorities and revoked keys."""
    import asyncssh

    if not text.strip() or text.lstrip().startswith("#"):
        return
    try:
        found = asyncssh.match_known_hosts(asyncssh.import_known_hosts(text), name, "", None)
    except ValueError:
        return
    for keys, kind in zip(found[:3], into, strict=True):
        kind.extend(Line(file, number, key) for key in keys)


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        what = f"The known ssh host keys in {file} cannot be read: {error.strerror}."
        raise LabError(what, hint="Check the file's mode and owner.") from error


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
