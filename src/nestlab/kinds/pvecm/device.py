"""The quorum device of a cluster: a machine of the lab with a vote, by `pvecm qdevice setup` (PVE/CLI/pvecm.pm). Pure.

It is set up when all members are there, and removed before one comes or goes (pve-docs, pvecm.adoc, "Corosync External
Vote Support"). Proxmox logs in from a member to it as root, so it is told that member's key, and the member its.
"""

from __future__ import annotations

import re

from nestlab.kinds.clustering import Action, Node, Refused, Request, Requests, Wait
from nestlab.kinds.pvecm import refusals, scripts
from nestlab.kinds.pvecm.situation import Situation

PATIENCE = 120.0
TRIES = 3
SETUP, REMOVE = "qdevice setup", "qdevice remove"
_KEY = re.compile(r"(ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]{20,1000})(?: .*)?")


def device(at: Situation) -> Action | None:
    """What is left of the quorum device that the lab file says; None where all is as it says."""
    members = [node for node in at.goal.nodes if at.member(node.name) and at.known.views[node.name].usable]
    conf = at.report(members[0].name).conf if members else None
    if conf is None:
        return None
    wanted = at.goal.qdevice
    address = (wanted.address or next(iter(wanted.links), "")) if wanted else ""
    if conf.device and conf.device != address:
        return removed(at, members[0])
    if wanted is None or wanted.name not in at.goal.running or len(conf.nodes) % 2:
        return None
    if why := at.known.silent.get(wanted.name):
        return Wait(f"{wanted.path} does not answer: {why}", PATIENCE)
    if conf.device:
        silent = next((node for node in members if at.known.views[node.name].qdevice != "votes"), None)
        if silent is None:
            return None
        what = f"{silent.path} has {at.known.views[silent.name].qdevice}"
        return Wait(what, PATIENCE, hint=f"`systemctl status corosync-qdevice` on {silent.path} says why.")
    if len(members) != len(conf.nodes):
        return None  # it takes all of them, online
    return _set_up(at, members[0], wanted, address)


def removed(at: Situation, via: Node) -> Action | None:
    """Without the one that the cluster has; None when it has none."""
    conf = at.report(via.name).conf
    if conf is None or conf.device is None:
        return None
    job, tries = at.report(via.name).job, at.started(via.name, REMOVE)
    if tries >= TRIES:
        return refusals.of(f"{via.path} does not remove the qdevice", job.log if job else "")
    title = f"{via.name}: pvecm qdevice remove"
    return Requests((scripts.start(via.name, title, REMOVE, scripts.REMOVE_DEVICE),))


def _set_up(at: Situation, via: Node, wanted: Node, address: str) -> Action:
    job, tries = at.report(via.name).job, at.started(via.name, SETUP)
    if tries and job and job.what == SETUP and (tries >= TRIES or not refusals.transient(job.log)):
        return refusals.of(f"{via.path} did not set up the qdevice {wanted.path}", job.log)
    keys = at.done(via.name, scripts.ROOT_KEY)
    if not keys:
        return Requests((Request(via.name, f"{via.name}: reading its key", scripts.ROOT_KEY),))
    own = _KEY.fullmatch(keys[-1].out.strip())
    trusted = at.done(wanted.name, scripts.TRUST)
    if own and not trusted:
        title = f"{wanted.name}: letting {via.name} in"
        return Requests((Request(wanted.name, title, scripts.TRUST, given(own[1])),))
    theirs = _KEY.fullmatch(trusted[-1].out.strip()) if trusted else None
    if own is None or theirs is None:
        last = trusted[-1] if trusted else keys[-1]
        return Refused(
            f"{via.path} and the qdevice {wanted.path} do not get to know each other.",
            hint="Does corosync-qnetd run there?",
            detail=f"{last.out}\n{last.err}".strip(),
        )
    title = f"{via.name}: pvecm qdevice setup {address}"
    words = [address, *given(theirs[1])]
    return Requests((scripts.start(via.name, title, SETUP, scripts.SET_UP_DEVICE, words),))


def given(key: str) -> tuple[str, ...]:
    """A public key as the two words that it is."""
    kind, _, blob = key.partition(" ")
    return kind, blob
