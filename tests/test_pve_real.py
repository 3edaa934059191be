"""The lab of the README on a Proxmox VE, with machines that really run: only `on:` is changed.

The API is a FakePve's, over HTTPS; behind it every machine is a QEMU with the disks that were uploaded, and what is
done in them goes through their guest agents. See `pve_machines`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from nestlab.testing.fake_pve import FakePve
from pve_lab import assert_valid, cluster, machine_of
from pve_machines import Machines, running

pytestmark = pytest.mark.guest

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "pair.yaml")


@pytest.fixture(scope="module")
def pve() -> Iterator[FakePve]:
    with cluster("pve1") as pve:
        yield pve


@pytest.fixture(scope="module")
def machines(pve: FakePve) -> Iterator[Machines]:
    with running(pve) as machines:
        yield machines


@pytest.fixture(scope="module")
def cli(pve: FakePve) -> Iterator[Cli]:
    name, secret = pve.token
    env = {"NESTLAB_PVE_TOKEN": f"{name}={secret}", "NESTLAB_PVE_FINGERPRINT": pve.fingerprint}
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        yield Cli(Path(folder), env)


def test_the_example_runs_on_a_proxmox_ve_and_is_proven_there(pve: FakePve, machines: Machines, cli: Cli) -> None:
    on = f"on=pve://127.0.0.1:{pve.port}"
    assert "ready" in cli("pve", "check", on.removeprefix("on="))
    up = cli("up", EXAMPLE, "--set", on)
    assert "proven: all 20 claims hold" in up
    assert "hv1/web runs 64-bit userland under KVM" in up
    assert "reaches hv1, hv2, hv2/web over IPv4 and IPv6" in up

    assert "nothing to do" in cli("plan", EXAMPLE, "--set", on)
    assert cli("exec", "hv2/web", "--", "hostname").text == "web\n"
    rows = cli.machines("pair")
    assert (rows["hv1"]["node"], rows["hv1"]["state"], rows["hv1/web"]["state"]) == ("pve1", "running", "unknown")
    deep = json.loads(cli.plain("status", "pair", "--deep", "--json"))["machines"]
    assert [row["state"] for row in deep] == ["running"] * 4

    assert "Linux version" in cli("logs", "hv1")
    assert "Nesting works here: kvm_amd, nested=1" in cli("doctor", "hv1", status=None)

    # Somebody pulls a plug behind its back: only that machine, and what was in it, is brought back.
    killed = machine_of(pve, "pair", "hv2")
    assert killed is not None
    machines.running[killed.vmid].process.kill()
    machines.running[killed.vmid].process.wait()
    assert cli.machines("pair")["hv2"]["state"] == "died"
    told = cli("up", EXAMPLE, "--set", on)
    assert "hv1/web  boot" not in told
    assert "proven: all 20 claims hold" in told

    cli("down", "pair", "--yes")
    assert not machines.running
    assert [guest.template for guest in pve.vms.values()] == [True]
    assert not [volume for volume in pve.volumes if "once" in volume]
    assert pve.world.sdn.applied["vnets"] == {} == pve.world.sdn.config["vnets"]
    assert_valid(pve)
