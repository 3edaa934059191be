"""How OpenSSH reaches the machines of a lab: ssh_config(5) and known_hosts, as text. Pure.

Every machine has an entry of its own by its full name, `pair.hv1.web`, and no entry is a pattern: no other host of the
user's is ever meant by one. A machine inside another is reached through the entry of that one (ProxyJump).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nestlab.base.errors import LabError
from nestlab.lab.model import parent_of


@dataclass(frozen=True)
class SshEntry:
    """One machine. `host:port` is where its sshd is reached from the machine that it runs on; `host_key` is the public
    key that is pinned, `key` the path of the private key that it lets in."""

    lab: str
    path: str
    host: str
    port: int
    user: str
    key: str
    host_key: str

    @property
    def name(self) -> str:
        return ssh_name(self.lab, self.path)

    @property
    def jump(self) -> str:
        """The entry that leads to it; "" on the lab's own host."""
        outer = parent_of(self.path)
        return ssh_name(self.lab, outer) if outer else ""


def ssh_name(lab: str, path: str) -> str:
    """`pair.hv1.web` for `hv1/web` of lab `pair`. Names have no dots, so no two machines have the same."""
    return f"{lab}.{path.replace('/', '.')}"


def ssh_config(lab: str, entries: Sequence[SshEntry], left_out: Mapping[str, str], known_hosts: str) -> str:
    """An ssh_config(5). `left_out`: machines that cannot be reached now, and why; `known_hosts`: the path of the file
    with their keys. LabError for a path that ssh_config cannot hold."""
    lines = [f"# Lab {lab}, by nestlab: written anew when its machines start or stop."]
    lines += [f"# {ssh_name(lab, path)}: {why}" for path, why in left_out.items()]
    for entry in entries:
        lines += ["", f"Host {entry.name}", *(f"    {key} {value}" for key, value in _settings(entry, known_hosts))]
    return "\n".join(lines) + "\n"


def _settings(entry: SshEntry, known_hosts: str) -> list[tuple[str, str]]:
    """`HostKeyAlias` and the files pin the key; the rest keeps the user's other keys and agent away from a guest."""
    jump = [("ProxyJump", entry.jump)] if entry.jump else []
    return [
        ("HostName", entry.host),
        ("Port", str(entry.port)),
        ("User", entry.user),
        *jump,
        ("IdentityFile", _path(entry.key)),
        ("IdentitiesOnly", "yes"),
        ("HostKeyAlias", entry.name),
        ("UserKnownHostsFile", _path(known_hosts)),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("VerifyHostKeyDNS", "no"),
        ("CheckHostIP", "no"),
        ("PreferredAuthentications", "publickey"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
    ]


def _path(path: str) -> str:
    """Quoted, with the `%` of a name doubled: ssh expands `%` and `${` in these."""
    if any(odd in path for odd in ('"', "\n", "${", "\\")):
        hint = "Set NESTLAB_HOME to a directory without such characters."
        raise LabError(f'ssh_config cannot hold the path {path}: it has a ", a backslash or a ${{ in it.', hint=hint)
    return f'"{path.replace("%", "%%")}"'


def known_hosts(entries: Sequence[SshEntry]) -> str:
    """The keys of the entries, by the name that each has as HostKeyAlias."""
    return "".join(f"{entry.name} {' '.join(entry.host_key.split()[:2])}\n" for entry in entries)
