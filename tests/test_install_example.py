"""`examples/install.yaml` for real: Debian's installer from its first boot to its last word, and the machines that are
started from the disk it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import json
import lzma
import os
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab import labfile
from nestlab.home.cache import remove
from nestlab.home.directories import Home
from nestlab.images import installed
from nestlab.images.image_files import key_of
from nestlab.install import medium
from waiting import LONG

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

CACHE = Home.of(os.environ, Path.home()).cache
EXAMPLE = Path(__file__).parents[1] / "examples/install.yaml"
STAGES = (
    "the installer has its answers",
    "preparing the disk",
    "installing the base system",
    "setting up the package manager",
    "installing packages",
    "installing the boot loader",
    "the installer is done",
    "backup",
)
"""What `up` says, in that order."""


def lacking() -> str:
    """Which part of the installer the mirror that mmdebstrap uses does not have: some caches of one have packages
    alone, or a list of the installer's parts that is of another day than the release."""
    mirror = asyncio.run(medium.netboot("trixie", CACHE, lambda _: None)).mirror
    index = "main/debian-installer/binary-amd64/Packages.xz"
    try:
        release, packed = (get(f"{mirror}/dists/trixie/{name}") for name in ("InRelease", index))
        if f"{hashlib.sha256(packed).hexdigest()} {len(packed):>8} {index}\n" not in release.decode():
            return f"{index} is not the one that InRelease names"
        names = re.findall(r"^Filename: (\S+_all\.udeb)$", lzma.decompress(packed).decode(), re.MULTILINE)
        for name in (each for each in names if "/bootstrap-base_" in each or "/pkgsel_" in each):
            get(f"{mirror}/{name}")
    except OSError as error:
        return f"{getattr(error, 'url', mirror)}: {error}"
    return ""


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=LONG) as got:
        content: bytes = got.read()
        return content


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    if missing := lacking():
        pytest.skip(f"Debian's installer finds not all of itself here: {missing}")
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        own = f"images.server.install.commands=['echo {folder} >/etc/installed-for']"  # an image that no cache has
        [key] = {key_of(each.machine.image) for each in labfile.parse(EXAMPLE, environ={}, sets=[own]).walk()}
        try:
            with cli.running("up", str(EXAMPLE), "--set", own) as work:
                for stage in STAGES:
                    work.until(stage)
                said = work.end()
            assert said.status == 0, said.text
            assert "claims hold" in said
            yield cli
        finally:
            cli("down", "install", "--yes", status=None)
            if (made := installed.folder_of(key, CACHE)).exists():
                remove(made)


def sh(cli: Cli, machine: str, script: str) -> str:
    return cli.plain("exec", machine, "--", "sh", "-c", script).strip()


def test_it_is_a_debian_with_what_the_lab_file_adds(cli: Cli) -> None:
    for machine in ("files", "backup"):
        assert sh(cli, machine, "cat /etc/installed-for") == str(cli.home)
        assert sh(cli, machine, ". /etc/os-release; echo $VERSION_CODENAME") == "trixie"
        assert sh(cli, machine, "command -v curl") == "/usr/bin/curl"
    assert sh(cli, "backup", "lsblk -bno SIZE /dev/disk/by-id/virtio-store") == str(20 << 30)


def test_each_machine_of_it_has_an_identity_of_its_own(cli: Cli) -> None:
    for what in ("hostname", "cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub"):
        files, backup = (sh(cli, machine, what) for machine in ("files", "backup"))
        assert files
        assert files != backup
    assert sh(cli, "files", "hostname") == "files"
    assert sh(cli, "files", "ping -c1 backup >/dev/null && echo reached") == "reached"


def test_nothing_of_the_answer_server_is_left_in_it(cli: Cli) -> None:
    assert sh(cli, "files", "grep -rl 10[.]0[.]2[.]4 /etc || :") == ""
    assert sh(cli, "files", "cat /etc/apt/sources.list /etc/apt/sources.list.d/* | grep -c '/debian.* main'") != "0"


def test_it_is_an_image_of_the_cache_and_nothing_is_left_to_do(cli: Cli) -> None:
    listed = json.loads(cli.plain("images", "ls", "--json"))["images"]
    assert "debian's installer" in {each["base"] for each in listed if each["name"] == "server"}
    cli("stop", "install", "files")
    cli("start", "install", "files")
    assert sh(cli, "files", "hostname") == "files"
