"""Clusters of `kvm` hypervisors: corosync with knet, votequorum and encryption, as Debian has it. Pure.

All members have the same corosync.conf and the same key; what the lab file says decides what is in it, and the members'
own files which number each has. So all of them are given it at the same time, and corosync is started, or told to read
it again, where it runs: votes change live (corosync-cfgtool(8), -R)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from nestlab.kinds import corosync_conf
from nestlab.kinds.clustering import (
    AUTHKEY,
    Action,
    Done,
    Goal,
    Known,
    Member,
    Node,
    Refused,
    Request,
    Requests,
    View,
    Wait,
)
from nestlab.kinds.corosync_conf import Conf, ConfNode
from nestlab.kinds.corosync_tools import Quorum, parse_links, parse_quorum
from nestlab.lab.model import MIB

FORMING = 90.0
"""Nominal seconds without any change in which members see each other: a membership takes 8 s (token and consensus)."""

WISH = "/etc/systemd/system/multi-user.target.wants/corosync.service"
"""By this link the unit starts at boot. The image has it masked: it leads to /dev/null."""

ASK = rf"""
exec 2>/dev/null
cd /etc/corosync || exit 0
[ ! -e authkey ] || sha256sum <authkey | {{ read -r sum rest; echo "key $sum"; }}
[ "$(readlink {WISH})" = /dev/null ] || [ ! -L {WISH} ] || echo wished
if read -r pid </run/corosync.pid && [ -d "/proc/$pid" ]; then
    echo running
    timeout 40 corosync-cmapctl -g totem.config_version
    timeout 40 corosync-quorumtool -s
    timeout 40 corosync-cfgtool -n
fi
[ ! -e corosync.conf ] || {{ echo conf; head -c {corosync_conf.LIMIT} corosync.conf; }}
exit 0
"""
"""Prints, in this order: a digest of the key; whether corosync starts at boot; what it says of itself where it runs;
behind a line `conf`, its file."""

PUT = rf"""
set -eu
umask 077
mkdir -p /etc/corosync /var/lib/corosync {WISH.rpartition("/")[0]}
cd /etc/corosync
if [ "$2" = key ]; then
    cat >authkey.new
    chmod 0400 authkey.new
    mv -f authkey.new authkey
