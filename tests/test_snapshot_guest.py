"""A lab with a machine inside a machine is saved, put back, and goes on; whatever is killed or damaged on the way.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import counter
from command_line import Cli, qemus
from lab_up import lab_up
from waiting import LONG, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: snap
segments: {wire: {cidr: 10.79.0.0/24}}
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    segments: [wire]
    machines:
      web: {image: tiny, memory: 96M, segments: [wire]}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        found("exec", "hv1/web", "--", "sh", "-c", counter.BEGIN)
        yield found


def count(cli: Cli) -> int:
    return counter.number(lambda: cli.plain("exec", "hv1/web", *counter.READ))


def goes_on(cli: Cli) -> int:
    """The counter, which was seen to go on."""
    before = count(cli)
    wait_until(lambda: count(cli) > before, LONG)
    return before


def told(cli: Cli, *words: str) -> Any:
    return json.loads(cli.plain(*words, "--json"))


def lab(cli: Cli) -> Path:
    return cli.home / "labs" / "snap"


def listed(cli: Cli) -> dict[str, Any]:
    return {each["snapshot"]: each for each in told(cli, "snapshots", "snap")["snapshots"]}


def test_a_lab_is_saved_while_it_runs_and_goes_on(cli: Cli) -> None:
    goes_on(cli)
    made = told(cli, "snapshot", "snap", "one")
    assert (made["memory"], made["inner"], made["parent"]) == (True, ["hv1/web"], None)
    [machine] = made["machines"]
    assert (machine["path"], machine["was"], machine["memory"]) == ("hv1", "running", True)
    assert machine["pause"] > 0
    goes_on(cli)
    [row] = listed(cli).values()
    assert (row["current"], row["loads"]) == (True, {"loads": 1, "failures": 0})
    assert not (lab(cli) / "t").exists()
    assert not (lab(cli) / "snapshot.json").exists()


def test_it_is_put_back_with_its_memory_and_what_runs_inside_goes_on_where_it_was(cli: Cli) -> None:
    cli("exec", "hv1", "--", "sh", "-c", "echo later >/root/later")
    before = count(cli)
    wait_until(lambda: count(cli) > before + 20, LONG)
    later = count(cli)
    refused = cli("restore", "snap", "one", status=2)
    assert "end now, as by a power cut: hv1" in refused
    assert count(cli) >= later
    done = told(cli, "restore", "snap", "one", "--yes")
    assert done["left"] == []
    assert {path: each["went_on"] for path, each in done["renewed"].items()} == {"hv1": True, "hv1/web": True}
    assert abs(done["renewed"]["hv1"]["clock"]) <= 2
    assert done["renewed"]["hv1"]["random"] == "reseeded"
    assert count(cli) < later
    goes_on(cli)
    cli("exec", "hv1", "--", "sh", "-c", "[ ! -e /root/later ]")
    assert cli.states("snap") == {"hv1": "running", "hv1/web": "running"}
    assert cli.steps(str(cli.home / "lab.yaml")) == []


def test_a_restored_kernel_knows_that_it_is_another_machine_now(cli: Cli) -> None:
    assert "crng reseeded due to virtual machine fork" in cli("exec", "hv1", "dmesg")


def test_a_flipped_byte_is_found_before_anything_is_done(cli: Cli) -> None:
    [memory] = (lab(cli) / "snapshots" / "one").glob("*/memory")
    with memory.open("r+b") as file:
        file.seek(memory.stat().st_size // 2)
        was = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([was[0] ^ 1]))
    assert "is damaged" in cli("restore", "snap", "one", "--yes", status=2)
    goes_on(cli)
    with memory.open("r+b") as file:
        file.seek(memory.stat().st_size // 2)
        file.write(was)


def test_a_snapshot_of_another_qemu_is_refused_with_the_way_out(cli: Cli) -> None:
    path = lab(cli) / "snapshots" / "one" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"version": "10.', '"version": "9.'))
    said = cli("restore", "snap", "one", "--yes", status=2)
    assert "QEMU was 9." in said
    assert "--disk-only" in said
    path.write_text(text)
    goes_on(cli)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_keeps_nothing_and_all_goes_on(cli: Cli) -> None:
    place = lab(cli) / "snapshots"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", str(place)], check=True)
    try:
        said = cli("snapshot", "snap", "full", status=2)
        assert list(place.iterdir()) == [], said
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert list(listed(cli)) == ["one"]
    assert cli.states("snap") == {"hv1": "running", "hv1/web": "running"}
    goes_on(cli)


def test_a_parked_lab_has_no_process_and_goes_on_where_it_was(cli: Cli) -> None:
    before = count(cli)
    cli("park", "snap")
    assert qemus(cli.home) == []
    assert cli.states("snap")["hv1"] == "stopped"
    assert "is not parked" not in cli("unpark", "snap")
    assert cli.states("snap") == {"hv1": "running", "hv1/web": "running"}
    assert goes_on(cli) >= before
    assert list(listed(cli)) == ["one"]
    assert "is not parked" in cli("unpark", "snap", status=2)


def test_nestlab_killed_while_machines_stand_still_leaves_no_half_and_all_goes_on(cli: Cli) -> None:
    for words in ("pausing", "saving", "checksums", "trying to load"):
        with cli.running("snapshot", "snap", "half") as work:
            work.until(words)
            work.tell(signal.SIGKILL)
            work.end()
        cli("snapshots", "rm", "snap", "nothing", status=2)  # the next command that works on the lab
        assert list(listed(cli)) == ["one"]
        assert cli.states("snap") == {"hv1": "running", "hv1/web": "running"}
        assert not (lab(cli) / "snapshots" / ".half.new").exists()
        goes_on(cli)


def test_nestlab_killed_while_it_restores_leaves_the_lab_as_it_was_or_goes_on(cli: Cli) -> None:
    for words in ("ending hv1", "putting its files", "loading", "renewing"):
        with cli.running("restore", "snap", "one", "--yes") as work:
            work.until(words)
            work.tell(signal.SIGKILL)
            work.end()
        cli("snapshots", "rm", "snap", "nothing", status=2)
        states = cli.states("snap")
        assert states["hv1"] in ("running", "died", "killed"), (words, states)
        if states["hv1"] == "running":
            assert states["hv1/web"] == "running"
            goes_on(cli)
        assert not (lab(cli) / "before").exists()
    cli("restore", "snap", "one", "--yes")
    goes_on(cli)


def test_disks_alone_are_saved_and_put_back_off(cli: Cli) -> None:
    cli("exec", "hv1", "--", "sh", "-c", "echo kept >/root/kept; sync")
    made = told(cli, "snapshot", "snap", "disks", "--disk-only")
    assert (made["memory"], made["parent"]) == (False, "one")
    goes_on(cli)
    cli("restore", "snap", "disks", "--yes")
    assert cli.states("snap")["hv1"] == "stopped"
    cli("start", "snap")
    assert "kept" in cli("exec", "hv1", "cat", "/root/kept")
    assert listed(cli)["disks"]["current"] is True


def test_a_snapshot_is_removed_when_that_is_agreed_and_its_room_comes_back(cli: Cli) -> None:
    assert "--yes agrees" in cli("snapshots", "rm", "snap", "one", status=2)
    assert told(cli, "snapshots", "rm", "snap", "one", "--yes")["bytes"] > 0
    assert list(listed(cli)) == ["disks"]
