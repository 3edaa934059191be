from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nestlab.base.errors import Busy, LabError
from nestlab.home.lock import held, holder

SCRIPT = """
    import asyncio, subprocess, sys
    from pathlib import Path
    from nestlab.home.lock import held

    async def main() -> None:
        async with held(Path(sys.argv[1]), "pair", "up"):
            if "child" in sys.argv:
                child = subprocess.Popen(["sleep", "60"], close_fds=False)
                print(child.pid, flush=True)
            print("held", flush=True)
            sys.stdin.read()

    asyncio.run(main())
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def another(lock: Path) -> Callable[..., subprocess.Popen[str]]:
    """Another nestlab, which holds the lock until its stdin ends."""

    def start(*args: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(lock), *args]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    return start


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_lock_is_held_and_let_go(lock: Path) -> None:
    assert holder(lock) is None
    async with held(lock, "pair", "up"):
        who = holder(lock)
        assert who is not None
        assert (who.pid, who.verb) == (os.getpid(), "up")
    assert holder(lock) is None
    async with held(lock, "pair", "down", wait=0):
        pass


def test_only_its_owner_can_read_who_holds_it(lock: Path) -> None:
    async def take() -> None:
        async with held(lock, "pair", "up"):
            pass

    asyncio.run(take())
    assert lock.stat().st_mode & 0o777 == 0o600


async def test_who_does_not_wait_is_told_who_holds_it(
    lock: Path, another: Callable[..., subprocess.Popen[str]]
) -> None:
    with another() as process:
        assert line(process) == "held"
        with pytest.raises(Busy, match=rf"`nestlab up` \(process {process.pid}, since .*\) is at work on lab pair"):
            async with held(lock, "pair", "down", wait=0):
                pytest.fail("the lock was held twice")
        process.communicate("")


async def test_who_waits_is_told_whom_for_and_then_has_it(
    lock: Path, another: Callable[..., subprocess.Popen[str]]
) -> None:
    said: list[str] = []
    told = asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    async def wait() -> None:
        async with held(lock, "pair", "down", say=say):
            said.append("had it")

    with another() as process:
        assert line(process) == "held"
        waiting = asyncio.create_task(wait())
        await told.wait()
        assert len(said) == 1
        assert said[0].startswith(f"waiting for `nestlab up` (process {process.pid}")
        process.communicate("")
        await waiting
    assert said[1:] == ["had it"]


async def test_a_holder_that_was_killed_blocks_nobody(
    lock: Path, another: Callable[..., subprocess.Popen[str]]
) -> None:
    with another() as process:
        assert line(process) == "held"
        process.kill()
    assert holder(lock) is None
    async with held(lock, "pair", "up", wait=0):
        pass


async def test_what_a_holder_started_does_not_hold_on(
    lock: Path, another: Callable[..., subprocess.Popen[str]]
) -> None:
    with another("child") as process:
        child = int(line(process))
        try:
            assert line(process) == "held"
            process.kill()
            process.wait()
            os.kill(child, 0)
            async with held(lock, "pair", "up", wait=0):
                pass
        finally:
            os.kill(child, 9)


async def test_waiting_can_be_cancelled(lock: Path) -> None:
    async def wait() -> None:
        async with held(lock, "pair", "down"):
            pytest.fail("the lock was held twice")

    before = open_files()
    async with held(lock, "pair", "up"):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert open_files() == before


async def test_looking_who_holds_it_never_takes_it_away(lock: Path) -> None:
    """`holder` locks for an instant; somebody who does not wait must still get the lock."""
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    asyncio.get_running_loop().call_soon(os.close, descriptor)
    async with held(lock, "pair", "up", wait=0):
        pass


async def test_a_lock_that_cannot_be_opened_is_a_labs_error(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(LabError, match="cannot be opened"):
        async with held(tmp_path / "lock", "pair", "up"):
            pytest.fail("a link was followed")


def test_a_file_with_nonsense_in_it_is_no_obstacle(lock: Path) -> None:
    async def take() -> None:
        async with held(lock, "pair", "up", wait=0):
            assert holder(lock) is not None

    lock.write_text("nonsense")
    assert holder(lock) is None
    asyncio.run(take())


async def test_a_lock_on_a_full_disk_stands_though_nobody_can_say_whose_it_is(tmp_path: Path) -> None:
    async with held(tmp_path / "lock", "lab", "up") as stands:
        (tmp_path / "lock").write_text("")  # what a full disk leaves of the note
        assert stands()
        assert holder(tmp_path / "lock") is None
        (tmp_path / "lock").unlink()
        assert not stands()
        (tmp_path / "lock").write_text("")
        assert not stands(), "another file of the same name is another lock"