fi
printf %s "$1" >corosync.conf.new
chmod 0644 corosync.conf.new
mv -f corosync.conf.new corosync.conf
ln -sf /usr/lib/systemd/system/corosync.service {WISH}
[ -z "$3" ] || systemctl "$3" corosync || {{
    journalctl -u corosync -n 20 --no-pager -o cat >&2
    exit 1
}}
"""
"""Arguments: corosync.conf; `key` if the key comes by stdin; what systemd is to do, "" for nothing."""

STARTS = 3
"""How often corosync is started in one step before that counts as in vain."""

RELOAD = "exec corosync-cfgtool -R"

START = f"""
ln -sf /usr/lib/systemd/system/corosync.service {WISH}
systemctl start corosync || {{
    journalctl -u corosync -n 20 --no-pager -o cat >&2
    exit 1
}}
"""

LEAVE = rf"""
set -eu
ln -sf /dev/null {WISH}
systemctl stop corosync
rm -f /etc/corosync/corosync.conf /etc/corosync/authkey
rm -rf /var/lib/corosync/*
"""


class Corosync:
    """See `clustering.Clustering`."""

    at_once = True
    off_first = False
    empty_first = False
    # Measured (corosync 3.1.9): in a machine of 256 MiB it is killed for memory, one of 320 has 70 free; it locks 150.
    # The guest that `verify` starts takes 140 more: in one of 320 the kernel then ended corosync.
    memory = 480 * MIB
    extra = 160 * MIB
    qdevice_packages: tuple[str, ...] | None = None
    ask = ASK

    def read(self, said: str) -> View:
        """See ASK."""
        told, _, text = said.partition("\nconf\n") if "\nconf\n" in said else _only_conf(said)
        conf = corosync_conf.read(text)
        lines = told.splitlines()
        key = next((line[4:68] for line in lines if line.startswith("key ")), "")
        facts = {"key": key if re.fullmatch("[0-9a-f]{64}", key) else ""}
        facts |= {"wished": "yes"} if "wished" in lines else {}
        if conf is None:
            return View(facts=MappingProxyType(facts), why="it is in no cluster")
        facts["conf"] = text[: corosync_conf.LIMIT]
        return _view(conf, "running" in lines, told, facts)

    def next(self, goal: Goal, known: Known) -> Action:
        """See `clustering.Clustering.next`."""
        if (failed := _failed(known)) is not None:
            return failed
        running = [node for node in goal.nodes if node.name in goal.running]
        for node in running:
            if node.name in known.silent:
                return Wait(f"{node.name} does not answer: {known.silent[node.name]}")
        if goal.do == "leave" and (going := _going(goal, known)):
            return Requests(going)
        wanted = conf_of(goal, known)
        members = [node for node in running if any(node.name == each.name for each in wanted.nodes)]
        if not members:
            return Done()
        for kind in (_missing, _unread, _idle):
            if todo := kind(goal, wanted, members, known):
                return Requests(todo)
        return _together(goal, wanted, members, known)


def conf_of(goal: Goal, known: Known) -> Conf:
    """The file that all members are to have: that of the newest among them, changed as the goal says. Of a member that
    is there the number stays; a new one gets the lowest that is free."""
    views = [view for view in known.views.values() if view.cluster == goal.cluster]
    confs = [conf for view in views if (conf := corosync_conf.read(view.facts.get("conf", ""))) is not None]
    base = max(confs, key=lambda conf: conf.version, default=Conf(goal.cluster, 0, ()))
    nodes = {node.name: node for node in base.nodes}
    for name in goal.who:
        if goal.do == "leave":
            nodes.pop(name, None)
        elif name not in nodes:
            taken = {node.nodeid for node in nodes.values()}
            nodes[name] = ConfNode(name, next(each for each in range(1, 1 << 16) if each not in taken), ())
    for wished in goal.nodes:
        if wished.name in nodes:
            nodes[wished.name] = replace(nodes[wished.name], addresses=wished.links)
    qdevice = goal.qdevice.address if goal.qdevice is not None else ""
    made = Conf(goal.cluster, base.version, tuple(sorted(nodes.values(), key=lambda node: node.nodeid)), qdevice)
    return made if made == base else replace(made, version=base.version + 1)


def _view(conf: Conf, running: bool, told: str, facts: dict[str, str]) -> View:
    quorum = parse_quorum(told)
    loaded = re.search(r"(?m)^totem\.config_version \(u64\) = ([0-9]{1,18})$", told)
    facts["loaded"] = loaded[1] if loaded and running else ""
    facts |= {"running": "yes"} if running else {}
    members = tuple(
        Member(node.name, node.nodeid, 1, node.nodeid in quorum.online, node.addresses) for node in conf.nodes
    )
    names = {node.nodeid: node.name for node in conf.nodes}
    down = tuple(f"link{link} to {names.get(nodeid, nodeid)}" for nodeid, link in parse_links(told))
    why = _why(running, quorum, facts["loaded"] == str(conf.version))
    return View(
        conf.cluster,
        quorum.local,
        members,
        quorum.quorate,
        quorum.expected,
        quorum.total,
        not why,
        why,
        quorum.qdevice,
        down,
        MappingProxyType(facts),
    )


def _why(running: bool, quorum: Quorum, current: bool) -> str:
    """What is wrong with a member, "" for nothing."""
    if not running:
        return "corosync does not run"
    if not quorum.expected:
        return "corosync runs, and does not answer"
    if not quorum.quorate:
        return f"it has no quorum: {quorum.votes}"
    return "" if current else "corosync has not read its new file"


def _only_conf(said: str) -> tuple[str, str, str]:
    """Where nothing stands before the file."""
    return ("", "", said.removeprefix("conf\n")) if said.startswith("conf\n") else (said, "", "")


def _failed(known: Known) -> Refused | None:
    """The first request that a node answered, and did not do; or a corosync that was started, and is no more there."""
    starts: Counter[str] = Counter()
    for answer in known.answers:
        request = answer.request
        if answer.status not in (0, None):
            what = f"{request.node}: {request.title} failed with status {answer.status}"
            return Refused(f"{what}.", "`nestlab up` tries it again.", answer.err or answer.out)
        starts[request.node] += request.script == START
    for node, times in starts.items():
        if times >= STARTS and node in known.views and "running" not in known.views[node].facts:
            hint = f"`nestlab exec {node} -- journalctl -u corosync` says why; short of memory, the kernel ends it."
            return Refused(f"{node}: corosync was started {times} times, and does not stay.", hint)
    return None


def _going(goal: Goal, known: Known) -> tuple[Request, ...]:
    """Requests to those that leave and are in the cluster still."""
    names = [name for name in goal.who if name in known.views and known.views[name].cluster == goal.cluster]
    return tuple(Request(name, "stopping corosync, and forgetting the cluster", LEAVE) for name in names)


def _missing(goal: Goal, wanted: Conf, members: list[Node], known: Known) -> tuple[Request, ...]:
    """Requests to those that have another file or another key."""
    key = goal.secrets[AUTHKEY]
    digest = hashlib.sha256(key).hexdigest()
    found = []
    for node in members:
        facts = known.views[node.name].facts
        has, same_key = corosync_conf.read(facts.get("conf", "")), facts.get("key") == digest
        if has != wanted or not same_key:
            act = _act(has, wanted, same_key, "running" in facts)
            title = "joining it" if act == "start" else "telling it its members"
            words = (wanted.text(), "" if same_key else "key", act)
            found.append(Request(node.name, title, PUT, words, b"" if same_key else key))
    return tuple(found)


def _act(has: Conf | None, wanted: Conf, same_key: bool, running: bool) -> str:
    """What corosync takes a file with: nothing where it can read it again while it runs."""
    if not running:
        return "start"
    if has is None or has.cluster != wanted.cluster or not same_key:
        return "restart"
    before: Mapping[int, ConfNode] = {node.nodeid: node for node in has.nodes}
    moved = any(node.nodeid in before and before[node.nodeid] != node for node in wanted.nodes)
    return "restart" if moved else ""


def _unread(goal: Goal, wanted: Conf, members: list[Node], known: Known) -> tuple[Request, ...]:
    """A request to one that runs with the file of before: it tells all that it is together with."""
    loaded = {node.name: known.views[node.name].facts.get("loaded") for node in members}
    behind = [name for name, version in loaded.items() if version not in ("", str(wanted.version))]
    return tuple(Request(name, "reading it again", RELOAD) for name in behind[:1])


def _idle(goal: Goal, wanted: Conf, members: list[Node], known: Known) -> tuple[Request, ...]:
    """Requests to those whose corosync does not run, or would not start at boot."""
    facts = {node.name: known.views[node.name].facts for node in members}
    idle = [name for name, each in facts.items() if "running" not in each or "wished" not in each]
    return tuple(Request(name, "starting corosync", START) for name in idle)


def _together(goal: Goal, wanted: Conf, members: list[Node], known: Known) -> Action:
    """Whether all that run see each other, and have a quorum if they can."""
    names = frozenset(node.name for node in members) - goal.apart
    votes = len(wanted.nodes) + bool(wanted.qdevice)
    enough = 2 * (len(names) + bool(wanted.qdevice)) > votes
    for name in sorted(names):
        view = known.views[name]
        if not view.expected:
            return Wait(f"corosync on {name} does not answer yet", FORMING)
        if lost := sorted(names - view.online):
            hint = "Their links: `nestlab exec NODE -- corosync-cfgtool -n` shows them."
            return Wait(f"{name} does not see {', '.join(lost)}", FORMING, hint.replace("NODE", name))
        if enough and not view.quorate:
            return Wait(f"{name} has no quorum yet: {view.total} of {view.expected} votes", FORMING)
    if enough:
        return Done()
    return Done(f"no quorum: {len(names)} of {votes} votes, and it needs {votes // 2 + 1}")
