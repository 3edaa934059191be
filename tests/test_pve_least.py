"""What a token can do that has what `nestlab pve setup` grants, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve.connections import Door
from nestlab.engines.pve.migration import judge
from nestlab.engines.pve.uploads import Uploads
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.disks import Disk
from nestlab.lab.model import GIB, Image, Segment
from nestlab.lab.places import Pve
from nestlab.plan.steps import Boot, Create, Introduce, Remove, Stop
from nestlab.proxmox import setup
from nestlab.testing.fake_pve import Agent, FakePve
from nestlab.testing.fake_pve.world import Guest
from nestlab.wire.pve import privileges
from nestlab.wire.pve.errors import Denied, PveError
from pve_lab import ONE, Bench, assert_valid, bench, cluster, granted, machine_of, seen, up

VERSIONS = ("8.4", "9.1", "9.2")
ON = Pve("pve://127.0.0.1", storage="thin", images="local", bridge="vmbr0")
SCOPE = setup.scope_of(ON)
SEGMENTS = (Segment("wire"), Segment("office", bridge="vmbr0", vlan=30))


def wanted(folder: Path, hosts: str) -> Blueprint:
    """A hypervisor, a machine with a way out and a VLAN, a container, and a machine with another disk and a CD-ROM."""
    (folder / "debian.tar.zst").write_bytes(b"a template")
    image = Image(file=str(folder / "debian.tar.zst"))
    out = replace(guest("out", on=("wire", "office")), internet=True)
    box = replace(guest("box"), image=image, container=True)
    store = replace(guest("store"), disks=(Disk("data", GIB, serial="data"),), cdroms=("/a.iso",))
    lab = draft("lab", hypervisor("hv1", guest("web")), out, box, store, segments=SEGMENTS, hosts=hosts)
    images = MappingProxyType(
        {"file-1" if each.file else key: each for key, each in lab.images.items()}
        | {"file-2": Image(file="/a.iso", format="iso")}
    )
    changed: dict[str, dict[str, Any]] = {"box": {"image": "file-1"}, "store": {"files": ("file-2",)}}
    specs = tuple(replace(spec, **changed.get(spec.path, {})) for spec in lab.specs)
    return replace(lab, specs=specs, images=images)


@contextmanager
def ready(version: str) -> Iterator[FakePve]:
    """Two nodes, with one storage for disks, and another for images."""
    with cluster("pve1", "pve2", version=version) as fake:
        fake.add_storage("thin", type="lvmthin", content="images,rootdir")
        fake.storages["local"].content += ",vztmpl"
        yield fake


async def life(fake: FakePve, folder: Path, login: tuple[str, str]) -> None:
    """Everything that nestlab asks of a Proxmox VE, by the usual ways."""
    lab, other = wanted(folder, "a"), wanted(folder, "b")
    async with bench(fake, folder, ON, login=login) as made:
        engine = made.engine()
        await engine.check(lab, {"hv1", "out", "box", "store"})
        assert "is missing" not in (await engine.platform()).line
        await Uploads(made.api, ON, "0" * 8, folder).held("pve1")
        for path in ("hv1", "out", "box", "store"):
            await up(made, lab, path, engine)
            await engine.perform(Stop("", path), other, made.say)
            await engine.perform(Boot("", path), other, made.say)
        await engine.perform(Introduce("", "out"), lab, made.say)
        await reached(made, "out")
        await engine.snapshots.take("out", "before")
        await engine.snapshots.back("out", "before")
        await engine.snapshots.drop("out", "before")
        move = await engine.migration.look("out", "pve2", hypervisor=False, inside=())
        await engine.migration.go(move, judge(move), made.say)
        assert set((await made.engine().observe()).machines) == {"hv1", "out", "box", "store"}
        for path in ("hv1", "out", "box", "store"):
            await engine.perform(Remove("", path), other, made.say)
        await engine._segments.remove({"wire"})
    assert [each for each in fake.vms.values() if not each.template] == []
    assert fake.world.sdn.applied["vnets"] == {}
    assert [volid for volid in fake.volumes if ":import/" in volid and "cargo" not in volid] == []
    assert_valid(fake)


async def reached(made: Bench, path: str) -> None:
    """Its agent runs a command, and its console can be opened."""
    found = here(made.fake, path)
    made.fake.boot_agent(found.vmid, Agent(commands={"true": (0, "", "")}))
    door = Door(made.api, found.node, found.vmid)
    await door.wait(10)
    await door.run(["true"])
    await door.outside()
    assert await made.api.create(f"/nodes/{found.node}/qemu/{found.vmid}/termproxy", {"serial": "serial0"})


def here(fake: FakePve, path: str) -> Guest:
    found = machine_of(fake, "lab", path)
    assert found is not None
    return found


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_setup_grants_is_enough(tmp_path: Path, version: str) -> None:
    with ready(version) as fake:
        login = fake.add_token("lab@pve", "nestlab", granted(version, SCOPE))
        async with bench(fake, tmp_path, ON, login=login) as made:
            assert [point for point in await setup.check(made.api, ON) if point.ok is False] == []
        await life(fake, tmp_path, login)


@pytest.mark.parametrize("template", privileges.ROLES)
async def test_nothing_that_setup_grants_is_more_than_is_needed(tmp_path: Path, template: str) -> None:
    """Without any single one something is refused, or left behind."""
    [path] = [path for each, path in SCOPE.paths() if each == template]
    for version in ("8.4", "9.2"):
        for name in privileges.needed(version)[template]:
            acl = granted(version, SCOPE)
            acl[path] = " ".join(each for each in acl[path].split() if each != name)
            with ready(version) as fake:
                login = fake.add_token("lab@pve", "nestlab", acl)
                with pytest.raises((LabError, AssertionError)):
                    await life(fake, tmp_path, login)


async def test_a_machine_that_somebody_else_removed_is_gone_though_pve_says_403(tmp_path: Path) -> None:
    """What is gone is in no pool, from which all privileges on it came."""
    for version in VERSIONS:
        with ready(version) as fake:
            login = fake.add_token("lab@pve", "nestlab", granted(version, SCOPE))
            async with bench(fake, tmp_path, ON, login=login) as made:
                engine = await up(made)
                gone = here(fake, "web")
                with fake.world.lock:
                    del fake.world.guests[gone.vmid]
                    fake.pools["nestlab"]["vms"].discard(str(gone.vmid))
                with pytest.raises(Denied):
                    await made.api.get(f"/nodes/{gone.node}/qemu/{gone.vmid}/config")
                await engine.perform(Remove("", "web"), ONE, made.say)
                await up(made, engine=engine)
                assert await seen(made) is not None


async def test_what_pvestatd_has_not_seen_yet_is_there(tmp_path: Path) -> None:
    """Lists tell names, states and whether something is a template as they were up to ten seconds ago."""
    with ready("9.1") as fake:
        fake.round()
        async with bench(fake, tmp_path, ON) as made:
            engine = await up(made)
            assert "name" not in (await made.api.get("/cluster/resources", {"type": "vm"}))[0]
            state = await seen(made)
            assert state is not None
            assert (state.state, (await made.engine().glance())["web"].state) == ("running", "running")
            fake.round()
            await engine.perform(Stop("", "web"), ONE, made.say)
            assert (await made.engine().glance())["web"].state == "stopped"
            await made.engine().perform(Remove("", "web"), ONE, made.say)
            assert await seen(made) is None


async def test_a_container_whose_maker_was_killed_before_it_had_tags_is_found(tmp_path: Path) -> None:
    lab = wanted(tmp_path, "a")
    with ready("9.1") as fake:
        login = fake.add_token("lab@pve", "nestlab", granted("9.1", SCOPE))
        async with bench(fake, tmp_path, ON, login=login) as made:
            fake.fail_next("/config", 500, "killed", method="PUT")
            with pytest.raises(LabError, match="killed"):
                await made.engine().perform(Create("", "box"), lab, made.say)
            assert "tags" not in here(fake, "box").config
            state = await seen(made, "box")
            assert state is not None
            assert state.state == "broken"
            await made.engine().perform(Remove("", "box"), lab, made.say)
            assert fake.vms == {}


async def test_a_cluster_that_does_not_let_everybody_choose_tags_is_told(tmp_path: Path) -> None:
    for version in VERSIONS:
        with ready(version) as fake:
            fake.world.options["user-tag-access"] = {"user-allow": "existing"}
            login = fake.add_token("lab@pve", "nestlab", granted(version, SCOPE))
            async with bench(fake, tmp_path, ON, login=login) as made:
                with pytest.raises(Denied, match="modifying tag 'nestlab") as caught:
                    await up(made)
                assert "User Tag Access: free" in caught.value.hint


async def test_a_container_or_machine_made_with_tags_is_refused_as_pve_refuses_it(tmp_path: Path) -> None:
    """While it is made it is in no pool yet, and its tags are looked at without that (GuestHelpers.pm)."""
    for version, refused in (("9.1", False), ("9.2", True)):
        with ready(version) as fake:
            login = fake.add_token("lab@pve", "nestlab", granted(version, SCOPE))
            async with bench(fake, tmp_path, ON, login=login) as made:
                params: dict[str, str | int] = {"vmid": 100, "pool": "nestlab", "tags": "a"}
                upid = await made.api.create("/nodes/pve1/qemu", params)
                if refused:
                    with pytest.raises(PveError, match=r"/vms/100, VM\.Config\.Options"):
                        await made.api.task(upid)
                else:
                    await made.api.task(upid)
                params |= {"vmid": 101, "ostemplate": "local:vztmpl/x.tar.zst", "rootfs": "thin:1"}
                with pytest.raises(Denied, match=r"/vms/101, VM\.Config\.Options"):
                    await made.api.create("/nodes/pve1/lxc", params)
