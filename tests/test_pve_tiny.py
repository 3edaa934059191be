"""`image: tiny` on a Proxmox VE, where its guest agent is the only way in: a machine that really runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from command_line import Cli
from pve_lab import assert_valid, cluster
from pve_machines import running

pytestmark = pytest.mark.guest

LAB = """\
lab: small
segments: {wire: {}}
machines:
  one: {image: tiny, segments: [wire]}
  two: {image: tiny, segments: [wire]}
"""


def test_tiny_machines_are_reached_proven_stopped_and_removed() -> None:
    with (
        cluster("pve1") as pve,
        running(pve) as machines,
        tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder,
    ):
        name, secret = pve.token
        env = {"NESTLAB_PVE_TOKEN": f"{name}={secret}", "NESTLAB_PVE_FINGERPRINT": pve.fingerprint}
        cli, file = Cli(Path(folder), env), Path(folder) / "lab.yaml"
        file.write_text(LAB)
        on = f"on=pve://127.0.0.1:{pve.port}"
        assert "reaches two over IPv4 and IPv6" in cli("up", str(file), "--set", on)
        assert cli("exec", "one", "--", "hostname").text == "one\n"
        assert "nothing to do" in cli("plan", str(file), "--set", on)
        cli("stop", "one")
        [stopped] = pve.calls("POST", "/status/shutdown")
        assert stopped.status == 200
        assert len(machines.running) == 1
        cli("down", "small", "--yes")
        assert not machines.running
        assert_valid(pve)
