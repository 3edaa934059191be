"""Machines that nestlab does not log in to, inside a hypervisor, and one that is up by its guest agent."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

import boot_sector
import leaks
from command_line import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: deep
machines:
  asked: {{image: debian, ready: agent}}
  hv1:
    hypervisor: kvm
    machines:
      box: {{hypervisor: other, image: {{file: {disk}}}, memory: 64M, bus: ide, ready: {{console: "login: ?$"}}}}
      port: {{image: tiny, ready: {{port: 22}}}}
"""


def test_they_are_up_and_proven_at_level_two_as_at_level_one() -> None:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        cli("up", cli.file(LAB.format(disk=boot_sector.disk(Path(folder) / "box.raw"))), "--no-verify")
        rows = json.loads(cli.plain("verify", "deep", "--json"))["proofs"]
        found = {(each["path"], each["claim"]): (each["ok"], each["seen"]) for each in rows}
        assert found["asked", "ready"] == (True, "its guest agent answers")
        assert found["hv1/box", "ready"] == (True, "its console showed login: ?$")
        assert found["hv1/box", "cpu"][0] is True
        assert found["hv1/port", "ready"] == (True, "it takes connections on port 22")
        assert "does not log in to hv1/box" in cli("exec", "hv1/box", "true", status=2)
        cli("stop", "hv1/port")  # the other takes no notice of its power button, and would be waited for
        assert cli.states("deep")["hv1/port"] == "stopped"
        cli("down", "deep", "--yes")
