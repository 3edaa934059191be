"""What is to be done next for a cluster of Proxmox VE nodes, by what all of them said. Pure.

A node on its way into a cluster is in one of these states, and each leads to the next:

| state | how it is known | what is done |
|---|---|---|
| alone | no key, no configuration of corosync | checks, then `pvecm create` or `pvecm add` |
| counted | the cluster lists it, it does not know: `pvecm add` ended in between | the rest of the join is done for it |
| half | it has the key, its filesystem is not the cluster's yet | the same |
| left over | it has the key, the cluster does not list it | it becomes alone again |
| member | its filesystem has the cluster's corosync.conf | services, quorum, certificate, API, login |

A cluster of one that counted a second node has no quorum until that one is there (2 votes, 1 present); the rest of a
join needs none.
"""

from __future__ import annotations

from urllib.parse import quote

from nestlab.kinds.clustering import (
    Action,
    Done,
    Goal,
    Known,
    Node,
    Refused,
    Request,
    Requests,
    Wait,
    password_of,
)
from nestlab.kinds.pvecm import checks, refusals, scripts
from nestlab.kinds.pvecm.device import device, removed
from nestlab.kinds.pvecm.leave import leave
from nestlab.kinds.pvecm.reports import ConfNode
from nestlab.kinds.pvecm.situation import Situation, missing

BOOT = 900.0
"""Nominal seconds in which the services of a node that boots show some progress."""

QUORUM = 300.0
"""Nominal seconds without any change in which a node waits for quorum. Proxmox itself waits without an end."""

TRIES = 3
"""How often something is tried in one step that may go better another time."""

_STATUS = "`nestlab status` shows what is cut, killed or impaired."


def next_action(goal: Goal, known: Known) -> Action:
    """What to do, decided by the arguments alone."""
    at = Situation(goal, known)
    for name, why in known.silent.items():
        if name in goal.by_name:
            return Wait(f"{goal.by_name[name].path} does not answer: {why}", BOOT)
    for node in goal.nodes:  # what works for the cluster on a node comes to its end first
        if node.name in goal.running and (job := at.report(node.name).job) and job.running:
            return Wait(_progress(node, job.what, job.log), QUORUM, hint=_waiting(at, node))
    if goal.do == "leave":
        return leave(at)
    for name in goal.who:
        if action := _become(at, at.node(name), first=goal.do == "form"):
            return action
    if action := _all_fit(at):
        return action
    if action := device(at) or _migration(at):
        return action
    for name in goal.who:
        if action := _login(at, at.node(name)):
            return action
    return Done("; ".join(checks.notes(known.answers)))


def _become(at: Situation, node: Node, *, first: bool) -> Action | None:
    """What makes a node a member; None when it is one."""
    said = at.report(node.name)
    if not said.is_node:
        return Refused(
            f"{node.path} is no node of Proxmox VE: it has no pvecm.",
            hint="Members of such a cluster are machines with `hypervisor: pve`.",
        )
    conf = said.conf or said.local
    if conf is not None and conf.cluster != at.goal.cluster:
        return Refused(
            f"{node.path} is a member of another cluster: {conf.cluster}.",
            hint=f"A node is in one cluster. Make it anew (`nestlab recreate {node.path}`), or let it leave that one.",
        )
    listed = at.lists(node.name)
    if at.member(node.name):
        return None if listed or not at.via(node.name) else _reset(at, node)
    if said.writable is None:
        return _mounted(at, node)
    if wrong := checks.usable(node, said):
        return wrong
    if said.alone and said.services.get("pveproxy") not in ("active", "failed"):
        # `pvecm updatecerts` works at its first certificate, in /etc/pve, which goes away for a moment.
        return Wait(f"{node.path}: its API starts", BOOT, hint=_services(node))
    if listed:
        return _adopt(at, node, listed[0], listed[1].node(node.name))
    if any(at.member(other.name) for other in at.others(node.name)) or not first:
        return _reset(at, node) if not said.alone else _join(at, node)
    return _create(at, node)


