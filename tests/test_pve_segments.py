from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError, Refused
from nestlab.engines.pve.hardware import Wire
from nestlab.engines.pve.remembered import Memory
from nestlab.engines.pve.segments import Segments, alias, names
from nestlab.lab.model import Segment
from nestlab.lab.places import Pve
from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.errors import Denied, PveError
from pve_lab import assert_valid, client, cluster

WIRE, BACK = Segment("wire"), Segment("back")
ON = Pve("pve://127.0.0.1")


@pytest.fixture(params=["8.4", "9.1", "9.2"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakePve]:
    with cluster(version=request.param) as pve:
        yield pve


@pytest.fixture
def nine() -> Iterator[FakePve]:
    with cluster() as pve:
        yield pve


@asynccontextmanager
async def segments(fake: FakePve, lab: str = "lab", on: Pve = ON, **rest: Any) -> AsyncIterator[Segments]:
    memory = rest.pop("memory", Memory())
    api: Client = client(fake, rest.pop("login", None))
    try:
        yield Segments(api, on, lab, memory, **{"patience": 0.5, **rest})
    finally:
        await api.close()


def vnets(fake: FakePve) -> dict[str, Any]:
    """By alias, of the running configuration."""
    return {str(each.get("alias")): each for each in fake.world.sdn.applied["vnets"].values()}


async def test_segments_become_isolated_vnets_and_go_again(fake: FakePve) -> None:
    async with segments(fake) as found:
        assert await found.observe() == frozenset()
        wires = await found.ensure([WIRE, BACK], {"wire", "back"})
        assert set(vnets(fake)) == {"nestlab lab wire", "nestlab lab back"}
        assert fake.world.sdn.applied["subnets"] == {}, "no gateway, no DHCP, no way out"
        for name, wire in wires.items():
            assert wire == Wire(next(names("lab", name)))
            assert len(wire.bridge) <= 8
            assert wire.bridge.isalnum()
        assert await found.observe() == {"wire", "back"}
        await found.remove({"wire"})
        assert await found.observe() == {"back"}
        await found.remove({"wire", "back"})
        assert vnets(fake) == {}
        assert fake.world.sdn.lock == ""
        assert not fake.world.sdn.pending
    assert_valid(fake)


async def test_what_is_there_is_not_made_again(fake: FakePve) -> None:
    async with segments(fake) as found:
        first = await found.ensure([WIRE], {"wire"})
        before = len(fake.calls("PUT", "/cluster/sdn"))
        assert await found.ensure([WIRE], {"wire"}) == first
        await found.remove({"nothing"})
        assert len(fake.calls("PUT", "/cluster/sdn")) == before, "networks are reloaded when something changed only"


async def test_two_labs_do_not_share_a_vnet(fake: FakePve) -> None:
    async with segments(fake, "one") as one, segments(fake, "two") as two:
        a, b = await one.ensure([WIRE], {"wire"}), await two.ensure([WIRE], {"wire"})
        assert a != b
        await one.remove({"wire"})
        assert await two.observe() == {"wire"}


async def test_vnets_of_others_are_left_alone_even_under_the_name(nine: FakePve) -> None:
    first = next(names("lab", "wire"))
    for stage in (nine.world.sdn.config, nine.world.sdn.applied):
        stage["vnets"][first] = {"type": "vnet", "vnet": first, "zone": "nestlab", "alias": "production"}
    async with segments(nine) as found:
        assert await found.observe() == frozenset()
        wires = await found.ensure([WIRE], {"wire"})
        assert wires["wire"].bridge != first
        await found.remove({"wire"})
    assert set(vnets(nine)) == {"production"}


async def test_a_bridge_is_used_as_it_is(nine: FakePve) -> None:
    async with segments(nine) as found:
        trunk = Segment("trunk", bridge="vmbr1", vlan=77)
        assert await found.ensure([trunk], {"trunk"}) == {"trunk": Wire("vmbr1", 77)}
        assert await found.reaching([trunk, WIRE]) == {"trunk"}
        assert vnets(nine) == {}
        assert nine.calls("POST") == []


async def test_while_somebody_changes_the_sdn_nothing_is_done(nine: FakePve) -> None:
    nine.world.sdn.lock = "somebody"
    async with segments(nine) as found:
        with pytest.raises(Refused, match="Somebody else has been changing the SDN") as caught:
            await found.ensure([WIRE], {"wire"})
        assert "--force 1" in caught.value.hint
        nine.world.sdn.lock = ""
        await found.ensure([WIRE], {"wire"})


async def test_pending_changes_of_somebody_are_not_applied(fake: FakePve) -> None:
    fake.world.sdn.config["vnets"]["theirs"] = {"type": "vnet", "vnet": "theirs", "zone": "nestlab"}
    async with segments(fake) as found:
        with pytest.raises(Refused, match="changes of somebody else that wait to be applied"):
            await found.ensure([WIRE], {"wire"})
    assert vnets(fake) == {}
    assert list(fake.world.sdn.config["vnets"]) == ["theirs"], "what they wait for is still there, and nothing else"


@pytest.mark.parametrize("kind", ["zones", "subnets", "controllers"])
async def test_pending_changes_of_somebody_are_not_applied_along_with_own_ones(fake: FakePve, kind: str) -> None:
    """The lock, taken in spite of own changes, does not keep from applying what somebody else has changed."""
    name, sdn = next(names("lab", "wire")), fake.world.sdn
    sdn.config["vnets"][name] = {"type": "vnet", "vnet": name, "zone": "nestlab", "alias": alias("lab", "wire")}
    for stage in (sdn.config, sdn.applied):
        stage["vnets"]["prod"] = {"type": "vnet", "vnet": "prod", "zone": "nestlab"}
    sdn.config[kind]["theirs"] = {"type": "simple", "vnet": "prod", kind.removesuffix("s"): "theirs"}
    async with segments(fake) as found:
        with pytest.raises(Refused, match="changes of somebody else that wait to be applied"):
            await found.ensure([WIRE, BACK], {"wire", "back"})
    assert "theirs" in sdn.config[kind]
    assert "theirs" not in sdn.applied[kind]
    assert set(sdn.config["vnets"]) == {name, "prod"}
    assert sdn.lock == ""
    assert_valid(fake)


@pytest.mark.parametrize("own", [False, True], ids=["alone", "beside own ones"])
async def test_pending_fabrics_which_pve_does_not_count_are_not_applied(nine: FakePve, own: bool) -> None:
    if own:
        name = next(names("lab", "wire"))
        vnet = {"type": "vnet", "vnet": name, "zone": "nestlab", "alias": alias("lab", "wire")}
        nine.world.sdn.config["vnets"][name] = vnet
    nine.world.sdn.config["fabrics"]["theirs"] = {"fabric": "theirs"}
    async with segments(nine) as found:
        with pytest.raises(Refused, match="changes of somebody else that wait to be applied"):
            await found.ensure([WIRE], {"wire"})
    assert nine.world.sdn.applied["fabrics"] == {}
    assert nine.calls("POST") == []


async def test_networks_are_applied_again_for_a_node_that_lacks_them_once_and_no_others(fake: FakePve) -> None:
    said: list[str] = []
    async with segments(fake) as found:
        wires = await found.ensure([WIRE], {"wire"})
        before = len(fake.calls("PUT", "/cluster/sdn"))
        assert not await found.again("vmbr0", said.append)
        assert await found.again(wires["wire"].bridge, said.append)
        assert await found.again(wires["wire"].bridge, said.append)
        assert len(fake.calls("PUT", "/cluster/sdn")) == before + 1
        assert said == ["applying the SDN again: its node lacks a network of the lab's"]
        assert fake.world.sdn.lock == ""
    assert_valid(fake)


async def test_own_changes_that_were_never_applied_are_applied(fake: FakePve) -> None:
    name = next(names("lab", "wire"))
    own = {"type": "vnet", "vnet": name, "zone": "nestlab", "alias": alias("lab", "wire")}
    fake.world.sdn.config["vnets"][name] = own
    async with segments(fake) as found:
        assert await found.observe() == {"wire"}, "so that `down` takes it away"
        assert await found.ensure([WIRE, BACK], {"wire", "back"})
        assert set(vnets(fake)) == {"nestlab lab wire", "nestlab lab back"}


async def test_own_changes_that_were_never_applied_go_with_the_segment(fake: FakePve) -> None:
    name = next(names("lab", "wire"))
    own = {"type": "vnet", "vnet": name, "zone": "nestlab", "alias": alias("lab", "wire")}
    fake.world.sdn.config["vnets"][name] = own
    async with segments(fake) as found:
        await found.remove({"wire"})
        assert await found.observe() == frozenset()
        assert not fake.world.sdn.pending


async def test_what_cannot_be_applied_is_taken_back(fake: FakePve) -> None:
    async with segments(fake) as found:
        fake.fail_next("/cluster/sdn", 500, "could not commit SDN config: no", method="PUT")
        with pytest.raises(PveError, match="could not commit"):
            await found.ensure([WIRE], {"wire"})
        assert fake.world.sdn.config["vnets"] == {}
        assert fake.world.sdn.lock == ""
        await found.ensure([WIRE], {"wire"})


async def test_a_vnet_that_cannot_be_made_leaves_nothing_pending(nine: FakePve) -> None:
    async with segments(nine) as found:
        nine.fail_next("/cluster/sdn/vnets", 500, "create sdn vnet object failed: disk full", method="POST")
        with pytest.raises(PveError, match="disk full"):
            await found.ensure([WIRE, BACK], {"wire", "back"})
    assert nine.world.sdn.config["vnets"] == {}
    assert not nine.world.sdn.pending
    assert nine.world.sdn.lock == ""


async def test_the_lock_of_a_nestlab_that_was_killed_is_given_back(nine: FakePve, tmp_path: Path) -> None:
    file = tmp_path / "pve.json"
    Memory(file).token = nine.world.sdn.lock = "01a20563-c0e2-7491-9d70-43293b9ba9ec"
    assert file.stat().st_mode & 0o777 == 0o600
    async with segments(nine, memory=Memory(file)) as found:
        await found.ensure([WIRE], {"wire"})
    assert nine.world.sdn.lock == ""
    assert Memory(file).token == ""


async def test_a_zone_that_is_not_there_is_told_with_the_commands_that_make_it(nine: FakePve) -> None:
    async with segments(nine, on=Pve("pve://127.0.0.1", zone="labz")) as found:
        with pytest.raises(LabError, match="has no SDN zone labz that can be seen; it has: nestlab") as caught:
            await found.ensure([WIRE], {"wire"})
    assert "pvesh create /cluster/sdn/zones --zone labz --type simple" in caught.value.hint


async def test_a_zone_that_reaches_from_node_to_node_gives_each_vnet_a_number(nine: FakePve) -> None:
    for stage in (nine.world.sdn.config, nine.world.sdn.applied):
        stage["zones"]["nestlab"] = {"zone": "nestlab", "type": "vxlan", "peers": "10.99.0.1"}
    async with segments(nine) as found:
        assert await found.reaching([WIRE, BACK]) == {"wire", "back"}
        await found.ensure([WIRE, Segment("fixed", vlan=4000)], {"wire", "fixed"})
    tags = {name: each["tag"] for name, each in vnets(nine).items()}
    assert tags["nestlab lab fixed"] == 4000
    assert 1 <= tags["nestlab lab wire"] < 1 << 24
    assert_valid(nine)


async def test_a_zone_of_vlans_wants_one(nine: FakePve) -> None:
    for stage in (nine.world.sdn.config, nine.world.sdn.applied):
        stage["zones"]["nestlab"] = {"zone": "nestlab", "type": "vlan", "bridge": "vmbr0"}
    async with segments(nine) as found:
        with pytest.raises(LabError, match="Segment wire needs a `vlan`: zone nestlab is of type vlan"):
            await found.ensure([WIRE], {"wire"})
        assert nine.world.sdn.lock == ""
        await found.ensure([Segment("wire", vlan=12)], {"wire"})
    assert vnets(nine)["nestlab lab wire"]["tag"] == 12


async def test_a_token_that_may_not_apply_is_told_which_privilege_is_missing(nine: FakePve) -> None:
    zone = {"/sdn/zones/nestlab": "SDN.Allocate SDN.Audit SDN.Use"}
    login = nine.add_token("lab@pve", "nestlab", zone)
    async with segments(nine, login=login) as found:
        with pytest.raises(Denied, match=r"/sdn, SDN\.Allocate"):
            await found.ensure([WIRE], {"wire"})
