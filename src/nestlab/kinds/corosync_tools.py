"""What corosync's own programs print, read. Pure; whoever prints it may be hostile."""

from __future__ import annotations

import re

from nestlab.base.frozen import frozen

MANY = 400
"""Lines of nodes or links that are read: corosync takes no more nodes."""


@frozen
class Quorum:
    """What `corosync-quorumtool -s` says (pvecm status has the same lines). `online`: ids of nodes."""

    local: int = 0
    quorate: bool = False
    expected: int = 0
    total: int = 0
    quorum: int = 0
    online: frozenset[int] = frozenset()
    qdevice: str = ""
    """`A,V,NMW` of this node: whether it is alive, votes, and is no master of its own; "" where there is none."""

    @property
    def votes(self) -> str:
        """For a person."""
        return f"{self.total} of {self.expected} votes"


def parse_quorum(text: str) -> Quorum:
    """Of what is no such output, an empty one."""
    said = {key.strip(): value.strip() for key, found, value in (line.partition(":") for line in _lines(text)) if found}
    local = _ID.fullmatch(said.get("Node ID", ""))
    online, qdevice = [], ""
    for line in _membership(text):
        row = re.fullmatch(rf"\s*({_ID.pattern})\s+[0-9]{{1,5}}\s+([A-Z,]{{3,12}}\s+)?\S.*", line)
        if row is None:
            continue
        if nodeid := _nodeid(row[1]):  # the row 0 is the qdevice's own
            online.append(nodeid)
        if row[2] and "(local)" in line:
            qdevice = row[2].strip()
    return Quorum(
        _nodeid(local[0]) if local else 0,
        said.get("Quorate") == "Yes",
        _number(said.get("Expected votes", "")),
        _number(said.get("Total votes", "")),
        _number(said.get("Quorum", "").partition(" ")[0]),
        frozenset(online),
        qdevice,
    )


def parse_links(text: str) -> list[tuple[int, int]]:
    """Of `corosync-cfgtool -n`: node and link, of those that do not carry anything now."""
    found: list[tuple[int, int]] = []
    nodeid = 0
    for line in _lines(text):
        if node := re.fullmatch(r"nodeid: ([0-9]{1,9}) \w+", line.strip()):
            nodeid = int(node[1])
            continue
        link = re.match(r"\s*LINK: ([0-7]) \S+ \(.*?\) (.*)", line)
        if link and nodeid and "connected" not in link[2].split() and len(found) < MANY:
            found.append((nodeid, int(link[1])))
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines()[: 8 * MANY]


def _membership(text: str) -> list[str]:
    """The lines below `Membership information`."""
    _, _, rest = text.partition("Membership information\n")
    return rest.splitlines()[: MANY + 2]


_ID = re.compile(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,9}")


def _nodeid(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
