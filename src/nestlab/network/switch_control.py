"""Starts, asks, changes and ends a lab's switch. For the lab's own host only.

Hypervisors inside use Linux bridges; see `nestlab.network.network_script`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from nestlab.base import patience
from nestlab.base.errors import Busy, LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.hosts.host import Result
from nestlab.lab.faults import Impairment
from nestlab.network import pid_files
from nestlab.network.switch import ALREADY, CONTROL, LOG, PID, socket_name
from nestlab.wire import shapes

PATIENCE = 10.0
"""Nominal seconds for an answer of a switch, or for another nestlab that starts or stops it."""
ANSWER = 16 << 20
"""Bytes of the longest answer."""
SOURCE = str(Path(__file__).resolve().parent.parent.parent)
PATH_LIMIT = 107
"""Bytes of a unix socket's path on Linux."""


class Runner(Protocol):
    """The part of a host that the switch needs."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result: ...


@frozen
class Port:
    """A card on a segment. `pid`: the process that connected it; counters are of whole frames, without lengths."""

    port: int
    pid: int
    since: float
    macs: tuple[str, ...]
    queued: int
    rx_frames: int
    rx_bytes: int
    rx_errors: int
    tx_frames: int
    tx_bytes: int
    dropped: int


@frozen
class Status:
    """The status of a switch, as it reports it. `since`: seconds since the epoch."""

    lab: str
    pid: int
    since: float
    segments: Mapping[str, tuple[Port, ...]]


def socket_path(directory: Path, segment: str, port: str = "") -> Path:
    """Where QEMU connects: `-netdev stream,server=off,addr.type=unix,addr.path=…`. LabError if it is too long."""
    return _fitting(directory / socket_name(segment, port))


def _fitting(path: Path) -> Path:
    length = len(os.fsencode(path))
    if length > PATH_LIMIT:
        raise LabError(
            f"The path of a unix socket may have {PATH_LIMIT} bytes; this one has {length}: {path}",
            hint="Keep labs in a directory with a shorter path (NESTLAB_HOME), or give the segment a shorter name.",
        )
    return path


async def ensure(
    directory: Path,
    lab: str,
    segments: Iterable[str],
    host: Runner,
    vlans: Mapping[str, Collection[int]] | None = None,
) -> Status:
    """A switch that serves at least `segments` answers when this returns. Two callers at once make one switch.
    `vlans`: the segments that have VLANs, with those that ports are in."""
    wanted = list(dict.fromkeys(segments))
    tagged = {segment: sorted(numbers) for segment, numbers in (vlans or {}).items()}
    words = [(segment, str(word)) for segment, numbers in tagged.items() for word in ("trunk", *numbers)]
    _fitting(directory / CONTROL)
    for segment, word in (*((segment, "") for segment in wanted), *words):
        socket_path(directory, segment, word)
    async with _alone(directory):
        found = await status(directory)
        if found is None:
            await _start(directory, lab, wanted, host)
        for segment in wanted:
            if found is not None and segment not in found.segments:
                await _ask(directory, {"do": "add", "segment": segment})
        for segment, numbers in tagged.items():
            await _tag(directory, segment, numbers)
        found = await status(directory)
    if found is None:
        raise Unreachable(f"The switch of lab {lab} ended at once.", hint=f"Its log: {directory / LOG}")
    return found


async def _tag(directory: Path, segment: str, numbers: list[int]) -> None:
    try:
        await _ask(directory, {"do": "vlans", "segment": segment, "vlans": numbers})
    except LabError as error:
        hint = "A switch that an older nestlab started knows no VLANs: stop all machines of the lab, and start them."
        raise LabError(error.what, hint=hint) from error


async def status(directory: Path) -> Status | None:
    """The status of the switch there; None if there is none. Unreachable if it does not answer."""
    if len(os.fsencode(directory / CONTROL)) > PATH_LIMIT:
        return None
    try:
        reply = await _ask(directory, {"do": "status"})
    except (FileNotFoundError, ConnectionError):
        return None
    segments = {name: tuple(map(_port, each["ports"])) for name, each in reply["segments"].items()}
    return Status(reply["lab"], reply["pid"], reply["since"], segments)


def _port(data: Mapping[str, Any]) -> Port:
    """Tolerant: a switch lives longer than the nestlab that started it, and the next may be of another version."""
    known = {field.name: data.get(field.name, 0) for field in fields(Port)}
    return Port(**{**known, "macs": tuple(data["macs"])})


async def observe(directory: Path) -> frozenset[str]:
    """The segments that a switch there serves, by its own word; none if there is no switch, or it does not answer."""
    try:
        found = await status(directory)
    except Unreachable:
        return frozenset()
    return frozenset(found.segments) if found else frozenset()


async def remove(directory: Path, segments: Iterable[str]) -> None:
    """Take segments away; with the last one the switch ends."""
    if not _there(directory):
        return
    async with _alone(directory):
        found = await status(directory)
        if found is None:
            return
        gone = set(segments)
        if gone >= set(found.segments):
            await _end(directory)
        else:
            for segment in sorted(gone):
                await _ask(directory, {"do": "remove", "segment": segment})


async def mirror(directory: Path, segment: str, port: int, of: int) -> None:
    """Port `port` of a segment gets a copy of what passes port `of`. LabError where the switch cannot."""
    try:
        await _ask(directory, {"do": "mirror", "segment": segment, "port": port, "of": of})
    except LabError as error:
        hint = "A switch that an older nestlab started cannot capture: stop all machines of the lab, and start them."
        raise LabError(error.what, hint=hint) from error


Rules = Mapping[str, Mapping[str, Impairment]]
"""By segment: by MAC address of a machine's card ("": all of the segment) what happens to frames."""


