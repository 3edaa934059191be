"""`nestlab wait`: what can be waited for, and what is said of what does not come."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fake_corosync import FakeCluster
from nestlab.base.errors import LabError
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Result
from nestlab.verbs import session as verbs
from nestlab.verbs.wait import PORT, UNIT, Goal, Outcome, parse_goal, wait
from test_cli import Console, console  # noqa: F401 - the fixture


def test_goals_are_read_and_others_are_refused() -> None:
    assert [parse_goal(text) for text in ("ssh", "proofs", "quorum", "port:8006", "unit:nginx")] == [
        Goal("ssh"), Goal("proofs"), Goal("quorum"), Goal("port", "8006"), Goal("unit", "nginx"),
    ]  # fmt: skip
    for text in (
        "",
        "http",
        "port:",
        "port:0",
        "port:65536",
        "port:http",
        "unit:",
        "unit:-x",
        "unit:a b",
        "ssh:",
        "quorum:1",
    ):
        with pytest.raises(LabError, match="nothing that can be waited for"):
            parse_goal(text)


def test_machines_that_run_are_there_at_once(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    assert "hv1/web: it answers over ssh" in console.run("wait", "pair", "hv1/web").stdout
    data = console.json("wait", "pair")
    assert data["ok"] is True
    assert [each["path"] for each in data["machines"]] == ["hv1", "hv1/web", "hv2", "hv2/web"]


def test_what_does_not_come_ends_with_status_2_and_what_was_seen_last(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "pair", "hv2")
    said = console.run("wait", "pair", "hv1", "hv2/web", "--timeout", "1", status=2)
    assert "hv1: it answers over ssh" in said.stdout
    assert "hv2/web is not there yet (ready): hv2 is stopped." in said.stderr
    console.run("wait", "pair", "hv2", "--for", "nonsense", status=2)


def test_a_machine_that_somebody_starts_meanwhile_is_waited_for(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    console.world.kill("pair", "hv1/web")
    seen: list[str] = []

    def say(path: str, text: str) -> None:
        seen.append(f"{path}: {text}")
        console.world.machines["pair", "hv1/web"].state = "running"

    async def waiting() -> list[Outcome]:
        async with verbs.looking(console.site(console.home), name="pair") as session:
            return await wait(session, ["hv1/web"], Goal("ssh"), None, say)

    [outcome] = asyncio.run(waiting())
    assert outcome.ok
    assert seen == ["hv1/web: it died: killed by signal 9"]


@pytest.mark.parametrize(("line", "ok"), [(b"+ nginx.service is active (running)\n", True), (b"! it failed\n", False)])
def test_a_unit_that_failed_is_not_waited_for(console: Console, line: bytes, ok: bool) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")

    def answer(path: str, argv: Sequence[str]) -> Result:
        return Result(tuple(argv), 0, line, b"")

    console.world.answer = answer
    said = console.run("wait", "pair", "hv1", "--for", "unit:nginx", "--timeout", "0", status=0 if ok else 2)
    assert line[2:].decode().strip() in said.output


def test_proofs_are_waited_for_of_the_machines_named(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "pair", "hv2")
    said = console.run("wait", "pair", "hv2", "--for", "proofs", "--timeout", "1", status=2).stderr
    assert "hv2: reachable: it is stopped" in said


def test_a_port_that_is_listened_on_is_found_here() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
        script = ["sh", "-c", PORT, "wait", port]
        with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == f"- nothing listens on port {port}\n"
            listener.listen()
            assert waiting.stdout.readline() == f"+ port {port} is listened on\n"


SYSTEMCTL = """#!/bin/sh
printf 'LoadState=loaded\\nActiveState=%s\\nSubState=sub\\n' "$(cat "$0.state")"
"""
JOURNALCTL = """#!/bin/sh
read -r _ < "$0.fifo"
echo something
"""


def test_a_unit_is_looked_at_again_when_the_journal_says_something(tmp_path: Path) -> None:
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    os.mkfifo(tmp_path / "journalctl.fifo")
    state = tmp_path / "systemctl.state"
    state.write_text("activating")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["sh", "-c", UNIT, "wait", "web"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, env=env) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "- web.service is activating (sub)\n"
        state.write_text("active")
        (tmp_path / "journalctl.fifo").write_text("go\n")
        assert waiting.stdout.readline() == "+ web.service is active (sub)\n"


def test_a_quorum_is_waited_for_by_every_members_own_view(console: Console) -> None:  # noqa: F811
    wanted = "lab: trio\nsegments: {wire: {}}\nmachines:\n"
    wanted += "".join(f"  hv{n}: {{hypervisor: kvm, segments: [wire]}}\n" for n in (1, 2))
    (console.folder / "trio.yaml").write_text(f"{wanted}  web: {{image: tiny}}\nclusters: {{trio: [hv1, hv2]}}\n")
    pretended = FakeCluster(key=lambda: LabKeys(console.home.lab("trio").root).cluster("trio"))
    pretended.add("hv1", "hv2")
    console.world.answer = pretended.answer
    console.run("up", "trio.yaml", "--no-verify")
    said = console.run("wait", "trio", "--for", "quorum").stdout
    assert said == "hv1: cluster trio is quorate: 2 of 2 votes\nhv2: cluster trio is quorate: 2 of 2 votes\n"
    pretended.cut.add("hv2")
    late = console.run("wait", "trio", "hv2", "--for", "quorum", "--timeout", "1", status=2).stderr
    assert "hv2 is not there yet (quorum): it has no quorum: 1 of 2 votes." in late
    none = console.run("wait", "trio", "web", "--for", "quorum", status=2).stderr
    assert "None of web is a member of a cluster." in none
