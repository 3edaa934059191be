"""`image: tiny` on a Proxmox VE, where its guest agent is the only way in: a machine that really runs."""

from __future__ import annotations

import json
import subprocess
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


def reached_by_openssh(cli: Cli, folder: Path) -> None:
    """The user's own ssh enters a machine that no network leads to, with its key pinned; another key is refused."""
    config = folder / "config"
    config.write_text(cli.plain("ssh-config", "small"))
    assert "Host small.two\n" in config.read_text()
    ssh = ["ssh", "-F", str(config), "-o", "ConnectTimeout=120"]
    done = subprocess.run([*ssh, "small.two", "hostname"], env=cli.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "two\n"), done.stderr
    assert "stopping" not in done.stderr  # to be hung up on is how its ProxyCommand ends
    known = Path(next(line.split('"')[1] for line in config.read_text().splitlines() if "UserKnownHosts" in line))
    mine, theirs = known.read_text().splitlines()
    known.write_text(f"{mine.split()[0]} {theirs.split(' ', 1)[1]}\n")
    done = subprocess.run([*ssh, "small.one", "hostname"], env=cli.environment, capture_output=True, text=True)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert [*json.loads(cli.plain("inventory", "small", "--json"))["_meta"]["hostvars"]] == ["small.one", "small.two"]


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
        reached_by_openssh(cli, Path(folder))
        cli("stop", "one")
        [stopped] = pve.calls("POST", "/status/shutdown")
        assert stopped.status == 200
        assert len(machines.running) == 1
        cli("down", "small", "--yes")
        assert not machines.running
        assert_valid(pve)