async def impair(directory: Path, rules: Rules) -> None:
    """These impair frames of the segments that the switch serves, and no others. Without a switch: nothing."""
    try:
        served = await observe(directory)
        for segment in sorted(served & rules.keys()):
            found = rules[segment].items()
            values = {mac: [each.delay, each.jitter, each.loss, each.rate] for mac, each in found}
            await _ask(directory, {"do": "impair", "segment": segment, "rules": values})
    except (FileNotFoundError, ConnectionError):
        return
    except LabError as error:
        hint = "A switch that an older nestlab started cannot impair: stop all machines of the lab, and start them."
        raise LabError(error.what, hint=hint) from error


async def stop(directory: Path) -> None:
    """No switch runs there and none of its sockets is left when this returns."""
    if _there(directory):
        async with _alone(directory):
            await _end(directory)


async def _start(directory: Path, lab: str, segments: list[str], host: Runner) -> None:
    """The child returns when the switch listens: there is nothing to wait for afterwards."""
    # Without site: half the start-up time and a megabyte less. -P: nothing is imported from the working directory.
    argv = [
        sys.executable,
        "-S",
        "-P",
        "-m",
        "nestlab.network.switch",
        f"nestlab-switch:{lab}",
        str(directory),
        *segments,
    ]
    result = await host.run(argv, env={"PYTHONPATH": SOURCE}, check=False, timeout=PATIENCE * 3)
    if result.status == ALREADY:
        raise _silent(directory)
    if result.status:
        raise LabError(
            f"The switch of lab {lab} does not start (status {result.status}).",
            hint=f"Look at {directory}: it must belong to you, and its disk must not be full.",
            detail=result.stderr.decode(errors="replace").strip()[-2000:],
        )


async def _end(directory: Path) -> None:
    try:
        await _ask(directory, {"do": "quit"}, to_the_end=True)
    except (FileNotFoundError, ConnectionError, Unreachable):
        await asyncio.to_thread(_kill, directory)
    _tidy(directory)


def _there(directory: Path) -> bool:
    return directory.is_dir()


