"""Local commands, spawned for real."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import leaks
from nestlab.base.errors import LabError
from nestlab.wire import proc
from waiting import LONG


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    with leaks.none():
        yield


def alive(pid: int) -> bool:
    """Whether it runs; one that ended and that nobody has buried is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_dead(pid: int) -> bool:
    deadline = time.monotonic() + LONG
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


async def number_in(path: Path) -> int:
    """The number that a command writes to a file."""
    while not path.exists() or not path.read_text().endswith("\n"):  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.01)
    return int(path.read_text())


async def test_a_command_ends_with_its_status_and_all_that_it_said() -> None:
    result = await proc.run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (result.status, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
    assert result.text == "out\n"


async def test_a_signal_is_128_and_its_number() -> None:
    result = await proc.run(["sh", "-c", "kill -SEGV $$"], check=False)
    assert result.status == 128 + signal.SIGSEGV


async def test_its_stdin_is_closed_unless_it_is_given_something() -> None:
    assert (await proc.run(["cat"])).stdout == b""
    assert (await proc.run(["cat"], input=b"given")).stdout == b"given"


async def test_more_than_any_pipe_holds_goes_in_and_comes_out() -> None:
    data = os.urandom(10 << 20)
    assert (await proc.run(["cat"], input=data)).stdout == data


async def test_what_a_command_does_not_read_is_dropped() -> None:
    assert (await proc.run(["true"], input=bytes(10 << 20))).status == 0
    result = await proc.run(["sh", "-c", "exec <&-; echo closed"], input=bytes(10 << 20))
    assert result.stdout == b"closed\n"


async def test_the_environment_is_built_and_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    said = (await proc.run(["env"], env={"GIVEN": "1"})).text.splitlines()
    assert {line.partition("=")[0] for line in said} - {"_", "PWD", "SHLVL"} == {"PATH", "HOME", "LANG", "GIVEN"}


async def test_a_failure_says_which_command_and_what_it_said_last() -> None:
    with pytest.raises(LabError) as caught:
        await proc.run(["sh", "-c", "seq 1 5000 >&2; echo the disk is full >&2; exit 3"])
    assert "status 3" in caught.value.what
    assert caught.value.detail.endswith("the disk is full")
    assert len(caught.value.detail) <= 2000
    assert caught.value.hint


async def test_a_missing_program_is_a_message_with_a_hint() -> None:
    with pytest.raises(LabError, match="no-such-program is not installed") as caught:
        await proc.run(["no-such-program"])
    assert caught.value.hint


async def test_a_program_that_may_not_be_run_is_a_message() -> None:
    with pytest.raises(LabError, match="cannot be run"):
        await proc.run(["/etc/passwd"])


async def overdue(run: Callable[[float], Awaitable[object]], file: Path) -> int:
    """A command that writes a process's number to `file` is given time until it has done so, and never ends by itself:
    that number."""
    for timeout in (0.5, 5.0, LONG):
        with pytest.raises(LabError, match="did not end within"):
            await run(timeout)
        if file.exists() and (text := file.read_text().strip()):
            return int(text)
    raise AssertionError(f"nothing wrote {file}")


async def test_after_its_time_a_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! >{tmp_path}/child; wait"
    child = await overdue(lambda timeout: proc.run(["sh", "-c", script], timeout=timeout), tmp_path / "child")
    assert until_dead(child)


async def test_a_command_that_ignores_term_is_killed(tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.1; done"
    pid = await overdue(lambda timeout: proc.run(["sh", "-c", script], timeout=timeout), tmp_path / "pid")
    assert until_dead(pid)


async def test_cancelling_ends_the_command(tmp_path: Path) -> None:
    task = asyncio.create_task(proc.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 1000"]))
    pid = await number_in(tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert until_dead(pid)


async def test_a_daemon_left_behind_lives_on_and_holds_up_nobody(tmp_path: Path) -> None:
    result = await proc.run(["sh", "-c", f"setsid sleep 1000 & echo $! >{tmp_path}/pid; echo done"])
    assert result.stdout == b"done\n"
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert until_dead(pid)


async def test_lines_come_while_the_command_runs_and_it_is_ended_when_they_are_left(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo one; echo two; exec sleep 1000"
    async with proc.lines(["sh", "-c", script]) as lines:
        assert [await anext(lines), await anext(lines)] == [b"one", b"two"]
    assert until_dead(int((tmp_path / "pid").read_text()))


async def test_lines_may_be_longer_than_a_buffer_and_the_last_without_newline() -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; printf end"
    async with proc.lines(["sh", "-c", script]) as lines:
        assert [len(line) async for line in lines] == [3000000, 3]


async def test_lines_of_a_command_that_fails_end_with_its_failure() -> None:
    with pytest.raises(LabError, match="status 4"):
        async with proc.lines(["sh", "-c", "echo one; exit 4"]) as lines:
            assert [line async for line in lines] == [b"one"]


async def test_a_command_waits_for_a_slow_reader() -> None:
    async with proc.start(["sh", "-c", "head -c 20000000 /dev/zero"]) as running:
        chunks = running.chunks()
        total = len(await anext(chunks))
        await asyncio.sleep(0.2)
        assert len(running._stdout) < 8 << 20
        async for chunk in chunks:
            total += len(chunk)
        assert total == 20000000
        assert (await running.result()).status == 0


async def test_fifty_at_once() -> None:
    results = await asyncio.gather(*(proc.run(["echo", str(number)]) for number in range(50)))
    assert [result.text.strip() for result in results] == [str(number) for number in range(50)]


async def test_a_trace_sees_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(proc, "trace", said.append)
    await proc.run(["echo", "a b"], input=b"secret")
    assert said == ["echo 'a b'"]
