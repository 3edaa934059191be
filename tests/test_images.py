"""The image cache, and (marked guest) images really built by mmdebstrap."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.images import BuiltImage, Part, build, find, ls, package_cache, qemu_runtime, rm
from nestlab.images.image_builder import checksum, overlay_tar
from nestlab.images.image_cache import DESCRIPTION, describe, folder_of
from nestlab.images.kernel import unpack, vmlinux
from nestlab.images.recipes import BUILTIN, DEBIAN, TINY, Recipe, extend
from nestlab.images.unused import remove, unused
from waiting import wait_until

ELF = b"\x7fELF" + bytes(range(256)) * 8


def quiet(_: str) -> None:
    pass


def bz_image(payload: bytes, size: int) -> bytes:
    """A bzImage as far as a loader looks at it (Documentation/arch/x86/boot.rst)."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<II", image, 0x248, 16, len(payload) + 4)
    return bytes(image) + bytes(16) + payload + struct.pack("<I", size) + b"trailer"


def stored(recipe: Recipe, cache: Path) -> BuiltImage:
    """An image in the cache that nobody can boot."""
    folder = folder_of(recipe.digest, cache)
    folder.mkdir(parents=True)
    parts = {}
    for role, name in (("kernel", "vmlinux"), ("initrd", "initrd"), ("root", "root.img")):
        (folder / name).write_bytes(name.encode() * 1000)
        parts[role] = Part(name, 1000 * len(name), checksum(folder / name))
    image = BuiltImage(recipe.name, recipe.digest, folder, "6.12", recipe.cmdline, parts, recipe.suite)
    (folder / DESCRIPTION).write_text(describe(image, recipe))
    return image


def lz4(data: bytes) -> bytes:
    """lz4's legacy frame, of blocks that hold only literals (lz4, doc/lz4_Block_format.md)."""

    def block(part: bytes) -> bytes:
        rest = len(part) - 15
        packed = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + part
        return struct.pack("<I", len(packed)) + packed

    half = len(data) // 2
    return b"\x02\x21\x4c\x18" + block(data[:half]) + block(data[half:])


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lz4, lambda data: data])
def test_the_kernel_comes_out_of_its_bz_image(pack: object) -> None:
    assert callable(pack)
    assert vmlinux(bz_image(pack(ELF), len(ELF))) == ELF


def test_what_is_no_bz_image_is_said_to_be_none() -> None:
    with pytest.raises(LabError, match="no x86 bzImage"):
        vmlinux(bytes(4096))


def test_a_bz_image_without_an_elf_kernel_is_refused() -> None:
    with pytest.raises(LabError, match="no ELF kernel"):
        vmlinux(bz_image(gzip.compress(b"something else"), 14))


@pytest.mark.parametrize(
    "damaged",
    [
        b"\x28\xb5\x2f\xfd" + bytes(100),
        lz4(bytes(4096))[:-7],
        lz4(bytes(4000)),
        lz4(bytes(9000)),
        b"\x02\x21\x4c\x18" + b"\xff" * 99,
    ],
)
def test_a_damaged_kernel_is_an_error_and_not_a_crash(damaged: bytes) -> None:
    with pytest.raises(LabError, match="cannot be unpacked"):
        unpack(damaged, 4096)


def test_an_image_is_found_by_its_recipe_as_it_was_stored(tmp_path: Path) -> None:
    assert find(DEBIAN, tmp_path) is None
    image = stored(DEBIAN, tmp_path)
    assert find(DEBIAN, tmp_path) == image


async def test_building_what_is_there_returns_it(tmp_path: Path) -> None:
    image = stored(DEBIAN, tmp_path)
    assert await build(DEBIAN, tmp_path, quiet) == image


def test_an_image_whose_description_is_damaged_is_not_there(tmp_path: Path) -> None:
    (stored(DEBIAN, tmp_path).folder / DESCRIPTION).write_text("{")
    assert find(DEBIAN, tmp_path) is None
    assert ls(tmp_path) == ()


def test_images_are_listed_by_name(tmp_path: Path) -> None:
    for recipe in BUILTIN.values():
        stored(recipe, tmp_path)
    assert [image.name for image in ls(tmp_path)] == ["debian", "kvm", "libvirt", "tiny"]


def test_removing_an_image_twice_is_removing_it_once(tmp_path: Path) -> None:
    image = stored(DEBIAN, tmp_path)
    for _ in range(2):
        rm(tmp_path, image.digest)
        assert ls(tmp_path) == ()
    assert list((tmp_path / "images").iterdir()) == []


def collect(cache: Path, keep: set[str]) -> int:
    return sum(remove(each) for each in unused(cache, keep))


def test_what_is_unused_is_what_is_removed(tmp_path: Path) -> None:
    kept, lost = stored(DEBIAN, tmp_path), stored(TINY, tmp_path)
    for digest in (kept.digest, lost.digest):
        (tmp_path / "pve" / f"{digest}.boot").mkdir(parents=True)
    (tmp_path / "runtime" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "runtime" / qemu_runtime.digest()).mkdir()
    for name, time in (("a_1_amd64.deb", 1), ("a_2_amd64.deb", 2), (".b_1_all.deb.x", 1)):
        (package_cache.folder(tmp_path) / name).write_bytes(b"package")
        os.utime(package_cache.folder(tmp_path) / name, (time, time))
    (tmp_path / "images" / ".dead.partial").mkdir()
    (tmp_path / "images" / ".dead.lock").touch()
    (tmp_path / "images" / ".gone.removed-999999999").mkdir()
    found = unused(tmp_path, {kept.digest})
    assert [each.what for each in found] == [
        f"image tiny {lost.digest[:12]}",
        f"boot disk for a Proxmox VE, of image {lost.digest[:12]}",
        "an older QEMU of nestlab's own, 0123456789ab",
        "1 package of which a newer version is kept",
        "unfinished: packages",
        "unfinished: images/dead.partial",
        "unfinished: images/gone.removed-9999999",
    ]
    assert found[0].size == lost.disk_usage
    assert all(path.exists() for each in found for path in each.paths)
    for each in found:
        remove(each)
    assert not any(path.exists() for each in found for path in each.paths)
    assert unused(tmp_path, {kept.digest}) == ()
    assert ls(tmp_path) == (kept,)
    assert (package_cache.folder(tmp_path) / "a_2_amd64.deb").exists()


