"""Nodes with a corosync that is only pretended: it keeps files, starts and reads them again as the real one does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nestlab.kinds import corosync, corosync_conf
from nestlab.kinds.clustering import AUTHKEY, Answer, Done, Goal, Known, Node, Refused, Request, Requests, Wait
from nestlab.kinds.corosync_conf import Conf
from nestlab.wire.result import Result

KEY = bytes(range(256))


@dataclass
class FakeNode:
    name: str
    text: str = ""
    key: bytes = b""
    wished: bool = False
    loaded: Conf | None = None
    loaded_key: bytes = b""
    lost: bool = False

    def start(self) -> None:
        self.loaded, self.loaded_key = corosync_conf.read(self.text), self.key


@dataclass
class FakeCluster:
    """`cut`: names that no other reaches. `log`: what was asked of whom."""

    nodes: dict[str, FakeNode] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    log: list[tuple[str, str]] = field(default_factory=list)
    key: Callable[[], bytes] = lambda: KEY

    def add(self, *names: str) -> None:
        self.nodes |= {name: FakeNode(name) for name in names}

    def together(self, name: str) -> set[str]:
        """The nodes whose corosync is in one membership with that of a node."""
        node = self.nodes[name]
        if node.loaded is None:
            return set()
        listed = {each.name for each in node.loaded.nodes}
        others = set()
        for other in self.nodes.values():
            same = other.loaded is not None and other.loaded_key == node.loaded_key
            knows = same and other.loaded is not None and name in {each.name for each in other.loaded.nodes}
            if other.name == name or (knows and other.name in listed and not {name, other.name} & self.cut):
                others.add(other.name)
        return others

    def said(self, name: str) -> str:
        node = self.nodes[name]
        lines = [f"key {hashlib.sha256(node.key).hexdigest()}"] if node.key else []
        lines += ["wished"] if node.wished else []
        if node.loaded is not None:
            lines += ["running", *self._tools(node, node.loaded)]
        return "\n".join([*lines, *(["conf", node.text] if node.text else []), ""])

    def _tools(self, node: FakeNode, conf: Conf) -> list[str]:
        ids = {each.name: each.nodeid for each in conf.nodes}
        online = sorted(ids[name] for name in self.together(node.name) if name in ids)
        votes = len(conf.nodes)
        rows = [f"{nodeid:10}          1 n{nodeid}{' (local)' * (nodeid == ids[node.name])}" for nodeid in online]
        yes = "Yes" if 2 * len(online) > votes else "No"
        return [
            f"totem.config_version (u64) = {conf.version}",
            *("Quorum information", "------------------", f"Node ID:          {ids[node.name]}"),
            *(f"Quorate:          {yes}", "", "Votequorum information", f"Expected votes:   {votes}"),
            *(f"Total votes:      {len(online)}", f"Quorum:           {votes // 2 + 1} Activity blocked", ""),
            *("Membership information", "----------------------", "    Nodeid      Votes Name", *rows),
        ]

    def ask(self, request: Request) -> Answer:
        node = self.nodes[request.node]
        self.log.append((request.node, request.title))
        if node.lost:
            return Answer(request, None, err=f"{request.node} does not answer.")
        if request.script == corosync.PUT:
            node.text, node.wished = request.words[0], True
            node.key = request.input if request.words[1] == "key" else node.key
            if request.words[2]:
                node.start()
        elif request.script == corosync.START:
            node.wished = True
            node.start()
        elif request.script == corosync.RELOAD:
            for name in self.together(request.node):
                other = self.nodes[name]
                other.loaded = corosync_conf.read(other.text)
        elif request.script == corosync.LEAVE:
            self.nodes[request.node] = FakeNode(request.node)
        return Answer(request, 0)

    def answer(self, path: str, argv: Sequence[str]) -> Result | None:
        """As machines of a pretended world answer (`FakeWorld.answer`); the key by stdin is not seen there."""
        name, script = path.rpartition("/")[2], argv[4] if len(argv) > 4 else ""
        if name not in self.nodes:
            return None
        if script == corosync.ASK:
            return Result(tuple(argv), 0, self.said(name).encode(), b"")
        if script in (corosync.PUT, corosync.START, corosync.RELOAD, corosync.LEAVE):
            self.ask(Request(name, "", script, tuple(argv[6:]), self.key()))
            return Result(tuple(argv), 0, b"", b"")
        return None

    def views(self, goal: Goal) -> Known:
        how = corosync.Corosync()
        asked = {name for name in goal.running if name in self.nodes}
        seen = {name: how.read(self.said(name)) for name in asked if not self.nodes[name].lost}
        return Known(seen, {name: f"{name} does not answer." for name in asked - seen.keys()})

    def reach(self, goal: Goal, most: int | None = None) -> Done | Refused | Wait | None:
        """As `cluster_work.reach`; None when it was killed after `most` requests."""
        answers: list[Answer] = []
        for _ in range(50):
            known = self.views(goal)
            action = corosync.Corosync().next(goal, Known(known.views, known.silent, tuple(answers)))
            if not isinstance(action, Requests):
                return action
            for request in action.requests:
                if most is not None and len(answers) >= most:
                    return None
                answers.append(self.ask(request))
        raise AssertionError("it goes round in circles")


def goal(do: str, who: Sequence[str], nodes: Sequence[str], running: Sequence[str] | None = None) -> Goal:
    known = tuple(
        Node(name, name, (f"10.0.0.{name[-1]}", f"10.1.0.{name[-1]}"), f"10.0.0.{name[-1]}") for name in nodes
    )
    assert do in ("form", "join", "leave")
    up = frozenset(nodes if running is None else running)
    return Goal("trio", do, tuple(who), known, up, secrets={AUTHKEY: KEY})  # type: ignore[arg-type]
