"""A stand-in of Ubuntu's installer in a real machine at level 2, under the KVM of a real hypervisor.

One hypervisor for the whole file, brought up once.
"""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import qemus
from linux_installer import MARK, make_iso
from nestlab.home.cache import remove
from nestlab.home.directories import Home
from nestlab.images import build, installed
from nestlab.images.qemu_runtime import choose_qemu_img
from nestlab.images.recipes import TINY
from nestlab.wire import proc
from waiting import VERY_LONG, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow]

CACHE = Home.of(os.environ, Path.home()).cache
HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"

NEST = """
lab: nest
machines:
  hv1: {hypervisor: kvm, memory: 2G}
"""
OFFICE = """
lab: office
images:
  web: {{user: ubuntu, install: {{system: ubuntu, iso: {iso}, disk: 1G, memory: 512M, password: "{hash}"}}}}
machines:
  files: {{image: web}}
"""
DEBIAN = """
lab: office
images:
  server: {{install: {{system: debian, mirror: "http://127.0.0.1:{port}/debian", disk: 4G, password: "{hash}"}}}}
machines:
  files: {{image: server}}
"""
LEFT = """
for each in /var/lib/nestlab/install/*; do [ ! -d "$each" ] || echo "$each"; done
for each in /proc/[0-9]*; do grep -qs 'nestlab:[i]nstall' "$each/cmdline" && ls -l "$each/fd"; done
:
"""
"""Prints the folders of installations in a hypervisor, and what their processes have open."""


class Nest:
    """A command line with a home of its own, whose lab `nest` is up."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "NESTLAB_HOME": str(home), "NO_COLOR": "1"}
        (home / "nest.yaml").write_text(NEST)

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "nestlab", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str) -> tuple[str, str]:
        process = self.start(*words)
        said, told = process.communicate(timeout=VERY_LONG)
        assert process.returncode == 0, f"{words}: {process.returncode}\n{said}\n{told}"
        return said, told

    def left(self) -> str:
        return self.run("exec", "hv1", "--", "sh", "-c", LEFT)[0]

    def office(self, behave: str = "") -> Path:
        """A lab file with an image that is installed from an ISO of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.home))
        image = asyncio.run(build(TINY, CACHE, lambda _: None))
        iso = make_iso("ubuntu", folder / "a.iso", image.folder, CACHE / "packages", behave)
        (folder / "office.yaml").write_text(OFFICE.format(iso=iso, hash=HASH.replace("$", "$$")))
        return folder / "office.yaml"


@pytest.fixture(scope="module")
def nest() -> Iterator[Nest]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        found = Nest(Path(folder))
        try:
            found.run("up", str(found.home / "nest.yaml"))
            yield found
        finally:
            found.start("down", "nest", "--yes").communicate(timeout=VERY_LONG)
            for pid in qemus(found.home):
                os.kill(pid, signal.SIGKILL)


async def beginning(disk: Path, to: Path) -> bytes:
    tool = await choose_qemu_img(CACHE, lambda _: None)
    await proc.run([*tool.argv, "convert", "-f", "qcow2", "-O", "raw", str(disk), str(to)], env=tool.env)
    with to.open("rb") as file:
        return file.read(len(MARK) - 1)


def test_an_image_is_installed_at_level_2_and_is_an_image_as_every_other(nest: Nest, tmp_path: Path) -> None:
    said, told = nest.run("images", "build", str(nest.office()), "--in", "nest:hv1")
    assert "starting Ubuntu's installer in nest:hv1\n" in told, told  # emulated, it would say so
    for each in ("the installer has its answers", "installing the system", "the installer is done"):
        assert each in told, told
    key = said.split()[1]
    [made] = [each for each in installed.ls(CACHE) if each.key.startswith(key)]
    try:
        assert (made.inside, made.size) == ("nest:hv1", 1 << 30)
        assert asyncio.run(beginning(made.disk, tmp_path / "raw")) == MARK.strip()
        assert "ubuntu's installer, in nest:hv1" in nest.run("images", "ls")[0]
        assert nest.left() == ""
    finally:
        remove(made.folder)


def test_nestlab_killed_leaves_nothing_in_the_hypervisor_whose_kvm_ran_the_installer(nest: Nest) -> None:
    process = nest.start("images", "build", str(nest.office("silent")), "--in", "nest:hv1")
    try:
        assert process.stderr is not None
        while "starting Ubuntu's installer" not in (line := process.stderr.readline()):
            assert line, "it ended before"
        wait_until(lambda: "anon_inode:kvm-vm" in nest.left(), VERY_LONG, 1.0)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: nest.left() == "", VERY_LONG, 1.0)


class Nothing(http.server.BaseHTTPRequestHandler):
    """A mirror that has nothing."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None: ...


def test_debians_installer_takes_its_answers_at_level_2_and_reaches_the_mirror_of_this_machine(nest: Nest) -> None:
    """As far as that, for this mirror has nothing."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        file = nest.home / "debian.yaml"
        file.write_text(DEBIAN.format(port=mirror.server_port, hash=HASH.replace("$", "$$")))
        process = nest.start("images", "build", str(file), "--in", "nest:hv1")
        _, told = process.communicate(timeout=VERY_LONG)
        mirror.shutdown()
    assert process.returncode == 2
    assert "the installer has its answers" in told
    assert "Debian's installer asks something that it was not answered after" in told
    assert "mirror: 404 dists/trixie/Release" in told
    assert nest.left() == ""


def test_an_installer_that_fails_at_level_2_shows_its_console_and_leaves_nothing(nest: Nest) -> None:
    process = nest.start("images", "build", str(nest.office("full")), "--in", "nest:hv1")
    _, told = process.communicate(timeout=VERY_LONG)
    assert process.returncode == 2
    assert "curtin: mkfs.ext4 failed: No space left on device" in told
    assert "Traceback" not in told
    assert nest.left() == ""
