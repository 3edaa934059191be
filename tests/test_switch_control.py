"""Starting, asking, changing and ending a real switch."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from nestlab.base.errors import Busy, LabError, Unreachable
from nestlab.hosts.host import Result
from nestlab.network import switch_control
from nestlab.network.switch import LOG, PID
from switch_cards import Card, ended, frame, kill, mac, pid_of, ports, until


class Here:
    """This machine, and how many commands were run on it."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        self.commands.append(tuple(argv))
        pipe = subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*argv, env=env, stdout=pipe, stderr=pipe)
        out, err = await asyncio.wait_for(child.communicate(), timeout)
        return Result(tuple(argv), child.returncode or 0, out, err)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "net"
    yield place
    kill(place)


async def test_a_switch_answers_as_soon_as_it_is_ensured(directory: Path) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire", "other"], Here())
    assert (status.lab, status.pid, list(status.segments)) == ("pair", pid_of(directory), ["wire", "other"])
    assert await switch_control.observe(directory) == {"wire", "other"}


async def test_what_is_there_is_left_alone_and_what_is_missing_is_added(directory: Path) -> None:
    here = Here()
    first = await switch_control.ensure(directory, "pair", ["wire"], here)
    card = Card(directory)
    again = await switch_control.ensure(directory, "pair", ["wire"], here)
    more = await switch_control.ensure(directory, "pair", ["other"], here)
    assert first.pid == again.pid == more.pid
    assert set(more.segments) == {"wire", "other"}
    assert [port.pid for port in more.segments["wire"]] == [os.getpid()]
    assert len(here.commands) == 1
    card.close()


async def test_twenty_starters_at_once_make_one_switch(directory: Path) -> None:
    here = Here()
    names = [f"s{number}" for number in range(20)]
    found = await asyncio.gather(*(switch_control.ensure(directory, "pair", [name], here) for name in names))
    assert len({status.pid for status in found}) == 1
    assert await switch_control.observe(directory) == set(names)
    assert len(here.commands) == 1


async def test_status_is_of_ports_and_counters(directory: Path) -> None:
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    a, b = Card(directory), Card(directory)
    a.send(frame(mac(2), mac(1), size=100))
    b.send(frame(mac(1), mac(2), size=200))
    assert len(a.receive()) == 200
    status = await switch_control.status(directory)
    assert status is not None
    first, second = status.segments["wire"]
    assert (first.macs, second.macs) == ((mac(1).hex(":"),), (mac(2).hex(":"),))
    assert (first.rx_bytes, second.rx_bytes) == (100, 200)
    a.close()
    b.close()


async def test_nothing_is_observed_where_nothing_runs(directory: Path) -> None:
    assert await switch_control.observe(directory) == frozenset()
    assert await switch_control.status(directory) is None
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    kill(directory)
    assert (directory / "wire.sock").exists()
    assert await switch_control.observe(directory) == frozenset()


async def test_a_switch_killed_behind_our_back_is_started_anew(directory: Path) -> None:
    first = await switch_control.ensure(directory, "pair", ["wire", "other"], Here())
    kill(directory)
    second = await switch_control.ensure(directory, "pair", ["wire"], Here())
    assert first.pid != second.pid
    assert await switch_control.observe(directory) == {"wire"}


async def test_it_is_not_the_pid_file_that_is_believed(directory: Path) -> None:
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    kill(directory)
    (directory / PID).write_text(f"{os.getpid()}\n")
    assert await switch_control.observe(directory) == frozenset()
    await switch_control.stop(directory)
    assert not (directory / PID).exists()


async def test_a_removed_segment_is_gone_and_with_the_last_one_the_switch(directory: Path) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire", "other"], Here())
    process = os.pidfd_open(status.pid)
    await switch_control.remove(directory, ["other", "never-there"])
    assert await switch_control.observe(directory) == {"wire"}
    await switch_control.remove(directory, ["wire"])
    assert ended(process)
    os.close(process)
    await switch_control.remove(directory, ["wire"])
    await switch_control.remove(directory / "nowhere", ["wire"])


async def test_after_a_stop_no_process_and_no_socket_is_left(directory: Path) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire"], Here())
    card = Card(directory)
    process = os.pidfd_open(status.pid)
    await switch_control.stop(directory)
    assert ended(process)
    os.close(process)
    assert card.receive() == b""
    card.close()
    assert {path.name for path in directory.iterdir()} <= {LOG, "switch.lock"}
    await switch_control.stop(directory)


