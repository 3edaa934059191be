"""What is checked before a node joins: what Proxmox checks itself, but with the reason and before anything is changed
(PVE/Cluster/Setup.pm, assert_joinable), and what it does not: clock, version, MTU, latency, who answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nestlab.base.frozen import frozen
from nestlab.kinds.clustering import Answer, Node, Refused, Request
from nestlab.kinds.pvecm import scripts
from nestlab.kinds.pvecm.ask import Report

SKEW = 1
"""Seconds that two clocks may differ."""

LATENCY = 5.0
"""Milliseconds that a frame may take there and back (pve-docs, pvecm.adoc, "Cluster Network")."""

HEADERS = 28
"""Bytes of IPv4 and ICMP before what a ping carries."""


@frozen
class Found:
    """What CHECK found. `ahead`: seconds by which the member's clock is ahead at least (less than 0: behind); None: it
    is not known. `links`: address, bytes and milliseconds there and back, None for one that nothing came back on."""

    ahead: int | None
    served: str
    links: tuple[tuple[str, int, float | None], ...]


def joinable(joining: Node, mine: Report, via: Node, theirs: Report) -> Refused | None:
    """Whether a node may join by what both said."""
    path = joining.path
    if wrong := usable(joining, mine):
        return wrong
    if mine.guests:
        listed = ", ".join(str(guest.number) for guest in mine.guests[:5])
        return Refused(
            f"{path} cannot join: it has guests ({listed}). A cluster takes empty nodes only, for their numbers must"
            " be nobody else's.",
            hint="Move them away or remove them (`qm destroy`, `pct destroy`), then run `nestlab up` again.",
        )
    if mine.major != theirs.major:
        return Refused(
            f"{path} cannot join: it is Proxmox VE {mine.version}, {via.path} is {theirs.version}.",
            hint="Members of a cluster have the same major version; say the same `version` for both in the lab file.",
        )
    for member in theirs.conf.nodes if theirs.conf else ():
        same = {address for _, address in member.links} & set(joining.links)
        if same and member.name != joining.name:
            return Refused(
                f"{path} cannot join: {', '.join(sorted(same))} is the address of {member.name}, which is a member.",
                hint="Two nodes with one address bring a cluster down. Give each its own in the lab file.",
            )
    for address, other in zip(joining.links, via.links, strict=False):
        one, two = mine.mtus.get(address), theirs.mtus.get(other)
        if one and two and one != two:
            return Refused(
                f"{path} cannot join: its card of {address} has an MTU of {one}, that of {via.path} ({other}) {two}.",
                hint="Frames of corosync would be lost. Say one `mtu` for the segment.",
            )
    return None


def usable(node: Node, said: Report) -> Refused | None:
    """Whether a node may be a member of any cluster at all."""
    if said.name and said.name != node.name:
        return Refused(
            f"{node.path} calls itself {said.name}: a cluster knows its members by their names.",
            hint=f"Proxmox does not rename nodes. Make it anew: `nestlab recreate {node.path}`.",
        )
    missing = [address for address in node.links if said.mtus and address not in said.mtus]
    if missing:
        return Refused(
            f"{node.path} has no card with the address {missing[0]}, which corosync is to use.",
            hint="`ip address` there shows what it has. Was /etc/network/interfaces changed by hand?",
        )
    return None


def request(joining: Node, mine: Report, via: Node, seconds: int) -> Request:
    """What the joining node is to try."""
    words: list[str] = []
    for own, other in zip(joining.links, via.links, strict=False):
        words += [other, str(max(56, mine.mtus.get(own, 1500) - HEADERS))]
    title = f"{joining.name}: looking at {via.name}: clock, certificate, links"
    address = via.address or via.links[0]
    return Request(joining.name, title, scripts.CHECK, (address, str(seconds), *words), seconds=180.0)


def found(said: str) -> Found:
    """What CHECK printed."""
    ahead, served = None, ""
    links: list[tuple[str, int, float | None]] = []
    for line in said[:10_000].splitlines()[:50]:
        if match := re.fullmatch(r"clock (\d{9,11}) (\d{9,11}) (\d{9,11})", line):
            before, now, after = (int(text) for text in match.groups())
            # All three are cut to whole seconds, and the member's clock said `now` at a moment in between.
            ahead = max(0, now - after - 1) - max(0, before - now - 1)
        elif match := re.match(r"served .*=((?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})$", line):
            served = match[1].upper()
        elif match := re.match(r"link ([0-9A-Fa-f.:]{2,45}) (\d{1,6}) (.*)$", line):
            times = re.search(r"= ([0-9.]{1,12})/([0-9.]{1,12})/", match[3])
            links.append((match[1], int(match[2]), float(times[2]) if times and times[2].count(".") < 2 else None))
    return Found(ahead, served, tuple(links))


def judged(joining: Node, via: Node, theirs: Report, answer: Answer) -> Refused | None:
    """What follows from an answer to CHECK."""
    path = joining.path
    if answer.status is None:
        return Refused(f"{path} did not find out how it reaches {via.path}: {answer.err.strip()}")
    seen = found(answer.out)
    for address, size, time in seen.links:
        if time is None:
            return Refused(
                f"{path} cannot join: {via.path} does not answer pings of {size + HEADERS} bytes to {address}.",
                hint="corosync needs that link, whole frames, and UDP 5405 to 5412. `nestlab status` shows what is cut"
                " or impaired; is the `mtu` of the segment what its cards have?",
            )
    if seen.ahead is not None and abs(seen.ahead) >= SKEW:
        how = "ahead of" if seen.ahead > 0 else "behind"
        return Refused(
            f"{path} cannot join: the clock of {via.path} is {abs(seen.ahead)} s or more {how} its own. Certificates"
            " and tickets would count as not yet valid, or no more.",
            hint="Set both right (`nestlab heal` takes back `nestlab clock`; `chronyc makestep`), then run `nestlab up`"
            " again.",
        )
    if not seen.served:
        address = via.address or via.links[0]
        return Refused(
            f"{path} cannot join: the API of {via.path} at {address}:8006 does not answer it.",
            hint=f"`nestlab exec {via.path} -- systemctl status pveproxy` says how it is there.",
        )
    if theirs.fingerprint and seen.served != theirs.fingerprint:
        return Refused(
            f"{path} cannot join: who answers at {via.address or via.links[0]}:8006 shows the certificate"
            f" {seen.served}, and {via.path} has {theirs.fingerprint}.",
            hint="Somebody else has that address, or its pveproxy shows an old one: `systemctl restart pveproxy`.",
        )
    return None


def notes(answers: Sequence[Answer]) -> Iterator[str]:
    """What is to be known of links that are good enough for all that."""
    for answer in answers:
        if answer.request.script == scripts.CHECK and answer.status == 0:
            for address, _, time in found(answer.out).links:
                if time is not None and time > LATENCY:
                    yield (
                        f"{answer.request.node} reaches {address} in {time:.1f} ms; corosync wants less than"
                        f" {LATENCY:.0f} ms"
                    )
