"""Clusters of `kvm` hypervisors, with real machines and a real corosync.

One lab for each part of the file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_nested import Cli
from waiting import VERY_LONG, wait_until

MACHINE = "  {name}: {{hypervisor: kvm, memory: 480M, segments: [ring]}}\n"


def lab_file(*members: str, others: tuple[str, ...] = ()) -> str:
    machines = "".join(MACHINE.format(name=name) for name in (*members, *others))
    head = "lab: trio\nsegments: {ring: {cidr: 10.77.0.0/24}}\nmachines:\n"
    return f"{head}{machines}clusters: {{trio: [{', '.join(members)}]}}\n"


def cluster(cli: Cli) -> dict[str, Any]:
    (found,) = cli.json("status", "trio")["clusters"]
    return dict(found)


def online(cli: Cli) -> set[str]:
    return {node["name"] for node in cluster(cli)["nodes"] if node["online"]}


def claims(cli: Cli, status: int = 0) -> dict[str, tuple[bool, str, str]]:
    proofs = json.loads(cli.run("verify", "trio", "--json", status=status))["proofs"]
    return {each["path"]: (each["ok"], each["seen"], each["why"]) for each in proofs if each["claim"] == "cluster trio"}


@pytest.fixture(scope="module")
def trio() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        (Path(home) / "trio.yaml").write_text(lab_file("hv1", "hv2", "hv3"))
        try:
            cli.run("up", str(Path(home) / "trio.yaml"), "--no-verify")
            yield cli
        finally:
            cli.run("down", "trio", "--yes")
        assert not cli.qemus()


@pytest.mark.guest
def test_three_form_one_and_when_one_is_lost_the_others_have_a_quorum_still(trio: Cli) -> None:
    whole = cluster(trio)
    assert (whole["quorate"], whole["total"], whole["expected"]) == (True, 3, 3)
    assert [(node["name"], node["id"], node["sees"]) for node in whole["nodes"]] == [
        (name, number, ["hv1", "hv2", "hv3"]) for number, name in enumerate(("hv1", "hv2", "hv3"), 1)
    ]
    key = trio.run("exec", "hv1", "--", "stat", "-c", "%a %U %s", "/etc/corosync/authkey")
    assert key.split() == ["400", "root", "256"]
    said = trio.run("exec", "hv1", "--", "corosync-cmapctl", "-g", "totem.crypto_cipher")
    assert "aes256" in said
    trio.run("kill", "hv3")
    wait_until(lambda: online(trio) == {"hv1", "hv2"}, VERY_LONG)
    left = cluster(trio)
    assert (left["quorate"], left["total"], left["expected"]) == (True, 2, 3)
    assert trio.json("plan", "trio")["steps"] == []


@pytest.mark.guest
@pytest.mark.slow
def test_with_two_of_three_lost_there_is_no_quorum_and_it_is_said(trio: Cli) -> None:
    trio.run("kill", "hv2")
    wait_until(lambda: not cluster(trio)["quorate"], VERY_LONG)
    ok, seen, why = claims(trio, status=2)["hv1"]
    assert not ok
    assert "it has no quorum: 1 of 3 votes" in seen
    assert "`nestlab heal hv2` takes it back" in why
    assert "cluster trio: no quorum, 1 of 3 votes" in trio.run("status", "trio")


@pytest.mark.guest
@pytest.mark.slow
def test_what_is_healed_is_quorate_again(trio: Cli) -> None:
    trio.run("heal", "trio")
    assert trio.run("wait", "trio", "--for", "quorum").count("cluster trio is quorate: 3 of 3 votes") == 3
    assert {ok for ok, _, _ in claims(trio).values()} == {True}


@pytest.mark.guest
@pytest.mark.slow
def test_a_partition_is_seen_from_both_sides_and_up_leaves_it(trio: Cli) -> None:
    trio.run("cut", "hv3", "ring")
    wait_until(lambda: len(cluster(trio)["parts"]) == 2, VERY_LONG)
    assert cluster(trio)["parts"] == [["hv1", "hv2"], ["hv3"]]
    proven = claims(trio, status=2)
    assert "it does not see hv3" in proven["hv1"][1]
    assert "`nestlab heal hv3 ring` takes it back" in proven["hv1"][2]
    assert trio.json("plan", "trio")["steps"] == []
    trio.run("heal", "hv3", "ring")
    wait_until(lambda: online(trio) == {"hv1", "hv2", "hv3"} and len(cluster(trio)["parts"]) == 1, VERY_LONG)


@pytest.mark.guest
@pytest.mark.slow
def test_after_all_were_off_it_comes_back_quorate(trio: Cli) -> None:
    trio.run("stop", "trio")
    trio.run("start", "trio")
    whole = cluster(trio)
    assert (whole["quorate"], whole["total"]) == (True, 3)
    trio.run("restart", "hv2")
    assert cluster(trio)["total"] == 3


@pytest.mark.guest
@pytest.mark.slow
def test_one_more_joins_live_and_one_leaves(trio: Cli) -> None:
    file = trio.home / "trio.yaml"
    before = trio.run("exec", "hv1", "--", "cat", "/run/corosync.pid")
    file.write_text(lab_file("hv1", "hv2", "hv3", "hv4"))
    assert [(each["do"], each["on"]) for each in trio.json("plan", str(file))["steps"]][-1] == ("join", "hv4")
    trio.run("up", str(file), "--no-verify")
    assert cluster(trio)["total"] == 4
    file.write_text(lab_file("hv1", "hv2", "hv4", others=("hv3",)))
    trio.run("up", str(file), "--no-verify")
    left = cluster(trio)
    assert (left["total"], left["expected"], [node["id"] for node in left["nodes"]]) == (3, 3, [1, 2, 4])
    assert trio.run("exec", "hv3", "--", "sh", "-c", "ls /etc/corosync/authkey 2>/dev/null; true").strip() == ""
    file.write_text(lab_file("hv1", "hv2", "hv4"))
    trio.run("up", str(file), "--no-verify", "--replace")
    file.write_text(lab_file("hv1", "hv2"))
    trio.run("up", str(file), "--no-verify", "--replace")
    assert (cluster(trio)["total"], cluster(trio)["expected"]) == (2, 2)
    assert trio.run("exec", "hv1", "--", "cat", "/run/corosync.pid") == before, "it was never restarted"
    assert not re.search("hv[34]", trio.run("exec", "hv2", "--", "cat", "/etc/corosync/corosync.conf"))