def _mounted(at: Situation, node: Node) -> Action:
    """The cluster's filesystem of a node is to be there, for nothing is known before. Where a join was ended while it
    was stopped, nobody else starts it."""
    wait = Wait(f"{node.path}: {missing(at.report(node.name))}", BOOT, hint=_services(node))
    if not at.report(node.name).authkey:
        return wait
    return _once(at, node, scripts.SERVICES, ("pve-cluster",), f"{node.name}: starting pve-cluster") or wait


def _ended(at: Situation, node: Node, what: str, failed: str) -> Action | None:
    """What follows from a job of this step that is over; None: it may be started (again)."""
    job, tries = at.report(node.name).job, at.started(node.name, what)
    if not tries or job is None or job.what != what:
        return None
    if job.status == 0 and (refusals.ADDED in job.log or not what.startswith("join ")):
        return Wait(f"{node.path}: {what}: it is done there, and its /etc/pve is not yet the cluster's", QUORUM)
    if job.status is None and tries >= TRIES:
        return Refused(
            f"{failed}: `pvecm` was ended there from outside.",
            hint=f"Has it memory enough? `nestlab exec {node.path} -- journalctl -k` tells of what the kernel killed.",
            detail=job.log,
        )
    if job.status is not None and (tries >= TRIES or not refusals.transient(job.log)):
        return refusals.of(failed, job.log)
    return None


def _create(at: Situation, node: Node) -> Action:
    what = f"create {at.goal.cluster}"
    if action := _ended(at, node, what, f"{node.path} did not create the cluster {at.goal.cluster}"):
        return action
    unsure = next((other for other in at.others(node.name) if not at.report(other.name).alone), None)
    if unsure is not None:  # two clusters of one name would be worse than none
        hint = f"If it is in none, make it anew (`nestlab recreate {unsure.path}`)."
        return Wait(f"{unsure.path} has something of a cluster, and does not say of which", QUORUM, hint=hint)
    # After an interruption between key and configuration `pvecm create` goes on with the key that is there.
    words = [at.goal.cluster, *_links(node)]
    title = f"{node.name}: pvecm create {' '.join(words)}"
    return Requests((scripts.start(node.name, title, what, scripts.CREATE, words),))


def _join(at: Situation, node: Node) -> Action:
    via, mine = at.via(node.name), at.report(node.name)
    if via is None:
        mending = (_fit(at, other) for other in at.others(node.name) if at.member(other.name))
        wait = Wait(f"{node.path} cannot join yet: {_nobody(at, node)}", BOOT, hint=_STATUS)
        return next((action for action in mending if action), wait)
    theirs = at.report(via.name)
    if action := checks.joinable(node, mine, via, theirs) or removed(at, via):
        return action
    looked = at.done(node.name, scripts.CHECK)
    if not looked:
        return Requests((checks.request(node, mine, via, _seconds(at)),))
    if wrong := checks.judged(node, via, theirs, looked[-1]):
        return wrong
    what = f"join {at.goal.cluster}"
    if action := _ended(at, node, what, f"{node.path} did not join the cluster {at.goal.cluster} at {via.path}"):
        return action
    secret = at.goal.secrets.get(password_of(via.name))
    if secret is None:
        return Refused(f"The password of root on {via.path} is not known.", hint="Was its key file removed by hand?")
    address = via.address or via.links[0]
    words = [address, "--fingerprint", theirs.fingerprint, *_links(node)]
    title = f"{node.name}: pvecm add {address}"
    return Requests((scripts.start(node.name, title, what, scripts.JOIN, words, secret + b"\n"),))


