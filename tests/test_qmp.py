"""QMP and the guest agent: scripted servers for what goes wrong, a real QEMU for what goes right."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from nestlab.base.errors import LabError, Unreachable
from nestlab.images.qemu_runtime import Tool
from nestlab.wire import qga, qmp
from nestlab.wire.shapes import Odd
from scripted import GREETING, Hang, Hear, Say, Step, server
from waiting import LONG

READY: list[Step] = [Say(GREETING), Hear(), Say({"return": {}, "id": "ID"})]
EVENT = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    with leaks.none():
        yield


@pytest.fixture
def qemu(tmp_path: Path, qemu_tool: Tool) -> Iterator[str]:
    """The monitor of a QEMU without a machine, waiting to start."""
    path = tmp_path / "qmp"
    argv = [
        *qemu_tool.argv,
        "-S",
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-qmp",
        f"unix:{path},server=on,wait=off",
    ]
    process = subprocess.Popen(argv, env={**os.environ, **qemu_tool.env}, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            break
        time.sleep(0.01)
    yield str(path)
    process.kill()
    process.wait()


# -- conversations


@pytest.mark.guest
async def test_a_real_qemu_answers(qemu: str) -> None:
    async with qmp.connect(qemu) as monitor:
        assert await monitor.status() == "prelaunch"
        assert await monitor.kvm() is False
        async with monitor.events("RESUME") as events:
            await monitor.execute("cont")
            assert (await anext(events))["event"] == "RESUME"
        assert await monitor.status() == "running"
        await monitor.execute("human-monitor-command", command_line="info version")
        await monitor.powerdown()
        await monitor.quit()
    with pytest.raises(Unreachable):
        async with qmp.connect(qemu):
            pass


@pytest.mark.guest
async def test_what_qemu_refuses_is_said_with_its_reason(qemu: str) -> None:
    async with qmp.connect(qemu, where="hv1") as monitor:
        with pytest.raises(LabError, match="hv1 refused no-such-command") as caught:
            await monitor.execute("no-such-command")
        assert "CommandNotFound" in caught.value.hint
        assert await monitor.status() == "prelaunch"


async def test_arguments_are_passed_with_dashes(tmp_path: Path) -> None:
    with server(tmp_path / "s", [*READY, Hear(), Say(EVENT), Say({"return": 7, "id": "ID"}), Hang()]) as script:
        async with qmp.connect(script.path) as monitor:
            assert await monitor.execute("migrate-set-parameters", max_bandwidth=5) == 7
    assert script.heard[-1]["arguments"] == {"max-bandwidth": 5}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("query-hotpluggable-cpus", {"type": "host-x86_64-cpu"}),
        ("query-hotpluggable-cpus", [{"type": "x", "props": {"socket-id": "one"}}]),
        ("query-memory-devices", [{"type": "virtio-mem"}]),
        ("query-memory-devices", [{"type": "virtio-mem", "data": {"size": -1}}]),
        ("qom-list", [{"name": []}]),
    ],
)
async def test_what_no_qemu_says_of_memory_and_cpus_is_an_odd_answer(
    tmp_path: Path, command: str, answer: object
) -> None:
    with server(tmp_path / "s", [*READY, Hear(), Say({"return": answer, "id": "ID"}), Hang()]) as script:
        async with qmp.connect(script.path) as monitor:
            with pytest.raises(Odd, match=f"odd answer to {command}"):
                await monitor.execute(command)


async def test_a_qemu_that_dies_under_a_command_is_unreachable(tmp_path: Path) -> None:
    with server(tmp_path / "s", [*READY, Hear()]) as script:
        async with qmp.connect(script.path, where="hv1") as monitor:
            with pytest.raises(Unreachable, match="hv1 does not answer"):
                await monitor.status()


async def test_a_qemu_that_dies_of_quit_has_quit(tmp_path: Path) -> None:
    with server(tmp_path / "s", [*READY, Hear()]) as script:
        async with qmp.connect(script.path) as monitor:
            await monitor.quit()
    assert script.heard[-1]["execute"] == "quit"


@pytest.mark.parametrize("script", [[], [Say(b"nonsense\n"), Hang()], [Say({"return": {}}), Hang()], [Hang()]])
async def test_what_is_no_qemu_is_unreachable(tmp_path: Path, script: list[Step]) -> None:
    with server(tmp_path / "s", script) as found, pytest.raises(Unreachable):
        async with qmp.connect(found.path, timeout=0.5):
            pass


async def test_no_socket_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="hv1"):
        async with qmp.connect(f"{tmp_path}/none", where="hv1"):
            pass
    with pytest.raises(Unreachable, match="hv1"):
        qmp.ask(f"{tmp_path}/none", ["query-status"], where="hv1")


# -- a quick look


@pytest.mark.guest
def test_a_quick_look_at_a_real_qemu(qemu: str) -> None:
    status, kvm = qmp.ask(qemu, ["query-status", "query-kvm"])
    assert status["status"] == "prelaunch"
    assert kvm["enabled"] is False
    with pytest.raises(LabError, match="refused no-such-command"):
        qmp.ask(qemu, ["no-such-command"])


def test_a_quick_look_skips_events_and_survives_any_split(tmp_path: Path) -> None:
    script: list[Step] = [
        Say(b'{"QMP": {"version'),
        Say(b'": {}, "capabilities": []}}\r\n'),
        Hear(),
        Say(b'{"event": "STOP"}\n\n{"return": {}}\r\n'),
        Hear(),
        Say(EVENT),
        Say({"return": {"status": "paused"}}),
        Hang(),
    ]
    with server(tmp_path / "s", script) as found:
        assert qmp.ask(found.path, ["query-status"]) == [{"status": "paused"}]


@pytest.mark.parametrize(
    "script", [[], [Hang()], [Say(b"nonsense\n")], [Say(b"[]\n")], [Say({"return": 1})], [*READY, Hear()]]
)
def test_a_quick_look_at_what_does_not_answer_ends_in_time(tmp_path: Path, script: list[Step]) -> None:
    with server(tmp_path / "s", script) as found, pytest.raises(Unreachable):
        qmp.ask(found.path, ["query-status"], timeout=0.3)


def test_a_quick_look_imports_nothing_slow() -> None:
    code = "import sys, nestlab.wire.qmp; sys.exit('asyncio' in sys.modules or 'qemu' in sys.modules)"
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- the guest agent

SYNCHRONISED: list[Step] = [Hear(), Say(b"\xff"), Say({"return": "ID"})]


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_a_command_runs_in_the_guest_to_its_end(tmp_path: Path) -> None:
    script: list[Step] = [
        *SYNCHRONISED,
        Hear(),
        Say({"return": {"pid": 5}}),
        Hear(),
        Say({"return": {"exited": False}}),
        Hear(),
        Say({"return": {"exited": True, "exitcode": 3, "out-data": encoded(b"out"), "err-data": encoded(b"err")}}),
        Hang(),
    ]
    with server(tmp_path / "s", script) as found, qga.Agent(found.path, where="web") as agent:
        result = agent.run(["sh", "-c", "exit 3"], input=b"in")
    assert (result.status, result.stdout, result.stderr) == (3, b"out", b"err")
    assert found.heard[1]["arguments"] == {
        "path": "sh",
        "arg": ["-c", "exit 3"],
        "capture-output": True,
        "input-data": encoded(b"in"),
    }


def test_a_look_is_sent_with_the_greeting(tmp_path: Path) -> None:
    script: list[Step] = [
        Hear(),
        Hear(),
        Say(b"\xff"),
        Say({"return": "ID"}),
        Say({"return": {"pid": 5}}),
        Hear(),
        Say({"return": {"exited": True, "exitcode": 0, "out-data": encoded(b"out")}}),
        Hang(),
    ]
    with server(tmp_path / "s", script) as found:
        result = qga.look(str(found.path), ["ls", "/"], timeout=10)
    assert (result.status, result.stdout) == (0, b"out")
    assert [each["execute"] for each in found.heard] == ["guest-sync-delimited", "guest-exec", "guest-exec-status"]


def test_a_command_that_a_signal_ended_has_128_and_its_number(tmp_path: Path) -> None:
    script: list[Step] = [
        *SYNCHRONISED,
        Hear(),
        Say({"return": {"pid": 5}}),
        Hear(),
        Say({"return": {"exited": True, "signal": 9}}),
    ]
    with server(tmp_path / "s", [*script, Hang()]) as found, qga.Agent(found.path) as agent:
        assert agent.run(["x"]).status == 137


def test_what_somebody_left_in_the_port_is_skipped(tmp_path: Path) -> None:
    script: list[Step] = [
        Say(b'{"return": {"half'),
        Hear(),
        Say({"error": {"class": "GenericError", "desc": "parse error"}}),
        Say(b"\xff"),
        Say({"return": 12345}),
        Say(b"\xff"),
        Say({"return": "ID"}),
        Hear(),
        Say({"return": {}}),
        Hang(),
    ]
    with server(tmp_path / "s", script) as found, qga.Agent(found.path) as agent:
        assert agent.execute("guest-ping") == {}


def test_an_agent_that_refuses_is_quoted(tmp_path: Path) -> None:
    refusal = {"error": {"class": "CommandNotFound", "desc": "The command guest-exec has been disabled"}}
    script: list[Step] = [*SYNCHRONISED, Hear(), Say(refusal), Hang()]
    disabled = pytest.raises(LabError, match="has been disabled")
    with server(tmp_path / "s", script) as found, qga.Agent(found.path, where="web") as agent, disabled:
        agent.run(["true"])


@pytest.mark.parametrize("script", [[], [Hang()], [Hear(), Hang()], [Hear(), Say(b"\xffnonsense\n"), Hang()]])
def test_an_agent_that_does_not_answer_is_unreachable_in_time(tmp_path: Path, script: list[Step]) -> None:
    with server(tmp_path / "s", script) as found, pytest.raises(Unreachable, match="web"):
        qga.Agent(found.path, timeout=0.3, where="web")


@pytest.mark.parametrize("answers", [1, 100])
def test_a_command_that_goes_on_for_too_long_is_an_error(tmp_path: Path, answers: int) -> None:
    still: list[Step] = [Hear(), Say({"return": {"exited": False}})]
    script: list[Step] = [*SYNCHRONISED, *still * answers, Hear(), Hang()]
    goes_on = pytest.raises(LabError, match="goes on")
    with server(tmp_path / "s", script) as found, qga.Agent(found.path, timeout=3) as agent, goes_on:
        agent.ended(["sleep", "1000"], 5)


def test_shutting_down_waits_for_no_answer(tmp_path: Path) -> None:
    with server(tmp_path / "s", [*SYNCHRONISED, Hear()]) as found, qga.Agent(found.path) as agent:
        agent.shutdown()
    assert found.heard[-1] == {"execute": "guest-shutdown"}
