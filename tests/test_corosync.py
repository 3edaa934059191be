"""Clusters of `kvm` hypervisors: the file, what corosync's programs print, and every way to a cluster and out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_corosync import KEY, FakeCluster, goal
from golden_files import assert_golden
from nestlab.kinds import corosync_conf
from nestlab.kinds.clustering import AUTHKEY, Answer, Done, Known, Refused, Request, Requests, View, Wait
from nestlab.kinds.corosync import PUT, Corosync
from nestlab.kinds.corosync_conf import Conf, ConfNode
from nestlab.kinds.corosync_tools import parse_links, parse_quorum

NODES = (ConfNode("hv1", 1, ("10.0.0.1", "10.1.0.1")), ConfNode("hv2", 2, ("10.0.0.2", "10.1.0.2")))
ALL = ("hv1", "hv2", "hv3")


def formed(*names: str) -> FakeCluster:
    made = FakeCluster()
    made.add(*names)
    assert made.reach(goal("form", names, names)) == Done()
    made.log.clear()
    return made


def confs(made: FakeCluster) -> set[str]:
    return {node.text for node in made.nodes.values()}


@pytest.mark.parametrize("name", ["two", "qdevice"])
def test_the_file_is_the_golden_one(name: str) -> None:
    made = Conf("pair", 3, NODES, "10.0.0.9" if name == "qdevice" else "")
    assert_golden(f"corosync/{name}.conf", made.text())


@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.ip_addresses(v=4).map(str), max_size=2)), max_size=5),
    st.integers(1, 99),
    st.sampled_from(["", "10.0.0.9"]),
)
def test_what_is_written_is_read_back(nodes: list[tuple[int, list[str]]], version: int, qdevice: str) -> None:
    made = Conf(
        "trio",
        version,
        tuple(ConfNode(f"n{number}", number, tuple(links)) for number, links in sorted(dict(nodes).items())),
        qdevice,
    )
    assert corosync_conf.read(made.text()) == made


@given(st.text(alphabet="{}: \nabtoem_nodelistquorumring0addr#clusternamever19", max_size=300))
def test_no_file_is_too_odd_to_be_read(text: str) -> None:
    corosync_conf.read(text)
    view = Corosync().read(text)
    assert isinstance(view, View)


STATUS = """\
Quorum information
------------------
Date:             Sun Nov 29 12:37:23 2026
Quorum provider:  corosync_votequorum
Nodes:            2
Node ID:          1
Ring ID:          1.9
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      2
Quorum:           2
Flags:            Quorate

Membership information
----------------------
    Nodeid      Votes Name
         1          1 hv1 (local)
         3          1 hv3
"""


def test_the_quorum_tool_is_read() -> None:
    said = parse_quorum(STATUS)
    assert (said.local, said.quorate, said.expected, said.total, said.quorum) == (1, True, 3, 2, 2)
    assert said.online == {1, 3}
    lost = STATUS.replace("Yes", "No").replace("Quorum:           2  ", "Quorum:           2 Activity blocked")
    assert parse_quorum(lost).quorate is False
    assert parse_quorum(lost).quorum == 2


def test_what_pvecm_prints_is_read_the_same_way() -> None:
    said = STATUS.replace("Node ID:          1", "Node ID:          0x00000001").replace("         3  ", "0x00000003  ")
    assert parse_quorum(said).online == {1, 3}


def test_a_qdevice_has_a_column_and_a_row() -> None:
    rows = "    Nodeid      Votes    Qdevice Name\n         1          1    A,V,NMW hv1 (local)\n"
    rows += "         2          1    A,V,NMW hv2\n         0          1            Qdevice\n"
    said = parse_quorum(STATUS.partition("    Nodeid")[0] + rows)
    assert said.online == {1, 2}
    assert said.qdevice == "A,V,NMW"


@pytest.mark.parametrize("said", ["e", "0x", "ff", "-1", "1" * 5000, ""])
def test_a_node_id_that_is_none_is_none(said: str) -> None:
    assert parse_quorum(f"Node ID: {said}\n").local == 0


def test_links_that_do_not_carry_are_found() -> None:
    text = """\
