"""Images that are downloaded: each format and packing made by the real programs, kept by content, nothing hostile."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blueprints import draft
from disk_headers import qcow2
from nestlab.base.errors import LabError
from nestlab.engines.qemu import launch
from nestlab.home.directories import Home
from nestlab.images import downloads, fetch, inventory, make_disk
from nestlab.images.image_files import Cache, ImageFiles, key_of
from nestlab.images.qemu_runtime import Tool, choose_qemu_img
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB, Image, Machine
from nestlab.wire import download as wire
from url_server import Served, serving

SIZE = 8 * MIB


@pytest.fixture(scope="module")
def qemu_img(qemu_tool: Tool) -> Tool:
    return asyncio.run(choose_qemu_img(Home.of(os.environ, Path.home()).cache, lambda _: None))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with something at its start, in the middle and at its end."""
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    with path.open("wb") as file:
        for at in (0, SIZE // 2, SIZE - 4096):
            file.seek(at)
            file.write(os.urandom(4096))
    return path


@dataclass
class World:
    served: Served
    cache: Path
    said: list[str] = field(default_factory=list)

    def image(self, name: str, body: bytes, **how: object) -> Image:
        checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
        return Image(url=self.served.put(f"/{name}", body), checksum=checksum, **how)  # type: ignore[arg-type]

    async def got(self, image: Image) -> tuple[downloads.Ready, Path]:
        await fetch.get(image, self.cache, self.said.append)
        found = downloads.load(key_of(image), self.cache)
        assert found is not None
        return found

    async def refused(self, image: Image) -> LabError:
        with pytest.raises(LabError) as error:
            await self.got(image)
        assert downloads.load(key_of(image), self.cache) is None
        assert not list((self.cache / "downloads").glob(".file-*.partial"))
        return error.value


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_img: Tool) -> Iterator[World]:
    async def chosen(*_: object) -> Tool:
        return qemu_img

    monkeypatch.setattr(make_disk, "choose_qemu_img", chosen)
    monkeypatch.setattr(wire, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as served:
        yield World(served, tmp_path / "cache")


def converted(qemu_img: Tool, raw: Path, form: str, target: Path, *options: str) -> bytes:
    words = [*qemu_img.argv, "convert", "-f", "raw", "-O", form, *options, str(raw), str(target)]
    subprocess.run(words, check=True, env={**os.environ, **qemu_img.env})
    return target.read_bytes()


def content(qemu_img: Tool, path: Path, form: str, target: Path) -> bytes:
    words = [*qemu_img.argv, "convert", "-f", form, "-O", "raw", str(path), str(target)]
    subprocess.run(words, check=True, env={**os.environ, **qemu_img.env})
    return target.read_bytes()


FORMATS = [
    ("qcow2", "qcow2", ()),
    ("vmdk", "vmdk", ()),
    ("vmdk", "vmdk", ("-o", "subformat=streamOptimized")),
    ("vhdx", "vhdx", ()),
    ("vhdx", "vhdx", ("-o", "subformat=fixed")),
    ("vdi", "vdi", ()),
    ("vdi", "vdi", ("-o", "static=on")),
]


@pytest.mark.parametrize(
    ("form", "ending", "options"), FORMATS, ids=[f"{each[0]}{''.join(each[2])}" for each in FORMATS]
)
async def test_each_format_becomes_the_same_disk(
    world: World, qemu_img: Tool, raw: Path, tmp_path: Path, form: str, ending: str, options: tuple[str, ...]
) -> None:
    body = converted(qemu_img, raw, form, tmp_path / f"x.{ending}", *options)
    ready, path = await world.got(world.image(f"x.{ending}", body, format=form))
    assert (ready.format, ready.size) == ("qcow2", SIZE)
    assert content(qemu_img, path, "qcow2", tmp_path / "again") == raw.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == ["disk.qcow2", "image.json"]
    assert not [*downloads.unfinished(world.cache)]


def packed(compression: str, data: bytes) -> bytes:
    if compression == "zst":
        return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
    if compression == "xz":
        return lzma.compress(data)
    return gzip.compress(data) if compression == "gz" else bz2.compress(data)


@pytest.mark.parametrize("compression", ["xz", "zst", "gz", "bz2"])
async def test_each_packing_is_unpacked_with_its_holes(world: World, raw: Path, compression: str) -> None:
    image = world.image(f"x.raw.{compression}", packed(compression, raw.read_bytes()), format="raw")
    ready, path = await world.got(Image(**{**vars(image), "compression": compression}))
    assert path.read_bytes() == raw.read_bytes()
    assert path.stat().st_blocks * 512 < SIZE // 8
    assert (ready.format, ready.size, ready.was) == ("raw", SIZE, compression)


async def test_streams_one_after_the_other_are_one_file(world: World) -> None:
    first, second = os.urandom(100_000), os.urandom(5000) + bytes(507)
    for compression in ("xz", "gz", "bz2", "zst"):
        body = packed(compression, first) + packed(compression, second)
        image = world.image(f"x.raw.{compression}", body, format="raw", compression=compression)
        assert (await world.got(image))[1].read_bytes() == first + second


def ova(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def test_an_ova_is_its_disk(world: World, qemu_img: Tool, raw: Path, tmp_path: Path) -> None:
    disk = converted(qemu_img, raw, "vmdk", tmp_path / "x.vmdk", "-o", "subformat=streamOptimized")
    body = ova(("x.ovf", b"<Envelope/>"), ("x-disk1.vmdk", disk), ("x.mf", b""))
    ready, path = await world.got(world.image("x.ova", body, format="ova"))
    assert content(qemu_img, path, "qcow2", tmp_path / "again") == raw.read_bytes()
    assert ready.was == "ova"
    two = ova(("a.vmdk", disk), ("b.vmdk", disk))
    assert "several disks: a.vmdk, b.vmdk" in (await world.refused(world.image("two.ova", two, format="ova"))).what
    assert "no vmdk" in (await world.refused(world.image("none.ova", ova(("a", b"x")), format="ova"))).what
    assert "no ova" in (await world.refused(world.image("x2.ova", b"x" * 600, format="ova"))).what


@pytest.mark.parametrize("compression", ["xz", "zst", "gz"])
async def test_a_container_template_is_looked_at_and_stays_packed(world: World, compression: str) -> None:
    body = packed(compression, ova(("./etc/hostname", b"x"), ("./usr/bin/true", b"x" * 100_000)))
    ready, path = await world.got(world.image(f"x.tar.{compression}", body, format="tar", compression=compression))
    assert path.read_bytes() == body
    assert (ready.format, ready.size, ready.was) == ("tar", 0, compression)
    assert sorted(each.name for each in path.parent.iterdir()) == ["disk.tar", "image.json"]


async def test_what_is_no_container_template_is_refused(world: World) -> None:
    async def why(data: bytes, **more: object) -> str:
        name = f"{hashlib.sha256(data).hexdigest()}.tar.gz"
        return (await world.refused(world.image(name, data, format="tar", compression="gz", **more))).what

    inside = packed("gz", ova(("rootfs/etc/hostname", b"x"), ("metadata.yaml", b"x")))
    assert "no system in it, with etc, and usr or bin. It has metadata.yaml, rootfs." in await why(inside)
    assert "It is empty" in await why(packed("gz", ova()))
    assert "no container template, which is a tar archive" in await why(packed("gz", b"x" * 600))
    assert "cannot be unpacked as gz" in await why(os.urandom(1000))
    assert "cannot be unpacked as gz" in await why(packed("gz", ova(("./etc/x", os.urandom(50_000))))[:-400])
    large = packed("gz", ova(("./etc/x", b"x"), ("./usr/x", bytes(3 * MIB))))
    assert "has more than 1M when it is unpacked" in await why(large, max_size=MIB)


async def test_an_iso_is_a_medium(world: World) -> None:
    import pycdlib

    made, buffer = pycdlib.PyCdlib(), io.BytesIO()
    made.new()
    made.write_fp(buffer)
    image = world.image("x.iso", buffer.getvalue(), format="iso")
    _, path = await world.got(image)
    assert (await Cache(world.cache).artifacts(key_of(image), image)).files == {"cdrom": path}
    assert "no ISO image" in (await world.refused(world.image("y.iso", bytes(1 << 16), format="iso"))).what


async def test_it_is_what_machines_boot(world: World, raw: Path) -> None:
    image = world.image("x.raw", raw.read_bytes(), format="raw")
    store = Cache(world.cache)
    with pytest.raises(LabError, match="is not downloaded"):
        await store.artifacts(key_of(image), image)
    await store.build(key_of(image), image, world.said.append)
    found = await store.artifacts(key_of(image), image)
    assert (found.format, found.size, [*found.files]) == ("raw", SIZE, ["root"])
    assert key_of(image) in store.present()


async def test_it_is_downloaded_once_wherever_it_is_from(world: World, raw: Path) -> None:
    image = world.image("x.raw", raw.read_bytes(), format="raw")
    await world.got(image)
    world.served.things.clear()
    again = Image(**{**vars(image), "url": "http://mirror.invalid/other.raw", "user": "admin"})
    assert (await world.got(again))[0].name == "x.raw"


async def test_two_who_want_it_download_it_once(world: World, raw: Path) -> None:
    image = world.image("x.raw", raw.read_bytes(), format="raw")
    world.served.things["/x.raw"].pause = 0.01
    await asyncio.gather(world.got(image), world.got(image), world.got(image))
    assert len(world.served.asked) == 1
    assert any("another process is making x.raw" in each for each in world.said)


VMDK = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicFlat"
RW 16384 FLAT "/etc/shadow" 0
"""


async def test_what_names_other_files_is_refused(world: World, qemu_img: Tool, raw: Path, tmp_path: Path) -> None:
    good = converted(qemu_img, raw, "vmdk", tmp_path / "x.vmdk")
    snapshot = good.replace(b"parentCID=ffffffff", b"parentCID=00000001", 1)
    hint = good.replace(b"# The Disk Data Base", b'parentFileNameHint="/', 1)
    flat = good.replace(b'"monolithicSparse"', b'"monolithicFlat"\n ', 1)
    away = good[:28] + (1 << 20).to_bytes(8, "little") + good[36:]
    elsewhere = away.replace(b"# The Disk Data Base", b'parentFileNameHint="/', 1)
    nothing = good[:12] + bytes(8) + good[20:]
    for body, said in (
        (VMDK.encode(), "only describes a disk"),
        (snapshot, "is a layer over another disk"),
        (hint, "is a layer over another disk"),
        (elsewhere, "is a layer over another disk"),
        (flat, "whose disk is in other files"),
        (nothing, "whose disk is in other files"),
    ):
        assert body != good
        assert said in (await world.refused(world.image("x.vmdk", body, format="vmdk"))).what
    layer = qcow2(SIZE, below=b"/etc/shadow")
    assert "is a layer over another file" in (await world.refused(world.image("a", layer, format="qcow2"))).what
    vdi = bytearray(converted(qemu_img, raw, "vdi", tmp_path / "x.vdi"))
    vdi[0x4C] = 4
    assert "differencing" in (await world.refused(world.image("x.vdi", bytes(vdi), format="vdi"))).what
    vhdx = converted(qemu_img, raw, "vhdx", tmp_path / "x.vhdx")
    at = vhdx.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"))
    place = vhdx.index(b"metadata") + int.from_bytes(vhdx[at + 16 : at + 20], "little") + 4
    differing = vhdx[:place] + b"\x02" + vhdx[place + 1 :]
    assert "differencing" in (await world.refused(world.image("x.vhdx", differing, format="vhdx"))).what


async def test_what_is_something_else_than_it_is_said_to_be_is_refused(
    world: World, qemu_img: Tool, raw: Path, tmp_path: Path
) -> None:
    disk = converted(qemu_img, raw, "qcow2", tmp_path / "x.qcow2")
    assert "begins as a qcow2 image" in (await world.refused(world.image("a", disk, format="raw"))).what
    for form in ("vmdk", "vhdx", "vdi", "iso"):
        error = await world.refused(world.image(f"x.{form}", raw.read_bytes(), format=form))
        assert f"is no {'ISO' if form == 'iso' else form} image" in error.what
    for form in ("vmdk", "vhdx", "vdi", "qcow2", "iso"):
        for cut in (0, 3, 100):
            body = converted(qemu_img, raw, "vmdk" if form == "iso" else form, tmp_path / f"c.{form}")[:cut]
            await world.refused(world.image(f"c{cut}.{form}", body, format=form))


async def test_a_download_that_proved_right_stays_where_only_its_format_was_said_wrongly(
    world: World, raw: Path
) -> None:
    image = world.image("x.vdi", raw.read_bytes(), format="vdi")
    await world.refused(image)
    assert len([*downloads.unfinished(world.cache)]) == 1
    await world.got(Image(**{**vars(image), "format": "raw"}))
    assert len(world.served.asked) == 1
    assert not [*downloads.unfinished(world.cache)]


async def test_a_bomb_ends_at_the_limit(world: World) -> None:
    body = packed("xz", bytes(64 * MIB))
    image = world.image("x.raw.xz", body, format="raw", compression="xz", max_size=16 * MIB)
    error = await world.refused(image)
    assert "more than 16M when it is unpacked" in error.what
    assert "max_size" in error.hint
    large = qcow2(200 * GIB)
    assert "is a disk of 200G, and may have 128G" in (await world.refused(world.image("a", large, format="qcow2"))).what


async def test_what_is_packed_otherwise_or_breaks_off_is_refused(world: World, raw: Path) -> None:
    for compression in ("xz", "gz", "bz2", "zst"):
        body = packed(compression, raw.read_bytes())
        for broken in (b"nonsense" * 10, body[: len(body) // 2]):
            image = world.image("x", broken, format="raw", compression=compression)
            assert f"cannot be unpacked as {compression}" in (await world.refused(image)).what


async def test_a_missing_zstd_is_said_with_its_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = world.image("x", packed("zst", b"x" * 1000), format="raw", compression="zst")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "apt install zstd" in (await world.refused(image)).hint


async def test_images_are_listed_removed_and_collected(world: World, raw: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "state", world.cache)
    image, other = (world.image(f"{name}.raw", raw.read_bytes() + name.encode() * 512, format="raw") for name in "ab")
    await world.got(image)
    await world.got(other)
    blueprint = Blueprint("pair", images={key_of(image): image})
    blueprint_file.save(home.lab("pair").blueprint, blueprint)
    assert blueprint_file.load(home.lab("pair").blueprint, "pair") == blueprint
    shown = {each.name: (each.used, each.base) for each in inventory.shelved(home)}
    assert shown == {"a.raw": (("pair",), "127.0.0.1"), "b.raw": ((), "127.0.0.1")}
    with pytest.raises(LabError, match="under disks of pair"):
        inventory.chosen(home, ["a.raw"])
    assert inventory.collect(home) > 0
    assert [each.name for each in inventory.shelved(home)] == ["a.raw"]
    inventory.remove(home, inventory.shelved(home)[0])
    assert not inventory.shelved(home)


def test_a_disk_that_is_smaller_than_what_was_downloaded_is_refused() -> None:
    image = Image(url="https://vendor.example/d.raw", checksum="sha256:" + "0" * 64, format="raw")
    found = ImageFiles("key", {"root": Path("/x")}, "raw", size=2 * GIB)
    assert launch.disk_size(draft("l", Machine("m", image=image, disk=3 * GIB))["m"], found) == 3 * GIB
    with pytest.raises(LabError, match="a disk of 1G, and its image has 2G") as error:
        launch.disk_size(draft("l", Machine("m", image=image, disk=GIB))["m"], found)
    assert "disk: 2G" in error.value.hint


KILLED = """
import asyncio, json, sys
from pathlib import Path
from nestlab.images import fetch, make_disk
from nestlab.lab.model import Image
from nestlab.images.qemu_runtime import Tool
given = json.loads(sys.argv[1])
async def chosen(*_):
    return Tool(tuple(given["argv"]), given["env"], (10, 0, 0))
make_disk.choose_qemu_img = chosen
asyncio.run(fetch.get(Image(**given["image"]), Path(given["cache"]), lambda text: print(text, flush=True)))
"""


def _kill_in(phase: str, given: str) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, given], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(phase):
                break
        process.kill()


@pytest.mark.parametrize("phase", ["downloading", "unpacking", "converting"])
async def test_after_a_kill_the_next_run_goes_on_and_nothing_half_done_counts(
    world: World, qemu_img: Tool, raw: Path, tmp_path: Path, phase: str
) -> None:
    body = gzip.compress(converted(qemu_img, raw, "vmdk", tmp_path / "x.vmdk"))
    image = world.image("x.vmdk.gz", body, format="vmdk", compression="gz")
    world.served.things["/x.vmdk.gz"].pause = 0.2 if phase == "downloading" else 0
    world.served.things["/x.vmdk.gz"].piece = 4096
    argv = list(qemu_img.argv)
    if phase == "converting":
        argv = ["sleep", "60", "#"]
    said = {"image": {key: each for key, each in vars(image).items() if each}, "cache": str(world.cache)}
    given = json.dumps({**said, "argv": argv, "env": dict(qemu_img.env)})
    _kill_in(phase, given)
    assert downloads.load(key_of(image), world.cache) is None
    world.served.things["/x.vmdk.gz"].pause = 0
    _, path = await world.got(image)
    assert content(qemu_img, path, "qcow2", tmp_path / "again") == raw.read_bytes()
    assert len(world.served.asked) <= 2
    assert sorted(each.name for each in (world.cache / "downloads").glob("[!.]*")) == [key_of(image)]