def test_a_qemu_that_machines_run_from_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "runtime" / "0123456789abcdef"
    folder.mkdir(parents=True)
    shutil.copy("/bin/sleep", folder / "qemu")
    with subprocess.Popen([str(folder / "qemu"), "1000"]) as process:
        # The kernel says that it was started a moment before it shows its command line.
        wait_until(lambda: b"1000" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        found = unused(tmp_path, set())
        process.kill()
    assert found == ()
    assert len(unused(tmp_path, set())) == 1


def test_what_a_living_build_makes_is_not_unused(tmp_path: Path) -> None:
    import fcntl

    images = tmp_path / "images"
    for name in ("dead", "living"):
        (images / f".{name}.partial").mkdir(parents=True)
        (images / f".{name}.lock").touch()
    with (images / ".living.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        collect(tmp_path, set())
        assert {path.name for path in images.iterdir()} == {".living.lock", ".living.partial"}


def test_a_cache_that_is_not_there_has_nothing_unused(tmp_path: Path) -> None:
    assert collect(tmp_path / "none", set()) == 0


def test_a_checksum_does_not_tell_a_sparse_copy_from_a_full_one(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse.img", tmp_path / "full.img"
    with sparse.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(300_000)
        file.write(b"data")
    full.write_bytes(sparse.read_bytes())
    assert checksum(sparse) == checksum(full)
    with full.open("r+b") as file:
        file.seek(900_000)
        file.write(b"x")
    assert checksum(sparse) != checksum(full)


def test_packages_are_kept_and_the_superseded_pruned(tmp_path: Path) -> None:
    archive = tmp_path / "debs.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("a_1_amd64.deb", "b_1%3a2_all.deb", "lock"):
            tar.addfile(tarfile.TarInfo(name))
    assert package_cache.keep(archive, tmp_path) == 2
    newer = package_cache.folder(tmp_path) / "a_2_amd64.deb"
    newer.write_bytes(b"new")
    os.utime(package_cache.folder(tmp_path) / "a_1_amd64.deb", (1, 1))
    collect(tmp_path, set())
    assert sorted(path.name for path in package_cache.folder(tmp_path).iterdir()) == [
        "a_2_amd64.deb",
        "b_1%3a2_all.deb",
    ]


def test_the_overlay_brings_files_links_and_the_script() -> None:
    recipe = extend(DEBIAN, files={"/etc/motd": "hello"}, script="true")
    with tarfile.open(fileobj=io.BytesIO(overlay_tar(recipe))) as tar:
        names = set(tar.getnames())
        assert {"etc/motd", "nestlab-script", "etc/systemd/system/ssh.service"} <= names
        assert tar.getmember("etc/systemd/system/default.target").issym()
        assert not any(name.startswith("/") for name in names)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this test run, filled by the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.guest
async def test_tiny_is_built_whole_and_leaves_nothing_else(cache: Path) -> None:
    said: list[str] = []
    image = await build(TINY, cache, said.append)
    assert image.kernel.read_bytes()[:4] == b"\x7fELF"
    assert image.initrd.read_bytes()[:6] == b"070701"
    assert image.root is None
    assert image.agent is not None
    agent = image.agent.read_bytes()
    assert agent[:6] == b"070701"
    assert b"usr/sbin/qemu-ga\0" in agent
    assert b"usr/sbin/qemu-ga\0" not in image.initrd.read_bytes(), "only who needs it loads it"
    assert {path.name for path in image.folder.iterdir()} == {part.file for part in image.parts.values()} | {
        DESCRIPTION
    }
    assert all(checksum(image.folder / part.file) == part.sha256 for part in image.parts.values())
    assert "reading the package lists" in said
    hidden = [path.name for path in (cache / "images").iterdir() if not path.name.endswith(".lock")]
    assert hidden == [image.digest]
    assert json.loads((image.folder / DESCRIPTION).read_text())["recipe"]["base"] == "initramfs"


@pytest.mark.guest
async def test_the_second_build_downloads_no_package_again(cache: Path) -> None:
    await build(TINY, cache, quiet)
    before = {path: path.stat().st_mtime_ns for path in package_cache.folder(cache).iterdir()}
    assert before
    other = await build(extend(TINY, files={"etc/motd": "hello"}), cache, quiet)
    assert b"hello" in other.initrd.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in package_cache.folder(cache).iterdir()} == before


@pytest.mark.guest
async def test_a_package_that_does_not_exist_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Debian has no package no-such-package") as caught:
        await build(extend(DEBIAN, packages=["no-such-package"]), tmp_path, quiet)
    assert "no-such-package" in caught.value.detail
    assert [path.name for path in (tmp_path / "images").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.guest
async def test_a_mirror_that_does_not_answer_is_a_missing_network(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be downloaded") as caught:
        await build(extend(TINY, mirror="http://127.0.0.1:1/debian"), tmp_path, quiet)
    assert "mirror" in caught.value.hint
