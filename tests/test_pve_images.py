"""Images on a Proxmox VE: uploaded once, kept as templates, found again, and never in anybody's way."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.pve.boot_images import Role, Workshop, shape_of
from nestlab.engines.pve.container_templates import OsTemplates
from nestlab.engines.pve.images import Stock
from nestlab.engines.pve.templates import mark_of
from nestlab.engines.pve.uploads import files_of
from nestlab.engines.qemu.cargo import serial_of
from nestlab.images.image_files import ImageFiles
from nestlab.lab.model import GIB, Image
from nestlab.lab.places import Pve
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.world import Guest
from nestlab.wire.pve import privileges
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.errors import Missing
from pve_lab import assert_valid, client, cluster, granted

KEY, OTHER = "a" * 64, "b" * 64
KVM = Image(base="kvm")
ON = Pve("pve://127.0.0.1")


def quiet(_: str) -> None:
    pass


def qcow2(size: int, data: bytes = b"") -> bytes:
    """As much of one as a Proxmox VE looks at before it imports it."""
    return struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, size).ljust(512, b"\0") + data


class Shelf:
    """A library whose images are small files."""

    def __init__(self, folder: Path, *keys: str) -> None:
        self.folder, self.built = folder, set(keys)

    async def artifacts(self, key: str, image: Image) -> ImageFiles:
        if image.file is not None:
            path = Path(image.file)
            role = "cdrom" if image.format == "iso" else "root"
            return ImageFiles(key, {role: path}, "raw" if image.format == "iso" else image.format or "raw", size=GIB)
        if key not in self.built:
            raise LabError(f"{key} is not built.", hint="Build it.")
        roles = ("kernel", "initrd", "boot", "root")
        return ImageFiles(key, {role: self.folder / role for role in roles}, size=GIB, bzimage=self.folder / "bzImage")

    async def build(self, key: str, image: Image, say: Say) -> None:
        if image.file is None:
            self.built.add(key)

    def present(self) -> frozenset[str]:
        return frozenset(self.built)


class Bench(Workshop):
    """A workshop whose disks are empty, but told apart."""

    async def disk(self, artifacts: ImageFiles, role: Role, say: Say) -> Path:
        target = self.cache / f"{artifacts.key}.{role}.qcow2"
        target.write_bytes(qcow2(GIB, f"{role} of {artifacts.key}".encode() * 1000))
        return target

    async def packed(self, data: bytes, target: Path, say: Say) -> None:
        target.write_bytes(qcow2(-(-len(data) // 512) * 512, data))


class Killed(BaseException):
    """The process that asked is no more."""


class Mortal:
    """An API whose user is killed at its nth request: before it is sent, or before it is answered."""

    def __init__(self, api: Client, at: int, *, sent: bool) -> None:
        self._api, self._left, self._sent = api, at, sent

    @property
    def where(self) -> str:
        return self._api.where

    async def _do(self, name: str, *words: Any, **rest: Any) -> Any:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._sent):
            raise Killed
        answer = await getattr(self._api, name)(*words, **rest)
        if self._left == 0:
            raise Killed
        return answer

    async def get(self, *words: Any) -> Any:
        return await self._do("get", *words)

    async def create(self, *words: Any) -> Any:
        return await self._do("create", *words)

    async def set(self, *words: Any) -> Any:
        return await self._do("set", *words)

    async def delete(self, *words: Any) -> Any:
        return await self._do("delete", *words)

    async def task(self, *words: Any, **rest: Any) -> list[str]:
        found: list[str] = await self._do("task", *words, **rest)
        return found

    async def upload(self, *words: Any) -> None:
        await self._do("upload", *words)

    async def close(self) -> None: ...


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve
        assert_valid(pve)


class Desk:
    """Makes stocks on one cluster, each as of another machine unless a cache is named."""

    def __init__(self, api: Client, folder: Path) -> None:
        self.api, self.folder = api, folder

    def stock(self, cache: str = "one", *, pve: Pve = ON, api: Any = None, built: tuple[str, ...] = (KEY,)) -> Stock:
        place = self.folder / cache
        place.mkdir(exist_ok=True)
        return Stock(api or self.api, pve, Shelf(place, *built), cache=place, workshop=Bench(place))


@pytest.fixture
async def desk(fake: FakePve, tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(fake, tmp_path) as found:
        yield found


@asynccontextmanager
async def opened(fake: FakePve, folder: Path, login: tuple[str, str] | None = None) -> AsyncIterator[Desk]:
    api = client(fake, login)
    try:
        yield Desk(api, folder)
    finally:
        await api.close()


def templates(fake: FakePve) -> list[Guest]:
    return [guest for guest in fake.vms.values() if guest.template]


def roles(fake: FakePve, node: str = "pve1") -> list[str]:
    """What is uploaded and whole."""
    rows = [
        {"volid": volume.volid, "size": volume.size, "ctime": volume.ctime}
        for volume in fake.world.volumes.values()
        if volume.content in ("import", "iso") and volume.node in ("", node)
    ]
    return sorted(file.role for file in files_of(rows, node) if file.whole and file.role != "whole")


# --- uploads ----------------------------------------------------------------------------------------------------


async def test_building_an_image_uploads_all_that_machines_of_it_need(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock(built=())
    assert await stock.present() == frozenset()
    said: list[str] = []
    await stock.build(KEY, KVM, said.append)
    assert roles(fake) == ["boot", "root", "start"]
    assert await stock.present() == {KEY}
    assert any("uploading root" in text for text in said)


async def test_what_is_uploaded_is_what_was_made_here(fake: FakePve, desk: Desk) -> None:
    await desk.stock().build(KEY, KVM, quiet)
    volume = next(each for each in fake.world.volumes.values() if each.volid.endswith("-root.qcow2"))
    source = (desk.folder / "one" / f"{KEY}.root.qcow2").read_bytes()
    assert volume.sha256 == hashlib.sha256(source).hexdigest()


async def test_an_image_that_is_there_is_not_uploaded_again(fake: FakePve, desk: Desk) -> None:
    await desk.stock().build(KEY, KVM, quiet)
    before = len(fake.calls("POST", "/upload"))
    await desk.stock("another").build(KEY, KVM, quiet)
    assert len(fake.calls("POST", "/upload")) == before


async def test_an_image_that_was_never_built_here_is_not_present(desk: Desk) -> None:
    await desk.stock().build(KEY, KVM, quiet)
    assert await desk.stock("another", built=(OTHER,)).present() == frozenset()


async def test_a_file_without_its_mark_is_not_used(fake: FakePve, desk: Desk) -> None:
    await desk.stock().build(KEY, KVM, quiet)
    mark = next(each for each in fake.world.volumes.values() if "-root-whole" in each.volid)
    fake.world.drop(mark)
    await desk.stock("another").template(KEY, KVM, "pve1", "local", quiet)
    assert len([volid for volid in fake.volumes if volid.endswith("-root.qcow2")]) == 2


async def test_without_a_storage_for_images_the_command_that_makes_one_is_told(fake: FakePve, desk: Desk) -> None:
    fake.storages["local"].content = "iso,vztmpl,images"
    with pytest.raises(LabError) as told:
        await desk.stock().build(KEY, KVM, quiet)
    assert "takes content `import`" in told.value.what
    assert told.value.hint == "As root on a node: pvesm set local --content iso,vztmpl,images,import"


async def test_a_named_storage_that_takes_no_images_is_the_one_that_is_told(fake: FakePve, desk: Desk) -> None:
    fake.add_storage("nfs", type="nfs", content="images", shared=True)
    with pytest.raises(LabError) as told:
        await desk.stock(pve=replace(ON, images="nfs")).build(KEY, KVM, quiet)
    assert "Storage nfs of node pve1" in told.value.what
    assert told.value.hint == "As root on a node: pvesm set nfs --content images,import"


async def test_a_named_storage_that_is_not_there_is_told_with_those_that_are(desk: Desk) -> None:
    with pytest.raises(LabError, match="no storage nowhere") as told:
        await desk.stock(pve=replace(ON, images="nowhere")).build(KEY, KVM, quiet)
    assert "local" in told.value.hint


async def test_without_room_nothing_is_sent(fake: FakePve, desk: Desk) -> None:
    fake.fill("local")
    with pytest.raises(LabError, match="0 free") as told:
        await desk.stock().build(KEY, KVM, quiet)
    assert "images gc" in told.value.hint
    assert fake.calls("POST", "/upload") == []


async def test_a_pve_that_takes_no_disk_images_is_told_to_be_too_old(fake: FakePve, desk: Desk) -> None:
    wrong = {"filename": "invalid filename or wrong extension"}
    fake.fail_next("/upload", 400, "Parameter verification failed.", errors=wrong, times=9)
    with pytest.raises(LabError, match="no upload of a disk image") as told:
        await desk.stock().build(KEY, KVM, quiet)
    assert "8.4" in told.value.hint


async def test_an_upload_that_fails_leaves_nothing(fake: FakePve, desk: Desk) -> None:
    fake.fail_task("imgcopy", "import failed: command 'cp' failed: exit code 1")
    with pytest.raises(LabError, match="import failed"):
        await desk.stock().build(KEY, KVM, quiet)
    assert [volid for volid in fake.volumes if "nestlab" in volid] == []


async def test_a_node_that_is_away_is_not_chosen(fake: FakePve, desk: Desk) -> None:
    fake.node_down("pve2")
    assert await desk.stock(pve=replace(ON, nodes=("pve1", "pve2"))).present() == frozenset()
    with pytest.raises(LabError, match="none of pve2 is online"):
        await desk.stock(pve=replace(ON, nodes=("pve2",))).build(KEY, KVM, quiet)


# --- templates --------------------------------------------------------------------------------------------------


async def test_a_template_is_in_the_pool_and_says_what_it_is(fake: FakePve, desk: Desk) -> None:
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    guest = fake.vms[vmid]
    assert guest.template
    assert guest.name == f"nestlab-kvm-{KEY[:12]}"
    assert str(vmid) in fake.pools["nestlab"]["vms"]
    assert guest.config["tags"] == "nestlab;nestlab-template"
    mark = mark_of(str(guest.config["description"]))
    assert (mark["template"], mark["vmid"], mark["storage"], mark["ready"]) == (KEY, vmid, "local", 1)


async def test_its_disks_have_the_serial_numbers_that_the_guest_looks_for(fake: FakePve, desk: Desk) -> None:
    guest = fake.vms[await desk.stock().template(KEY, KVM, "pve1", "local", quiet)]
    assert "serial=root" in str(guest.config["virtio0"])
    assert "base-" in str(guest.config["virtio0"])
    assert "serial=boot" in str(guest.config["virtio1"])
    assert guest.config["boot"] == "order=virtio1"


async def test_a_machine_can_be_a_linked_clone_of_it(fake: FakePve, desk: Desk) -> None:
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    upid = await desk.api.create(f"/nodes/pve1/qemu/{vmid}/clone", {"newid": 555, "full": False, "name": "x"})
    await desk.api.task(str(upid))
    assert f"base-{vmid}-disk" in str(fake.vms[555].config["virtio0"])


async def test_another_nestlab_finds_the_template(fake: FakePve, desk: Desk) -> None:
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    before = len(fake.requests)
    assert await desk.stock("another").template(KEY, KVM, "pve1", "local", quiet) == vmid
    assert {call.method for call in fake.requests[before:]} == {"GET"}
    assert await desk.stock("another").node_of(vmid) == "pve1"


async def test_fifty_machines_at_once_make_one_template(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    found = await asyncio.gather(*(stock.template(KEY, KVM, "pve1", "local", quiet) for _ in range(50)))
    assert set(found) == {templates(fake)[0].vmid}
    assert len(templates(fake)) == 1
    assert len(fake.calls("POST", "/upload")) == 4


async def test_two_nestlabs_at_once_end_with_one_template(fake: FakePve, desk: Desk) -> None:
    stocks = [desk.stock("one"), desk.stock("two"), desk.stock("three")]
    found = await asyncio.gather(*(stock.template(KEY, KVM, "pve1", "local", quiet) for stock in stocks))
    again = await desk.stock("four").template(KEY, KVM, "pve1", "local", quiet)
    assert [guest.vmid for guest in templates(fake)] == [again]
    assert again in found


async def test_a_node_with_a_storage_of_its_own_has_its_own_template(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    one = await stock.template(KEY, KVM, "pve1", "local", quiet)
    two = await stock.template(KEY, KVM, "pve2", "local", quiet)
    assert (fake.vms[one].node, fake.vms[two].node) == ("pve1", "pve2")
    assert roles(fake, "pve2") == ["root", "start"]


async def test_on_a_shared_storage_one_template_serves_all_nodes(fake: FakePve, desk: Desk) -> None:
    fake.add_storage("ceph", type="rbd", content="images", shared=True)
    fake.add_storage("nfs", type="nfs", content="import", shared=True)
    stock = desk.stock(pve=replace(ON, images="nfs"))
    one = await stock.template(KEY, KVM, "pve1", "ceph", quiet)
    assert await stock.template(KEY, KVM, "pve2", "ceph", quiet) == one
    assert len(fake.calls("POST", "/upload")) == 4


async def test_a_vmid_that_somebody_takes_first_is_left_to_him(fake: FakePve, desk: Desk) -> None:
    taken = "unable to create VM 100 - VM 100 already exists on node 'pve1'"
    fake.fail_next("/nodes/pve1/qemu", 500, taken, method="POST", times=2)
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    assert fake.vms[vmid].template


async def test_a_full_disk_in_the_middle_of_an_import_leaves_no_machine(fake: FakePve, desk: Desk) -> None:
    fake.add_storage("small", content="images", total=20_000)
    with pytest.raises(LabError, match="No space left"):
        await desk.stock().template(KEY, KVM, "pve1", "small", quiet)
    assert fake.vms == {}
    assert [volid for volid in fake.volumes if volid.startswith("small:")] == []


async def test_a_template_that_goes_on_to_be_made_after_its_nestlab_was_killed_is_removed_later(
    fake: FakePve, desk: Desk
) -> None:
    await desk.stock().build(KEY, KVM, quiet)
    fake.slow("qmcreate", 1.0)
    making = asyncio.create_task(desk.stock().template(KEY, KVM, "pve1", "local", quiet))
    for _ in range(500):
        if fake.vms:
            break
        await asyncio.sleep(0.01)
    making.cancel()
    await asyncio.wait({making})
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    assert await desk.stock().template(KEY, KVM, "pve1", "local", quiet) == vmid
    assert list(fake.vms) == [vmid]


async def test_a_template_that_vanished_is_made_anew(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    vmid = await stock.template(KEY, KVM, "pve1", "local", quiet)
    await desk.api.task(str(await desk.api.delete(f"/nodes/pve1/qemu/{vmid}")))
    with pytest.raises(Missing):
        await stock.node_of(vmid)
    again = await stock.template(KEY, KVM, "pve1", "local", quiet)
    assert fake.vms[again].template


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
async def test_killed_at_any_request_it_goes_on_and_leaves_nothing(tmp_path: Path, sent: bool) -> None:
    at, finished = 0, False
    while not finished:
        at += 1
        with cluster("pve1") as fake:
            async with opened(fake, tmp_path / f"{at}") as desk:
                desk.folder.mkdir()
                with suppress(Killed):
                    await desk.stock(api=Mortal(desk.api, at, sent=sent)).template(KEY, KVM, "pve1", "local", quiet)
                    finished = True
                vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
                assert [guest.vmid for guest in fake.vms.values()] == [vmid], at
                assert fake.vms[vmid].template
                assert roles(fake) == ["root", "start"], at
                assert len([volid for volid in fake.volumes if "nestlab" in volid]) == 4, at
    assert at > 20


async def test_a_template_that_pvestatd_has_not_seen_yet_is_one(fake: FakePve, desk: Desk, tmp_path: Path) -> None:
    """Lists tell names, and whether something is a template, as they were up to ten seconds ago."""
    fake.round()
    first = desk.stock()
    vmid = await first.template(KEY, KVM, "pve1", "local", quiet)
    assert await first.node_of(vmid) == "pve1"
    assert await desk.stock().template(KEY, KVM, "pve1", "local", quiet) == vmid
    assert list(fake.vms) == [vmid]


async def test_a_template_gets_its_tags_when_it_is_ready_and_is_found_without(fake: FakePve, desk: Desk) -> None:
    fake.fail_next("/config", 500, "killed", method="PUT")
    with pytest.raises(LabError, match="killed"):
        await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    assert ["tags" in guest.config for guest in fake.vms.values()] == [False]
    vmid = await desk.stock().template(KEY, KVM, "pve1", "local", quiet)
    assert list(fake.vms) == [vmid]
    assert fake.vms[vmid].config["tags"] == "nestlab;nestlab-template"


async def test_a_token_with_what_setup_grants_and_no_more_is_enough(fake: FakePve, tmp_path: Path) -> None:
    scope = privileges.Scope("nestlab", ("local",), ("nestlab",), images=("local",))
    login = fake.add_token("lab@pve", "nestlab", granted("9.1", scope))
    async with opened(fake, tmp_path, login) as desk:
        stock = desk.stock()
        await stock.build(KEY, KVM, quiet)
        await stock.template(KEY, KVM, "pve1", "local", quiet)
        await stock.drop(await stock.upload("pve1", "hv1", b"who it is"), "pve1")
        await stock.remove(KEY)
    assert not fake.vms
    assert [volid for volid in fake.volumes if "nestlab" in volid] == []


# --- what hypervisors are handed --------------------------------------------------------------------------------


async def test_cargo_has_the_serial_numbers_that_the_embedded_engine_looks_for(fake: FakePve, desk: Desk) -> None:
    found = dict(await desk.stock().cargo(KEY, KVM, "pve1", quiet))
    assert set(found) == {serial_of(KEY, "boot"), serial_of(KEY, "root")}
    assert set(found.values()) <= set(fake.volumes)


async def test_an_identity_is_there_until_it_is_dropped(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    volid = await stock.upload("pve1", "lab-hv1", b"who it is")
    volume = fake.world.volume(volid, "pve1")
    assert volume is not None
    assert b"who it is" in volume.data
    for _ in range(2):
        await stock.drop(volid)
        assert volid not in fake.volumes


async def test_what_an_interrupted_nestlab_uploaded_is_found_by_its_name(fake: FakePve, desk: Desk) -> None:
    first = await desk.stock().upload("pve1", "lab-hv1", b"who it is")
    assert await desk.stock().upload("pve1", "lab-hv1", b"who it is now") == first
    await desk.stock().drop_named("pve1", "lab-hv1")
    assert first not in fake.volumes


# --- images of the user's ---------------------------------------------------------------------------------------


async def test_a_disk_of_the_users_boots_itself(fake: FakePve, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "own.qcow2"
    path.write_bytes(qcow2(GIB))
    image = Image(file=str(path), format="qcow2")
    stock = desk.stock()
    await stock.build("file-" + "c" * 40, image, quiet)
    guest = fake.vms[await stock.template("file-" + "c" * 40, image, "pve1", "local", quiet)]
    assert guest.config["boot"] == "order=virtio0"
    assert "virtio1" not in guest.config
    assert roles(fake) == ["disk"]


async def test_a_medium_of_the_users_is_a_cd_rom(fake: FakePve, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "own.iso"
    path.write_bytes(bytes(4096))
    image = Image(file=str(path), format="iso")
    guest = fake.vms[await desk.stock().template("file-" + "d" * 40, image, "pve1", "local", quiet)]
    assert guest.config["boot"] == "order=ide2"
    assert str(guest.config["ide2"]).startswith("local:iso/nestlab-file-")


def test_a_hypervisor_is_handed_the_file_and_a_machine_boots_what_is_in_it() -> None:
    own = ImageFiles("k", {"root": Path("own.qcow2")}, "qcow2")
    assert shape_of(own).drives == (("disk", "root"),)
    assert shape_of(own).cargo == ("root",)
    assert shape_of(replace(own, format="raw")).drives == (("root", "root"),)


# --- removing ---------------------------------------------------------------------------------------------------


async def machine_of(desk: Desk, vmid: int, newid: int) -> None:
    """A machine of a lab's that was cloned from a template."""
    notes = f'nestlab: {{"lab":"lab","path":"hv1","vmid":{newid},"image":"{KEY}"}}'
    params: dict[str, str | int] = {"newid": newid, "pool": "nestlab", "description": notes}
    await desk.api.task(str(await desk.api.create(f"/nodes/pve1/qemu/{vmid}/clone", params)))


