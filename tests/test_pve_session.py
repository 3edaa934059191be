"""Labs on a Proxmox VE by the verbs of nestlab: planned, placed, told, migrated, and never half moved."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.lab.model import GIB
from nestlab.testing.fake_engine import FakeWorld
from nestlab.testing.fake_pve import FakePve
from nestlab.verbs import connections, snapshots
from nestlab.verbs import migrate as moving
from nestlab.verbs import session as verbs
from pve_lab import assert_valid, bench, cluster, machine_of
from pve_session import PAIR, Labs, quiet

ALL = {"hv1", "hv1/web", "hv2", "hv2/web"}


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve


@pytest.fixture
async def labs(fake: FakePve, tmp_path: Path) -> AsyncIterator[Labs]:
    async with bench(fake, tmp_path / "labs") as found:
        yield Labs(fake, Home(tmp_path / "state", tmp_path / "cache"), found, tmp_path)
        assert_valid(fake)


def node_of(fake: FakePve, path: str) -> str:
    found = machine_of(fake, "pair", path)
    assert found is not None
    return found.node


def here(labs: Labs) -> None:
    """Labs may be on this machine too."""
    labs.local = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))


def vmid_of(fake: FakePve, path: str) -> int:
    found = machine_of(fake, "pair", path)
    assert found is not None
    return found.vmid


async def test_the_example_goes_up_and_down_with_only_its_place_changed(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    assert await labs.states() == dict.fromkeys(ALL, "running")
    assert not await labs.up()
    await labs.change("down", "gone")
    assert not labs.home.labs()
    assert [guest.template for guest in fake.vms.values()] == [True]


async def test_the_plan_tells_node_storage_number_and_cpu_of_every_machine(labs: Labs, fake: FakePve) -> None:
    async with labs.wanted() as session:
        before = {each.path: each for each in await session.accelerations()}
        assert (before["hv1"].node, before["hv1"].storage, before["hv1"].vmid) == ("pve1", "local", None)
        assert before["hv1"].cpu == "host"
        assert "machines run inside it" in before["hv1"].why
        assert before["hv1/web"].node == ""
    await labs.up()
    async with labs.wanted() as session:
        after = {each.path: each for each in await session.accelerations()}
        assert after["hv1"].vmid == vmid_of(fake, "hv1")


async def test_a_quick_look_takes_three_requests_whatever_is_there(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    fake.requests.clear()
    async with verbs.looking(labs.site, name="pair") as session:
        found = (await session.glance()).machines
    assert {path: seen.state for path, seen in found.items()} == {
        "hv1": "running",
        "hv1/web": "unknown",
        "hv2": "running",
        "hv2/web": "unknown",
    }
    assert found["hv1"].node == node_of(fake, "hv1")
    assert "status --deep" in found["hv1/web"].why
    assert len(fake.requests) <= 3


async def test_a_lab_that_is_made_does_not_move_between_here_and_there(labs: Labs) -> None:
    await labs.up()
    with pytest.raises(LabError, match="and its lab file now says this machine"):
        await labs.up(on="local")
    assert await labs.states() == dict.fromkeys(ALL, "running")
    await labs.change("down", "gone")
    here(labs)
    await labs.up(on="local")
    with pytest.raises(LabError, match="Lab pair was made on this machine") as caught:
        await labs.up()
    assert "nestlab down pair" in caught.value.hint
    assert await labs.states() == dict.fromkeys(ALL, "running")


async def test_a_lab_is_not_made_twice_on_another_proxmox_ve(labs: Labs, tmp_path: Path) -> None:
    await labs.up()
    with cluster("other") as second:
        async with bench(second, tmp_path / "second") as found:
            elsewhere = Labs(second, labs.home, found, tmp_path)
            with pytest.raises(LabError, match="nothing of it"):
                await elsewhere.up(on="pve://127.0.0.2")
            assert not second.vms
    await labs.change("down", "gone")


async def test_the_same_proxmox_ve_may_be_called_by_another_name(labs: Labs) -> None:
    await labs.up()
    assert not await labs.up(on="pve://localhost")


async def test_machines_that_high_availability_would_move_are_reported(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    vmid = vmid_of(fake, "hv1")
    await labs.bench.api.create("/cluster/ha/resources", {"sid": f"vm:{vmid}"})
    async with verbs.looking(labs.site, name="pair") as session:
        platform, *others = await session.platform.proofs(session.blueprint)
    assert (platform.path, platform.where) == ("", "Proxmox VE")
    assert [(each.path, each.claim, each.ok) for each in others] == [("hv1", "high availability", None)]
    assert f"ha-manager remove vm:{vmid}" in others[0].why
    with pytest.raises(LabError, match="managed by high availability"):
        await _migrated(labs, "hv1", "pve2")


# -- migration


async def _migrated(labs: Labs, path: str, target: str, *, stop_guests: bool = False) -> moving.Crossing:
    async with verbs.changing(labs.site, "migrate", name="pair") as session:
        crossing = await moving.look(session, path, target, stop_guests=stop_guests)
        await moving.go(session, crossing, quiet, lambda _: None)
        return crossing


def amd(fake: FakePve) -> None:
    for node in fake.nodes.values():
        node.vendor, node.model, node.flags = "AuthenticAMD", "AMD EPYC", node.flags.replace("vmx", "svm")


def shared(fake: FakePve) -> str:
    """Disks that all nodes see, so that machines can move at all."""
    fake.add_storage("ceph", type="rbd", content="images", shared=True)
    return PAIR


SHARED = "{pve: 'pve://127.0.0.1', storage: ceph}"


async def test_a_machine_that_is_off_moves_and_starts_there(labs: Labs, fake: FakePve) -> None:
    await labs.up(shared(fake), SHARED)
    source = node_of(fake, "hv1")
    target = "pve2" if source == "pve1" else "pve1"
    await labs.change("stop", "stopped", "hv1")
    crossing = await _migrated(labs, "hv1", target)
    assert not crossing.move.running
    assert node_of(fake, "hv1") == target
    assert crossing.notes == (f"Segment wire ends at each node: on {target} it does not reach hv2.",)
    await labs.change("start", "running", "hv1")
    assert (await labs.states())["hv1"] == "running"


async def test_a_machine_on_a_storage_of_its_node_moves_as_a_whole_copy(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    source, before = node_of(fake, "hv1"), dict(fake.vms[vmid_of(fake, "hv1")].config)
    target = "pve2" if source == "pve1" else "pve1"
    with pytest.raises(LabError, match="layers over a template's"):
        await _migrated(labs, "hv1", target)
    await labs.change("stop", "stopped", "hv1")
    await _migrated(labs, "hv1", target)
    after = fake.vms[vmid_of(fake, "hv1")]
    assert (after.node, after.config["net0"], after.config["name"]) == (target, before["net0"], before["name"])
    assert len([guest for guest in fake.vms.values() if guest.config["name"] == before["name"]]) == 1
    await labs.change("start", "running")
    assert await labs.states() == dict.fromkeys(ALL, "running")
    await labs.change("down", "gone")
    assert [guest.template for guest in fake.vms.values()] == [True]


async def test_a_copy_that_does_not_arrive_leaves_the_machine_as_it_was_and_says_where_it_is(
    labs: Labs, fake: FakePve
) -> None:
    await labs.up()
    await labs.change("stop", "stopped", "hv1")
    number, before = vmid_of(fake, "hv1"), set(fake.vms)
    source = node_of(fake, "hv1")
    fake.fail_task("qmigrate", "migration aborted")
    with pytest.raises(LabError, match="migration aborted") as caught:
        await _migrated(labs, "hv1", "pve2" if source == "pve1" else "pve1")
    assert f"hv1 is on {source} as VM {number}." in caught.value.what
    assert "is removed" in caught.value.what
    assert set(fake.vms) == before
    fake.fail_task("qmigrate", "migration aborted")
    fake.fail_task("qmdestroy", "storage is away")
    with pytest.raises(LabError, match=r"could not be removed: .*storage is away.* hv1 is on") as caught:
        await _migrated(labs, "hv1", "pve2" if source == "pve1" else "pve1")
    await labs.change("start", "running")
    assert (vmid_of(fake, "hv1"), await labs.states()) == (number, dict.fromkeys(ALL, "running"))
    await labs.change("down", "gone")
    assert [guest.template for guest in fake.vms.values()] == [True]


async def test_the_original_goes_after_its_copy_has_arrived(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    await labs.change("stop", "stopped", "hv1")
    fake.requests.clear()
    await _migrated(labs, "hv1", "pve2" if node_of(fake, "hv1") == "pve1" else "pve1")
    asked = [call.method + call.path.rpartition("/")[2] for call in fake.requests if call.method in ("POST", "DELETE")]
    assert (
        asked.index("POSTclone")
        < asked.index("POSTmigrate")
        < next(number for number, each in enumerate(asked) if each.startswith("DELETE"))
    )


async def test_an_amd_machine_with_a_running_guest_stays_unless_that_is_stopped(labs: Labs, fake: FakePve) -> None:
    amd(fake)
    await labs.up(shared(fake), SHARED)
    source = node_of(fake, "hv1")
    target = "pve2" if source == "pve1" else "pve1"
    with pytest.raises(LabError, match="hv1/web runs inside") as caught:
        await _migrated(labs, "hv1", target)
    assert "--stop-guests" in caught.value.hint
    assert (node_of(fake, "hv1"), (await labs.states())["hv1/web"]) == (source, "running")

    crossing = await _migrated(labs, "hv1", target, stop_guests=True)
    assert crossing.stopped == ("hv1/web",)
    assert (node_of(fake, "hv1"), await labs.states()) == (target, dict.fromkeys(ALL, "running"))
    assert not await labs.up(shared(fake), SHARED)


async def test_an_intel_machine_moves_with_what_runs_inside_between_equal_nodes(labs: Labs, fake: FakePve) -> None:
    await labs.up(shared(fake), SHARED)
    target = "pve2" if node_of(fake, "hv1") == "pve1" else "pve1"
    crossing = await _migrated(labs, "hv1", target)
    assert crossing.ruling.online
    assert crossing.move.inside == ("hv1/web",)
    assert node_of(fake, "hv1") == target
    assert await labs.states() == dict.fromkeys(ALL, "running")


async def test_guests_that_were_stopped_start_again_when_the_migration_fails(labs: Labs, fake: FakePve) -> None:
    amd(fake)
    await labs.up(shared(fake), SHARED)
    source = node_of(fake, "hv1")
    fake.fail_task("qmigrate", "migration aborted")
    with pytest.raises(LabError, match="migration aborted"):
        await _migrated(labs, "hv1", "pve2" if source == "pve1" else "pve1", stop_guests=True)
    assert (node_of(fake, "hv1"), await labs.states()) == (source, dict.fromkeys(ALL, "running"))


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("hv1", "pve9", "has no node pve9"),
        ("hv1/web", "pve2", "hv1/web is inside hv1, and moves with it"),
    ],
)
async def test_what_cannot_move_is_told(labs: Labs, fake: FakePve, path: str, target: str, said: str) -> None:
    await labs.up()
    with pytest.raises(LabError, match=said):
        await _migrated(labs, path, target)


async def test_nothing_migrates_to_where_it_is_or_to_a_node_that_is_away(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    here = node_of(fake, "hv1")
    with pytest.raises(LabError, match=f"hv1 is on {here} already"):
        await _migrated(labs, "hv1", here)
    fake.node_down("pve2")
    with pytest.raises(LabError, match=r"Node pve2 does not answer|pve2"):
        await _migrated(labs, "hv1", "pve2")


async def test_a_lab_on_this_machine_does_not_migrate(labs: Labs) -> None:
    here(labs)
    await labs.up(on="local")
    with pytest.raises(LabError, match="on this machine"):
        await _migrated(labs, "hv1", "pve2")


async def test_down_says_how_much_is_written_on_each_disk(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    found = machine_of(fake, "pair", "hv1")
    assert found is not None
    volume = fake.world.volume(str(found.config["virtio0"]).split(",")[0], found.node)
    assert volume is not None
    volume.used = 1288490189
    async with verbs.looking(labs.site, name="pair") as session:
        await session.look()
        losses = {each.path: each for each in (await session.weighed(lambda: session.plan("gone"))).losses}
    assert losses["hv1"].why.endswith("; its disk with 1.2G written is deleted")
    assert losses["hv1"].data()["written"] == 1288490189


async def test_openssh_reaches_machines_through_their_agents_or_where_a_network_leads(labs: Labs) -> None:
    await labs.up()
    async with verbs.looking(labs.site, name="pair") as session:
        known = await connections.connections(session)
    entries = {each.path: each for each in known.entries}
    assert entries.keys() == ALL
    assert entries["hv1"].proxy[-2:] == ("--stdio", "pair:hv1")
    assert f"NESTLAB_HOME={labs.home.state}" in entries["hv1"].proxy
    assert (entries["hv1/web"].proxy, entries["hv1/web"].jump) == ((), "pair.hv1")
    labs.bench.inside.addresses["hv2"] = ("192.0.2.7",)
    await labs.change("stop", "stopped", "hv1")
    await labs.up(on="{pve: 'pve://127.0.0.1', bridge: vmbr0}")
    await labs.change("stop", "stopped", "hv1")
    async with verbs.looking(labs.site, name="pair") as session:
        known = await connections.connections(session)
    entries = {each.path: each for each in known.entries}
    assert (entries["hv2"].host, entries["hv2"].port, entries["hv2"].proxy) == ("192.0.2.7", 22, ())
    assert known.left_out == {"hv1": "it does not run", "hv1/web": "hv1, in which it runs, cannot be reached"}


async def test_the_engine_carries_a_connection_and_says_what_ended_it(labs: Labs, fake: FakePve) -> None:
    await labs.up()

    def echo(far: socket.socket) -> None:
        far.sendall(b"SSH-2.0-here\r\n")
        far.close()

    labs.bench.inside.sshds["hv1"] = echo
    engine = labs.bench.engine("pair")
    async with engine.carried("hv1") as near:
        assert near.recv(100) == b"SSH-2.0-here\r\n"
    await labs.change("stop", "stopped", "hv1")
    with pytest.raises(Unreachable, match="does not run"):
        async with engine.carried("hv1"):
            pass


async def test_a_lab_on_a_proxmox_ve_is_not_saved_and_nothing_is_done_to_it(labs: Labs, fake: FakePve) -> None:
    await labs.up()
    before = len(fake.requests)
    async with verbs.changing(labs.site, "snapshot", name="pair") as session:
        await session.look()
        for what in ("saved", "put back"):
            with pytest.raises(LabError, match="Lab pair is on .*127.0.0.1.*, and cannot be " + what) as told:
                await snapshots.engine_of(session, what)
            assert "docs/snapshots.md" in told.value.hint
    assert {request.method for request in fake.requests[before:]} <= {"GET"}
    assert await labs.states() == dict.fromkeys(ALL, "running")
