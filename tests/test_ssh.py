"""SSH against a real OpenSSH server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import leaks
from nestlab.base.errors import LabError, Unreachable
from nestlab.home import key_pairs
from nestlab.wire import passing, ssh
from nestlab.wire.ssh_sessions import NotStarted
from sshd import PROGRAM, USER, Sshd, sshd
from test_proc import number_in, overdue, until_dead

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
async def connection(server: Sshd) -> AsyncIterator[ssh.Connection]:
    opened = await server.connect()
    yield opened
    await opened.close()


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


# -- commands


async def test_a_command_gets_its_words_as_they_are(connection: ssh.Connection) -> None:
    words = ["a b", "$HOME", "'", '"', "*", "", "ä\n;"]
    result = await connection.run(["printf", "%s|", *words])
    assert result.text == "".join(word + "|" for word in words)


async def test_words_that_are_not_utf8_reach_the_command_as_the_bytes_they_are(connection: ssh.Connection) -> None:
    result = await connection.run(["printf", "%s|", os.fsdecode(b"\xff\xfe"), "ä"])
    assert result.stdout == b"\xff\xfe|\xc3\xa4|"
    with pytest.raises(LabError, match="on hv1"):
        await connection.run(["sh", "-c", "exit 3", os.fsdecode(b"\xff")])


async def test_a_command_ends_with_its_status_and_all_that_it_said(connection: ssh.Connection) -> None:
    result = await connection.run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (result.status, result.stdout, result.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("shell", "said"), [("echo This account is closed.; exit 1", "This account is closed."), ("exit 1", "")]
)
async def test_a_login_shell_that_runs_nothing_is_told_and_not_the_command(
    tmp_path: Path, shell: str, said: str
) -> None:
    with sshd(tmp_path, f"ForceCommand {shell}") as server:
        opened = await server.connect()
        with pytest.raises(LabError) as caught:
            await opened.run(["sh", "-c", "one\ntwo\n"])
        await opened.close()
    assert caught.value.what == f"The login shell of {USER}@hv1 runs no commands (status 1)."
    assert f"chsh -s /bin/sh {USER}" in caught.value.hint
    assert caught.value.detail == said


async def test_a_signal_is_128_and_its_number(connection: ssh.Connection) -> None:
    result = await connection.run(["sh", "-c", "kill -SEGV $$"], check=False)
    assert result.status == 128 + signal.SIGSEGV


async def test_its_stdin_is_closed_unless_it_is_given_something(connection: ssh.Connection) -> None:
    assert (await connection.run(["cat"])).stdout == b""
    assert (await connection.run(["cat"], input=b"given")).stdout == b"given"


async def test_variables_reach_the_command_and_are_no_shell_text(connection: ssh.Connection) -> None:
    result = await connection.run(["sh", "-c", 'printf %s "$A"'], env={"A": "$(date) 'x'"})
    assert result.text == "$(date) 'x'"
    with pytest.raises(ValueError, match="not the name"):
        await connection.run(["true"], env={"A;reboot": "x"})


async def test_a_failure_says_where_and_what_was_said_last(connection: ssh.Connection) -> None:
    with pytest.raises(LabError, match="on hv1") as caught:
        await connection.run(["sh", "-c", "echo the disk is full >&2; exit 3"])
    assert caught.value.detail == "the disk is full"


async def test_a_missing_program_is_a_message_with_a_hint(connection: ssh.Connection) -> None:
    with pytest.raises(LabError) as caught:
        await connection.run(["no-such-program"])
    assert "no-such-program" in caught.value.hint


async def test_more_sessions_than_the_server_allows_wait_for_each_other(connection: ssh.Connection) -> None:
    results = await asyncio.gather(*(connection.run(["echo", str(number)]) for number in range(50)))
    assert [result.text.strip() for result in results] == [str(number) for number in range(50)]


async def test_when_only_lasting_sessions_hold_the_server_it_is_said(connection: ssh.Connection) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(connection.lines(["sleep", "1000"]))
        with pytest.raises(LabError, match="10 others") as caught:
            await connection.run(["true"])
        assert "MaxSessions" in caught.value.hint
    assert (await connection.run(["true"])).status == 0


async def test_after_its_time_a_command_is_ended_with_what_it_started(
    connection: ssh.Connection, tmp_path: Path
) -> None:
    script = f"sleep 1000 & echo $! >{tmp_path}/child; wait"
    child = await overdue(lambda timeout: connection.run(["sh", "-c", script], timeout=timeout), tmp_path / "child")
    assert until_dead(child)


async def test_a_command_that_ignores_term_is_killed(connection: ssh.Connection, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.1; done"
    pid = await overdue(lambda timeout: connection.run(["sh", "-c", script], timeout=timeout), tmp_path / "pid")
    assert until_dead(pid)


async def test_cancelling_ends_the_command(connection: ssh.Connection, tmp_path: Path) -> None:
    task = asyncio.create_task(connection.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 1000"]))
    pid = await number_in(tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert until_dead(pid)


async def test_cancelling_at_any_moment_leaves_the_connection_usable(connection: ssh.Connection) -> None:
    for turns in range(40):
        task = asyncio.create_task(connection.run(["true"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (await connection.run(["echo", "fine"])).text == "fine\n"


async def test_lines_come_while_the_command_runs_and_it_is_ended_when_they_are_left(
    connection: ssh.Connection, tmp_path: Path
) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo one; echo two; exec sleep 1000"
    async with connection.lines(["sh", "-c", script]) as lines:
        assert [await anext(lines), await anext(lines)] == [b"one", b"two"]
    assert until_dead(int((tmp_path / "pid").read_text()))


async def test_lines_of_a_command_that_fails_end_with_its_failure(connection: ssh.Connection) -> None:
    with pytest.raises(LabError, match="status 4"):
        async with connection.lines(["sh", "-c", "echo one; exit 4"]) as lines:
            assert [line async for line in lines] == [b"one"]


async def test_a_command_waits_for_a_slow_reader(connection: ssh.Connection) -> None:
    async with connection.start(["head", "-c", "50000000", "/dev/zero"]) as command:
        chunks = command.chunks()
        total = len(await anext(chunks))
        await asyncio.sleep(0.5)
        assert len(command._stdout) < 8 << 20
        async for chunk in chunks:
            total += len(chunk)
        assert total == 50000000


# -- files


async def test_ten_megabytes_through_write_put_and_read(connection: ssh.Connection, tmp_path: Path) -> None:
    data = os.urandom(10 << 20)
    (tmp_path / "source").write_bytes(data)
    await connection.write(f"{tmp_path}/written", data)
    await connection.put(tmp_path / "source", f"{tmp_path}/put", mode=0o755)
    assert await connection.read(f"{tmp_path}/written") == data
    assert (tmp_path / "put").read_bytes() == data
    assert (tmp_path / "written").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "put").stat().st_mode & 0o7777 == 0o755


async def test_a_file_is_replaced_and_its_missing_directories_are_private(
    connection: ssh.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "a b" / "c'd" / "file"
    await connection.write(str(path), b"one", mode=0o640)
    await connection.write(str(path), b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert names(path.parent) == ["file"]


async def test_many_files_go_in_one_session(
    connection: ssh.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ssh, "trace", said.append)
    long = "n" * 200
    files = {
        f"{tmp_path}/one/a": (b"a", 0o600),
        f"{tmp_path}/one/.b c": (b"b" * 100000, 0o755),
        f"{tmp_path}/two/{long}": (b"", 0o644),
    }
    await connection.write_many(files)
    await connection.write_many({})
    assert len(said) == 1
    for path, (data, mode) in files.items():
        assert Path(path).read_bytes() == data
        assert Path(path).stat().st_mode & 0o777 == mode
    assert names(tmp_path / "one") == [".b c", "a"]


async def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    connection: ssh.Connection, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(LabError):
        await connection.write(f"{tmp_path}/file/below", b"new")
    with pytest.raises(LabError):
        await connection.write_many({f"{tmp_path}/file/below": (b"new", 0o600)})
    with pytest.raises(LabError):
        await connection.read(f"{tmp_path}/missing")
    with pytest.raises(LabError, match="cannot be read"):
        await connection.put(tmp_path / "missing", f"{tmp_path}/file")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


async def test_a_file_of_which_half_came_takes_nobodys_place(server: Sshd, tmp_path: Path) -> None:
    connection = await server.connect()
    (tmp_path / "file").write_text("old")
    from nestlab.wire import shell

    async with connection.start(["write"], line=shell.store(f"{tmp_path}/file", 1000, 0o600)) as command:
        await command.write(b"half")
        assert (await command.result()).status != 0
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]
    await connection.close()


async def test_a_unix_socket_there_is_a_unix_socket_here(connection: ssh.Connection, tmp_path: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    listener = await asyncio.start_unix_server(shout, tmp_path / "there")
    async with connection.unix(f"{tmp_path}/there") as here:
        assert Path(here).parent.stat().st_mode & 0o777 == 0o700
        for word in (b"one\n", b"two\n"):
            reader, writer = await asyncio.open_unix_connection(here)
            writer.write(word)
            assert await reader.read() == word.upper()
            writer.close()
    assert not Path(here).parent.exists()
    listener.close()


async def test_a_socket_there_that_leads_back_here_is_its_users_alone(
    connection: ssh.Connection, tmp_path: Path
) -> None:
    """By it memory and disks of a machine that moves go."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    listener = await asyncio.start_unix_server(shout, tmp_path / "here")
    there = tmp_path / "there"
    async with connection.back(str(there), str(tmp_path / "here")):
        assert there.is_socket()
        assert there.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(there)
        writer.write(b"memory\n")
        assert await reader.read() == b"MEMORY\n"
        writer.close()
    listener.close()


