"""What an installer starts from: ISOs made here, and what is none."""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from nestlab.answers import Answered, Family
from nestlab.base.errors import LabError
from nestlab.install.iso9660 import CONTINUED, LONGEST, SECTOR
from nestlab.install.medium import KERNELS, Medium, open_iso, prepared
from power import small_disk

CONTENT: dict[Family, Mapping[str, bytes]] = {
    "debian": {"/install.amd/vmlinuz": b"kernel", "/install.amd/initrd.gz": b"initrd"},
    "ubuntu": {"/casper/vmlinuz": b"kernel", "/casper/initrd": b"initrd"},
    "redhat": {"/images/pxeboot/vmlinuz": b"kernel", "/images/pxeboot/initrd.img": b"initrd"},
    "proxmox": {"/boot/linux26": b"kernel", "/boot/initrd.img": b"initrd", "/auto-installer-capable": b""},
}


def iso_with(path: Path, content: Mapping[str, bytes]) -> Path:
    """An ISO with these files, under their names by Rock Ridge."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, rock_ridge="1.09", vol_ident="TEST")
    made: dict[str, str] = {"": ""}
    for number, (name, data) in enumerate(content.items()):
        *parents, last = name.strip("/").split("/")
        for depth in range(len(parents)):
            outer, inner = "/" + "/".join(parents[:depth]), "/" + "/".join(parents[: depth + 1])
            if inner not in made:
                made[inner] = f"{made[outer.rstrip('/')]}/D{len(made)}"
                image.add_directory(made[inner], rr_name=parents[depth])
        folder = made["/" + "/".join(parents) if parents else ""]
        image.add_fp(BytesIO(data), len(data), f"{folder}/F{number}.;1", rr_name=last)
    image.write(str(path))
    image.close()
    return path


@pytest.mark.parametrize("family", KERNELS)
def test_the_kernel_and_the_initramfs_of_an_installer_are_found_on_its_iso(family: Family, tmp_path: Path) -> None:
    iso = iso_with(tmp_path / "a.iso", CONTENT[family])
    found = open_iso(iso, family, tmp_path, "lab.yaml:3")
    assert (found.kernel.read_bytes(), found.initrd.read_bytes()) == (b"kernel", b"initrd")
    assert found.iso == iso


def test_what_is_no_iso_or_none_of_that_installer_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "page.iso").write_text("<!DOCTYPE html>" + " " * 100_000)
    (tmp_path / "empty.iso").write_bytes(b"")
    whole = iso_with(tmp_path / "whole.iso", CONTENT["debian"]).read_bytes()
    (tmp_path / "cut.iso").write_bytes(whole[: 17 * 2048])
    old = {name: data for name, data in CONTENT["proxmox"].items() if "capable" not in name}
    iso_with(tmp_path / "old.iso", old)
    cases: list[tuple[str, Family, str]] = [
        ("page.iso", "debian", "page.iso is no ISO"),
        ("empty.iso", "debian", "empty.iso is no ISO"),
        ("none.iso", "debian", "cannot be read"),
        ("cut.iso", "debian", "cut.iso is"),
        ("whole.iso", "ubuntu", "is no ISO of Ubuntu's installer: there is no /casper/vmlinuz"),
        ("old.iso", "proxmox", "cannot be answered: there is no /auto-installer-capable"),
    ]
    for name, family, words in cases:
        with pytest.raises(LabError) as error:
            open_iso(tmp_path / name, family, tmp_path, "lab.yaml:3: image web")
        assert words in str(error.value), name
        assert str(error.value).startswith("lab.yaml:3: image web: "), name
        assert error.value.hint, name


@pytest.mark.skipif(not shutil.which("xorriso"), reason="xorriso is not installed")
@pytest.mark.parametrize("names", [("-R",), ("--norock", "-J", "-joliet-long"), ("--norock",)])
def test_another_programs_iso_is_read_by_the_names_that_it_has(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "root" / "install.amd"
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(b"kernel" * 100_000)
    (folder / "initrd.gz").write_bytes(b"initrd")
    for number in range(60):  # more than a sector of them, with names that go on in other areas
        (folder / f"{number:03}{'x' * 240}").touch()
    iso = tmp_path / "a.iso"
    words = ["xorriso", "-as", "mkisofs", "-iso-level", "3", *names, "-o", str(iso), str(tmp_path / "root")]
    subprocess.run(words, check=True, capture_output=True)
    found = open_iso(iso, "debian", tmp_path, "lab.yaml:3")
    assert (found.kernel.read_bytes(), found.initrd.read_bytes()) == (b"kernel" * 100_000, b"initrd")


@pytest.mark.skipif(not shutil.which("xorriso"), reason="xorriso is not installed")
async def test_what_proxmox_looks_for_is_on_a_copy_of_its_iso_which_stays_as_it_was(tmp_path: Path) -> None:
    iso = iso_with(tmp_path / "a.iso", CONTENT["proxmox"])
    before = iso.read_bytes()
    found = open_iso(iso, "proxmox", tmp_path, "lab.yaml:3")
    given = Answered(medium={"/auto-installer-mode.toml": 'mode = "http"\n'})
    made = await prepared(found, given, tmp_path, "lab.yaml:3")
    assert made.iso is not None
    assert made.iso != iso
    assert iso.read_bytes() == before
    assert made.iso.stat().st_mode & 0o777 == 0o600  # a secret is on it
    words = ["xorriso", "-indev", str(made.iso), "-osirrox", "on", "-extract", "/", str(tmp_path / "all")]
    await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    assert (tmp_path / "all" / "auto-installer-mode.toml").read_text() == 'mode = "http"\n'
    assert (tmp_path / "all" / "boot" / "linux26").read_bytes() == b"kernel"


async def test_without_xorriso_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Medium(tmp_path / "k", tmp_path / "i", tmp_path / "a.iso")
    with pytest.raises(LabError, match="xorriso") as error:
        await prepared(found, Answered(medium={"/a": "b"}), tmp_path, "lab.yaml:3")
    assert "apt install xorriso" in error.value.hint
    assert await prepared(found, Answered(), tmp_path, "lab.yaml:3") == found


# -- whatever it says of itself ----------------------------------------------------------------------------------------


def both(number: int) -> bytes:
    """In both orders of bytes (ECMA-119, 7.3.3)."""
    return number.to_bytes(4, "little") + number.to_bytes(4, "big")


def record(name: bytes, at: int, size: int, flags: int = 0) -> bytes:
    """An entry of a directory."""
    length = 33 + len(name) + (len(name) + 1) % 2
    head = bytes([length, 0]) + both(at) + both(size) + bytes(7) + bytes([flags]) + bytes(6) + bytes([len(name)])
    return (head + name).ljust(length, b"\0")


ROOT = 16 * SECTOR + 156
"""Where an ISO says where its root is, and how long."""


def _long(data: bytearray, size: int) -> None:
    data[ROOT + 10 : ROOT + 18] = both(size)


def _loop(data: bytearray) -> None:
    """A directory that is within itself, and has what is looked for nowhere."""
    at = len(data) // SECTOR
    data[ROOT + 2 : ROOT + 18] = both(at) + both(SECTOR)
    data += b"".join(record(name, at, SECTOR, 2) for name in (b"\0", b"\1", b"IMAGES", b"PXEBOOT")).ljust(SECTOR, b"\0")


def _crowded(data: bytearray) -> None:
    """As many entries as fit, each before all others: a list that is kept in order takes minutes."""
    at, entry = len(data) // SECTOR, len(record(b"0000000", 0, 0))
    a_sector = SECTOR // entry
    count = LONGEST // SECTOR
    data[ROOT + 2 : ROOT + 18] = both(at) + both(count * SECTOR)
    for sector in range(count):
        numbers = range(9_999_999 - sector * a_sector, 9_999_999 - (sector + 1) * a_sector, -1)
        data += b"".join(record(b"%07d" % number, 0, 0) for number in numbers).ljust(SECTOR, b"\0")


def _continued(data: bytearray) -> None:
    """Entries whose names go on for ever."""
    at = len(data) // SECTOR
    data[ROOT + 2 : ROOT + 18] = both(at) + both(SECTOR)
    entry = bytearray(record(b"A", at, SECTOR, 2)) + b"CE\x1c\x01" + both(at + 1) + both(0) + both(28)
    entry[0] = len(entry)
    data += bytes(entry).ljust(SECTOR, b"\0") + (b"CE\x1c\x01" + both(at + 1) + both(0) + both(28)).ljust(SECTOR, b"\0")


def _far(data: bytearray) -> None:
    data[ROOT + 2 : ROOT + 10] = both(0xFFFFFFFF)


@pytest.mark.parametrize(
    ("spoil", "size"),
    [(lambda data: _long(data, 0xC0000000), 5 << 30), (_loop, 0), (_crowded, 0), (_continued, 0), (_far, 0)],
    ids=["a directory of 3 GB", "a directory within itself", "a crowd", "names without end", "far behind its end"],
)
def test_no_iso_takes_long_or_much_memory(spoil: Callable[[bytearray], None], size: int, tmp_path: Path) -> None:
    iso = iso_with(tmp_path / "a.iso", CONTENT["redhat"])
    data = bytearray(iso.read_bytes()).ljust(64 * SECTOR, b"\0")
    spoil(data)
    iso.write_bytes(data)
    if size:
        os.truncate(iso, size)  # the rest is a hole
    read: list[int] = []

    class Counting(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Counting(io.FileIO(self)))
        with pytest.raises(LabError):
            open_iso(iso, "redhat", tmp_path, "lab.yaml:3")
    assert max(read) <= LONGEST
    assert sum(read) < 32 * LONGEST
    assert len(read) < 4 * CONTINUED


def _refused(iso: Path, family: Family, folder: Path) -> LabError | None:
    try:
        open_iso(iso, family, folder, "lab.yaml:3")
    except LabError as error:
        return error
    return None


def test_an_iso_of_any_bytes_is_read_or_is_one_error(tmp_path: Path) -> None:
    whole = {family: iso_with(tmp_path / f"{family}.iso", CONTENT[family]).read_bytes() for family in CONTENT}
    told = 0
    for seed in range(400):
        chance = random.Random(seed)
        family = chance.choice(list(whole))
        data = bytearray(whole[family])
        used = [at for at in range(16 * SECTOR, len(data)) if data[at]]
        for _ in range(chance.choice([1, 2, 5, 20])):
            at = chance.choice(used)
            data[at : at + 1] = bytes([chance.choice([0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)])])
        if chance.random() < 0.2:
            del data[chance.randrange(16 * SECTOR, len(data)) :]
        iso = tmp_path / "a.iso"
        iso.write_bytes(data)
        error = _refused(iso, family, tmp_path)
        if error is not None:
            told += 1
            assert error.what.startswith("lab.yaml:3: ")
            assert error.what.isprintable()
            assert error.hint
    assert told > 20


def test_a_kernel_that_is_cut_off_is_none(tmp_path: Path) -> None:
    iso = iso_with(tmp_path / "a.iso", {**CONTENT["debian"], "/install.amd/initrd.gz": b"x" * 100_000})
    os.truncate(iso, iso.stat().st_size - 60_000)
    with pytest.raises(LabError, match=r"a\.iso is damaged: it ends within a file"):
        open_iso(iso, "debian", tmp_path, "lab.yaml:3")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_no_damage_of_the_iso(tmp_path: Path) -> None:
    iso = iso_with(tmp_path / "a.iso", {**CONTENT["debian"], "/install.amd/initrd.gz": b"x" * 100_000})
    with small_disk(tmp_path / "small", "32k") as folder, pytest.raises(OSError, match="No space left"):
        open_iso(iso, "debian", folder, "lab.yaml:3")
