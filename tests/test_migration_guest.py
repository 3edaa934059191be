"""Machines move between two real hypervisors: what was in their memory and on their disks goes on, at the same address.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import counter
from moving_lab import machines, moving
from test_nested import Cli
from waiting import LONG, wait_until

pytestmark = pytest.mark.guest

LAB = """
lab: move
segments: {wire: {cidr: 10.79.0.0/24}}
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    segments: [wire]
    machines:
      web: {image: tiny, memory: 96M, segments: [wire]}
  hv2:
    hypervisor: kvm
    memory: 768M
    segments: [wire]
    machines:
      other: {image: tiny, memory: 96M, segments: [wire]}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with moving(LAB) as found:
        yield found


def _count(cli: Cli, machine: str) -> int:
    return counter.number(lambda: cli.run("exec", machine, *counter.READ))


def _macs(cli: Cli, machine: str) -> str:
    return cli.run("exec", machine, "--", "sh", "-c", "cat /sys/class/net/eth*/address")


def _answers(cli: Cli, asker: str, address: str) -> bool:
    return "1 packets received" in cli.run("exec", asker, "--", "ping", "-c1", "-W20", address)


def test_a_machine_moves_while_it_runs_and_its_memory_goes_on(cli: Cli) -> None:
    before, macs = machines(cli)["hv1/web"], _macs(cli, "hv1/web")
    cli.run("exec", "hv1/web", "--", "sh", "-c", counter.BEGIN)
    wait_until(lambda: _count(cli, "hv1/web") > 3, LONG)
    moved = cli.json("migrate", "hv1/web", "hv2")
    assert (moved["machine"], moved["way"], moved["state"]) == ("hv2/web", "live", "running")
    assert 0 < moved["downtime"] < moved["total"]
    assert moved["silent"] is not None
    counted = _count(cli, "hv2/web")
    assert counted > 3
    wait_until(lambda: _count(cli, "hv2/web") > counted, LONG)
    after = machines(cli)
    assert "hv1/web" not in after
    assert (after["hv2/web"]["state"], after["hv2/web"]["accel"]) == ("running", "kvm")
    assert (after["hv2/web"]["addresses"], _macs(cli, "hv2/web")) == (before["addresses"], macs)
    assert _answers(cli, "hv2/other", before["addresses"][0])
    assert "1 received" in cli.run("exec", "hv1", "--", "ping", "-c1", "-W20", before["addresses"][0])
    assert "nestlab: ready" in cli.run("logs", "hv2/web")


def test_it_is_away_from_home_which_everybody_says_and_up_leaves_it_there(cli: Cli) -> None:
    said = "hv2/web is away from home, hv1"
    assert said in cli.run("status", "move")
    assert cli.json("status", "move")["away"][0]["home"] == "hv1/web"
    file = str(cli.home / "move.yaml")
    plan = cli.json("plan", file)
    assert plan["steps"] == []
    assert any(said in note for note in plan["notes"])
    proofs = {(each["path"], each["claim"]): each["ok"] for each in cli.json("verify", "move")["proofs"]}
    assert ("hv2/web", "place") in proofs
    assert False not in proofs.values()
    assert "There is a machine" not in cli.error("migrate", "hv2/web", "hv2")


def test_migrations_at_once_take_turns_and_who_comes_too_late_is_told_where_the_machine_is(cli: Cli) -> None:
    at_once = [("hv2/web", "hv1"), ("hv2/web", "hv1"), ("hv2/other", "hv1")]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "nestlab", "migrate", *words],
            env=cli.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in at_once
    ]
    told = [each.communicate()[1] for each in running]
    assert sorted(each.returncode for each in running) == [0, 0, 2], told
    assert running[2].returncode == 0
    [late] = [text for each, text in zip(running, told, strict=True) if each.returncode]
    assert "Lab move has no machine hv2/web.\nDid you mean hv1/web?" in late
    assert sum("waiting for `nestlab migrate` (process " in text for text in told) == 2
    found = machines(cli)
    assert {path: row["state"] for path, row in found.items() if "/" in path} == {
        "hv1/web": "running",
        "hv1/other": "running",
    }
    assert _answers(cli, "hv1/web", found["hv1/other"]["addresses"][0])
