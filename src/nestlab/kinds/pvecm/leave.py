"""How a node leaves its cluster: it is off for good, the others forget it, and where it runs on it is alone (pve-docs,
pvecm.adoc, "Remove a Cluster Node" and "Separate a Node Without Reinstalling"). Pure.

It runs on where the lab file still has it. Then its corosync ends first, which is to the others as if it were off.
"""

from __future__ import annotations

from nestlab.kinds.clustering import Action, Done, Node, Refused, Request, Requests, Wait
from nestlab.kinds.pvecm import refusals, scripts
from nestlab.kinds.pvecm.device import removed
from nestlab.kinds.pvecm.situation import Situation

QUORUM = 300.0
TRIES = 3


def leave(at: Situation) -> Action:
    """What is to be done that nobody knows the nodes any more that leave, and they nobody."""
    for name in at.goal.who:
        if action := _leave(at, name):
            return action
    return Done()


def _leave(at: Situation, name: str) -> Action | None:
    members = [node for node in at.others(name) if at.member(node.name)]
    knowing = [node for node in members if _knows(at, node, name)]
    runs = name in at.goal.running and at.report(name).is_node
    if guests := _guests(at, name, knowing, runs=runs):
        return Refused(
            f"{name} does not leave the cluster {at.goal.cluster}: it has guests ({', '.join(map(str, guests[:10]))}).",
            hint="Let it run, move them (`nestlab migrate`, `qm migrate`, `pct migrate`) or remove them, and run"
            " `nestlab up` again.",
        )
    if runs and knowing and at.report(name).active("corosync"):
        if action := _off(at, name):
            return action
    elif knowing:
        return _forget(at, name, knowing)
    return _alone(at, name, last=not members) if runs else None


def _guests(at: Situation, name: str, knowing: list[Node], *, runs: bool) -> list[int]:
    """The guests of who leaves, where others stay that know them."""
    said = [at.report(node.name) for node in knowing] + ([at.report(name)] if runs and knowing else [])
    return list(dict.fromkeys(guest.number for each in said for guest in each.guests if guest.node == name))


def _off(at: Situation, name: str) -> Action | None:
    if len(done := at.done(name, scripts.OFF)) >= TRIES:
        return Refused(
            f"corosync does not end on {name}, which is to leave the cluster {at.goal.cluster}.",
            hint="`systemctl stop corosync` there says why.",
            detail=done[-1].err,
        )
    return Requests((Request(name, f"{name}: its corosync ends", scripts.OFF, seconds=scripts.QUICK),))


def _forget(at: Situation, name: str, knowing: list[Node]) -> Action:
    via = next((node for node in knowing if _changes(at, node)), None)
    if via is None:
        return _quorum(at, name, knowing)
    if action := removed(at, via):
        return action
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
    if len(done) >= TRIES or said.quorum.quorate:
        return Wait(f"{via.path}: {at.known.views[via.name].why or 'its /etc/pve is read-only'}", QUORUM)
    title = f"{via.name}: corosync expects {said.quorum.total} of {said.quorum.expected} votes"
    return Requests((Request(via.name, title, scripts.EXPECT, (str(said.quorum.total),)),))


def _alone(at: Situation, name: str, *, last: bool) -> Action | None:
    """What makes who left, and runs on, a node that is alone, with certificates of its own; None where it is one."""
    said = at.report(name)
    if not said.alone:
        script, words = (scripts.SEPARATE, (name,)) if last else (scripts.RESET, ())
        if len(done := at.done(name, script)) >= TRIES:
            return Refused(
                f"{name} keeps something of the cluster {at.goal.cluster}, which it left.",
                hint=f"Make it anew: `nestlab recreate {name}`.",
                detail=done[-1].err,
            )
        title = f"{name}: forgetting its cluster"
        return Requests((Request(name, title, script, words, seconds=scripts.PERL),))
    if said.writable is None:
        return Wait(f"{name}: its /etc/pve is not mounted", QUORUM)
    if said.job and said.job.running:
        return Wait(f"{name}: {said.job.what}", QUORUM)
    if said.signed and said.own == said.served:
        return None
    tries = at.started(name, "certify")
    if tries >= TRIES:
        return refusals.of(f"{name} got no certificate of its own", said.job.log if said.job else "")
    if tries and said.signed:
        return Wait(f"{name}: its API still shows its former certificate", QUORUM)
    return Requests((scripts.start(name, f"{name}: pvecm updatecerts", "certify", scripts.CERTIFY),))
