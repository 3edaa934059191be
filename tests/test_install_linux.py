"""Stand-ins of Ubuntu's and Red Hat's installers in real machines, from ISO to disk: answered, refused, stuck."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from linux_installer import MARK, make_iso
from nestlab.answers import Answers, Family
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.images import build, firmware_files
from nestlab.images.qemu_runtime import choose_qemu
from nestlab.images.recipes import TINY
from nestlab.install import installation
from nestlab.install.installation import Job, Means, install
from nestlab.lab.hardware import Firmware
from nestlab.lab.model import MIB

HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"
CACHE = Home.of(os.environ, Path.home()).cache
BOTH: tuple[Family, ...] = ("ubuntu", "redhat")

pytestmark = [pytest.mark.guest, pytest.mark.slow]


async def installed(
    family: Family,
    folder: Path,
    behave: str = "",
    firmware: Firmware = "bios",
    *,
    commands: tuple[str, ...] = ("echo ran > /dev/console\n",),
    extra: str = "",
) -> tuple[bytes, list[str]]:
    """The beginning of the disk that the stand-in leaves, and what was said meanwhile."""
    said: list[str] = []
    image = await build(TINY, CACHE, lambda _: None)
    iso = await asyncio.to_thread(make_iso, family, folder / "a.iso", image.folder, CACHE / "packages", behave)
    runtime = await choose_qemu("tcg", CACHE, lambda _: None)
    means = Means(runtime.qemu, runtime.qemu_img, "tcg", 1.0, partial(firmware_files.pack, CACHE))
    user = "ubuntu" if family == "ubuntu" else "root"
    answers = Answers(user=user, password=HASH, commands=commands, extra=extra)
    where = "lab.yaml:3: image web"
    job = Job(where, family, answers, iso=iso, firmware=firmware, disk=64 * MIB, memory=512 * MIB)
    made = folder / "made"
    made.mkdir()
    disk = made / "disk.qcow2"
    await install(job, disk, CACHE, means, said.append)
    assert [each.name for each in made.iterdir()] == ["disk.qcow2"]  # nothing of the installation is left
    raw = folder / "disk.raw"
    words = [*runtime.qemu_img.argv, "convert", "-O", "raw", str(disk), str(raw)]
    process = await asyncio.create_subprocess_exec(*words, env={**os.environ, **runtime.qemu_img.env})
    assert await process.wait() == 0
    return raw.read_bytes()[: len(MARK) - 1], said


SAID: dict[Family, list[str]] = {
    "ubuntu": ["the installer has its answers", "configuring the disk", "installing the system"],
    "redhat": ["the installer has its answers", "preparing the disk"],
}


@pytest.mark.parametrize("family", BOTH)
async def test_a_distribution_installs_itself_from_its_iso_by_the_answers_it_asks_for(
    family: Family, tmp_path: Path
) -> None:
    mark, said = await installed(family, tmp_path)
    assert mark == MARK.strip()
    assert said[1:] == [*SAID[family], "the installer is done"]


@pytest.mark.parametrize("family", BOTH)
async def test_it_installs_itself_under_uefi(family: Family, tmp_path: Path) -> None:
    assert (await installed(family, tmp_path, "uefi", "uefi"))[0] == MARK.strip()


@pytest.mark.parametrize("family", BOTH)
async def test_an_installer_that_restarts_its_machine_installs_once(family: Family, tmp_path: Path) -> None:
    assert (await installed(family, tmp_path, "reboot"))[0] == MARK.strip()


FAILURES: list[tuple[Family, str, dict[str, object], str]] = [
    ("ubuntu", "full", {}, "failed after “the installer has its answers”: curtin: mkfs.ext4 failed: No space left"),
    ("redhat", "full", {}, "mkfs.ext4: No space left on device"),
    ("ubuntu", "", {"commands": ("exit 3\n",)}, "a late command fails"),
    ("redhat", "", {"commands": ("exit 3\n",)}, "the installation ends: %post"),
    ("ubuntu", "", {"extra": '{"autologin": true}'}, "unknown key autologin in the autoinstall"),
    ("redhat", "", {"extra": "autologin --yes"}, "Unknown command: autologin"),
    ("ubuntu", "silent", {}, "waits for a key"),
    ("redhat", "uefi", {}, "no UEFI"),
    ("ubuntu", "mute", {}, "ended after “the installer has its answers”"),
    ("redhat", "mute", {}, "ended after “preparing the disk”"),
    ("redhat", "panic", {}, "panick"),
]


@pytest.mark.parametrize(("family", "behave", "more", "words"), FAILURES, ids=[f"{a[0]}-{a[3][:30]}" for a in FAILURES])
async def test_an_installation_that_fails_shows_why_and_leaves_nothing(
    family: Family,
    behave: str,
    more: dict[str, object],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "SILENCE", 20.0)
    patience.of_lab(1.0, 1.0)
    with pytest.raises(LabError) as error:
        await installed(family, tmp_path, behave, **more)  # type: ignore[arg-type]
    text = f"{error.value}\n{error.value.detail}"
    assert words in text, text
    assert str(error.value).startswith("lab.yaml:3: image web: ")
    assert "$y$" not in text
    assert [each.name for each in (tmp_path / "made").iterdir()] in ([], ["disk.qcow2"])
