"""Networks of a libvirt's that carry a lab's segments on its own level: a bridge each, on which the host has no
address, and from which nothing is routed.

They are transient: none is left when their host starts anew, and `up` makes it again. What has no mark of the lab's
stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from nestlab.base.frozen import frozen
from nestlab.engines.libvirt import scripts
from nestlab.engines.libvirt.mark import Mark, mark_of, metadata
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.engines.libvirt.xml import Unreadable, element, parsed, written
from nestlab.lab.model import Segment

LIMIT = 4 << 20
"""Letters of all that is read of networks: a thousand of a lab's, and more."""


def network_prefix(lab: str) -> str:
    """What the names of a lab's networks begin with, before a dot and the segment."""
    return f"nestlab-{lab}"


def network_uuid(lab: str, segment: str) -> str:
    """The UUID of a segment's network, always the same."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"network {lab}:{segment}".encode()).digest()[:16], version=4))


def bridge() -> str:
    """The name of a bridge that is nobody's: another one each time, for libvirt moves the cards of machines that run to
    a network that was made anew only where its bridge is another."""
    return f"nl-{os.urandom(4).hex()}"


def xml(mark: Mark, segment: Segment, bridge: str) -> str:
    """A segment's network, as `virsh net-create` takes it."""
    root = element(
        "network",
        "",
        element("name", f"{network_prefix(mark.lab)}.{segment.name}"),
        element("uuid", network_uuid(mark.lab, segment.name)),
        metadata(mark),
        element("bridge", name=bridge, stp="off", delay=0),
        element("mtu", size=segment.mtu),
    )
    return written(root)


def segments(text: str, cut: str, prefix: str, owner: str) -> frozenset[str]:
    """The segments whose networks NETWORKS printed, of this owner. Pure."""
    found = set()
    for name, said in _by_name(text[:LIMIT], cut):
        try:
            mark = mark_of(parsed(said))
        except Unreadable:
            continue
        if mark is not None and mark.owner == owner and name.startswith(f"{prefix}."):
            found.add(name.removeprefix(f"{prefix}."))
    return frozenset(found)


def cards_on(domain: Element, network: str) -> Iterator[Element]:
    """The cards of a domain that runs which are to be on a network, as `virsh update-device` takes them. Pure."""
    for card in domain.iterfind("devices/interface"):
        source = card.find("source")
        if source is not None and source.get("network") == network and card.find("target") is not None:
            source.attrib.clear()
            source.set("network", network)
            yield card


def _by_name(text: str, cut: str) -> Iterator[tuple[str, str]]:
    for part in text.split(f"{cut} ")[1:]:
        name, _, said = part.partition("\n")
        yield name.strip(), said.strip()


@frozen
class Networks:
    """Of one lab, on one host."""

    libvirt: Libvirt

    @property
    def prefix(self) -> str:
        return network_prefix(self.libvirt.lab)

    async def ensure(self, segment: Segment) -> bool:
        """Have a segment's network run; whether it is new. LabError where libvirt refuses, or somebody else has one of
        its name."""
        known = self.libvirt
        words = (known.uri, network_uuid(known.lab, segment.name), known.owner)
        text = xml(Mark(known.owner, known.lab), segment, bridge())
        said = await known.run(scripts.CONNECT, words, f"make a network of {segment.name}", input=text.encode())
        return said.strip() == "new"

    async def reconnect(self, path: str, segment: str) -> None:
        """Have the cards of a machine that runs be on a segment's network that was made anew."""
        known, name = self.libvirt, f"{self.prefix}.{segment}"
        said = await known.run(scripts.CARDS, (known.uri, known.uuid(path)), f"show {path}")
        for card in cards_on(known.read(said, path), name) if said.strip() else ():
            await known.does(path, "update-device", "/dev/stdin", "--live", input=written(card).encode())

    async def remove(self, segment: str) -> None:
        """Remove a segment's network. Of what is not there: nothing."""
        known = self.libvirt
        words = (known.uri, network_uuid(known.lab, segment), known.owner)
        await known.run(scripts.DISCONNECT, words, f"remove the network of {segment}")

    async def observe(self) -> frozenset[str]:
        """The segments that have a network which runs."""
        known = self.libvirt
        cut = f"@@nestlab-{os.urandom(8).hex()}"
        said = await known.run(scripts.NETWORKS, (known.uri, self.prefix, cut), "list its networks")
        return segments(said, cut, self.prefix, known.owner)
