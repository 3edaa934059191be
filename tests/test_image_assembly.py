"""What a build leaves is put together by nestlab itself; a script of the lab's may have left anything."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.images import image_builder, kernel
from nestlab.images.recipes import DEBIAN, Recipe, extend

RECIPE = extend(DEBIAN, script="rm -rf /boot", called="mine", said="lab.yaml:3", size=1 << 20)
ELF = b"\x7fELF" + bytes(2000)


def bz_image(packed: bytes, size: int = 2004) -> bytes:
    """The kernel's Documentation/arch/x86/boot.rst: one sector of setup, then the payload with its size at the end."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x020F)
    struct.pack_into("<II", head, 0x248, 0, len(packed) + 4)
    return bytes(head) + packed + struct.pack("<I", size)


GOOD = {
    "boot/vmlinuz-6.12.1-cloud": bz_image(gzip.compress(ELF)),
    "usr/lib/modules/6.12.1-cloud/modules.dep": b"kernel/virtio_blk.ko:\n",
    "usr/lib/modules/6.12.1-cloud/kernel/virtio_blk.ko": b"module",
    "usr/bin/busybox": b"busybox",
}


def left(folder: Path, files: dict[str, bytes], change: Callable[[tarfile.TarFile], None] | None = None) -> Path:
    """A folder as a build leaves it."""
    with tarfile.open(folder / "boot.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if change is not None:
            change(tar)
    with (folder / "root.img").open("wb") as image:
        image.truncate(RECIPE.size)
    return folder


def assemble(folder: Path, recipe: Recipe = RECIPE) -> None:
    image_builder._assemble(folder, recipe)


def test_what_is_whole_becomes_an_image(tmp_path: Path) -> None:
    assemble(left(tmp_path, GOOD))
    assert (tmp_path / "vmlinux").read_bytes() == ELF
    assert b"lib/modules/virtio_blk.ko" in (tmp_path / "initrd").read_bytes()


def without(name: str) -> dict[str, bytes]:
    return {key: value for key, value in GOOD.items() if not key.endswith(name)}


HOSTILE = {
    "no modules": without("modules.dep"),
    "no busybox": without("busybox"),
    "a module that is listed and not there": without("virtio_blk.ko"),
    "a version that is a path": {**GOOD, "boot/vmlinuz-z/../../../../etc/x": b"x"},
    "a version that acts on a terminal": {**GOOD, "boot/vmlinuz-9\x1b]0;x\x07": b"x"},
    "a kernel that is none": {**GOOD, "boot/vmlinuz-6.12.1-cloud": b"HdrS"},
    "a kernel that is cut": {**GOOD, "boot/vmlinuz-6.12.1-cloud": bz_image(gzip.compress(ELF)[:-20])[:1030]},
    "a kernel of noise": {**GOOD, "boot/vmlinuz-6.12.1-cloud": bz_image(b"\xfd7zXZ\0noise")},
    "a kernel of other noise": {**GOOD, "boot/vmlinuz-6.12.1-cloud": bz_image(b"BZhnoise")},
    "a kernel that claims gigabytes": {**GOOD, "boot/vmlinuz-6.12.1-cloud": bz_image(b"\x28\xb5\x2f\xfd", 0xFFFFFFFF)},
}


@pytest.mark.parametrize("files", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_is_one_message(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        assemble(left(tmp_path, files))
    assert "\x1b" not in str(caught.value)


def link(name: str, to: str, kind: bytes) -> Callable[[tarfile.TarFile], None]:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        tar.addfile(info)

    return change


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("to", ["/etc/shadow", "usr/bin/busybox", "../../../etc/shadow"])
def test_links_lead_to_nothing_outside_the_tar(kind: bytes, to: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"what its build left is not what an image is made of"):
        assemble(left(tmp_path, GOOD, link("usr/bin/busybox", to, kind)))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_kernel_that_is_no_file_is_not_read(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is no file"):
        assemble(left(tmp_path, GOOD, link("boot/vmlinuz-7", "", kind)))


def test_a_file_system_of_another_size_is_not_taken(tmp_path: Path) -> None:
    left(tmp_path, GOOD)
    with (tmp_path / "root.img").open("ab") as image:
        image.truncate(1 << 40)
    with pytest.raises(LabError, match="sizes are wrong"):
        assemble(tmp_path)


def test_a_tar_that_is_none_is_not_taken(tmp_path: Path) -> None:
    left(tmp_path, GOOD)
    (tmp_path / "boot.tar").write_bytes(b"\xff" * 4096)
    with pytest.raises(LabError, match="what its build left"):
        assemble(tmp_path)


def test_a_small_file_does_not_become_all_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LARGEST", 1 << 20)
    with pytest.raises(ValueError, match="larger than"):
        kernel.unpack(gzip.compress(bytes(4 << 20)), 0)
