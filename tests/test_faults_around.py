"""What goes wrong around nestlab, tried for real: disks, networks, signals, other nestlabs, other users."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab.home.directories import Home
from waiting import VERY_LONG

pytestmark = [pytest.mark.guest, pytest.mark.slow]

TINY = "lab: one\nmachines:\n  t: {image: tiny, memory: 128M}\n"
DEBIAN = "lab: one\nmachines:\n  t: {image: debian, memory: 512M}\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")


@pytest.fixture
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        yield cli
        cli("down", "one", "--yes", status=None)
        assert not [*(cli.home / "labs").glob("*")]


@pytest.fixture
def builder(cli: Cli) -> Cli:
    """With a cache of its own, which has the packages if the usual one has them, and no images."""
    cache = cli.home / "cache"
    cache.mkdir()
    usual = Home.of(os.environ, Path.home()).cache
    for kept in ("packages", "runtime"):
        if (usual / kept).is_dir():
            shutil.copytree(usual / kept, cache / kept, symlinks=True)
    return Cli(cli.home, {"NESTLAB_CACHE": str(cache)})


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def built(cli: Cli) -> list[str]:
    """What a build left in the cache."""
    images = Path(cli.env["NESTLAB_CACHE"]) / "images"
    return [path.name for path in images.glob("*") if not path.name.endswith(".lock")]


@pytest.mark.parametrize("phase", ["reading the package", "extracting the base", "making the kernel"])
def test_ctrl_c_ends_a_build_and_leaves_nothing(builder: Cli, phase: str) -> None:
    with builder.running("images", "build", "tiny") as work:
        work.until(phase)
        work.tell(signal.SIGINT)
        assert work.end().status == 130
    assert built(builder) == []
    assert leaks.processes(builder.home) == {}


def test_a_killed_build_ends_its_helpers_and_the_next_one_succeeds(builder: Cli) -> None:
    with builder.running("images", "build", "tiny") as work:
        work.until("extracting the base")
        time.sleep(0.5)
        work.tell(signal.SIGKILL)
        work.end()
    builder("images", "build", "tiny")
    assert len(built(builder)) == 1
    assert leaks.mounts(builder.home) == []


@as_root
def test_the_chroot_of_a_build_that_died_with_all_its_helpers_is_removed_by_gc(builder: Cli) -> None:
    """What only root of its user namespace may write is removed as well."""
    temporary = builder.home / "tmp"
    temporary.mkdir(mode=0o755)
    killed = Cli(builder.home, {**builder.env, "TMPDIR": str(temporary)})
    with killed.running("images", "build", "tiny") as work:
        work.until("extracting the base")
        work.tell(signal.SIGSTOP)  # or it would clean up
        while helpers := leaks.processes(builder.home):
            subprocess.run(["kill", "-9", *map(str, helpers)], check=False, capture_output=True)
        work.tell(signal.SIGKILL)
        work.end()
    [left] = temporary.glob("nestlab-*")
    assert str(left) in killed("images", "gc", "--yes")
    assert [*temporary.iterdir()] == []


@as_root
def test_a_disk_that_fills_up_while_building_is_told(cli: Cli) -> None:
    with small_disk(cli.home / "cache", "60m") as cache:
        small = Cli(cli.home, {"NESTLAB_CACHE": str(cache)})
        assert "the disk" in small("images", "build", "tiny", status=2)
        assert built(small) == []
        assert "is free" in small("up", small.file(TINY), status=2), "and `up` sees it before it begins"


@as_root
def test_without_a_network_a_build_says_so(cli: Cli) -> None:
    env = Cli(cli.home, {"NESTLAB_CACHE": str(cli.home / "cache")}).environment
    words = ["unshare", "-n", sys.executable, "-m", "nestlab", "images", "build", "tiny"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=VERY_LONG)
    assert done.returncode == 2
    assert "cannot be downloaded" in done.stderr


@as_root
def test_a_disk_that_fills_up_pauses_the_machine_and_room_lets_it_go_on(cli: Cli) -> None:
    with small_disk(cli.home / "s", "30m") as disk:
        full = Cli(disk)
        file = cli.file(DEBIAN)
        full("up", file, "--no-verify")
        with full.running("exec", "t", "--", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=60", "oflag=direct"):
            deadline = time.monotonic() + VERY_LONG
            while full.states("one")["t"] != "paused" and time.monotonic() < deadline:
                time.sleep(0.5)
        assert "disk" in full.machines("one")["t"]["why"]
        assert "Make room" in full("up", file, status=2)
        subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
        full("up", file)
        assert full.states("one") == {"t": "running"}
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=False)
        full("down", "one", "--yes")


@as_root
def test_a_home_that_cannot_be_written_is_told(cli: Cli) -> None:
    with small_disk(cli.home / "s", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "Set NESTLAB_HOME" in Cli(disk / "n")("up", cli.file(TINY), status=2)


@as_root
def test_a_home_of_another_user_is_told(cli: Cli) -> None:
    theirs = cli.home / "theirs"
    (theirs / "labs" / "one").mkdir(parents=True)
    os.chown(theirs / "labs" / "one", 12345, 12345)
    assert "belongs to user 12345" in Cli(theirs)("up", cli.file(TINY), status=2)


def test_a_home_too_deep_for_sockets_is_told_before_anything_is_made(cli: Cli) -> None:
    deep = cli.home / ("x" * 90)
    assert "shorter path" in Cli(deep)("up", cli.file(TINY), status=2)
    assert not deep.exists()


def test_what_does_not_fit_is_told_with_numbers_and_nothing_is_made(cli: Cli) -> None:
    said = cli("up", cli.file(TINY.replace("128M", "900G")), status=2)
    assert "900" in said
    assert "free for them" in said
    assert "255" in cli("up", cli.file(TINY.replace("128M", "128M, cpus: 300")), status=2)
    assert cli.plain("ls", "--json").replace(" ", "").find('"labs":[]') >= 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_booting_stops_cleanly_and_up_goes_on(cli: Cli, number: signal.Signals) -> None:
    file = cli.file(TINY)
    with cli.running("up", file) as work:
        work.until("boot: booting")
        work.tell(number)
        said = work.end()
    assert said.status == 128 + number
    assert "again goes on from here" in said
    assert cli.machines("one")["t"]["why"] == "it is still booting"
    assert cli.steps(file) == ["boot t"]
    cli("up", file)


def test_a_second_ctrl_c_ends_at_once(cli: Cli) -> None:
    file = cli.file(TINY)
    with cli.running("up", file) as work:
        work.until("boot: booting")
        work.tell(signal.SIGINT)
        work.tell(signal.SIGINT)
        assert work.end().status == 130
    cli("up", file)


def test_up_completes_after_being_killed_at_any_moment(cli: Cli) -> None:
    file = cli.file(TINY.replace("lab: one", "lab: one\nsegments: {wire: }").replace("128M", "128M, segments: [wire]"))
    for moment in random.Random(7).sample(range(25), 8):
        with cli.running("up", file, "--no-verify") as work:
            time.sleep(moment / 10)
            work.tell(signal.SIGKILL)
            work.end()
    cli("up", file)
    assert cli.steps(file) == []
    assert len(leaks.processes(cli.home)) == 2, "one QEMU, one switch, no helpers"


def test_two_at_once_on_one_lab_take_turns(cli: Cli) -> None:
    file = cli.file(TINY)
    with cli.running("up", file) as work:
        work.until("boot: booting")
        assert "is at work on lab one" in cli("down", "one", "--yes", "--no-wait", status=2)
        assert "running" in cli("status", "one")
        assert "waiting for `nestlab up`" in cli("up", file)
        assert work.end().status == 0


def test_two_labs_at_once_do_not_meet(cli: Cli) -> None:
    other = cli.file(TINY.replace("lab: one", "lab: two"), "two")
    with cli.running("up", cli.file(TINY)) as one, cli.running("up", other) as two:
        assert (one.end().status, two.end().status) == (0, 0)
    cli("down", "two", "--yes")
    assert cli("exec", "t", "--", "hostname").text.strip() == "t"
