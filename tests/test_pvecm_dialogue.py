"""The dialogue that makes clusters of Proxmox VE nodes, against pretended ones (`pvecm_world`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nestlab.kinds.clustering import Done, Goal, Known, Node, Refused, Requests, Wait
from nestlab.kinds.pvecm import scripts
from pvecm_world import PVE, Pretended, World


def formed(*names: str, links: int = 1) -> World:
    world = World(*names, links=links)
    form(world)
    world.done.clear()
    return world


def form(world: World, names: tuple[str, ...] = ()) -> None:
    names = names or tuple(world.nodes)
    assert isinstance(world.reach(world.goal("form", names[0], members=names)), Done)
    for name in names[1:]:
        assert isinstance(world.reach(world.goal("join", name, members=names)), Done), name


def whole(world: World, *names: str) -> None:
    """All of them are one cluster, for use."""
    (store,) = {id(world.nodes[name].store): world.nodes[name].store for name in names}.values()
    assert store is not None
    assert set(store.nodes) == store.folders == store.certified == set(names)
    assert all(world.quorate(world.nodes[name]) for name in names)


def refused(world: World, *words: str, do: str = "join", who: str = "pve2") -> Refused:
    ended = world.reach(world.goal(do, who))
    assert isinstance(ended, Refused), ended
    for word in words:
        assert word in ended.what + ended.hint + ended.detail, ended
    assert ended.hint
    return ended


def test_the_first_creates_it_and_the_others_join_one_after_the_other() -> None:
    world = World("pve1", "pve2", "pve3")
    form(world)
    whole(world, "pve1", "pve2", "pve3")
    assert [line for line in world.done if "logging" not in line] == [
        "pve1: create demo",
        "pve2: looking at pve1: clock, certificate, links",
        "pve2: join demo",
        "pve3: looking at pve1: clock, certificate, links",
        "pve3: join demo",
    ]


def test_links_and_fingerprint_are_said_and_the_password_is_on_stdin() -> None:
    world = World("pve1", "pve2", links=2)
    form(world)
    create, join = (each for each in world.seen if each.script == scripts.START)
    assert create.words[3:] == ("demo", "--link0", "10.7.0.11", "--link1", "10.8.0.11")
    assert join.words[3:5] == ("10.7.0.11", "--fingerprint")
    assert join.words[6:] == ("--link0", "10.7.0.12", "--link1", "10.8.0.12")
    assert join.input == b"secret\n"
    assert "secret" not in repr(join)


def test_a_cluster_that_is_whole_is_left_alone() -> None:
    world = formed("pve1", "pve2")
    form(world)
    assert world.done == ["pve1: logging in to its API", "pve2: logging in to its API"]


@pytest.mark.parametrize("requests", range(8))
@pytest.mark.parametrize("looks", range(9))
def test_killed_after_any_request_and_at_any_moment_of_a_job_the_next_one_gets_there(requests: int, looks: int) -> None:
    world = World("pve1", "pve2", "pve3")
    for goal in (world.goal("form", "pve1"), world.goal("join", "pve2"), world.goal("join", "pve3")):
        if world.reach(goal, requests=requests) is None:
            break
    for _ in range(looks):  # jobs go on when nestlab is gone
        world.look(world.goal("form"), [])
    form(world)
    whole(world, "pve1", "pve2", "pve3")


@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("names", [("pve1", "pve2"), ("pve1", "pve2", "pve3")])
def test_a_join_that_dies_with_its_node_at_any_moment_is_gone_on_with(names: tuple[str, ...], steps: int) -> None:
    world = World(*names)
    form(world, names[:-1])
    last = world.nodes[names[-1]]
    world.slow = 0
    world.reach(world.goal("join", last.name), requests=2)
    for _ in range(steps):
        world.look(world.goal("join", last.name), [])
    last.left, last.log = [], ""  # power cut, and booted again
    last.corosync = last.key is not None and (last.store is not None)
    form(world, names)
    whole(world, *names)


@pytest.mark.parametrize("steps", range(4))
def test_a_creation_that_dies_at_any_moment_is_gone_on_with(steps: int) -> None:
    world = World("pve1", "pve2")
    world.reach(world.goal("form", "pve1"), requests=1, looks=0)
    for _ in range(steps):
        world.look(world.goal("form", "pve1"), [])
    world.nodes["pve1"].left, world.nodes["pve1"].log = [], ""
    form(world)
    whole(world, "pve1", "pve2")


def test_a_node_with_guests_does_not_join() -> None:
    world = formed("pve1")
    world.nodes |= World("pve1", "pve2").nodes | {"pve1": world.nodes["pve1"]}
    world.nodes["pve2"].own_guests = [100, 101]
    refused(world, "it has guests (100, 101)", "qm destroy")
    assert world.done == []


def test_the_first_keeps_its_guests() -> None:
    world = World("pve1")
    world.nodes["pve1"].own_guests = [100]
    form(world)
    store = world.nodes["pve1"].store
    assert store is not None
    assert store.guests == {100: "pve1"}


def joining(**changes: object) -> World:
    world = World("pve1", "pve2")
    form(world, ("pve1",))
    for key, value in changes.items():
        setattr(world.nodes["pve2"], key, value)
    world.done.clear()
    return world


def test_a_clock_that_is_off_by_an_hour_is_said_with_the_side_it_is_off_to() -> None:
    refused(joining(ahead=3600), "clock of pve1 is 3599 s or more behind its own")
    refused(joining(ahead=-3600), "clock of pve1 is 3599 s or more ahead of its own")
    assert isinstance((world := joining(ahead=1)).reach(world.goal("join", "pve2")), Done)


def test_another_major_version_does_not_join() -> None:
    refused(joining(version="8.4.1"), "it is Proxmox VE 8.4.1, pve1 is 9.2.11")


def test_another_mtu_does_not_join() -> None:
    refused(joining(mtu=1400), "10.7.0.12 has an MTU of 1400", "(10.7.0.11) 1500")


def test_a_link_that_nothing_comes_over_is_refused_before_anything_is_changed() -> None:
    world = joining(cut=True)
    refused(world, "pve1 does not answer pings of 1500 bytes to 10.7.0.11", "5405")
    assert world.nodes["pve1"].store is not None
    assert set(world.nodes["pve1"].store.nodes) == {"pve1"}


def test_an_address_that_a_member_has_is_refused() -> None:
    world = joining()
    world.nodes["pve2"].links = world.nodes["pve1"].links
    refused(world, "10.7.0.11 is the address of pve1")


def test_a_link_that_no_card_has_is_refused_also_at_creation_where_proxmox_takes_it() -> None:
    world = World("pve1")
    goal = world.goal("form", "pve1")
    world.nodes["pve1"].links = ("10.7.0.99",)
    ended = world.reach(goal)
    assert isinstance(ended, Refused)
    assert "no card with the address 10.7.0.11" in ended.what


def test_a_wrong_password_is_told_with_proxmox_s_words() -> None:
    world = joining()
    world.nodes["pve1"].password = "changed"
    refused(world, "did not join the cluster demo at pve1: 401 authentication failure", "keys/*.node")


def test_another_certificate_than_the_member_s_own_is_refused() -> None:
    world = joining()
    goal = world.goal("join", "pve2")
    known = world.look(goal, [])
    assert known.views["pve1"].usable
    look = PVE.next(goal, known)
    assert isinstance(look, Requests)
    world.nodes["pve1"].served_old = True  # somebody else answers to the joining node
    ended = PVE.next(goal, Known(known.views, {}, (world.answer(look.requests[0]),)))
    assert isinstance(ended, Refused)
    assert "shows the certificate 1A:" in ended.what


def test_a_node_of_another_cluster_is_not_taken() -> None:
    world = World("pve1", "pve2")
    form(world, ("pve1",))
    other = World("pve2")
    form(other)
    other.nodes["pve2"].store.name = "other"  # type: ignore[union-attr]
    world.nodes["pve2"] = other.nodes["pve2"]
    refused(world, "pve2 is a member of another cluster: other")


def test_a_node_that_the_cluster_forgot_while_it_was_off_becomes_alone_and_joins_again() -> None:
    world = formed("pve1", "pve2", "pve3")
    store = world.nodes["pve1"].store
    assert store is not None
    away = world.nodes["pve3"]
    away.running = False
    assert isinstance(world.reach(world.goal("leave", "pve3")), Done)
    assert set(store.nodes) == {"pve1", "pve2"}
    away.running, away.corosync = True, False
    old = type(store)("demo", 3, {**store.nodes, "pve3": (3, away.links)}, {"pve1", "pve2", "pve3"}, {}, {"pve3"})
    away.store = away.key = old
    form(world)
    whole(world, "pve1", "pve2", "pve3")
    assert "pve3: forgetting a cluster that does not list it" in world.done


def test_quorum_that_never_comes_is_waited_for_with_its_reason() -> None:
    world = formed("pve1", "pve2", "pve3")
    for name in ("pve2", "pve3"):
        world.nodes[name].cut = True
    ended = world.reach(world.goal("form", "pve1"))
    assert isinstance(ended, Wait)
    assert "pve1: it has no quorum: 1 of 3 votes" in ended.what
    assert "It sees pve1." in ended.hint
    assert 0 < ended.seconds <= 900


def test_where_no_majority_runs_nobody_waits_for_quorum() -> None:
    world = formed("pve1", "pve2", "pve3")
    for name in ("pve2", "pve3"):
        world.nodes[name].running = False
    assert isinstance(world.reach(world.goal("form", "pve1")), Done)


def test_services_that_are_down_are_started() -> None:
    world = formed("pve1", "pve2")
    world.nodes["pve2"].corosync = False
    form(world)
    assert "pve2: starting corosync" in world.done


def test_an_api_with_its_former_certificate_is_restarted() -> None:
    world = formed("pve1", "pve2")
    world.nodes["pve2"].served_old = True
    form(world)
    assert "pve2: restarting its API" in world.done


def test_one_of_two_leaves_when_it_is_off_and_the_other_has_quorum_again() -> None:
    world = formed("pve1", "pve2")
    world.nodes["pve2"].running = False
    assert not world.quorate(world.nodes["pve1"])
    assert isinstance(world.reach(world.goal("leave", "pve2")), Done)
    assert world.done == ["pve1: corosync expects 1 of 2 votes", "pve1: pvecm delnode pve2"]
    whole_but_certified = world.nodes["pve1"].store
    assert whole_but_certified is not None
    assert whole_but_certified.folders == {"pve1"}


def test_who_leaves_with_guests_is_kept() -> None:
    world = formed("pve1", "pve2", "pve3")
    store = world.nodes["pve1"].store
    assert store is not None
    store.guests = {100: "pve3"}
    world.nodes["pve3"].running = False
    refused(world, "pve3 does not leave", "guests (100)", "migrate", do="leave", who="pve3")
    assert world.done == []


def test_nobody_is_forgotten_by_a_minority() -> None:
    world = formed("pve1", "pve2", "pve3")
    for name in ("pve2", "pve3"):
        world.nodes[name].running = False
    ended = world.reach(world.goal("leave", "pve3"))
    assert isinstance(ended, Wait)
    assert "pve1 has 1 of the 2 votes that stay" in ended.what


def test_leaving_twice_does_nothing_the_second_time() -> None:
    world = formed("pve1", "pve2", "pve3")
    world.nodes["pve3"].running = False
    assert isinstance(world.reach(world.goal("leave", "pve3")), Done)
    world.done.clear()
    assert isinstance(world.reach(world.goal("leave", "pve3")), Done)
    assert world.done == []


@pytest.mark.parametrize("requests", [*range(7), 99])
def test_who_runs_on_leaves_and_is_alone_then_also_after_an_interruption(requests: int) -> None:
    world = formed("pve1", "pve2")
    if requests < 99:
        world.reach(world.goal("leave", "pve2"), requests=requests)
    assert isinstance(world.reach(world.goal("leave", "pve2")), Done)
    store, left = world.nodes["pve1"].store, world.nodes["pve2"]
    assert store is not None
    assert set(store.nodes) == store.folders == {"pve1"}
    assert world.quorate(world.nodes["pve1"])
    assert (left.store, left.key, left.corosync, left.own_certificate) == (None, None, False, True)


@pytest.mark.parametrize("requests", range(7))
def test_a_node_that_is_lost_while_it_leaves_is_forgotten_and_alone_once_it_is_back(requests: int) -> None:
    world = formed("pve1", "pve2", "pve3")
    world.reach(world.goal("leave", "pve3"), requests=requests)
    lost = world.nodes["pve3"]
    lost.running, lost.left, lost.log = False, [], ""
    assert isinstance(world.reach(world.goal("leave", "pve3")), Done)
    store = world.nodes["pve1"].store
    assert store is not None
    assert set(store.nodes) == store.folders == {"pve1", "pve2"}
    assert world.quorate(world.nodes["pve1"])
    lost.running = True
    form(world, ("pve1", "pve2", "pve3"))
    whole(world, "pve1", "pve2", "pve3")


def test_the_last_one_keeps_its_guests_when_there_is_to_be_no_cluster() -> None:
    world = formed("pve1", "pve2")
    store = world.nodes["pve1"].store
    assert store is not None
    store.guests = {100: "pve1"}
    assert isinstance(world.reach(world.goal("leave", "pve2")), Done)
    assert isinstance(world.reach(world.goal("leave", "pve1")), Done)
    assert (world.nodes["pve1"].store, world.nodes["pve1"].own_guests) == (None, [100])


def test_a_look_after_all_members_at_once_gets_there_whoever_of_them_is_half() -> None:
    world = World("pve1", "pve2", "pve3")
    form(world, ("pve1", "pve2"))
    world.reach(world.goal("join", "pve3"), requests=2)
    world.look(world.goal("form"), [])
    world.nodes["pve3"].left = []
    assert isinstance(world.reach(world.goal("form", "pve1", "pve2", "pve3")), Done)
    whole(world, "pve1", "pve2", "pve3")


def test_the_network_that_guests_move_by_is_told_once() -> None:
    world = formed("pve1", "pve2")
    goal = replace(world.goal("form", "pve1", "pve2"), networks={"migration": "10.90.0.0/24"})
    assert isinstance(world.reach(goal), Done)
    assert world.done.count("pve1: guests move by 10.90.0.0/24") == 1
    assert isinstance(world.reach(goal), Done)
    assert world.done.count("pve1: guests move by 10.90.0.0/24") == 1


def test_a_node_that_makes_its_first_certificate_is_waited_for() -> None:
    world = World("pve1")
    world.nodes["pve1"].booted = False
    ended = world.reach(world.goal("form", "pve1"))
    assert isinstance(ended, Wait)
    assert (ended.what, world.done) == ("pve1: its API starts", [])


def with_device(world: World, goal: Goal) -> Goal:
    world.nodes["witness"] = Pretended("witness", ("10.7.0.99",), mounted=False)
    witness = Node("witness", "witness", ("10.7.0.99",), "10.7.0.99")
    return replace(goal, qdevice=witness, running=goal.running | {"witness"})


def test_a_quorum_device_is_set_up_when_all_are_there_and_gone_where_the_file_has_none() -> None:
    world = World("pve1", "pve2")
    first, second = (
        with_device(world, world.goal(do, who, members=("pve1", "pve2")))
        for do, who in (("form", "pve1"), ("join", "pve2"))
    )
    assert isinstance(world.reach(replace(first, nodes=first.nodes[:1], running=frozenset({"pve1"}))), Done)
    store = world.nodes["pve1"].store
    assert store is not None
    assert store.device == ""
    assert isinstance(world.reach(second), Done)
    assert store.device == "10.7.0.99"
    assert [line for line in world.done if "witness" in line or "qdevice" in line] == [
        "witness: letting pve1 in",
        "pve1: qdevice setup",
    ]
    world.done.clear()
    assert isinstance(world.reach(second), Done)
    assert [line for line in world.done if "logging" not in line] == []
    assert isinstance(world.reach(replace(second, qdevice=None)), Done)
    assert store.device == ""


def test_a_quorum_device_goes_before_a_node_comes() -> None:
    world = World("pve1", "pve2", "pve3")
    form(world, ("pve1", "pve2"))
    both = ("pve1", "pve2")
    assert isinstance(world.reach(with_device(world, world.goal("form", "pve1", members=both))), Done)
    store = world.nodes["pve1"].store
    assert store is not None
    assert store.device
    world.done.clear()
    goal = with_device(world, world.goal("join", "pve3", members=("pve1", "pve2", "pve3")))
    assert isinstance(world.reach(goal), Done)
    assert (set(store.nodes), store.device) == ({"pve1", "pve2", "pve3"}, "")  # odd: none is needed
    assert world.done.index("pve1: qdevice remove") < world.done.index("pve3: join demo")


def test_no_cluster_is_created_beside_a_node_that_may_be_in_it() -> None:
    world = World("pve1", "pve2")
    world.nodes["pve2"].corosync = True  # and nothing of it could be read
    ended = world.reach(world.goal("form", "pve1"))
    assert isinstance(ended, Wait)
    assert "pve2 has something of a cluster" in ended.what
    assert world.done == []


def test_what_an_api_may_take_grows_with_the_slowness_of_the_nodes() -> None:
    world = World("pve1")
    assert isinstance(world.reach(replace(world.goal("form", "pve1"), slowness=20.0)), Done)
    (login,) = (each for each in world.seen if each.script == scripts.LOGIN)
    assert login.words == ("1200",)
    assert login.seconds * 20 > 1200
