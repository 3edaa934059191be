"""The keys of a lab: one pair that opens all its machines, and a host key for each machine, pinned.

They are made on the lab's host, once, and stay there (0600, in the lab's directory, 0700): a machine that is made anew
keeps its host key, and nothing is ever trusted on first use. No secret is on a command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.home import key_pairs
from nestlab.home.key_pairs import KeyPair
from nestlab.home.paths import short_id
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost, inside

MARK = "(from the lab file)"
"""Ends the lines of authorized_keys that are the user's own, so that they are found again."""


def marked(ssh_keys: Iterable[str]) -> list[str]:
    """The keys of a lab file as lines of authorized_keys."""
    return [f"{key} {MARK}" for key in ssh_keys]


class LabKeys:
    """The keys below a lab's directory. They are made when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._host_keys: dict[str, KeyPair] = {}
        self._authorized = ""

    @property
    def key(self) -> Path:
        """The private key that opens every machine of the lab. LabError when machines have one that is gone."""
        path = self._directory / "id_ed25519"
        if not path.exists():
            if any((self._directory / "m").glob("*/made")):
                raise LabError(f"The lab's ssh key {path} is gone, and its machines let no other in.", hint=self._anew)
            pair = key_pairs.generate(comment="nestlab")
            _keep(self._directory / "id_ed25519.pub", pair.public + "\n")
            _keep(path, pair.private)
        return path

    @property
    def authorized(self) -> str:
        """The lab's own line for authorized_keys."""
        if not self._authorized:
            path = self.key.with_suffix(".pub")
            try:
                self._authorized = path.read_text()
            except OSError as error:
                raise LabError(f"The lab's key {path} cannot be read: {error.strerror}.", hint=self._anew) from error
        return self._authorized

    def authorized_keys(self, ssh_keys: Iterable[str]) -> str:
        """All that may log in to a machine: the lab's key, then those of the lab file, a line each."""
        return "".join(f"{line}\n" for line in (self.authorized.strip(), *marked(ssh_keys)))

    def host_key(self, machine: str) -> KeyPair:
        """The host key of the machine with this path."""
        known = self._host_keys.get(machine)
        if known is None:
            path = self._directory / "keys" / short_id(machine)
            if not path.exists():
                pair = key_pairs.generate(comment=machine)
                made = {"private": pair.private, "public": pair.public, "dropbear": pair.dropbear.hex()}
                _keep(path, json.dumps(made))
            try:
                data = json.loads(path.read_text())
                known = KeyPair(data["private"], data["public"], bytes.fromhex(data["dropbear"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise LabError(f"The host key of {machine} in {path} cannot be read.", hint=self._anew) from error
            self._host_keys[machine] = known
        return known

    @property
    def _anew(self) -> str:
        lab = self._directory.name
        return f"Put the file back; or make the lab anew: `nestlab down {lab}`, then `nestlab up` with its lab file."

    def host(self, machine: str, parent: Host, port: int, user: str, *, slowness: float = 1.0) -> SshHost:
        """The machine as a host, reached through `parent`, on whose loopback its sshd is forwarded to `port`.
        `slowness`: how slow it is, as far as that is known."""
        host_key = self.host_key(machine).public
        return inside(parent, machine, port, user=user, key=self.key, host_key=host_key, slowness=slowness)


def _keep(path: Path, text: str) -> None:
    """Write a secret: 0600 from its first byte on, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)
