"""What `status` and `verify` say of clusters, from every member's own view."""

from __future__ import annotations

from dataclasses import replace

from blueprints import draft, hypervisor
from nestlab.base.proofs import Verdict
from nestlab.kinds.clustering import Member, View
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.clusters import Cluster
from nestlab.lab.faults import Fault
from nestlab.plan.faults import blamed, marked
from nestlab.plan.steps import Observed, Seen
from nestlab.show import cluster_table
from nestlab.verbs import verify_clusters

ALL = ("hv1", "hv2", "hv3")


def lab() -> Blueprint:
    made = draft("lab", *(hypervisor(name) for name in ALL), hosts="fixed")
    return replace(made, clusters=(Cluster("trio", ALL, ("wire",), "wire"),))


def view(name: str, *online: str, listed: tuple[str, ...] = ALL, down: tuple[str, ...] = ()) -> View:
    members = tuple(Member(each, number, 1, each in online) for number, each in enumerate(listed, 1))
    quorate = 2 * len(online) > len(listed)
    why = "" if quorate else f"it has no quorum: {len(online)} of {len(listed)} votes"
    return View("trio", listed.index(name) + 1, members, quorate, len(listed), len(online), quorate, why, down=down)


def seen(views: dict[str, View], dead: tuple[str, ...] = ()) -> Observed:
    machines = {path: Seen(path, "killed" if path in dead else "running") for path in ALL}
    return Observed(machines, clusters=views)


def shown(observed: Observed) -> str:
    return cluster_table.text(cluster_table.rows(lab(), observed))


def test_a_whole_cluster_is_shown_as_its_members_see_it() -> None:
    assert (
        shown(seen({name: view(name, *ALL) for name in ALL}))
        == """\
cluster trio: quorate, 3 of 3 votes
NODE  ID  VOTES  ONLINE  QUORATE  SEES
hv1   1   1      yes     yes      hv1, hv2, hv3
hv2   2   1      yes     yes      hv1, hv2, hv3
hv3   3   1      yes     yes      hv1, hv2, hv3"""
    )


def test_a_member_that_was_killed_is_offline_and_the_others_go_on() -> None:
    views = {name: view(name, "hv1", "hv2") for name in ("hv1", "hv2")}
    assert (
        shown(seen(views, ("hv3",)))
        == """\
cluster trio: quorate, 2 of 3 votes
NODE  ID  VOTES  ONLINE  QUORATE  SEES
hv1   1   1      yes     yes      hv1, hv2
hv2   2   1      yes     yes      hv1, hv2
hv3   3   1      no      -        -
hv3: it is killed"""
    )


def test_a_partition_is_shown_from_both_sides() -> None:
    views = {"hv1": view("hv1", "hv1", "hv2"), "hv2": view("hv2", "hv1", "hv2"), "hv3": view("hv3", "hv3")}
    assert (
        shown(seen(views))
        == """\
cluster trio: quorate, 2 of 3 votes; parted: hv1, hv2 | hv3
NODE  ID  VOTES  ONLINE  QUORATE  SEES
hv1   1   1      yes     yes      hv1, hv2
hv2   2   1      yes     yes      hv1, hv2
hv3   3   1      yes     no       hv3
hv3: it has no quorum: 1 of 3 votes"""
    )


def test_a_lost_quorum_is_shown() -> None:
    text = shown(seen({"hv1": view("hv1", "hv1")}, ("hv2", "hv3")))
    assert text.startswith("cluster trio: no quorum, 1 of 3 votes\n")


def test_what_is_in_no_cluster_or_says_nothing_is_shown_as_that() -> None:
    text = shown(seen({"hv1": View(why="it is in no cluster"), "hv2": View("theirs", 1)}))
    assert "hv1: it is in none" in text
    assert "hv2: it is in cluster theirs" in text
    assert "hv3: it does not say" in text


def test_one_that_the_lab_file_does_not_have_is_shown_too() -> None:
    listed = (*ALL, "gone")
    text = shown(seen({name: view(name, *ALL, listed=listed) for name in ALL}))
    assert "gone  4   1      no" in text
    assert "gone: no longer in the lab file" in text


def test_the_json_data_say_the_same() -> None:
    (found,) = cluster_table.data(cluster_table.rows(lab(), seen({name: view(name, *ALL) for name in ALL})))
    assert (found["name"], found["quorate"], found["total"], found["expected"]) == ("trio", True, 3, 3)
    assert found["nodes"][0] == {
        "name": "hv1",
        "path": "hv1",
        "id": 1,
        "votes": 1,
        "online": True,
        "quorate": True,
        "sees": ALL,
        "why": "",
    }


def proven(views: dict[str, View], down: frozenset[str] = frozenset()) -> dict[str, tuple[bool | None, str]]:
    return {proof.path: (proof.ok, proof.seen) for proof in verify_clusters.proofs(lab(), views, down)}


def test_every_member_proves_the_cluster_by_its_own_view() -> None:
    found = proven({name: view(name, *ALL) for name in ALL})
    assert set(found.values()) == {(True, "quorate: 3 of 3 votes, with hv1, hv2, hv3 (link0 wire)")}


def test_a_member_that_is_lost_fails_the_claim_of_the_others() -> None:
    views = {name: view(name, "hv1", "hv2") for name in ("hv1", "hv2")}
    found = proven(views, frozenset({"hv3"}))
    assert found == dict.fromkeys(
        ("hv1", "hv2"), (False, "it does not see hv3 (link0 wire); quorate with 2 of 3 votes")
    )


def test_a_quorum_that_is_lost_a_link_that_is_down_and_a_stranger_fail_it() -> None:
    views = {
        "hv1": view("hv1", "hv1"),
        "hv2": view("hv2", *ALL, down=("link1 to hv3",)),
        "hv3": view("hv3", *ALL, listed=(*ALL, "old")),
    }
    found = proven(views)
    assert found["hv1"] == (False, "it does not see hv2, hv3 (link0 wire); it has no quorum: 1 of 3 votes")
    assert found["hv2"][0] is False
    assert "link1 to hv3 does not carry" in found["hv2"][1]
    assert found["hv3"] == (False, "it knows old, which the lab file does not; quorate with 3 of 4 votes")


def test_one_that_says_nothing_or_is_elsewhere_fails_it() -> None:
    found = proven({"hv1": View(), "hv2": View("theirs")})
    assert found["hv1"] == (False, "it is in no cluster")
    assert found["hv2"] == (False, "it is in cluster theirs")
    assert found["hv3"] == (False, "it does not say what it is in")


def test_a_claim_that_fails_names_the_fault_that_was_made_on_purpose() -> None:
    views = {name: view(name, "hv1", "hv2") for name in ("hv1", "hv2")} | {"hv3": view("hv3", "hv3")}
    verdict = Verdict("lab", tuple(verify_clusters.proofs(lab(), views, frozenset())))
    for fault in (Fault("cut", "hv3", "wire"), Fault("kill", "hv3")):
        why = [proof.why for proof in blamed(verdict, [fault], 0.0).proofs]
        assert all(fault.heal in each for each in why)
    other = blamed(verdict, [Fault("cut", "hv3", "elsewhere")], 0.0)
    assert not any("heal" in proof.why for proof in other.proofs)


def test_what_was_cut_off_is_known_to_a_plan() -> None:
    observed = marked(seen({}), [Fault("cut", "hv3", "wire"), Fault("cut", "hv3", "back"), Fault("kill", "hv2")])
    assert observed.cut == {"hv3": frozenset({"wire", "back"})}
