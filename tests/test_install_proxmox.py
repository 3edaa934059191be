"""A stand-in of Proxmox's installer in a real machine, from its ISO to the disk: answered, refused, stuck."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from nestlab import labfile
from nestlab.answers import Answers
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.home.cache import remove
from nestlab.home.directories import Home
from nestlab.images import build, firmware_files
from nestlab.images import installed as installed_images
from nestlab.images.image_files import key_of
from nestlab.images.qemu_runtime import choose_qemu
from nestlab.images.recipes import TINY
from nestlab.install import installation
from nestlab.install.installation import Job, Means, install
from nestlab.lab.hardware import Firmware
from nestlab.lab.model import MIB
from proxmox_installer import MARK, make_iso
from waiting import until

HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"
CACHE = Home.of(os.environ, Path.home()).cache

pytestmark = [pytest.mark.guest, pytest.mark.skipif(not shutil.which("xorriso"), reason="xorriso is not installed")]


async def installed(folder: Path, behave: str = "", firmware: Firmware = "bios") -> tuple[Path, list[str]]:
    """The disk that the stand-in leaves, and what was said meanwhile."""
    said: list[str] = []
    image = await build(TINY, CACHE, lambda _: None)
    iso = await asyncio.to_thread(make_iso, folder / "pve.iso", image.folder, CACHE / "packages", behave)
    runtime = await choose_qemu("tcg", CACHE, lambda _: None)
    means = Means(runtime.qemu, runtime.qemu_img, "tcg", 1.0, partial(firmware_files.pack, CACHE))
    answers, where = Answers(password=HASH), "lab.yaml:3: image pve"
    job = Job(where, "proxmox", answers, iso=iso, firmware=firmware, disk=64 * MIB, memory=512 * MIB)
    made = folder / "made"
    made.mkdir()
    disk = made / "disk.qcow2"
    await install(job, disk, CACHE, means, said.append)
    assert [each.name for each in made.iterdir()] == ["disk.qcow2"]  # nothing of the installation is left
    raw = folder / "disk.raw"
    words = [*runtime.qemu_img.argv, "convert", "-O", "raw", str(disk), str(raw)]
    process = await asyncio.create_subprocess_exec(*words, env={**os.environ, **runtime.qemu_img.env})
    assert await process.wait() == 0
    return raw, said


async def test_proxmox_installs_itself_from_its_iso_by_the_answers_it_asks_for(tmp_path: Path) -> None:
    raw, said = await installed(tmp_path)
    assert raw.read_bytes()[: len(MARK) - 1] == MARK.strip()
    assert said[1:] == ["the installer has its answers", "the installer is done"]


@pytest.mark.slow
async def test_it_installs_itself_under_uefi_and_finds_itself_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, _ = await installed(tmp_path, "uefi", "uefi")
    assert raw.read_bytes()[: len(MARK) - 1] == MARK.strip()
    monkeypatch.setattr(installation, "SILENCE", 20.0)
    (tmp_path / "bios").mkdir()
    with pytest.raises(LabError, match="no UEFI"):
        await installed(tmp_path / "bios", "uefi")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behave", "words"),
    [
        ("refuse", "answer refused: unknown field"),
        ("token", "HTTP/1.1 401"),
        ("stranger", "Fingerprint did not match!"),
        ("silent", "waits for a key"),
        ("full", "No space left on device"),
        ("mute", "ended after “the installer has its answers”"),
        ("panic", "panick"),
    ],
)
async def test_an_installation_that_fails_shows_why_and_leaves_nothing(
    behave: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "SILENCE", 20.0)
    patience.of_lab(1.0, 1.0)
    with pytest.raises(LabError) as error:
        await installed(tmp_path, behave)
    text = f"{error.value}\n{error.value.detail}"
    assert words in text, text
    assert str(error.value).startswith("lab.yaml:3: image pve: Proxmox's installer ")
    assert "$y$" not in text
    assert [each.name for each in (tmp_path / "made").iterdir()] in ([], ["disk.qcow2"])


@pytest.mark.slow
async def test_an_installer_that_restarts_its_machine_installs_once(tmp_path: Path) -> None:
    raw, _ = await installed(tmp_path, "reboot")
    assert raw.read_bytes()[: len(MARK) - 1] == MARK.strip()


LAB = """
lab: killed
images:
  mine: {{install: {{system: proxmox, iso: {iso}, disk: 1G, memory: 512M, password: "$${hash}"}}}}
machines:
  node: {{image: mine}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["starting", "the installer has its answers"])
async def test_nestlab_killed_in_an_installation_leaves_none_and_the_next_makes_it_whole(
    phase: str, tmp_path: Path
) -> None:
    """QEMU ends with it, and the image is there only once it is whole."""
    image = await build(TINY, CACHE, lambda _: None)
    await asyncio.to_thread(make_iso, tmp_path / "pve.iso", image.folder, CACHE / "packages")
    secret = "y$j9T$" + hashlib.sha256(f"{tmp_path}{phase}".encode()).hexdigest()[:40]
    (tmp_path / "lab.yaml").write_text(LAB.format(iso=tmp_path / "pve.iso", hash=secret.replace("$", "$$")))
    words = [sys.executable, "-m", "nestlab", "images", "build", str(tmp_path / "lab.yaml")]
    env = {**os.environ, "NESTLAB_HOME": str(tmp_path / "home")}
    [key] = {key_of(placed.machine.image) for placed in labfile.parse(tmp_path / "lab.yaml", environ={}).walk()}
    folder = installed_images.folder_of(key, CACHE)
    process = await asyncio.create_subprocess_exec(*words, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    while phase not in (await process.stderr.readline()).decode():
        assert process.returncode is None
    pid = folder.with_name(f".{folder.name}.partial") / "i" / "pid"
    await until(pid.exists)
    number = int(pid.read_text())
    process.kill()
    await process.wait()
    await until(lambda: not Path(f"/proc/{number}/exe").exists())
    assert not folder.exists()
    again = await asyncio.create_subprocess_exec(*words, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _, said = await again.communicate()
    assert again.returncode == 0, said.decode()
    assert sorted(each.name for each in folder.iterdir()) == ["disk.qcow2", "installed.json"]
    remove(folder)