async def test_stopping_where_there_is_nothing_makes_nothing(directory: Path) -> None:
    await switch_control.stop(directory)
    assert not directory.exists()


async def test_a_switch_that_hangs_is_named_and_a_stop_ends_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire"], Here())
    monkeypatch.setattr(switch_control, "PATIENCE", 0.3)
    os.kill(status.pid, signal.SIGSTOP)
    process = os.pidfd_open(status.pid)
    assert await switch_control.observe(directory) == frozenset()
    with pytest.raises(Unreachable, match=str(status.pid)) as caught:
        await switch_control.ensure(directory, "pair", ["wire"], Here())
    assert "kill -9" in caught.value.hint
    await switch_control.stop(directory)
    assert ended(process)
    os.close(process)
    assert not list(directory.glob("*.sock"))


async def test_a_hanging_switch_without_sockets_is_named_by_the_next_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire"], Here())
    os.kill(status.pid, signal.SIGSTOP)
    (directory / "switch.sock").unlink()
    with pytest.raises(Unreachable, match=str(status.pid)):
        await switch_control.ensure(directory, "pair", ["wire"], Here())
    monkeypatch.setattr(switch_control, "PATIENCE", 0.3)
    await switch_control.stop(directory)
    assert not (directory / PID).exists()


async def test_a_wait_for_another_starter_ends_with_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    monkeypatch.setattr(switch_control, "PATIENCE", 0.1)
    with (directory / "switch.lock").open("w") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="Another nestlab"):
            await switch_control.stop(directory)
    assert await switch_control.observe(directory) == {"wire"}


async def test_a_path_too_long_for_a_socket_is_an_error_that_says_so(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30)
    with pytest.raises(LabError, match="107 bytes") as caught:
        await switch_control.ensure(place, "pair", ["wire"], Here())
    assert "NESTLAB_HOME" in caught.value.hint
    assert not place.exists()
    assert await switch_control.observe(place) == frozenset()
    with pytest.raises(LabError, match="107 bytes"):
        switch_control.socket_path(place, "wire")


async def test_a_switch_that_cannot_start_says_why(directory: Path) -> None:
    directory.mkdir()
    (directory / "wire.sock").mkdir()
    with pytest.raises(LabError, match="does not start") as caught:
        await switch_control.ensure(directory, "pair", ["wire"], Here())
    assert str(directory) in caught.value.hint
    assert caught.value.detail


async def test_a_name_that_is_no_segment_is_refused_by_the_switch(directory: Path) -> None:
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    with pytest.raises(LabError, match="refuses add"):
        await switch_control.ensure(directory, "pair", ["Not_One"], Here())


async def test_it_outlives_the_process_that_started_it(directory: Path) -> None:
    text = (
        "import asyncio, pathlib, sys; from test_switch_control import Here;"
        "from nestlab.network import switch_control;"
        "asyncio.run(switch_control.ensure(pathlib.Path(sys.argv[1]), 'pair', ['wire'], Here()))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(switch_control.__file__).parent.parent.parent)])
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, str(directory), env={**os.environ, "PYTHONPATH": path}, start_new_session=True
    )
    assert await starter.wait() == 0
    os.kill(pid_of(directory), signal.SIGHUP)
    os.kill(pid_of(directory), signal.SIGINT)
    assert await switch_control.observe(directory) == {"wire"}


async def test_with_twenty_ports_that_nobody_reads_it_takes_at_most_fourteen_megabytes(directory: Path) -> None:
    status = await switch_control.ensure(directory, "pair", ["wire"], Here())
    cards = [Card(directory) for _ in range(20)]
    until(lambda: len(ports(directory)) == 20)
    while not all(port["dropped"] for port in ports(directory)[1:]):
        cards[0].send(*(frame(b"\xff" * 6, mac(number), size=1514) for number in range(1000)))
    lines = Path(f"/proc/{status.pid}/status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    for card in cards:
        card.close()
    assert resident <= 14 * 1024


async def test_connections_come_back_to_a_new_switch(directory: Path) -> None:
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    await switch_control.stop(directory)
    await switch_control.ensure(directory, "pair", ["wire"], Here())
    a, b = Card(directory), Card(directory)
    until(lambda: len(ports(directory)) == 2)
    a.send(frame(b"\xff" * 6, mac(1), b"again"))
    assert b.body() == "again"
    a.close()
    b.close()