async def test_an_image_that_no_machine_was_made_from_is_unused_and_can_be_removed(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    await stock.build(KEY, KVM, quiet)
    await stock.template(KEY, KVM, "pve1", "local", quiet)
    found = await stock.unused()
    assert [each.key for each in found] == [KEY]
    assert await stock.unused(keep={KEY}) == ()
    await stock.remove(found[0])
    assert not fake.vms
    assert [volid for volid in fake.volumes if "nestlab" in volid] == []
    assert await stock.unused() == ()
    assert fake.vms[await stock.template(KEY, KVM, "pve1", "local", quiet)].template


async def test_an_image_that_a_machine_was_made_from_is_not_unused(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    await machine_of(desk, await stock.template(KEY, KVM, "pve1", "local", quiet), 555)
    assert await stock.unused() == ()


async def test_pve_keeps_a_template_that_has_linked_clones_and_that_is_told(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    vmid = await stock.template(KEY, KVM, "pve1", "local", quiet)
    await machine_of(desk, vmid, 555)
    with pytest.raises(LabError, match="linked clones") as told:
        await stock.remove(KEY)
    assert "labs" in told.value.hint
    assert vmid in fake.vms
    assert roles(fake) == ["root", "start"]


async def test_what_has_no_mark_of_nestlabs_is_never_removed(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    vmid = await stock.template(KEY, KVM, "pve1", "local", quiet)
    (only,) = await stock.unused()
    fake.set_config(vmid, description="This one is mine now.")
    await stock.remove(only)
    assert vmid in fake.vms
    assert await stock.unused() == ()


async def test_a_clone_that_still_has_the_marks_of_its_template_is_not_taken_for_one(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    vmid = await stock.template(KEY, KVM, "pve1", "local", quiet)
    params: dict[str, str | int] = {"newid": 555, "pool": "nestlab", "name": fake.vms[vmid].name, "full": True}
    await desk.api.task(str(await desk.api.create(f"/nodes/pve1/qemu/{vmid}/clone", params)))
    assert fake.vms[555].config["description"] == fake.vms[vmid].config["description"]
    await stock.remove(KEY)
    assert list(fake.vms) == [555]


async def test_uploads_that_nobody_goes_on_with_are_unused_after_a_day(fake: FakePve, desk: Desk) -> None:
    stock = desk.stock()
    volid = await stock.upload("pve1", "lab-hv1", b"who it is")
    assert await stock.unused() == ()
    volume = fake.world.volume(volid, "pve1")
    assert volume is not None
    volume.ctime -= 2 * 24 * 3600
    (found,) = await stock.unused()
    assert [file.volid for file in found.files] == [volid]
    await stock.remove(found)
    assert volid not in fake.volumes


async def test_a_container_template_that_no_container_needs_is_unused_and_can_be_removed(
    fake: FakePve, desk: Desk, tmp_path: Path
) -> None:
    fake.storages["local"].content += ",vztmpl"
    source = tmp_path / "debian.tar.zst"
    source.write_bytes(b"a template")
    stock, key = desk.stock(), "file-abc"
    volid = await OsTemplates(desk.api, ON).ensure(f"{key}.tar.zst", source, source.name, "pve1", quiet)
    await desk.api.upload("pve1", "local", "vztmpl", source, "debian-13.tar.zst")
    assert await stock.unused(keep={key}) == ()
    [found] = await stock.unused()
    assert (found.key, [file.volid for file in found.files]) == (key, [volid])
    await stock.remove(found)
    assert [each for each in fake.volumes if "vztmpl" in each] == ["local:vztmpl/debian-13.tar.zst"]
