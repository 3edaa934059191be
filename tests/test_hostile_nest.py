"""Root in a real hypervisor of a lab turns on the lab: its siblings and the host's disks stay, and nobody waits for it.

One lab for the whole file, brought up once; the attacks come one after the other, in the order they stand in.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, qemus
from nestlab.home.paths import short_id

pytestmark = pytest.mark.guest

WEB = "      web: {image: tiny, memory: 128M, segments: [wire]}\n"

LAB = f"""
lab: liar
segments: {{wire: {{}}}}
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    segments: [wire]
    machines:
      other: {{image: tiny, memory: 128M, segments: [wire]}}
{WEB}
  victim: {{image: tiny, memory: 128M, segments: [wire]}}
"""

INSIDE = "/var/lib/nestlab/labs/liar/m"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        found = Cli(Path(home))
        found("up", found.file(LAB))
        yield found
        found("down", "liar", "--yes", status=None)
        left = qemus(found.home)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "something still ran after down"


def attack(cli: Cli, script: str) -> None:
    """What root in hv1 does."""
    cli("exec", "liar:hv1", "--", "sh", "-c", script)


def machines(cli: Cli) -> dict[str, dict[str, Any]]:
    text = cli("status", "liar", "--json").text
    return {each["path"]: each for each in json.loads(text)["machines"]}


def disks(cli: Cli) -> dict[str, int]:
    """What machines on the host were made with, and their disks, which only making one anew would change."""
    made = {str(file): 0 for file in cli.home.glob("labs/liar/m/*/made")}
    return made | {str(file): file.stat().st_ino for file in cli.home.glob("labs/liar/m/*/disk.qcow2")}


@pytest.fixture(autouse=True)
def beside(cli: Cli) -> Iterator[None]:
    """What is beside and below the hypervisor is the same after every attack, and the sibling runs."""
    before = disks(cli)
    yield
    if cli.home.joinpath("labs/liar").exists():
        assert disks(cli) == before
        assert machines(cli)["victim"]["state"] == "running"


def test_files_that_name_a_sibling_or_the_folder_above_delete_nothing(cli: Cli) -> None:
    victim = short_id("victim")
    lies = {
        "deadbeef": ("made", '{"path": "victim"}'),
        "0badcafe": ("making", '{"path": "?"}'),
        "0badcaff": ("making", '{"path": "hv1/?"}'),
        "0000000f": ("making", '{"path": "../x"}'),
        "0000001f": ("making", r'{"path": "victim\nM 00000000"}'),
        "0000002f": ("making", "[" * 4000),
        victim: ("made", '{"path": "victim", "digest": "x", "names": "x", "root": "x", "disk": 0}'),
    }
    writes = []
    for name, (file, text) in lies.items():
        writes.append(f"mkdir -p {INSIDE}/{name} && printf '%s\n' '{text}' >{INSIDE}/{name}/{file}")
    attack(cli, "\n".join([*writes, f"mkdir -p {INSIDE}/mine {INSIDE}/'?'"]))
    assert {path: each["state"] for path, each in machines(cli).items()} == {
        "hv1": "running",
        "hv1/other": "running",
        "hv1/web": "running",
        "victim": "running",
    }
    steps = json.loads(cli("plan", str(cli.home / "lab.yaml"), "--json").text)["steps"]
    assert {step["id"] for step in steps} == {f"clear:hv1/{name}" for name in lies}
    cli("up", str(cli.home / "lab.yaml"), "--no-verify")
    attack(cli, f"[ ! -e {INSIDE}/{victim} ] && [ -d {INSIDE}/mine ]")  # what nestlab never makes it leaves alone
    assert json.loads(cli("plan", str(cli.home / "lab.yaml"), "--json").text)["steps"] == []


def test_a_record_of_ten_megabytes_and_a_thousand_folders_are_told_as_its_hypervisors_fault(cli: Cli) -> None:
    attack(cli, f"mkdir {INSIDE}/00000003 && head -c 10000000 /dev/zero | tr '\\0' a >{INSIDE}/00000003/made")
    late = machines(cli)["hv1/web"]  # its shell reads it letter by letter
    attack(cli, f"rm -r {INSIDE}/00000003 && cd {INSIDE} && mkdir $(seq 10000000 10001000)")
    many = machines(cli)["hv1/web"]
    attack(cli, f"cd {INSIDE} && rmdir 1000*")
    assert (late["state"], many["state"]) == ("unknown", "unknown")
    assert late["why"].startswith(("hv1 ", "What hv1 says"))
    assert many["why"].startswith("What hv1 says of its machines is nothing that nestlab asked for: it tells of more")
    assert "\n" not in late["why"] + many["why"]
    assert machines(cli)["hv1/web"]["state"] == "running"


def test_an_rm_that_hangs_ends_that_step_in_time_and_in_its_name(cli: Cli) -> None:
    hangs = "printf '#!/bin/sh\\nexec sleep 100000\\n'"
    attack(cli, f"cp -p /bin/rm /root/rm && {hangs} >/root/evil && cat /root/evil >/bin/rm")
    cli.file(LAB.replace(WEB, ""))
    said = cli("--patience", "0.2", "up", "liar", "--replace", "--no-verify", status=2)
    assert "hv1 did not remove hv1/web within" in said
    attack(cli, "cat /root/rm >/bin/rm")
    cli.file(LAB)
    cli("up", "liar", "--no-verify")
    assert machines(cli)["hv1/web"]["state"] == "running"


def test_a_shell_that_prints_for_ever_keeps_nobody_from_seeing_and_ending_the_rest(cli: Cli) -> None:
    floods = "printf '#!/usr/bin/yes\\n' >/root/evil && chmod 755 /root/evil"
    attack(cli, f"cp -p /bin/sh /root/sh && {floods} && mv -f /root/evil /bin/sh")
    there = machines(cli)
    assert (there["hv1"]["state"], there["hv1/web"]["state"]) == ("running", "unknown")
    assert "hv1" in there["hv1/web"]["why"]
    said = cli("--patience", "0.3", "verify", "liar", status=None)
    assert "victim" in said
    assert said.status != 0
    cli("stop", "liar:victim")
    cli("start", "liar:victim")


def test_down_ends_all_of_it_whatever_its_hypervisor_does(cli: Cli) -> None:
    cli("--patience", "0.3", "down", "liar", "--yes")
    assert not cli.home.joinpath("labs/liar").exists()
    assert qemus(cli.home) == []
