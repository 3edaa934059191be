"""/etc/corosync/corosync.conf of a cluster that nestlab makes: written, and read back. Pure.

As corosync.conf(5) and votequorum(5) of corosync 3.1 have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nestlab.base.frozen import frozen

LIMIT = 1 << 16
"""Letters of a file that are read."""

WORD = r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"
"""A name of a node or a cluster, or an address."""

NODES = 384
"""The most nodes that corosync takes (PROCESSOR_COUNT_MAX of its totem protocol)."""


@frozen
class ConfNode:
    """A node of the list. `addresses`: on its links, link 0 first."""

    name: str
    nodeid: int
    addresses: tuple[str, ...]


@frozen
class Conf:
    """What is in the file. `qdevice`: the address of the qdevice's machine, "" for none."""

    cluster: str
    version: int
    nodes: tuple[ConfNode, ...]
    qdevice: str = ""

    def text(self) -> str:
        """The file."""
        nodes = sorted(self.nodes, key=lambda node: node.nodeid)
        parts = [_TOTEM.format(cluster=self.cluster, version=self.version)]
        parts += ["nodelist {\n", *(_node(node) for node in nodes), "}\n\n"]
        parts += [_quorum(self.qdevice, len(nodes)), _LOGGING]
        return "".join(parts)


# A token of 3 s and 650 ms for each node over two are corosync's own; what is emulated pauses for longer, and is not
# dead. Passive: one link carries all, the other takes over.
_TOTEM = """\
totem {{
    version: 2
    cluster_name: {cluster}
    config_version: {version}
    transport: knet
    link_mode: passive
    crypto_cipher: aes256
    crypto_hash: sha256
    ip_version: ipv4
}}

"""

_LOGGING = """\
logging {
    to_syslog: yes
    debug: off
}
"""


def _node(node: ConfNode) -> str:
    lines = [f"name: {node.name}", f"nodeid: {node.nodeid}", "quorum_votes: 1"]
    lines += [f"ring{number}_addr: {address}" for number, address in enumerate(node.addresses)]
    return "    node {\n" + "".join(f"        {line}\n" for line in lines) + "    }\n"


def _quorum(qdevice: str, count: int) -> str:
    lines = ["provider: corosync_votequorum"]
    if not qdevice:
        return "quorum {\n" + "".join(f"    {line}\n" for line in lines) + "}\n\n"
    device = f"""\
    device {{
        model: net
        votes: 1
        net {{
            algorithm: ffsplit
            host: {qdevice}
            tls: on
        }}
    }}
"""
    return "quorum {\n" + "".join(f"    {line}\n" for line in lines) + device + "}\n\n"


def read(text: str) -> Conf | None:
    """The file as it is understood; None for what is none. Sections that are not known are passed over."""
    cluster, version, qdevice = "", 0, ""
    nodes: list[ConfNode] = []
    for section, pairs in _sections(text[:LIMIT]):
        said = dict(pairs)
        if section == ("totem",):
            cluster, version = said.get("cluster_name", ""), _number(said.get("config_version", ""))
        elif section == ("nodelist", "node") and len(nodes) < NODES:
            links = tuple(said[key] for number in range(8) if (key := f"ring{number}_addr") in said)
            node = ConfNode(said.get("name", ""), _number(said.get("nodeid", "")), links)
            others = any(node.name == each.name or node.nodeid == each.nodeid for each in nodes)
            nodes += [node] if _is_sound(node) and not others else []
        elif section == ("quorum", "device", "net"):
            qdevice = said.get("host", "")
    sound = re.fullmatch(WORD, cluster) and (not qdevice or re.fullmatch(WORD, qdevice))
    return Conf(cluster, version, tuple(nodes), qdevice) if sound else None


def _is_sound(node: ConfNode) -> bool:
    """Whether others may be told of a node: a member may be hostile, and what it lists is written to all."""
    addresses = all(re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", each) for each in node.addresses)
    return bool(re.fullmatch(WORD, node.name)) and node.nodeid > 0 and addresses


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _sections(text: str) -> Iterator[tuple[tuple[str, ...], Sequence[tuple[str, str]]]]:
    """Each section, when it ends, with what stands in it."""
    open_: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.endswith("{"):
            open_.append((bare[:-1].strip(), []))
        elif bare == "}" and open_:
            path = tuple(name for name, _ in open_)
            yield path, open_.pop()[1]
        elif ":" in bare and not bare.startswith("#") and open_:
            key, _, value = bare.partition(":")
            open_[-1][1].append((key.strip(), value.strip()))