def _tidy(directory: Path) -> None:
    """Sockets that a switch could not take away because it was killed."""
    for left in (*directory.glob("*.sock"), directory / PID):
        left.unlink(missing_ok=True)


def _kill(directory: Path) -> None:
    """End a switch that does not answer: the process that holds the pid file, if any."""
    with pid_files.holder(directory / PID) as process, suppress(FileNotFoundError, ProcessLookupError):
        if process is not None and b"nestlab-switch:" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            signal.pidfd_send_signal(process.descriptor, signal.SIGKILL)
            poll = select.poll()
            poll.register(process.descriptor, select.POLLIN)
            poll.poll(patience.allowed(PATIENCE) * 1000)


def _silent(directory: Path) -> Unreachable:
    pid = pid_files.number(directory / PID) or "unknown"
    return Unreachable(
        f"The switch in {directory} (process {pid}) runs but does not answer.",
        hint="If it does not recover, end it with kill -9 and run the command again: another is started then.",
    )


@asynccontextmanager
async def _alone(directory: Path) -> AsyncIterator[None]:
    """Nobody else starts or ends the switch meanwhile. Busy after a while."""
    lock = _open_lock(directory)
    try:
        await _take(lock, directory)
        yield
    finally:
        os.close(lock)


async def _take(lock: int, directory: Path) -> None:
    try:
        async with asyncio.timeout(patience.allowed(PATIENCE * 3)):
            while not _locked(lock):  # noqa: ASYNC110 (who waits in flock cannot be cancelled)
                await asyncio.sleep(0.02)
    except TimeoutError:
        waited = patience.said(patience.allowed(PATIENCE * 3))
        what = f"Another nestlab has been starting or stopping the switch in {directory} for {waited}."
        raise Busy(what, hint="Wait until it is done, or end it, and run the command again.") from None


def _open_lock(directory: Path) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory / "switch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _ask(directory: Path, request: Mapping[str, Any], *, to_the_end: bool = False) -> dict[str, Any]:
    """The switch's answer. `to_the_end`: return only when it has closed the connection, because it has ended."""
    try:
        async with asyncio.timeout(patience.allowed(PATIENCE)):
            reader, writer = await asyncio.open_unix_connection(directory / CONTROL, limit=ANSWER)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
                if to_the_end:
                    await reader.read()
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
    except TimeoutError:
        raise _silent(directory) from None
    except ValueError as error:  # a line without end
        raise shapes.odd(f"the switch in {directory}", str(request["do"]), str(error)) from error
    if not line.endswith(b"\n"):
        raise ConnectionResetError(f"the switch in {directory} ended")
    return _answered(line, directory, str(request["do"]))


def _answered(line: bytes, directory: Path, do: str) -> dict[str, Any]:
    who = f"the switch in {directory}"
    try:
        told = parsed(line)
    except ValueError as error:
        raise shapes.odd(who, do, str(error)) from error
    said = shapes.read(told, _REPLY, who, do)
    if not said["ok"]:
        raise LabError(f"The switch in {directory} refuses {do}: {said.get('error', 'it does not say why')}.")
    reply: dict[str, Any] = shapes.read(told, _STATUS if do == "status" else _REPLY, who, do)
    return reply


_PORT = shapes.record(
    {"macs": shapes.rows(shapes.text)},
    {
        **{field.name: shapes.whole for field in fields(Port) if field.name not in ("macs", "since")},
        "since": shapes.real,
    },
)
_REPLY = shapes.record({"ok": shapes.flag}, error=shapes.text)
_STATUS = shapes.record(
    {
        "lab": shapes.text,
        "pid": shapes.whole,
        "since": shapes.real,
        "segments": shapes.table(shapes.record({"ports": shapes.rows(_PORT)})),
    }
)
"""What is read of an answer. A switch may be of an older or of a newer nestlab: what is not known is not read."""
