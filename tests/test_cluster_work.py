"""A step about a cluster: nodes are asked, their kind decides, what it says is done, and every wait has an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from blueprints import draft, hypervisor
from fake_clustering import PlainClustering, clustered
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.hosts.host import Host
from nestlab.kinds.clustering import Action, Goal, Known, Node, Request, Requests, Wait
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.clusters import Cluster
from nestlab.plan.steps import Form, Join, Leave
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import cluster_goals, cluster_work
from nestlab.verbs.nest import Nest
from nestlab.wire.result import Result

SECRET = b"nobody else's"


@dataclass
class FakeNode:
    """A node that keeps what it is told."""

    path: str
    said: str = ""
    told: list[tuple[Sequence[str], bytes | None]] = field(default_factory=list)
    slowness: float = 1.0
    gone: bool = False

    async def run(self, argv: Sequence[str], *, input: bytes | None = None, **_: object) -> Result:
        if self.gone:
            raise Unreachable(f"{self.path} does not answer.")
        script = argv[4]
        if script == "be":
            self.told.append((argv, input))
            self.said = f"{argv[6]} yes"
        return Result(tuple(argv), 0, self.said.encode(), b"")


def nodes(*names: str) -> dict[str, FakeNode]:
    return {name: FakeNode(name) for name in names}


def goal(*names: str, do: str = "form") -> Goal:
    known = tuple(Node(name, name, (f"10.77.0.{at}",)) for at, name in enumerate(names, 11))
    return Goal("trio", "form", names, known, frozenset(names), secrets={"authkey": SECRET})


def reach(made: Mapping[str, FakeNode], wanted: Goal, how: PlainClustering | None = None) -> tuple[str, list[str]]:
    said: list[str] = []

    async def host(path: str) -> Host:
        return cast(Host, made[path])

    note = asyncio.run(cluster_work.reach(wanted, how or PlainClustering(), host, said.append))
    return note, said


def test_nodes_are_asked_told_and_asked_again() -> None:
    made = nodes("a", "b", "c")
    assert reach(made, goal("a", "b", "c")) == ("all are one", ["telling it"])
    assert {each.said for each in made.values()} == {"trio a,b,c yes"}


def test_a_secret_comes_by_stdin_and_stands_in_no_argument() -> None:
    made = nodes("a")
    reach(made, goal("a"))
    ((argv, given),) = made["a"].told
    assert given == SECRET
    assert not any("nobody" in word for word in argv)
    assert SECRET.decode() not in repr(goal("a"))
    assert SECRET.decode() not in repr(Request("a", "x", "y", input=SECRET))


def test_what_is_there_already_is_not_done_again() -> None:
    made = nodes("a", "b")
    reach(made, goal("a", "b"))
    for each in made.values():
        each.told.clear()
    assert reach(made, goal("a", "b")) == ("all are one", [])
    assert not any(each.told for each in made.values())


def test_a_refusal_is_an_error_with_what_the_node_said() -> None:
    made = nodes("a", "b")
    made["b"].gone = True
    with pytest.raises(LabError) as raised:
        reach(made, goal("a", "b"))
    assert raised.value.what == "b says nothing"
    assert raised.value.detail == "b does not answer."


def test_a_wait_without_any_change_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nodes("a")
    made["a"].said = "trio a no"
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(cluster_work, "AGAIN", 0.0)
    with pytest.raises(Overdue) as raised:
        reach(made, goal("a"))
    assert raised.value.what.startswith("Cluster trio: a is slow. Nothing changed for 5 s.")
    assert "--patience" in raised.value.hint


def test_a_node_that_says_something_else_each_time_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nodes("a")

    class Changing(PlainClustering):
        def next(self, goal: Goal, known: Known) -> Action:
            made["a"].said = f"trio a,n{next(counted)} no"
            return Wait(f"a is at {next(counted)}", 5.0)

    counted, now = iter(range(1_000_000)), iter(range(0, 1_000_000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(cluster_work, "AGAIN", 0.0)
    with pytest.raises(Overdue, match="It goes on changing, and is not done after"):
        reach(made, goal("a"), Changing())


def test_a_kind_that_goes_round_in_circles_is_an_error() -> None:
    class Circling(PlainClustering):
        def next(self, goal: Goal, known: Known) -> Action:
            return Requests((Request("a", "turning round", "turn"),))

    with pytest.raises(LabError, match="turning round was done again and again"):
        reach(nodes("a"), goal("a"), Circling())


def test_an_answer_that_stays_away_is_known_as_one() -> None:
    seen: list[Known] = []

    class Asking(PlainClustering):
        def next(self, goal: Goal, known: Known) -> Action:
            seen.append(known)
            if known.last is None:
                made["b"].gone = True
                return Requests((Request("b", "asking", "x"), Request("c", "asking", "x")))
            return PlainClustering().next(replace(goal, nodes=goal.nodes[:1]), replace(known, silent={}))

    made = nodes("a", "b")
    reach(made, goal("a", "b"), Asking())
    first, second = seen[1].answers
    assert (first.status, first.err) == (None, "b does not answer.")
    assert (second.status, second.err) == (None, "c does not run.")
    assert seen[1].silent == {"b": "b does not answer."}


CLUSTER = Cluster("trio", ("hv1", "hv2", "hv3"), ("wire",), "wire", qdevice=None)


def lab(*members: str) -> Blueprint:
    machines = [hypervisor(name) for name in ("hv1", "hv2", "hv3")]
    return replace(draft("lab", *machines, hosts="fixed"), clusters=(replace(CLUSTER, members=members),))


@pytest.fixture
def kvm_makes_clusters() -> Iterator[None]:
    with clustered(PlainClustering()):
        yield


def test_a_goal_says_who_by_name_and_where() -> None:
    blueprint = lab("hv1", "hv2", "hv3")
    step = Form("why", "trio", ("hv1", "hv2", "hv3"))
    made = cluster_goals.goal(step, blueprint, None, frozenset({"hv1", "hv2", "other"}), {})
    assert (made.do, made.who, made.running) == ("form", ("hv1", "hv2", "hv3"), frozenset({"hv1", "hv2"}))
    address = blueprint["hv1"].nics[0].addresses[0].partition("/")[0]
    assert made.nodes[0] == Node("hv1", "hv1", (address,), address)
    assert dict(made.networks) == {"management": "10.77.0.0/16", "link0": "10.77.0.0/16"}
    assert made.can_be_quorate
    one = cluster_goals.goal(step, blueprint, None, frozenset({"hv1"}), {})
    assert not one.can_be_quorate


def test_who_leaves_is_known_by_the_blueprint_before() -> None:
    before, after = lab("hv1", "hv2", "hv3"), lab("hv1", "hv2")
    after = replace(after, specs=after.specs[:2])
    step = Leave("why", "trio", "hv3", "hv3")
    made = cluster_goals.goal(step, after, before, frozenset({"hv1", "hv2", "hv3"}), {})
    assert [node.name for node in made.nodes] == ["hv1", "hv2", "hv3"]
    assert made.running == {"hv1", "hv2", "hv3"}
    gone = cluster_goals.goal(replace(step, machine=""), after, None, frozenset({"hv1"}), {})
    assert (gone.do, gone.who, [node.name for node in gone.nodes]) == ("leave", ("hv3",), ["hv1", "hv2"])


def test_a_step_about_a_cluster_reaches_the_machines_of_a_nest(kvm_makes_clusters: None) -> None:
    blueprint = lab("hv1", "hv2", "hv3")
    world = FakeWorld()
    told: dict[str, str] = {}

    def answer(path: str, argv: Sequence[str]) -> Result | None:
        if len(argv) < 5 or argv[4] not in ("tell", "be"):
            return None
        if argv[4] == "be":
            told[path] = f"{argv[6]} yes"
        return Result(tuple(argv), 0, told.get(path, "").encode(), b"")

    async def go() -> list[str | None]:
        from nestlab.plan.planner import plan

        notes = []
        secrets = {"authkey": SECRET}
        async with Nest(
            blueprint, world.host(), world.engine, {"kvm": world.engine}, secrets=lambda *_: secrets
        ) as nest:
            for step in plan(blueprint, await nest.observe()).steps:
                note = await nest.perform(step, blueprint, lambda _: None)
                notes += [note] if isinstance(step, Form | Join) else []
            seen = await nest.ask_setups(await nest.observe())
            assert {path: each.cluster for path, each in seen.clusters.items()} == dict.fromkeys(
                CLUSTER.members, "trio"
            )
            assert not plan(blueprint, seen, previous=blueprint)
        return notes

    world.answer = answer
    assert asyncio.run(go()) == ["all are one"]
    assert set(told.values()) == {"trio hv1,hv2,hv3 yes"}
