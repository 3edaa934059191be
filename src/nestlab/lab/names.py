"""Host names of a lab's machines, as /etc/hosts has them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nestlab.lab.model import Lab

_LOCAL = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""


def hosts_table(lab: Lab, addresses: Mapping[str, tuple[str, str]]) -> str:
    """The text of /etc/hosts, the same for every machine of the lab. `addresses` as in `Leases`.

    The machine `hv1/web` is `web.hv1.LAB.internal` and `web.hv1`, and `web` if no other machine is called so; these
    names stand for its address on its first segment, and `web.hv1-SEGMENT` for that on each further one. A machine on
    no segment has no line. A machine's own name always wins over a name made from a segment's.
    """
    placed = list(lab.walk())
    count = Counter(hostname_of(each.path) for each in placed)
    taken = {dotted(each.path) for each in placed} | set(count)
    lines = [_LOCAL]
    for each in placed:
        name, short = dotted(each.path), hostname_of(each.path)
        names = f"{name}.{lab.name}.internal {name}"
        if short != name and count[short] == 1:
            names += f" {short}"
        for at, link in enumerate(each.machine.links):
            if at:
                names = f"{name}-{link.segment}"
                if names in taken:
                    continue
                taken.add(names)
            for address in addresses[f"{each.path}@{link.segment}"]:
                lines.append(f"{address} {names}\n")
    return "".join(lines)


def dotted(path: str) -> str:
    """`web.hv1` for `hv1/web`: the name that is unique in the lab."""
    return ".".join(reversed(path.split("/")))


def hostname_of(path: str) -> str:
    """`web` for `hv1/web`: what the machine calls itself."""
    return path.rpartition("/")[2]
