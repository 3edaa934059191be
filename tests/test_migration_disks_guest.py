"""Machines with disks, and containers, move between two real hypervisors; nestlab or a hypervisor is lost meanwhile.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from moving_lab import machines, moving
from test_nested import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: move
segments: {wire: {cidr: 10.79.0.0/24}}
machines:
  hv1:
    hypervisor: kvm
    memory: 1200M
    segments: [wire]
    machines:
      db:
        image: debian
        memory: 256M
        segments: [wire]
        disks: {data: {size: 64M}}
      box: {image: tiny, container: true, memory: 96M, segments: [wire]}
  hv2:
    hypervisor: kvm
    memory: 1200M
    segments: [wire]
    machines:
      other: {image: debian, memory: 192M, segments: [wire]}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with moving(LAB) as found:
        yield found


def _boot(cli: Cli, machine: str) -> str:
    return cli.run("exec", machine, "cat", "/proc/sys/kernel/random/boot_id")


def test_a_machine_moves_with_what_is_on_its_disk(cli: Cli) -> None:
    find = "for d in /sys/block/vd*; do [ $(($(cat $d/size) / 2048)) = 64 ] && d=/dev/${d##*/} && break; done"
    write = f"{find}; echo kept-on-data | dd of=$d bs=512 seek=9 conv=sync 2>/dev/null; "
    write += "echo kept-on-root >/root/kept; sync"
    read = f"{find}; dd if=$d bs=512 skip=9 count=1 2>/dev/null | head -n 1; cat /root/kept"
    kept = "kept-on-root\n"
    cli.run("exec", "hv1/db", "--", "sh", "-c", write)
    boot = _boot(cli, "hv1/db")
    assert cli.json("migrate", "hv1/db", "hv2")["way"] == "live"
    assert cli.run("exec", "hv2/db", "--", "sh", "-c", read).replace("\0", "") == f"kept-on-data\n{kept}"
    assert _boot(cli, "hv2/db") == boot
    assert cli.json("migrate", "hv2/db", "hv1", "--cold")["way"] == "restart"
    assert cli.run("exec", "hv1/db", "--", "sh", "-c", read).replace("\0", "") == f"kept-on-data\n{kept}"
    assert _boot(cli, "hv1/db") != boot
    assert cli.json("status", "move")["away"] == []


def test_a_container_moves_by_a_restart(cli: Cli) -> None:
    assert cli.json("migrate", "hv1/box", "hv2")["way"] == "restart"
    assert machines(cli)["hv2/box"]["state"] == "running"
    assert cli.run("exec", "hv2/box", "echo", "here") == "here\n"
    cli.run("stop", "hv2/box")
    assert cli.json("migrate", "hv2/box", "hv1")["way"] == "off"
    assert machines(cli)["hv1/box"]["state"] == "stopped"


@pytest.mark.parametrize("word", ["its disks", "its memory"])
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
    there = {path: row["state"] for path, row in machines(cli).items() if path.endswith("/db")}
    assert list(there.values()) == ["running"]
    [path] = there
    assert cli.run("exec", path, "echo", "here") == "here\n"
    if path == "hv2/db":
        cli.run("migrate", path, "hv1", "--cold")


def test_a_hypervisor_that_is_lost_while_a_machine_moves_to_it_takes_nothing_with_it(cli: Cli) -> None:
    hypervisor = machines(cli)["hv2"]["pid"]  # asked before: it takes longer than what is left then
    argv = [sys.executable, "-m", "nestlab", "migrate", "hv1/db", "hv2"]
    migrating = subprocess.Popen(
        argv, env=cli.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert migrating.stderr is not None
    for line in migrating.stderr:
        if "its memory" in line:
            break
    os.kill(hypervisor, signal.SIGKILL)
    said = migrating.stderr.read()
    migrating.stderr.close()
    assert migrating.wait() == 2
    assert "Traceback" not in said
    assert cli.run("exec", "hv1/db", "echo", "here") == "here\n"
    cli.run("up", str(cli.home / "move.yaml"), "--no-verify")
    found = machines(cli)
    assert {path for path in found if path.endswith("/db")} == {"hv1/db"}
    assert {row["state"] for row in found.values()} <= {"running", "stopped"}
