"""What an installer starts from: ISOs made here, and what is none."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from nestlab.answers import Answered, Family
from nestlab.base.errors import LabError
from nestlab.install.medium import KERNELS, Medium, open_iso, prepared

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