async def test_a_socket_there_leads_to_no_more_connections_here_than_it_may(
    connection: ssh.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is root there may open as many as they like."""
    monkeypatch.setattr(passing, "AT_ONCE", 3)
    held: list[asyncio.StreamWriter] = []

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        writer.write(b"hello")

    listener = await asyncio.start_unix_server(greet, tmp_path / "here")
    there = tmp_path / "there"
    to = passing.Passing(lambda: asyncio.open_unix_connection(tmp_path / "here"), lambda _: None)
    async with connection.serving(str(there), to):
        assert there.stat().st_mode & 0o777 == 0o600
        opened = [await asyncio.open_unix_connection(there) for _ in range(8)]
        answers = await asyncio.gather(*(reader.read(5) for reader, _ in opened))
        assert sorted(answers) == [b""] * 5 + [b"hello"] * 3
        for _, writer in opened:
            writer.close()
    assert len(held) == 3
    listener.close()


async def test_a_unix_socket_without_a_listener_closes_at_once(connection: ssh.Connection, tmp_path: Path) -> None:
    async with connection.unix(f"{tmp_path}/nobody") as here:
        reader, writer = await asyncio.open_unix_connection(here)
        assert await reader.read() == b""
        writer.close()


# -- loss


async def test_a_connection_lost_under_a_command_is_unreachable(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        connection = await server.connect()
        task = asyncio.create_task(connection.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 1000"]))
        await number_in(tmp_path / "pid")
        server.kill_connections()
        with pytest.raises(Unreachable, match="was lost while"):
            await task
        assert connection.closed
        with pytest.raises(NotStarted):
            await connection.run(["true"])
        await connection.close()


async def test_a_host_that_falls_silent_does_not_hold_up_who_gives_up(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        connection = await server.connect()
        await connection.run(["true"])  # until then the server may still be changing processes
        for pid in server.children():
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(LabError, match="did not end within"):
            await connection.run(["true"], timeout=0.3)
        await connection.close()
        assert connection.closed


async def test_nothing_is_left_after_a_connection_is_closed(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        with leaks.none():
            for _ in range(3):
                connection = await server.connect()
                await asyncio.gather(*(connection.run(["true"]) for _ in range(20)))
                async with connection.lines(["sleep", "1000"]), connection.unix("/nowhere"):
                    pass
                with pytest.raises(LabError):
                    await server.connect(host_key=key_pairs.generate("other").public)
                await connection.close()
        for pid in server.children():
            assert until_dead(pid)