def _adopt(at: Situation, node: Node, via: Node, listed: ConfNode | None) -> Action:
    """The rest of a join, for a node that the cluster counts already."""
    said = at.report(node.name)
    theirs = tuple(address for _, address in listed.links) if listed else ()
    if node.links and theirs != node.links:
        return Refused(
            f"The cluster {at.goal.cluster} lists {node.name} with {', '.join(theirs) or 'no address'}, and it has"
            f" {', '.join(node.links)}.",
            hint=f"`pvecm delnode {node.name}` on {via.path} forgets it; then run `nestlab up` again.",
        )
    if said.guests:
        return checks.joinable(node, said, via, said) or _reset(at, node)
    if len(at.done(node.name, scripts.ADOPT)) >= TRIES:
        last = at.done(node.name, scripts.ADOPT)[-1]
        return Refused(
            f"{node.path} is counted by the cluster {at.goal.cluster}, and does not become a member.",
            hint=_services(node),
            detail=last.err,
        )
    last_answer = at.known.last
    if last_answer and last_answer.request.script == scripts.READ and last_answer.status == 0:
        title = f"{node.name}: the rest of its join"
        given = last_answer.out.encode()
        return Requests((Request(node.name, title, scripts.ADOPT, (), given, scripts.PERL),))
    if last_answer and last_answer.request.script == scripts.ADOPT and last_answer.status == 0:
        adopted = at.report(node.name)
        if adopted.writable is None or not adopted.conf_there:
            return Wait(f"{node.path}: its pve-cluster starts", QUORUM, hint=_services(node))
    return Requests((Request(via.name, f"{via.name}: reading corosync.conf", scripts.READ),))


def _reset(at: Situation, node: Node) -> Action:
    """Make a node alone that has something of a cluster that does not know it."""
    said = at.report(node.name)
    if guests := [guest for guest in said.guests if guest.node == node.name]:
        return Refused(
            f"The cluster {at.goal.cluster} does not list {node.path} any more, which has guests"
            f" ({', '.join(str(guest.number) for guest in guests[:5])}).",
            hint="Save what is in them, and remove them there; then run `nestlab up` again.",
        )
    if len(at.done(node.name, scripts.RESET)) >= TRIES:
        return Refused(
            f"{node.path} keeps something of a cluster that does not list it.",
            hint=f"Make it anew: `nestlab recreate {node.path}`.",
            detail=at.done(node.name, scripts.RESET)[-1].err,
        )
    title = f"{node.name}: forgetting a cluster that does not list it"
    return Requests((Request(node.name, title, scripts.RESET, seconds=scripts.PERL),))


def _all_fit(at: Situation) -> Action | None:
    """What members that run lack for use: what can be done comes before what is waited for. A node that the cluster
    has forgotten is not among them."""
    running = [node for node in at.goal.nodes if node.name in at.goal.running and at.member(node.name)]
    known = next((node for node in running if at.known.views[node.name].usable), None)
    conf = at.report(known.name).conf if known else None
    members = [node for node in running if conf is None or conf.node(node.name)]
    actions = [action for node in members if (action := _fit(at, node))]
    return next((action for action in actions if not isinstance(action, Wait)), actions[0] if actions else None)


def _fit(at: Situation, node: Node) -> Action | None:
    """What a member lacks for use; None for nothing."""
    said, view = at.report(node.name), at.known.views[node.name]
    if view.usable:
        return None
    wait = Wait(f"{node.path}: {view.why}", BOOT, hint=_services(node))
    down = [name for name in ("pve-cluster", "corosync") if said.services.get(name) in ("inactive", "failed")]
    if down:
        return _once(at, node, scripts.SERVICES, tuple(down), f"{node.name}: starting {', '.join(down)}") or wait
    if said.quorum is None or said.members is None or said.members.cluster is None:
        return wait
    if not view.quorate:
        if not at.goal.can_be_quorate:
            return None
        return Wait(f"{node.path}: {view.why}", QUORUM, hint=_waiting(at, node))
    if not said.writable:
        return Wait(f"{node.path}: {view.why}", QUORUM, hint=_services(node))
    if not said.signed:
        tries = at.started(node.name, "certify")
        if tries >= TRIES:
            return refusals.of(f"{node.path} got no certificate of its cluster", said.job.log if said.job else "")
        request = scripts.start(node.name, f"{node.name}: pvecm updatecerts", "certify", scripts.CERTIFY)
        return Requests((request,)) if not tries or (said.job and not said.job.running) else wait
    if said.own != said.served or said.services.get("pvedaemon") != "active":
        idle = [name for name in ("pvedaemon", "pveproxy") if said.services.get(name) in ("inactive", "failed")]
        if idle or (said.api in (200, 401) and said.own != said.served):
            return _once(at, node, scripts.RESTART, (), f"{node.name}: restarting its API") or wait
    return wait


