"""How a node leaves its cluster: it is off, for good, and the others forget it (pve-docs, pvecm.adoc, "Remove a Cluster
Node"). Pure."""

from __future__ import annotations

from nestlab.kinds.clustering import Action, Done, Node, Refused, Request, Requests, Wait
from nestlab.kinds.pvecm import scripts
from nestlab.kinds.pvecm.situation import Situation

QUORUM = 300.0
TRIES = 3


def leave(at: Situation) -> Action:
    """What is to be done that nobody knows the nodes any more that leave."""
    members = [node for node in at.others if at.member(node.name)]
    if not members:
        return Done("no member of it runs that could forget them" if list(at.others) else "")
    for name in at.goal.who:
        if action := _forget(at, name, members):
            return action
    return Done()


def _forget(at: Situation, name: str, members: list[Node]) -> Action | None:
    knowing = [node for node in members if _knows(at, node, name)]
    if not knowing:
        return None
    if guests := [guest.number for node in knowing for guest in at.report(node.name).guests if guest.node == name]:
        numbers = ", ".join(str(number) for number in dict.fromkeys(guests[:10]))
        return Refused(
            f"{name} does not leave the cluster {at.goal.cluster}: it has guests ({numbers}).",
            hint="Start it and move them (`nestlab migrate`, `qm migrate`, `pct migrate`), or remove them, and run"
            " `nestlab up` again.",
        )
    via = next((node for node in knowing if _changes(at, node)), None)
    if via is None:
        return _quorum(at, name, knowing)
    if len(done := at.done(via.name, scripts.DELETE)) >= TRIES:
        return Refused(
            f"{via.path} does not forget {name}.",
            hint=f"`pvecm delnode {name}` there says why.",
            detail=f"{done[-1].out}\n{done[-1].err}".strip(),
        )
    title = f"{via.name}: pvecm delnode {name}"
    return Requests((Request(via.name, title, scripts.DELETE, (name,), seconds=scripts.PERL),))


def _knows(at: Situation, node: Node, name: str) -> bool:
    said = at.report(node.name)
    return name in said.listed or (said.conf is not None and said.conf.node(name) is not None)


def _changes(at: Situation, node: Node) -> bool:
    return at.known.views[node.name].quorate and bool(at.report(node.name).writable)


def _quorum(at: Situation, name: str, knowing: list[Node]) -> Action:
    """Those that stay have no quorum. It is theirs once who leaves counts no more: they are told so, where they are a
    majority of those that stay."""
    via = knowing[0]
    said = at.report(via.name)
    leaving = {*at.goal.who, name}
    staying = [each for each in (said.conf.nodes if said.conf else ()) if each.name not in leaving]
    votes = sum(each.votes for each in staying)
    if said.quorum is None:
        return Wait(f"{via.path}: {at.known.views[via.name].why}", QUORUM)
    if 2 * said.quorum.total <= votes:
        return Wait(
            f"{via.path} has {said.quorum.total} of the {votes} votes that stay, which is no majority: {name} is not"
            " forgotten",
            QUORUM,
            hint="Start the other members.",
        )
    done = at.done(via.name, scripts.EXPECT)
    if len(done) >= TRIES:
        return Wait(f"{via.path}: {at.known.views[via.name].why}", QUORUM)
    title = f"{via.name}: corosync expects {said.quorum.total} of {said.quorum.expected} votes"
    return Requests((Request(via.name, title, scripts.EXPECT, (str(said.quorum.total),)),))
