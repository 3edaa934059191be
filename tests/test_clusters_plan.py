"""What a plan does about clusters: by what their members say, and of those that start by asking them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from blueprints import draft, guest, hypervisor, look
from fake_clustering import PlainClustering, SerialClustering, clustered
from nestlab.kinds.clustering import Member, View
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.clusters import Cluster
from nestlab.plan.planner import plan, targets
from nestlab.plan.steps import Observed, Plan, Seen


@pytest.fixture(autouse=True)
def kvm_makes_clusters() -> Iterator[None]:
    with clustered(PlainClustering()):
        yield


def trio(*members: str, name: str = "trio", machines: Sequence[str] = ("hv1", "hv2", "hv3")) -> Blueprint:
    """A lab of hypervisors, with a guest in the first, of which some are a cluster."""
    made = [hypervisor(each, *([guest("web")] if each == "hv1" else [])) for each in machines]
    cluster = (Cluster(name, members, ("wire",), "wire"),) if members else ()
    return replace(draft("lab", *made, hosts="fixed"), clusters=cluster)


def view(cluster: str, *names: str, usable: bool = True) -> View:
    members = tuple(Member(name, number, 1, True) for number, name in enumerate(names, 1))
    return View(cluster, 1, members, quorate=usable, usable=usable, why="" if usable else "it has no quorum")


def world(blueprint: Blueprint, views: Mapping[str, View], down: Sequence[str] = ()) -> Observed:
    """Everything is there and runs, but `down`."""
    seen = {
        spec.path: Seen(
            spec.path,
            "stopped" if spec.path in down else "running",
            spec.digest,
            spec.names,
            root=spec.root,
        )
        for spec in blueprint.specs
    }
    return Observed(seen, frozenset({"wire"}), frozenset(blueprint.images), clusters=views)


def steps(found: Plan) -> dict[str, str]:
    return {step.id: step.why for step in found.steps}


def needs(found: Plan, step: str) -> tuple[str, ...]:
    return next(each.needs for each in found.steps if each.id == step)


def ordered(found: Plan) -> bool:
    ids = [step.id for step in found.steps]
    return all(ids.index(need) < ids.index(step.id) for step in found.steps for need in step.needs)


ALL = ("hv1", "hv2", "hv3")
WHOLE = {path: view("trio", *ALL) for path in ALL}


def test_a_cluster_that_is_as_wanted_needs_nothing() -> None:
    lab = trio(*ALL)
    assert not plan(lab, world(lab, WHOLE), previous=lab)


def test_a_new_cluster_is_formed_at_once_when_its_members_are_up() -> None:
    from nestlab.testing.fake_engine import FakeWorld

    lab = trio(*ALL)
    found = plan(lab, look(FakeWorld(), lab))
    assert needs(found, "form:trio") == ("boot:hv1", "boot:hv2", "boot:hv3")
    assert steps(found)["form:trio"] == "3 machines are to be cluster trio"
    assert ordered(found)


def test_where_members_join_one_by_one_the_plan_says_so_and_guests_wait_for_it() -> None:
    lab = trio(*ALL)
    from nestlab.testing.fake_engine import FakeWorld

    with clustered(SerialClustering()):
        found = plan(lab, look(FakeWorld(), lab))
    assert needs(found, "form:trio") == ("boot:hv1",)
    assert needs(found, "join:hv2") == ("boot:hv2", "form:trio")
    assert needs(found, "join:hv3") == ("boot:hv3", "join:hv2")
    assert "form:trio" in needs(found, "create:hv1/web") or "form:trio" in needs(found, "boot:hv1/web")
    assert ordered(found)


def test_a_machine_that_is_added_joins() -> None:
    lab, before = trio(*ALL), trio("hv1", "hv2")
    alone = {path: view("trio", "hv1", "hv2") for path in ("hv1", "hv2")} | {"hv3": View()}
    found = plan(lab, world(lab, alone), previous=before)
    assert steps(found) == {"join:hv3": "it is not in cluster trio"}


def test_members_that_start_are_seen_to_be_one_again() -> None:
    lab = trio(*ALL)
    found = plan(lab, world(lab, {}, down=ALL), previous=lab)
    assert steps(found)["form:trio"] == "hv1, hv2, hv3 start"
    assert set(needs(found, "form:trio")) == {"boot:hv1", "boot:hv2", "boot:hv3"}
    one = plan(lab, world(lab, {path: WHOLE[path] for path in ("hv1", "hv2")}, down=["hv3"]), previous=lab)
    assert steps(one)["form:trio"] == "hv3 starts"


def test_a_member_that_is_not_fit_for_use_is_looked_after() -> None:
    lab = trio(*ALL)
    found = plan(lab, world(lab, WHOLE | {"hv2": view("trio", *ALL, usable=False)}), previous=lab)
    assert steps(found) == {"form:trio": "hv2: it has no quorum"}


def test_a_machine_that_is_taken_out_leaves_and_stays() -> None:
    lab, before = trio("hv1", "hv2"), trio(*ALL)
    found = plan(lab, world(lab, WHOLE), previous=before)
    assert steps(found) == {"leave:trio.hv3": "no longer a member of cluster trio"}


def test_a_machine_that_goes_leaves_before_it_ends_or_after_that() -> None:
    lab, before = trio("hv1", "hv2", machines=("hv1", "hv2")), trio(*ALL)
    seen = world(before, WHOLE)
    found = plan(lab, seen, previous=before)
    assert needs(found, "remove:hv3") == ("leave:trio.hv3",)
    with clustered(SerialClustering()):
        later = plan(lab, seen, previous=before)
    assert needs(later, "leave:trio.hv3") == ("remove:hv3",)
    assert ordered(found)
    assert ordered(later)


def test_what_a_member_still_lists_leaves_although_nothing_else_is_known_of_it() -> None:
    lab = trio("hv1", "hv2", machines=("hv1", "hv2"))
    listed = {path: view("trio", "hv1", "hv2", "gone") for path in ("hv1", "hv2")}
    found = plan(lab, world(lab, listed), previous=lab)
    assert [step.id for step in found.steps] == ["leave:trio.gone"]


def test_members_that_start_are_asked_before_one_leaves() -> None:
    lab, before = trio("hv1", "hv2", machines=("hv1", "hv2")), trio(*ALL)
    found = plan(lab, world(before, {}, down=ALL), previous=before)
    assert set(needs(found, "leave:trio.hv3")) == {"boot:hv1", "boot:hv2", "remove:hv3"}
    assert "leave:trio.hv3" in needs(found, "form:trio")
    assert ordered(found)


def test_a_cluster_that_is_no_longer_wanted_is_left_by_all() -> None:
    lab, before = trio(), trio(*ALL)
    found = plan(lab, world(lab, WHOLE), previous=before)
    assert list(steps(found)) == ["leave:trio.hv1", "leave:trio.hv2", "leave:trio.hv3"]
    assert set(steps(found).values()) == {"there is to be no cluster trio"}


def test_a_cluster_that_somebody_made_by_hand_is_left_alone() -> None:
    lab = trio()
    assert not plan(lab, world(lab, {path: view("theirs", *ALL) for path in ALL}), previous=lab)


def test_a_machine_goes_from_one_cluster_to_another() -> None:
    lab, before = trio(*ALL, name="new"), trio(*ALL)
    found = plan(lab, world(lab, WHOLE), previous=before)
    assert "leave:trio.hv3" in needs(found, "form:new")
    assert ordered(found)


def test_only_a_plan_for_the_whole_lab_lets_a_machine_leave() -> None:
    lab, before = trio("hv1", "hv2"), trio(*ALL)
    seen = world(lab, WHOLE)
    assert not plan(lab, seen, targets("running", ["hv1"], lab, seen), previous=before)


def test_down_asks_nothing_of_clusters() -> None:
    lab = trio(*ALL)
    assert not any("leave" in step.id or "form" in step.id for step in plan(lab, world(lab, WHOLE), "gone").steps)
    assert not any("form" in step.id for step in plan(lab, world(lab, WHOLE), "stopped").steps)


def test_a_member_that_is_made_anew_joins() -> None:
    lab = trio(*ALL)
    seen = world(lab, WHOLE)
    found = plan(lab, seen, targets("running", ["hv3"], lab, seen), previous=lab, again={"hv3": "anew"})
    assert "join:hv3" in steps(found)
    assert "form:trio" not in steps(found)
    assert ordered(found)


def test_a_blueprint_keeps_its_clusters() -> None:
    lab = trio(*ALL)
    again = blueprint_from_json(blueprint_to_json(lab))
    assert again == lab
    assert again.clusters == lab.clusters


def test_a_partition_that_was_made_on_purpose_is_not_waited_for() -> None:
    lab = trio(*ALL)
    views = WHOLE | {"hv3": view("trio", *ALL, usable=False)}
    seen = world(lab, views)
    assert [step.id for step in plan(lab, seen, previous=lab).steps] == ["form:trio"]
    cut = replace(seen, cut={"hv3": frozenset({"wire"})})
    assert not plan(lab, cut, previous=lab)
