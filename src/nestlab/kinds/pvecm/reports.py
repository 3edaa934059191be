"""What Proxmox's and corosync's programs print about a cluster, read as what it must be. Pure.

Nodes may be hostile: texts are cut at LIMIT, lists at MANY, names are names, addresses are addresses. A report that is
none is None: the caller asked too early, or the wrong machine. Formats: recordings of `pvecm status` and `pvecm nodes`,
corosync-quorumtool(8), PVE/Corosync.pm (parse_conf), and pmxcfs (status.c, cfs_create_memberlist_msg and
cfs_create_vmlist_msg).
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.kinds.pvecm.question import LIMIT

MANY = 64
"""Nodes of a cluster, and links of a node, that are believed. corosync knows 32."""

GUESTS = 10_000

NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""A node's name as Proxmox has it (pve-common, JSONSchema.pm, pve-node)."""


@frozen
class ConfNode:
    """A node in corosync.conf. `links`: number and address of each."""

    name: str
    number: int
    votes: int
    links: tuple[tuple[int, str], ...]


@frozen
class Conf:
    """corosync.conf, as far as nestlab looks at it. `device`: the address of its quorum device."""

    cluster: str
    version: int
    nodes: tuple[ConfNode, ...]
    device: str | None = None

    def node(self, name: str) -> ConfNode | None:
        return next((each for each in self.nodes if each.name == name), None)


@frozen
class Seat:
    """A line of corosync's membership: `number` is 0 for a quorum device, `name` a name or an address."""

    number: int
    votes: int
    name: str
    local: bool = False


@frozen
class Quorum:
    """What corosync says of itself on one node (`pvecm status`, `corosync-quorumtool -s`)."""

    quorate: bool
    nodes: int
    expected: int
    total: int
    needed: int
    seats: tuple[Seat, ...]
    flags: tuple[str, ...] = ()
    cluster: str | None = None
    """By `pvecm status` alone."""
    config: int | None = None
    """The version of corosync.conf; by `pvecm status` alone."""


@frozen
class Peer:
    """A node in /etc/pve/.members."""

    name: str
    number: int
    online: bool
    address: str | None


@frozen
class Members:
    """/etc/pve/.members: the cluster as the cluster's filesystem sees it. Of a node that is alone `cluster` is None."""

    node: str
    cluster: str | None
    quorate: bool
    peers: tuple[Peer, ...]


@frozen
class Guest:
    """A guest in /etc/pve/.vmlist."""

    number: int
    node: str
    container: bool


def conf(text: str) -> Conf | None:
    """corosync.conf. None if it is none, as Proxmox's own reader would have it."""
    try:
        tree = _tree(text[:LIMIT])
        totem, listed = tree["totem"][0], tree["nodelist"][0]
        nodes = tuple(_conf_node(each) for each in listed.get("node", ())[:MANY])
        quorum = tree.get("quorum", [{}])[0]
        net = quorum.get("device", [{}])[0].get("net", [{}])[0]
        device = net.get("host")
        name = totem["cluster_name"]
        if not _name(name):
            return None
        return Conf(name, _whole(totem["config_version"]), nodes, _address(device) if device is not None else None)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        return None


def quorum(text: str) -> Quorum | None:
    """`pvecm status`, or `corosync-quorumtool -s`. None if corosync did not say whether it is quorate."""
    said: dict[str, str] = {}
    seats: list[Seat] = []
    table = False
    for line in text[:LIMIT].splitlines():
        if table and (seat := _seat(line)) and len(seats) < MANY:
            seats.append(seat)
            continue
        key, colon, rest = line.partition(":")
        if colon and key in _SAID:
            said.setdefault(key, one_line(rest.strip())[:80])
        table = table or re.match(r"\s+Nodeid\s+Votes\b", line) is not None
    if said.get("Quorate") not in ("Yes", "No"):
        return None
    numbers = {key: int(match[0]) for key in said if (match := re.match(r"\d{1,9}", said[key]))}
    try:
        return Quorum(
            quorate=said["Quorate"] == "Yes",
            nodes=numbers["Nodes"],
            expected=numbers["Expected votes"],
            total=numbers["Total votes"],
            needed=numbers["Quorum"],
            seats=tuple(seats),
            flags=tuple(said.get("Flags", "").split()[:8]),
            cluster=said.get("Name") if _name(said.get("Name")) else None,
            config=numbers.get("Config Version"),
        )
    except KeyError:
        return None


