"""How OpenSSH reaches the machines of a lab: ssh_config(5) and known_hosts, as text. Pure.

Every machine has an entry of its own by its full name, `pair.hv1.web`, and no entry is a pattern: no other host of the
user's is ever meant by one. A machine inside another is reached through the entry of that one (ProxyJump).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.printable import brief, hidden
from nestlab.lab.model import parent_of

_WORD = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.:-]*(?:%[A-Za-z0-9_.-]+)?)?")
"""A name, an address (IPv6 with its card) or a user: one word, and no option of ssh's or pattern."""


@frozen
class SshEntry:
    """One machine. `host:port` is where its sshd is reached from the machine that it runs on; or `proxy` is the command
    that carries a connection there on its stdin and stdout. `host_key` is the public key that is pinned, `key` the path
    of the private key that it lets in."""

    lab: str
    path: str
    host: str
    port: int
    user: str
    key: str
    host_key: str
    proxy: tuple[str, ...] = ()

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


def unfit(entry: SshEntry) -> str:
    """Why a machine can have no entry: what it is reached by, as it was told, would be more than one word. "" if it
    can."""
    odd = next((word for word in (entry.name, entry.host, entry.user, entry.jump) if not _WORD.fullmatch(word)), None)
    return "" if odd is None else f"ssh_config cannot hold `{brief(odd)}`, by which it is reached"


def ssh_config(lab: str, entries: Sequence[SshEntry], left_out: Mapping[str, str], known_hosts: str) -> str:
    """An ssh_config(5). `left_out`: machines that cannot be reached now, and why; `known_hosts`: the path of the file
    with their keys. LabError for a path that ssh_config cannot hold."""
    lines = [f"# Lab {lab}, by nestlab: written anew when its machines start or stop."]
    lines += [brief(f"# {ssh_name(lab, path)}: {why}") for path, why in left_out.items()]  # a guest may say why
    for entry in entries:
        lines += ["", f"Host {entry.name}", *(f"    {key} {value}" for key, value in _settings(entry, known_hosts))]
    return "\n".join(lines) + "\n"


def _settings(entry: SshEntry, known_hosts: str) -> list[tuple[str, str]]:
    """`HostKeyAlias` and the files pin the key; the rest keeps the user's other keys and agent away from a guest."""
    jump = [("ProxyJump", entry.jump)] if entry.jump else []
    if odd := unfit(entry):
        raise LabError(f"ssh_config cannot hold {entry.path}: {odd}.", hint="`nestlab ssh` reaches it.")
    jump = [("ProxyCommand", _command(entry.proxy))] if entry.proxy else jump
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
    if any(odd in path for odd in ('"', "\n", "${", "\\")) or any(map(hidden, path)):
        hint = "Set NESTLAB_HOME to a directory without such characters."
        what = f'ssh_config cannot hold the path {path}: it has a ", a backslash, a ${{ or what cannot be seen in it.'
        raise LabError(what, hint=hint)
    return f'"{path.replace("%", "%%")}"'


def _command(words: Sequence[str]) -> str:
    """A line for the user's shell, with each `%` doubled: ssh expands those."""
    line = shlex.join(words)
    if any(map(hidden, line)):
        raise LabError(
            f"ssh_config cannot hold a command with a line break or what cannot be seen in it: {line}",
            hint="Rename what has it.",
        )
    return line.replace("%", "%%")


def known_hosts(entries: Sequence[SshEntry]) -> str:
    """The keys of the entries, by the name that each has as HostKeyAlias."""
    return "".join(f"{entry.name} {' '.join(entry.host_key.split()[:2])}\n" for entry in entries)
