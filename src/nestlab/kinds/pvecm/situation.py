"""What nodes said, beside what is to be reached: the questions that the dialogue asks of both. Pure."""

from __future__ import annotations

from nestlab.base.frozen import frozen
from nestlab.kinds.clustering import Answer, Goal, Known, Member, Node, View
from nestlab.kinds.pvecm.ask import Report
from nestlab.kinds.pvecm.reports import Conf


@frozen
class PveView(View):
    """A node's view, with all that it said."""

    report: Report = Report()


def view(report: Report) -> PveView:
    """What a report says of the cluster."""
    conf, quorum, peers = report.conf, report.quorum, report.members
    present = {seat.number for seat in quorum.seats} if quorum else set()
    members = tuple(
        Member(
            each.name,
            each.number,
            each.votes,
            each.number in present,
            tuple(address for _, address in each.links),
        )
        for each in (conf.nodes if conf else ())
    )
    wrong = missing(report)
    return PveView(
        cluster=_cluster(report),
        nodeid=next((each.number for each in (conf.nodes if conf else ()) if each.name == report.name), 0),
        members=members,
        quorate=bool(quorum and quorum.quorate and (peers is None or peers.quorate)),
        expected=quorum.expected if quorum else 0,
        total=quorum.total if quorum else 0,
        usable=not wrong,
        why=wrong,
        qdevice=_device(report),
        report=report,
    )


def missing(report: Report) -> str:
    """What a member lacks for use, as a part of a sentence; "" for nothing."""
    if not report.is_node:
        return "it is no node of Proxmox VE (it has no pvecm)"
    if report.writable is None:
        return "its /etc/pve is not mounted"
    if not report.conf:
        return "it is in no cluster" if not report.conf_there else "its corosync.conf cannot be read"
    if not report.active("corosync") or report.quorum is None:
        return f"its corosync does not answer ({report.services.get('corosync', 'not there')})"
    if report.members is None or report.members.cluster is None:
        return "its pve-cluster does not know the cluster yet"
    if not report.quorum.quorate:
        return f"it has no quorum: {report.quorum.total} of {report.quorum.expected} votes"
    if not report.writable:
        return "its /etc/pve is read-only"
    if not report.signed:
        return "its certificate is not of the cluster's CA"
    if report.api not in (200, 401):
        return f"its API does not answer (pveproxy is {report.services.get('pveproxy', 'not there')})"
    if not report.active("pvedaemon"):
        return f"its pvedaemon is {report.services.get('pvedaemon', 'not there')}"
    if report.own != report.served:
        return "its API still shows its former certificate"
    return ""


def _cluster(report: Report) -> str:
    conf = report.conf or (report.local if report.writable is None else None)
    return conf.cluster if conf else ""


def _device(report: Report) -> str:
    if not report.conf or report.conf.device is None:
        return ""
    seats = report.quorum.seats if report.quorum else ()
    return "votes" if any(seat.number == 0 and seat.votes for seat in seats) else f"no vote of {report.conf.device}"


@frozen
class Situation:
    """Goal and what is known, in the words of the dialogue."""

    goal: Goal
    known: Known

    def report(self, name: str) -> Report:
        found = self.known.views.get(name)
        return found.report if isinstance(found, PveView) else Report()

    def node(self, name: str) -> Node:
        return self.goal.by_name[name]

    def member(self, name: str) -> bool:
        """Whether a node is configured for this cluster and its own filesystem says so."""
        conf = self.report(name).conf
        return conf is not None and conf.cluster == self.goal.cluster

    def others(self, name: str) -> list[Node]:
        """The members of the lab file that run, without one, in its order."""
        leaving = set(self.goal.who) if self.goal.do == "leave" else set()
        running = self.goal.running - leaving - {name}
        return [node for node in self.goal.nodes if node.name in running]

    def via(self, name: str) -> Node | None:
        """A member that changes the cluster for another node: quorate, writable, and with an API."""
        fit = (node for node in self.others(name) if self.member(node.name) and self.known.views[node.name].usable)
        return next(fit, None)

    def lists(self, name: str) -> tuple[Node, Conf] | None:
        """Another member in whose corosync.conf a node is, where that is the newest."""
        confs = [(node, self.report(node.name).conf) for node in self.others(name) if self.member(node.name)]
        newest = max((conf.version for _, conf in confs if conf), default=0)
        found = next(((node, conf) for node, conf in confs if conf and conf.version == newest), None)
        return found if found and found[1].node(name) else None

    def done(self, node: str, script: str) -> list[Answer]:
        """The answers of a node to a script in this step."""
        return [each for each in self.known.answers if each.request.node == node and each.request.script == script]

    def started(self, node: str, what: str) -> int:
        """How often a job was started on a node in this step."""
        jobs = (each for each in self.known.answers if each.request.node == node and each.status == 0)
        return sum(each.request.words[:1] == (what,) for each in jobs)
