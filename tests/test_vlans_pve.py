"""VLANs of machines on a Proxmox VE: what their cards say, and what their networks must tell apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve import hardware
from nestlab.engines.pve.hardware import Wire
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Link, Machine, Segment
from nestlab.plan.steps import Boot, Create, Stop
from nestlab.wire.pve.errors import PveError
from pve_lab import Bench, assert_valid, bench, cluster, config, up, vmid


def on(machine: Machine, link: Link) -> Machine:
    return replace(machine, links=(link,))


WEB = on(guest("web"), Link("wire", vlan=20))
INNER = hypervisor("hv1", on(guest("web"), Link("wire", vlan=10)))
ACCESS, PLAIN = draft("lab", WEB), draft("lab", guest("web"))
BRIDGED = draft("lab", WEB, segments=(Segment("wire", bridge="vmbr7"),))


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Bench]:
    with cluster() as fake:
        async with bench(fake, tmp_path) as found:
            yield found
        assert_valid(fake)


def vnets(made: Bench) -> list[dict[str, Any]]:
    return list(made.fake.world.sdn.applied["vnets"].values())


def card(lab: Blueprint, path: str = "web") -> str:
    [options] = [hardware.container(lab[path], "lab", _choices(), ostemplate="t", disk=1 << 30, authorized="")["net0"]]
    return str(options)


def _choices() -> hardware.Choices:
    from nestlab.engines.pve.cpu_types import Cpu

    return hardware.Choices(105, Cpu("host", True, ""), "local", {"wire": Wire("nlabc234")})


def test_a_card_on_a_vlan_has_its_tag_and_a_trunk_has_none() -> None:
    assert Wire("v").of(ACCESS["web"].nics[0]) == Wire("v", 20)
    assert Wire("v").of(PLAIN["web"].nics[0]) == Wire("v")
    trunk = draft("lab", INNER)
    assert trunk["hv1"].nics[0].port == "trunk"
    assert Wire("v").of(trunk["hv1"].nics[0]) == Wire("v")
    assert ",tag=20" in str(hardware.machine(ACCESS["web"], "lab", _choices())["net0"])
    assert ",tag=" not in str(hardware.machine(trunk["hv1"], "lab", _choices())["net0"])


def test_a_container_on_a_vlan_has_its_tag() -> None:
    assert card(ACCESS).endswith(",tag=20")


def test_a_card_keeps_its_vlan_when_its_network_was_made_again() -> None:
    was = ["net0=virtio=52:54:00:00:00:01,bridge=old,firewall=0,tag=20"]
    assert hardware.moved(was, ACCESS["web"], {"wire": Wire("new")}) == {
        "net0": "virtio=52:54:00:00:00:01,bridge=new,firewall=0,tag=20"
    }
    assert hardware.moved(was, ACCESS["web"], {"wire": Wire("old")}) == {}


@pytest.mark.parametrize("lab", [ACCESS, draft("lab", INNER), draft("lab", on(guest("web"), Link("wire", trunk=True)))])
async def test_the_network_of_machines_on_vlans_tells_them_apart(made: Bench, lab: Blueprint) -> None:
    await up(made, lab, lab.specs[0].path)
    assert [int(vnet["vlanaware"]) for vnet in vnets(made)] == [1]
    assert not made.fake.world.sdn.pending


async def test_a_network_without_vlans_stays_as_it_always_was(made: Bench) -> None:
    await up(made, PLAIN)
    assert [vnet.get("vlanaware") for vnet in vnets(made)] == [None]


async def test_a_network_that_is_there_tells_vlans_apart_as_soon_as_a_machine_is_on_one(made: Bench) -> None:
    engine = await up(made, PLAIN)
    [before] = vnets(made)
    await engine.perform(Stop("", "web"), PLAIN, made.say)
    lab = draft("lab", guest("web"), on(guest("other"), Link("wire", vlan=20)))
    await up(made, lab, "other")
    [after] = vnets(made)
    assert {**after, "vlanaware": int(after["vlanaware"])} == {**before, "vlanaware": 1}
    assert ",tag=20" in str(config(made, "other")["net0"])
    applied = len(made.fake.calls("PUT", "/cluster/sdn"))
    await engine.perform(Boot("", "web"), lab, made.say)
    assert len(made.fake.calls("PUT", "/cluster/sdn")) == applied


async def test_a_card_with_a_tag_on_a_network_that_tells_none_apart_does_not_start(made: Bench) -> None:
    """What the stand-in does as PVE does: why such a network must be made so."""
    await made.engine().perform(Create("", "web"), PLAIN, made.say)
    made.fake.set_config(vmid(made), net0=f"{config(made)['net0']},tag=20")
    with pytest.raises(PveError, match="vm vlans are not allowed on vnet"):
        await made.api.task(await made.api.create(f"/nodes/pve1/qemu/{vmid(made)}/status/start", {}))


async def test_a_bridge_that_tells_no_vlans_apart_is_told_before_anything_is_made(made: Bench) -> None:
    bridge = {**made.fake.world.nodes["pve1"].bridges["vmbr0"], "bridge_ports": ""}
    made.fake.world.nodes["pve1"].bridges["vmbr7"] = bridge
    with pytest.raises(LabError, match="The bridge vmbr7 of node pve1 does not tell VLANs apart") as caught:
        await made.engine().check(BRIDGED, {"web"})
    assert "VLAN aware" in caught.value.hint
    assert made.fake.calls("POST") == []
    bridge["bridge_vlan_aware"] = 1
    await made.engine().check(BRIDGED, {"web"})


async def test_a_zone_that_has_no_vlans_is_refused_with_the_reason(made: Bench) -> None:
    made.fake.world.sdn.config["zones"]["nestlab"]["type"] = "evpn"
    made.fake.world.sdn.applied["zones"]["nestlab"]["type"] = "evpn"
    with pytest.raises(LabError, match="Machines are on VLANs of wire, and zone nestlab is of type evpn"):
        await made.engine().perform(Create("", "web"), ACCESS, made.say)
    assert vnets(made) == []
