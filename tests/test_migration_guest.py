"""Machines move between two real hypervisors: what was in their memory and on their disks goes on, at the same address.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_nested import Cli
from waiting import LONG, wait_until

pytestmark = pytest.mark.guest

LAB = """
lab: move
segments: {wire: {cidr: 10.79.0.0/24}}
machines:
  hv1:
    hypervisor: kvm
    memory: 900M
    segments: [wire]
    machines:
      web: {image: tiny, memory: 96M, segments: [wire]}
      db: {image: tiny, memory: 96M, disk: 64M, segments: [wire]}
      box: {image: tiny, container: true, memory: 96M, segments: [wire]}
  hv2:
    hypervisor: kvm
    memory: 900M
    segments: [wire]
    machines:
      other: {image: tiny, memory: 96M, segments: [wire]}
"""

COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done >/dev/null 2>&1 </dev/null & echo begun"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        lab = Cli(Path(home))
        file = Path(home) / "move.yaml"
        file.write_text(LAB)
        try:
            lab.run("up", str(file), "--no-verify")
            yield lab
        finally:
            lab.run("down", "move", "--yes")
        assert not lab.qemus()


def _machines(cli: Cli) -> dict[str, Any]:
    return {row["path"]: row for row in cli.json("status", "move")["machines"]}


def _count(cli: Cli, machine: str) -> int:
    return int(cli.run("exec", machine, "cat", "/tmp/n"))


def _macs(cli: Cli, machine: str) -> str:
    return cli.run("exec", machine, "--", "sh", "-c", "cat /sys/class/net/eth*/address")


def _answers(cli: Cli, asker: str, address: str) -> bool:
    return "1 packets received" in cli.run("exec", asker, "--", "ping", "-c1", "-W20", address)


def test_a_machine_moves_while_it_runs_and_its_memory_goes_on(cli: Cli) -> None:
    before, macs = _machines(cli)["hv1/web"], _macs(cli, "hv1/web")
    cli.run("exec", "hv1/web", "--", "sh", "-c", COUNT)
    wait_until(lambda: _count(cli, "hv1/web") > 3, LONG)
    moved = cli.json("migrate", "hv1/web", "hv2")
    assert (moved["machine"], moved["way"], moved["state"]) == ("hv2/web", "live", "running")
    assert 0 < moved["downtime"] < moved["total"]
    assert moved["silent"] is not None
    counted = _count(cli, "hv2/web")
    assert counted > 3
    wait_until(lambda: _count(cli, "hv2/web") > counted, LONG)
    after = _machines(cli)
    assert "hv1/web" not in after
    assert (after["hv2/web"]["state"], after["hv2/web"]["accel"]) == ("running", "kvm")
    assert (after["hv2/web"]["addresses"], _macs(cli, "hv2/web")) == (before["addresses"], macs)
    assert _answers(cli, "hv2/other", before["addresses"][0])
    assert _answers(cli, "hv1/db", before["addresses"][0])
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


@pytest.mark.slow
def test_a_machine_moves_with_what_is_on_its_disk(cli: Cli) -> None:
    disk = "/dev/disk/by-id/virtio-root"
    write = f"d={disk}; [ -e $d ] || d=/dev/vda; echo kept-on-disk | dd of=$d bs=512 seek=9 conv=sync 2>/dev/null; sync"
    read = f"d={disk}; [ -e $d ] || d=/dev/vda; dd if=$d bs=512 skip=9 count=1 2>/dev/null | head -n 1"
    cli.run("exec", "hv1/db", "--", "sh", "-c", write)
    cli.run("exec", "hv1/db", "--", "sh", "-c", COUNT)
    assert cli.json("migrate", "hv1/db", "hv2")["way"] == "live"
    assert cli.run("exec", "hv2/db", "--", "sh", "-c", read).startswith("kept-on-disk")
    assert _count(cli, "hv2/db") > 0
    assert cli.json("migrate", "hv2/db", "hv1", "--cold")["way"] == "restart"
    assert cli.run("exec", "hv1/db", "--", "sh", "-c", read).startswith("kept-on-disk")
    cli.run("exec", "hv1/db", "--", "sh", "-c", "! test -e /tmp/n")
    assert [each["path"] for each in cli.json("status", "move")["away"]] == ["hv2/web"]


@pytest.mark.slow
def test_a_container_moves_by_a_restart(cli: Cli) -> None:
    assert cli.json("migrate", "hv1/box", "hv2")["way"] == "restart"
    assert _machines(cli)["hv2/box"]["state"] == "running"
    assert cli.run("exec", "hv2/box", "echo", "here") == "here\n"
    cli.run("stop", "hv2/box")
    assert cli.json("migrate", "hv2/box", "hv1")["way"] == "off"
    assert _machines(cli)["hv1/box"]["state"] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["starting under", "its memory"])
def test_nestlab_killed_in_the_middle_the_next_up_gets_there(cli: Cli, word: str) -> None:
    argv = [sys.executable, "-m", "nestlab", "migrate", "hv1/db", "hv2"]
    migrating = subprocess.Popen(
        argv, env=cli.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert migrating.stderr is not None
    for line in migrating.stderr:
        if word in line:
            break
    with contextlib.suppress(ProcessLookupError):
        os.kill(migrating.pid, signal.SIGKILL)
    migrating.wait()
    migrating.stderr.close()
    cli.run("up", str(cli.home / "move.yaml"), "--no-verify")
    there = {path: row["state"] for path, row in _machines(cli).items() if path.endswith("/db")}
    assert list(there.values()) == ["running"]
    [path] = there
    assert cli.run("exec", path, "echo", "here") == "here\n"
    if path == "hv2/db":
        cli.run("migrate", path, "hv1", "--cold")


@pytest.mark.slow
def test_a_hypervisor_that_is_lost_while_a_machine_moves_to_it_takes_nothing_with_it(cli: Cli) -> None:
    argv = [sys.executable, "-m", "nestlab", "migrate", "hv1/db", "hv2"]
    migrating = subprocess.Popen(
        argv, env=cli.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert migrating.stderr is not None
    for line in migrating.stderr:
        if "its memory" in line:
            break
    os.kill(_machines(cli)["hv2"]["pid"], signal.SIGKILL)
    said = migrating.stderr.read()
    migrating.stderr.close()
    assert migrating.wait() == 2
    assert "Traceback" not in said
    assert cli.run("exec", "hv1/db", "echo", "here") == "here\n"
    cli.run("up", str(cli.home / "move.yaml"), "--no-verify")
    machines = _machines(cli)
    assert {path for path in machines if path.endswith("/db")} == {"hv1/db"}
    assert {row["state"] for row in machines.values()} <= {"running", "stopped"}
