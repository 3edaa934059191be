"""Files of images as disks for a Proxmox VE: what starts a machine, and (marked guest) what qemu-img makes of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pycdlib
import pytest

from nestlab.base.errors import LabError
from nestlab.engines.pve import boot_images
from nestlab.engines.pve.boot_images import Role, Workshop
from nestlab.home.directories import Home
from nestlab.images.boot_disk import Loader, starting_disk
from nestlab.images.image_files import ImageFiles
from nestlab.images.qemu_runtime import Tool, choose_qemu

CACHE = Home.of(os.environ, Path.home()).cache
SIGNATURE = b"\xfb\xc0\x78\x70"
"""By this ISOLINUX says, 64 bytes from its start, that it can be started from a hard disk."""


def quiet(_: str) -> None:
    pass


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    """Files as long as ISOLINUX's, with nothing in them."""
    found = Loader(tmp_path / "isolinux.bin", tmp_path / "ldlinux.c32")
    found.isolinux.write_bytes((bytes(0x40) + SIGNATURE).ljust(38912, b"\0"))
    found.ldlinux.write_bytes(bytes(1000))
    (tmp_path / "bzImage").write_bytes(b"kernel" * 1000)
    (tmp_path / "initrd").write_bytes(b"initrd" * 1000)
    return found


def read(disc: pycdlib.PyCdlib, name: str) -> bytes:
    data = io.BytesIO()
    disc.get_file_from_iso_fp(data, iso_path=name)
    return data.getvalue()


def test_the_disk_that_starts_a_machine_has_a_boot_record_a_loader_and_the_kernels_words(
    loader: Loader, tmp_path: Path
) -> None:
    target = tmp_path / "start.raw"
    starting_disk(tmp_path / "bzImage", tmp_path / "initrd", ("console=ttyS0", "quiet"), loader, target)
    record = target.read_bytes()[:512]
    assert record[510:] == b"\x55\xaa"
    assert record[446] == 0x80, "the partition that BIOSes look for is not active"
    disc = pycdlib.PyCdlib()
    disc.open(str(target))
    assert read(disc, "/KERNEL.;1") == b"kernel" * 1000
    assert read(disc, "/INITRD.;1") == b"initrd" * 1000
    assert read(disc, "/ISOLINUX.CFG;1").decode().splitlines()[-1] == "APPEND console=ttyS0 quiet"
    assert disc.eltorito_boot_catalog is not None
    disc.close()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_an_archive_that_is_loaded_over_the_initrd_stands_beside_it(loader: Loader, tmp_path: Path) -> None:
    target, over = tmp_path / "start.raw", tmp_path / "agent"
    over.write_bytes(b"agent" * 1000)
    starting_disk(tmp_path / "bzImage", tmp_path / "initrd", ("quiet",), loader, target, over)
    disc = pycdlib.PyCdlib()
    disc.open(str(target))
    assert read(disc, "/OVER.;1") == b"agent" * 1000
    assert "INITRD /initrd,/over" in read(disc, "/ISOLINUX.CFG;1").decode().splitlines()
    disc.close()


def test_more_words_than_a_kernel_takes_are_refused(loader: Loader, tmp_path: Path) -> None:
    target = tmp_path / "start.raw"
    with pytest.raises(ValueError, match="2047 bytes"):
        starting_disk(tmp_path / "bzImage", tmp_path / "initrd", ("x" * 2048,), loader, target)
    assert not target.exists()


def packages(files: Mapping[str, bytes], target: Path) -> None:
    with tarfile.open(target, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


async def test_the_loader_is_taken_out_of_its_packages_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = []

    async def extract(words: list[str], *, folder: Path, **rest: object) -> None:
        runs.append(words)
        files = {"usr/lib/ISOLINUX/isolinux.bin": b"one", "usr/lib/syslinux/modules/bios/ldlinux.c32": b"two"}
        packages(files, folder / "packages.tar")

    monkeypatch.setattr(boot_images, "mmdebstrap", extract)
    for _ in range(2):
        found = await Workshop(tmp_path).loader(quiet)
        assert (found.isolinux.read_bytes(), found.ldlinux.read_bytes()) == (b"one", b"two")
    assert len(runs) == 1
    assert "--include=isolinux,syslinux-common" in runs[0]


async def test_packages_without_the_loader_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def extract(words: list[str], *, folder: Path, **rest: object) -> None:
        packages({}, folder / "packages.tar")

    monkeypatch.setattr(boot_images, "mmdebstrap", extract)
    with pytest.raises(LabError, match=r"isolinux\.bin is missing"):
        await Workshop(tmp_path).loader(quiet)
    assert [path.name for path in (tmp_path / "loader").iterdir() if path.is_dir()] == []


# --- for real ---------------------------------------------------------------------------------------------------


async def qemu_img() -> Tool:
    return (await choose_qemu("tcg", CACHE, quiet)).qemu_img


def image(tool: Tool, *words: str) -> str:
    done = subprocess.run(
        [*tool.argv, *words], env={**os.environ, **tool.env}, capture_output=True, text=True, check=True
    )
    return done.stdout


class Real(Workshop):
    """With this machine's programs, wherever the cache is."""

    async def _qemu_img(self, say: object) -> Tool:
        return await qemu_img()


async def content(artifacts: ImageFiles, role: Role, folder: Path) -> bytes:
    """What a machine would read from the disk."""
    made = await Real(folder / "cache").disk(artifacts, role, quiet)
    tool = await qemu_img()
    info = json.loads(image(tool, "info", "--output=json", str(made)))
    assert info["format"] == "qcow2"
    assert "backing-filename" not in info
    image(tool, "convert", "-O", "raw", str(made), str(folder / "raw"))
    return (folder / "raw").read_bytes()


@pytest.mark.guest
async def test_a_machine_boots_the_disk_in_the_users_file_and_a_hypervisor_gets_the_file(tmp_path: Path) -> None:
    tool = await qemu_img()
    (tmp_path / "whole").write_bytes(b"a disk".ljust(1 << 20, b"\0"))
    image(tool, "convert", "-O", "qcow2", str(tmp_path / "whole"), str(tmp_path / "under.qcow2"))
    under, over = str(tmp_path / "under.qcow2"), tmp_path / "over.qcow2"
    image(tool, "create", "-q", "-f", "qcow2", "-b", under, "-F", "qcow2", str(over))
    own = ImageFiles("k", {"root": over}, "qcow2", size=1 << 20)
    assert await content(own, "disk", tmp_path) == (tmp_path / "whole").read_bytes()
    assert (await content(own, "root", tmp_path)).startswith(over.read_bytes())


@pytest.mark.guest
async def test_a_file_that_is_no_image_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.qcow2"
    path.write_bytes(b"not an image")
    with pytest.raises(LabError, match=r"own\.qcow2 cannot be converted") as told:
        await Real(tmp_path).disk(ImageFiles("k", {"root": path}, "qcow2"), "disk", quiet)
    assert "not in qcow2 format" in told.value.detail
    assert [each.name for each in (tmp_path / "pve").iterdir() if each.is_dir()] == []


@pytest.mark.guest
async def test_a_small_disk_starts_with_what_it_is_for(tmp_path: Path) -> None:
    await Real(tmp_path).packed(b"who it is", tmp_path / "id.qcow2", quiet)
    image(await qemu_img(), "convert", "-O", "raw", str(tmp_path / "id.qcow2"), str(tmp_path / "id"))
    assert (tmp_path / "id").read_bytes() == b"who it is".ljust(512, b"\0")
    assert not (tmp_path / "id.raw").exists()