def _migration(at: Situation) -> Action | None:
    """The network that guests move by, told to the cluster once."""
    wanted = at.goal.networks.get("migration", "")
    fit = (node for node in at.goal.nodes if node.name in at.goal.running and at.known.views[node.name].usable)
    via = next(fit, None)
    if not wanted or via is None or at.report(via.name).migration == wanted:
        return None
    if len(done := at.done(via.name, scripts.MIGRATE_BY)) >= TRIES:
        return Refused(
            f"The cluster {at.goal.cluster} does not take {wanted} as the network that guests move by.",
            hint=f"`nestlab exec {via.path} -- cat /etc/pve/datacenter.cfg` shows what it has.",
            detail=done[-1].err,
        )
    title = f"{via.name}: guests move by {wanted}"
    return Requests((Request(via.name, title, scripts.MIGRATE_BY, (wanted,)),))


def _login(at: Situation, node: Node) -> Action | None:
    """A login to the API of a node, through all of it: its old tickets ended with the join."""
    secret = at.goal.secrets.get(password_of(node.name))
    if secret is None or not at.known.views[node.name].usable:
        return None
    answers = at.done(node.name, scripts.LOGIN)
    said = answers[-1].out.split()[1:2] if answers and answers[-1].out.startswith("HTTP/") else []
    if said == ["200"]:
        return None
    if said == ["401"]:
        return Refused(
            f"The API of {node.path} does not take root's password.",
            hint="Was it changed by hand? `passwd` there sets it; the lab's is in the lab's directory, keys/*.node.",
        )
    if len(answers) >= TRIES:
        return Refused(
            f"The API of {node.path} answers a login with {' '.join(said) or 'nothing'}.",
            hint=f"`nestlab exec {node.path} -- journalctl -u pvedaemon -u pveproxy` says why.",
        )
    words = (str(_seconds(at)),)
    form = b"username=root%40pam&password=" + quote(secret, safe="").encode()
    given = f"{len(form)}\n".encode() + form
    return Requests((Request(node.name, f"{node.name}: logging in to its API", scripts.LOGIN, words, given, 180.0),))


def _seconds(at: Situation) -> int:
    """Seconds, as a clock there counts them, in which an API answers: a minute at full speed."""
    return int(60 * max(1.0, at.goal.slowness))


def _once(at: Situation, node: Node, script: str, words: tuple[str, ...], title: str) -> Requests | None:
    if any(answer.request.words == words for answer in at.done(node.name, script)):
        return None
    return Requests((Request(node.name, title, script, words, seconds=scripts.QUICK),))


def _links(node: Node) -> list[str]:
    return [word for number, address in enumerate(node.links) for word in (f"--link{number}", address)]


def _progress(node: Node, what: str, log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return f"{node.path}: {what}: {lines[-1][:100]}" if lines else f"{node.path}: {what}"


def _waiting(at: Situation, node: Node) -> str:
    """What may keep a node from its quorum."""
    said = at.report(node.name)
    off = [each.name for each in at.goal.nodes if each.name not in at.goal.running]
    parts = []
    if said.members:
        parts = [f"It sees {', '.join(peer.name for peer in said.members.peers if peer.online) or 'nobody'}."]
    parts += [f"Not running: {', '.join(off)}."] if off else []
    return " ".join([*parts, "corosync needs UDP 5405 to 5412 between all members, on every link.", _STATUS])


def _nobody(at: Situation, joining: Node) -> str:
    members = [node for node in at.others(joining.name) if at.member(node.name)]
    if not members:
        return f"no member of {at.goal.cluster} runs"
    return "; ".join(f"{node.path}: {at.known.views[node.name].why}" for node in members[:4])


def _services(node: Node) -> str:
    return f"`nestlab exec {node.path} -- journalctl -b -u pve-cluster -u corosync -u pveproxy` says how it goes on."