Local node ID 1, transport knet
nodeid: 2 reachable
   LINK: 0 udp (10.0.0.1->10.0.0.2) enabled connected mtu: 1397
   LINK: 1 udp (10.1.0.1->10.1.0.2) enabled disconnected mtu: 1397

nodeid: 3 unreachable
   LINK: 0 udp (10.0.0.1->10.0.0.3) enabled mtu: 1397
"""
    assert parse_links(text) == [(2, 1), (3, 0)]


def test_a_cluster_is_formed_in_one_round_to_each() -> None:
    made = FakeCluster()
    made.add(*ALL)
    assert made.reach(goal("form", ALL, ALL)) == Done()
    assert made.log == [(name, "joining it") for name in ALL]
    assert len(confs(made)) == 1
    assert all(node.wished and node.key == KEY for node in made.nodes.values())


def test_what_is_formed_needs_nothing() -> None:
    made = formed(*ALL)
    assert made.reach(goal("form", ALL, ALL)) == Done()
    assert made.log == []


def test_the_key_is_no_argument_of_any_process() -> None:
    made = FakeCluster()
    made.add(*ALL)
    action = Corosync().next(goal("form", ALL, ALL), made.views(goal("form", ALL, ALL)))
    assert isinstance(action, Requests)
    for request in action.requests:
        assert request.input == KEY
        assert not any(KEY.hex() in word or KEY.decode("latin1") in word for word in (request.script, *request.words))


def test_one_more_joins_live_and_the_numbers_of_others_stay() -> None:
    made = formed("hv2", "hv3")
    before = corosync_conf.read(made.nodes["hv2"].text)
    made.add("hv1")
    assert made.reach(goal("join", ["hv1"], ALL)) == Done()
    after = corosync_conf.read(made.nodes["hv1"].text)
    assert before is not None
    assert after is not None
    assert set(before.nodes) < set(after.nodes)
    assert [(node.name, node.nodeid) for node in after.nodes] == [("hv2", 1), ("hv3", 2), ("hv1", 3)]
    assert after.version == before.version + 1
    assert ("hv2", "reading it again") in made.log
    assert not any(title == "starting corosync" for _, title in made.log)


def test_one_leaves_and_the_others_forget_it() -> None:
    made = formed(*ALL)
    assert made.reach(goal("leave", ["hv3"], ALL)) == Done()
    assert made.nodes["hv3"].text == ""
    assert made.nodes["hv3"].loaded is None
    assert not made.nodes["hv3"].wished
    assert {each.name for each in made.nodes["hv1"].loaded.nodes} == {"hv1", "hv2"}  # type: ignore[union-attr]
    made.log.clear()
    assert made.reach(goal("leave", ["hv3"], ALL)) == Done()
    assert made.log == []


def test_one_that_is_gone_leaves_too() -> None:
    made = formed(*ALL)
    del made.nodes["hv3"]
    assert made.reach(goal("leave", ["hv3"], ["hv1", "hv2"])) == Done()
    assert {each.name for each in made.nodes["hv2"].loaded.nodes} == {"hv1", "hv2"}  # type: ignore[union-attr]


def test_all_leave_one_after_the_other() -> None:
    made = formed(*ALL)
    for name in ALL:
        assert made.reach(goal("leave", [name], ALL)) == Done()
    assert all(node.text == "" for node in made.nodes.values())


def test_one_that_is_made_anew_gets_its_number_again() -> None:
    made = formed(*ALL)
    made.add("hv2")
    assert made.reach(goal("join", ["hv2"], ALL)) == Done()
    assert made.log == [("hv2", "joining it")]
    assert len(confs(made)) == 1


def test_one_that_was_off_while_others_changed_is_told() -> None:
    made = formed(*ALL)
    made.nodes["hv3"].loaded = None
    made.add("hv4")
    four = (*ALL, "hv4")
    assert made.reach(goal("join", ["hv4"], four, ["hv1", "hv2", "hv4"])) == Done()
    made.nodes["hv3"].start()
    assert made.reach(goal("form", four, four)) == Done()
    assert len(confs(made)) == 1


def test_an_address_that_changed_restarts_corosync_everywhere() -> None:
    made = formed("hv1", "hv2")
    wanted = goal("form", ("hv1", "hv2"), ("hv1", "hv2"))
    moved = replace(wanted, nodes=(replace(wanted.nodes[0], links=("10.9.0.1", "10.1.0.1")), wanted.nodes[1]))
    action = Corosync().next(moved, made.views(moved))
    assert isinstance(action, Requests)
    assert [(each.node, each.words[2]) for each in action.requests] == [("hv1", "restart"), ("hv2", "restart")]
    assert made.reach(moved) == Done()


def test_another_key_restarts_corosync() -> None:
    made = formed("hv1", "hv2")
    wanted = replace(goal("form", ("hv1", "hv2"), ("hv1", "hv2")), secrets={AUTHKEY: KEY[::-1]})
    assert made.reach(wanted) == Done()
    assert {node.loaded_key for node in made.nodes.values()} == {KEY[::-1]}


@pytest.mark.parametrize(("do", "who"), [("form", ALL), ("join", ("hv3",)), ("leave", ("hv3",))])
@pytest.mark.parametrize("most", range(7))
def test_killed_after_any_request_the_next_time_gets_there(do: str, who: tuple[str, ...], most: int) -> None:
    made = FakeCluster()
    made.add(*ALL)
    if do != "form":
        before = ALL if do == "leave" else ALL[:2]
        assert made.reach(goal("form", before, before)) == Done()
    made.reach(goal(do, who, ALL), most)
    assert made.reach(goal(do, who, ALL)) == Done()
    stay = [name for name in ALL if do != "leave" or name not in who]
    assert len({made.nodes[name].text for name in stay}) == 1
    assert all({each.name for each in made.nodes[name].loaded.nodes} == set(stay) for name in stay)  # type: ignore[union-attr]
    assert all(made.together(name) == set(stay) for name in stay)


def test_one_that_does_not_see_the_others_is_waited_for() -> None:
    made = formed(*ALL)
    made.cut.add("hv2")
    action = made.reach(goal("form", ALL, ALL))
    assert isinstance(action, Wait)
    assert action.what == "hv1 does not see hv2"


def test_one_that_does_not_answer_is_waited_for_with_the_reason() -> None:
    made = formed(*ALL)
    made.nodes["hv2"].lost = True
    action = made.reach(goal("form", ALL, ALL))
    assert isinstance(action, Wait)
    assert action.what == "hv2 does not answer: hv2 does not answer."


def test_where_too_few_run_nothing_is_waited_for_and_it_is_said() -> None:
    made = formed(*ALL)
    made.nodes["hv2"].loaded = made.nodes["hv3"].loaded = None
    assert made.reach(goal("form", ALL, ALL, ["hv1"])) == Done("no quorum: 1 of 3 votes, and it needs 2")


def test_what_a_node_did_not_do_is_told_with_its_own_words() -> None:
    request = Request("hv1", "joining it", PUT)
    known = Known(answers=(Answer(request, 1, err="corosync: no such thing"),))
    action = Corosync().next(goal("form", ALL, ALL), known)
    assert action == Refused(
        "hv1: joining it failed with status 1.", "`nestlab up` tries it again.", "corosync: no such thing"
    )


def test_a_view_says_what_is_wrong() -> None:
    made = formed(*ALL)
    how = Corosync()
    whole = how.read(made.said("hv1"))
    assert (whole.cluster, whole.nodeid, whole.quorate, whole.usable, whole.why) == ("trio", 1, True, True, "")
    assert whole.online == set(ALL)
    made.nodes["hv2"].loaded = made.nodes["hv3"].loaded = None
    lost = how.read(made.said("hv1"))
    assert (lost.usable, lost.why, lost.total, lost.expected) == (False, "it has no quorum: 1 of 3 votes", 1, 3)
    assert how.read(made.said("hv2")).why == "corosync does not run"
    assert how.read("").why == "it is in no cluster"


def test_the_scripts_are_shell(tmp_path: Path) -> None:
    import subprocess

    from nestlab.kinds import corosync

    for script in (corosync.ASK, corosync.PUT, corosync.START, corosync.LEAVE, corosync.RELOAD):
        assert subprocess.run(["sh", "-n", "-c", script], capture_output=True, check=True).stderr == b""


def test_one_that_the_user_cut_off_is_not_waited_for() -> None:
    made = formed(*ALL)
    made.cut.add("hv3")
    cut = replace(goal("form", ALL, ALL), apart=frozenset({"hv3"}))
    assert made.reach(cut) == Done()
    alone = replace(cut, apart=frozenset({"hv2", "hv3"}))
    made.cut.add("hv2")
    assert made.reach(alone) == Done("no quorum: 1 of 3 votes, and it needs 2")


def test_a_corosync_that_does_not_stay_is_told_and_not_started_for_ever() -> None:
    made = formed(*ALL)

    class Dying(FakeCluster):
        def ask(self, request: Request) -> Answer:
            done = super().ask(request)
            self.nodes["hv2"].loaded = None
            return done

    dying = Dying(made.nodes)
    dying.nodes["hv2"].loaded = None
    refused = dying.reach(goal("form", ALL, ALL))
    assert isinstance(refused, Refused)
    assert refused.what == "hv2: corosync was started 3 times, and does not stay."


def test_a_corosync_that_does_not_answer_is_no_lost_quorum() -> None:
    made = formed(*ALL)
    how = Corosync()
    file = made.said("hv1").partition("\nconf\n")[2]
    view = how.read(f"running\nconf\n{file}")
    assert (view.cluster, view.usable, view.why) == ("trio", False, "corosync runs, and does not answer")
    known = made.views(goal("form", ALL, ALL))
    facts = {**known.views["hv1"].facts, "loaded": ""}
    quiet = replace(view, facts=facts)
    action = how.next(goal("form", ALL, ALL), replace(known, views={**known.views, "hv1": quiet}))
    assert action == Wait("corosync on hv1 does not answer yet", 90.0)


def test_what_a_hostile_member_lists_is_not_told_to_others() -> None:
    made = formed(*ALL)
    odd = ["name: x } evil {", "name: \x1b[2J", "nodeid: 0", "ring0_addr: $(reboot)"]
    for line in odd:
        key = line.partition(":")[0]
        lines = [
            f"        {line}" if each.strip().startswith(key) else each for each in made.nodes["hv3"].text.splitlines()
        ]
        found = corosync_conf.read("\n".join(lines))
        assert found is not None
        assert found.nodes == ()
    assert corosync_conf.read(made.nodes["hv3"].text.replace("cluster_name: trio", "cluster_name: a b")) is None
    far = made.nodes["hv3"].text.replace("config_version: 1", "config_version: 999999999999")
    made.nodes["hv3"].text = far
    assert made.reach(goal("form", ALL, ALL)) == Done()


def test_two_nodes_with_one_number_or_name_that_a_hostile_member_lists_are_told_to_nobody() -> None:
    for before, after in (("nodeid: 2", "nodeid: 1"), ("name: hv2", "name: hv1")):
        made = formed(*ALL)
        hostile = made.nodes["hv3"]
        hostile.text = hostile.text.replace("config_version: 1", "config_version: 7").replace(before, after)
        assert made.reach(goal("form", ALL, ALL)) == Done()
        for name in ("hv1", "hv2"):
            conf = corosync_conf.read(made.nodes[name].text)
            assert conf is not None
            assert {node.name for node in conf.nodes} == set(ALL)
            assert len({node.nodeid for node in conf.nodes}) == len(ALL)