def nodes(text: str) -> tuple[Seat, ...]:
    """`pvecm nodes`, or `corosync-quorumtool -l`."""
    found = (_seat(line) for line in text[:LIMIT].splitlines())
    return tuple(seat for seat in found if seat)[:MANY]


def members(text: str) -> Members | None:
    """/etc/pve/.members."""
    data = _object(text)
    node, cluster = data.get("nodename"), data.get("cluster")
    if not isinstance(node, str) or not _name(node):
        return None
    if not isinstance(cluster, dict):
        return Members(node, None, True, ())
    if not _name(cluster.get("name")):
        return None
    listed = data.get("nodelist")
    peers = (_peer(name, each) for name, each in (listed.items() if isinstance(listed, dict) else ()))
    found = tuple(peer for peer in peers if peer)[:MANY]
    return Members(node, cluster["name"], cluster.get("quorate") == 1, found)


def guests(text: str) -> tuple[Guest, ...]:
    """/etc/pve/.vmlist: the guests of all nodes."""
    ids = _object(text).get("ids")
    found = []
    for number, each in ids.items() if isinstance(ids, dict) else ():
        if re.fullmatch(r"[1-9]\d{2,8}", number) and isinstance(each, dict) and _name(each.get("node")):
            found.append(Guest(int(number), each["node"], each.get("type") == "lxc"))
    return tuple(found[:GUESTS])


_SAID = {"Name", "Config Version", "Nodes", "Quorate", "Expected votes", "Total votes", "Quorum", "Flags"}
_SEAT = re.compile(
    r"\s*(?P<number>0x[0-9a-fA-F]{1,8}|\d{1,10})\s+(?P<votes>\d{1,6})(?:\s+(?:[AN][VN]?[A-Z,]*|NR))?"
    r"\s+(?P<name>[A-Za-z0-9][A-Za-z0-9.:_-]{0,62})(?P<local>\s+\(local\))?\s*"
)
"""A line of the membership. With a quorum device there is a column more, such as `A,V,NMW`."""


def _seat(line: str) -> Seat | None:
    if len(line) > 200 or not (match := _SEAT.fullmatch(line)):
        return None
    number = int(match["number"], 16 if match["number"].startswith("0x") else 10)
    return Seat(number, int(match["votes"]), match["name"], match["local"] is not None)


def _tree(text: str) -> dict[str, Any]:
    """Sections as lists of tables, in the way of parse_conf. ValueError, IndexError for what is no such text."""
    words = re.sub(r"#[^\n]*", "", text).split()
    root: dict[str, Any] = {}
    stack, at = [root], 0
    while at < len(words):
        word = words[at]
        if word == "}":
            stack.pop()
            if not stack:
                raise ValueError("a brace too many")
        elif at + 1 < len(words) and words[at + 1] == "{":
            below: dict[str, Any] = {}
            stack[-1].setdefault(word, []).append(below)
            stack.append(below)
            at += 1
        else:
            if not word.endswith(":"):
                raise ValueError("no colon")
            stack[-1][word[:-1]] = words[at + 1]
            at += 1
        at += 1
    return root


def _conf_node(data: dict[str, Any]) -> ConfNode:
    links = [
        (int(match[1]), _address(value))
        for key, value in data.items()
        if (match := re.fullmatch(r"(?:ring|link)([0-7])_addr", key))
    ]
    name = data.get("name")
    if not _name(name):
        raise ValueError("no name")
    return ConfNode(str(name), _whole(data["nodeid"]), _whole(data.get("quorum_votes", "1")), tuple(sorted(links)))


def _peer(name: str, data: Any) -> Peer | None:
    if not _name(name) or not isinstance(data, dict):
        return None
    number, address = data.get("id"), data.get("ip")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 32:
        return None
    try:
        return Peer(name, number, data.get("online") == 1, _address(address) if address is not None else None)
    except ValueError:
        return None


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text[: LIMIT * 16])
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _name(value: object) -> bool:
    return isinstance(value, str) and NODE.fullmatch(value) is not None


def _address(value: object) -> str:
    """An IP address. Names are taken too (Proxmox lets people write them into corosync.conf)."""
    if not isinstance(value, str) or len(value) > 253:
        raise ValueError("no address")
    try:
        return str(ip_address(value))
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", value):
            return value
        raise


def _whole(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,18}", value):
        raise ValueError("no number")
    return int(value)
