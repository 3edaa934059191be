"""The keys of a lab: one pair that opens all its machines, and a host key for each machine, pinned.

They are made on the lab's host, once, and stay there (0600, in the lab's directory, 0700): a machine that is made anew
keeps its host key, and nothing is ever trusted on first use. No secret is on a command line.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.files import refused, replace_all, replace_changed
from nestlab.base.typed import parsed
from nestlab.home import key_pairs
from nestlab.home.key_pairs import KeyPair
from nestlab.home.node_secrets import NodeSecrets, new_node, read_node
from nestlab.home.paths import short_id
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost, inside

CLUSTER_KEY = 256
"""Bytes of corosync's key: it takes 128 to 4096 (corosync.conf(5), totem.keyfile)."""

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
        if missing := self._missing_key():
            replace_all(missing)
        return self._directory / "id_ed25519"

    def make(self, machines: Iterable[str]) -> None:
        """Make the lab's key and the host keys of these machines, as far as they are not there: all at once, since
        each is synced. LabError if they cannot be written."""
        missing = self._missing_key()
        for machine in machines:
            if not self._host_key(machine).exists():
                missing |= self._new_host_key(machine)
        if missing:
            replace_all(missing)

    def _missing_key(self) -> dict[Path, tuple[bytes, int]]:
        """The files of the lab's key that are to be made."""
        path = self._directory / "id_ed25519"
        public = path.with_suffix(".pub")
        if not _holds(path):
            if any((self._directory / "m").glob("*/made")):
                raise LabError(f"The lab's ssh key {path} is gone, and its machines let no other in.", hint=self._anew)
            pair = key_pairs.generate(comment="nestlab")
            return {public: (f"{pair.public}\n".encode(), 0o600), path: (pair.private.encode(), 0o600)}
        if _holds(public):
            return {}
        try:  # both were written at once, and the power went between their names
            return {public: (f"{key_pairs.public_of(path.read_text())} nestlab\n".encode(), 0o600)}
        except (OSError, ValueError) as error:
            raise LabError(f"The lab's ssh key {path} cannot be read.", hint=self._anew) from error

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
            path = self._host_key(machine)
            if not path.exists():
                replace_all(self._new_host_key(machine))
            try:
                data = parsed(path.read_text())
                known = KeyPair(data["private"], data["public"], bytes.fromhex(data["dropbear"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise LabError(f"The host key of {machine} in {path} cannot be read.", hint=self._anew) from error
            self._host_keys[machine] = known
        return known

    def node(self, machine: str) -> NodeSecrets:
        """What only a node of Proxmox VE has; made when it is first asked for."""
        path = self._directory / "keys" / f"{short_id(machine)}.node"
        if not path.exists():
            replace_all({path: (json.dumps(new_node(machine)).encode(), 0o600)})
        try:
            return read_node(parsed(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"The keys of {machine} in {path} cannot be read.", hint=self._anew) from error

    def cluster(self, name: str) -> bytes:
        """The key that nodes of a cluster know each other by; made when it is first asked for."""
        path = self._directory / "keys" / f"{short_id(f'cluster:{name}')}.cluster"
        if not path.exists():
            replace_all({path: (secrets.token_bytes(CLUSTER_KEY), 0o600)})
        try:
            key = path.read_bytes()
        except OSError as error:
            raise LabError(f"The key of cluster {name} in {path} cannot be read.", hint=self._anew) from error
        if len(key) != CLUSTER_KEY:
            raise LabError(f"The key of cluster {name} in {path} is not whole.", hint=self._anew)
        return key

    def hand_on(self, machine: str, other: str) -> None:
        """What a machine has it keeps under another path; one that has keys of its own gets these. LabError if they
        cannot be written."""
        self._host_keys.pop(other, None)
        for mine, others in zip(self._files_of(machine), self._files_of(other), strict=True):
            if mine.exists():
                replace_changed({others: (mine.read_bytes(), 0o600)})

    def drop(self, machine: str) -> None:
        """Forget what a machine had that goes by another path now. LabError if that cannot be removed."""
        self._host_keys.pop(machine, None)
        for each in self._files_of(machine):
            try:
                each.unlink(missing_ok=True)
            except OSError as error:
                raise refused(f"The file {each} cannot be removed", error) from error

    def _files_of(self, machine: str) -> tuple[Path, Path]:
        return self._host_key(machine), self._directory / "keys" / f"{short_id(machine)}.node"

    def _host_key(self, machine: str) -> Path:
        return self._directory / "keys" / short_id(machine)

    def _new_host_key(self, machine: str) -> dict[Path, tuple[bytes, int]]:
        pair = key_pairs.generate(comment=machine)
        made = {"private": pair.private, "public": pair.public, "dropbear": pair.dropbear.hex()}
        return {self._host_key(machine): (json.dumps(made).encode(), 0o600)}

    @property
    def _anew(self) -> str:
        lab = self._directory.name
        return f"Put the file back; or make the lab anew: `nestlab down {lab}`, then `nestlab up` with its lab file."

    def host(self, machine: str, parent: Host, port: int, user: str, *, slowness: float = 1.0) -> SshHost:
        """The machine as a host, reached through `parent`, on whose loopback its sshd is forwarded to `port`.
        `slowness`: how slow it is, as far as that is known."""
        host_key = self.host_key(machine).public
        return inside(parent, machine, port, user=user, key=self.key, host_key=host_key, slowness=slowness)


def _holds(path: Path) -> bool:
    """Whether a file is there and not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # what keeps it from being looked at is told when it is read
