"""A machine's memory in a file: what is said to its QEMU, and how one is let go that was paused, whoever asks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu import let_go, memory_file, saving
from nestlab.lab.snapshots import Built
from nestlab.wire.qmp import Monitor


class Scripted:
    """A QEMU's monitor. `answers`: by command, each once, the last for ever."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        self.asked.append((command, arguments))
        known = self.answers.get(command.replace("-", "_"), [{}])
        return known.pop(0) if len(known) > 1 else known[0]

    async def status(self) -> str:
        return str((await self.execute("query-status"))["status"])

    @asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[AsyncIterator[Any]]:
        async def some() -> AsyncIterator[Any]:
            for _ in range(9):
                yield {"event": names[0]}

        yield some()


def monitor(scripted: Scripted) -> Monitor:
    return cast(Monitor, scripted)


def version(*numbers: int) -> dict[str, Any]:
    return {"qemu": dict(zip(("major", "minor", "micro"), numbers, strict=True)), "package": "Debian 1:10"}


async def test_how_memory_is_written_goes_by_the_version_of_qemu() -> None:
    for numbers, way in (((8, 2, 0), "plain"), ((9, 0, 0), "mapped"), ((10, 0, 13), "mapped")):
        assert await memory_file.way_of(monitor(Scripted(query_version=[version(*numbers)])), "hv1") == way
    with pytest.raises(LabError, match="cannot write its memory to a file") as error:
        await memory_file.way_of(monitor(Scripted(query_version=[version(7, 2, 22)])), "hv1")
    assert "--disk-only" in error.value.hint
    assert memory_file.said(version(10, 0, 13)) == "10.0.13 Debian 1:10"


async def test_a_save_that_qemu_ends_with_an_error_is_told_with_its_reason() -> None:
    states = [{"status": "active", "ram": {"transferred": 1}}, {"status": "failed", "error-desc": "No space\nleft"}]
    with pytest.raises(LabError, match="The memory of hv1 could not be saved: No space"):
        await memory_file.save(monitor(Scripted(query_migrate=states)), "hv1", "/x", "plain")


async def test_memory_is_saved_and_loaded_in_the_same_way() -> None:
    ways: dict[memory_file.Way, set[str]] = {"plain": set(), "mapped": {"mapped-ram", "multifd"}}
    for way, extra in ways.items():
        for act in (memory_file.save, memory_file.load):
            scripted = Scripted(query_migrate=[{"status": "active"}, {"status": "completed"}])
            await act(monitor(scripted), "hv1", "/x", way)
            capabilities = dict(scripted.asked)["migrate-set-capabilities"]["capabilities"]
            assert {each["capability"] for each in capabilities} == {"events", *extra}


async def test_a_machine_goes_on_whatever_became_of_its_save() -> None:
    scripted = Scripted(
        query_migrate=[{"status": "active"}, {"status": "cancelling"}, {"status": "cancelled"}],
        query_status=[{"status": "paused"}, {"status": "paused"}, {"status": "paused"}, {"status": "running"}],
    )
    await memory_file.resume(monitor(scripted), "hv1")
    asked = [command for command, _ in scripted.asked]
    assert asked.count("migrate_cancel") == 2
    assert asked.index("cont") > asked.index("migrate_cancel")


def test_what_a_qemu_is_stands_in_its_command_line() -> None:
    words = ["qemu", "-machine", "q35,usb=off", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm", "-m"]
    assert saving.of_words("10.0.13", words) == Built("10.0.13", "q35,usb=off", "EPYC,+svm", "tcg")
    assert saving.of_words("10.0.13", ["qemu", "-cpu"]) == Built("10.0.13")


def test_all_that_a_machine_is_is_copied_and_no_socket_or_console(tmp_path: Path) -> None:
    source, target = tmp_path / "m", tmp_path / "s"
    (source / "tpm").mkdir(parents=True)
    mine = {"making", "made", "identity", "boot", "disk.qcow2", "disk-0badcafe.qcow2", "uefi.fd", "tpm/tpm2-00.permall"}
    for name in (*mine, "pid", "qemu.log", "console.log", "console.1.log", "disk.raw", "tpm/.lock"):
        (source / name).write_text(name)
    (source / "disk-link.qcow2").symlink_to("/etc/passwd")
    assert set(saving.copy_all(source, target)) == mine
    assert {str(each.relative_to(target)) for each in target.rglob("*") if each.is_file()} == mine
    assert (target / "disk.qcow2").stat().st_mode & 0o777 == 0o600


@contextmanager
def qemu(path: Path, states: list[str], migration: str = "") -> Iterator[list[str]]:
    """A process that answers as a QEMU does whose machine is in these states, one after another; what it was told."""
    told: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, client.makefile("r") as asked, client.makefile("w") as lines:
                lines.write('{"QMP": {}}\n')
                lines.flush()
                for line in asked:
                    command = json.loads(line)["execute"]
                    told.append(command)
                    answer: dict[str, str] = {}
                    if command == "query-status":
                        answer = {"status": states.pop(0) if len(states) > 1 else states[0]}
                    elif command == "query-migrate":
                        answer = {"status": migration}
                    lines.write(json.dumps({"return": answer}) + "\n")
                    lines.flush()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_process_stands_by_and_lets_machines_go_when_who_started_it_is_gone(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", let_go.__name__, str(tmp_path / "gone"), str(tmp_path / "qmp")]
    with qemu(tmp_path / "qmp", ["postmigrate", "running"]) as told:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert told == []
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait() == 0
        assert "cont" in told


def test_a_machine_that_runs_or_is_over_is_left_alone(tmp_path: Path) -> None:
    with qemu(tmp_path / "runs", ["running"]) as told:
        assert let_go.let_go(str(tmp_path / "runs"))
    assert "cont" not in told
    with qemu(tmp_path / "over", ["guest-panicked"]) as told:
        assert not let_go.let_go(str(tmp_path / "over"))
    assert "cont" not in told
    with pytest.raises(LabError):
        let_go.let_go(str(tmp_path / "none"))
