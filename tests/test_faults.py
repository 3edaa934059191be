"""What happens to a real lab behind nestlab's back is seen, said, and mended by the next `up`."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """\
lab: faults
machines:
  a: {image: tiny, memory: 128M}
  b: {image: tiny, memory: 128M}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        cli("up", cli.file(LAB, "faults"))
        yield cli
        cli("down", "faults", "--yes", status=None)


def pid(cli: Cli, path: str) -> int:
    return int(cli.machines("faults")[path]["pid"])


def until_state(cli: Cli, path: str, state: str) -> None:
    until = time.monotonic() + 60
    while cli.states("faults")[path] != state:
        assert time.monotonic() < until, cli.states("faults")
        time.sleep(0.2)


def test_a_killed_machine_died_and_is_booted_again(cli: Cli) -> None:
    os.kill(pid(cli, "a"), signal.SIGKILL)
    until_state(cli, "a", "died")
    assert cli.steps("faults") == ["boot a"]
    cli("up", "faults")
    assert cli.steps("faults") == []


def test_a_frozen_machine_is_paused_and_goes_on(cli: Cli) -> None:
    process = pid(cli, "b")
    os.kill(process, signal.SIGSTOP)
    until_state(cli, "b", "paused")
    cli("up", "faults")
    assert pid(cli, "b") == process, "it was not booted anew"


def test_a_panicked_machine_died_and_is_booted_again(cli: Cli) -> None:
    cli("exec", "a", "--", "sh", "-c", "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    until_state(cli, "a", "died")
    assert "panic" in cli("logs", "a")
    cli("up", "faults")
    assert cli.states("faults") == {"a": "running", "b": "running"}


def test_another_nestlab_is_told_who_holds_the_lab(cli: Cli) -> None:
    os.kill(pid(cli, "a"), signal.SIGKILL)
    until_state(cli, "a", "died")
    with cli.running("up", "faults") as work:
        work.until("boot: booting")
        said = cli("up", "faults", "--no-wait", status=2)
        assert "is at work on lab faults" in said
        work.tell(signal.SIGINT)
        assert work.end().status == 130
    cli("up", "faults")


def test_a_machine_that_cannot_boot_is_an_error_with_the_end_of_its_console(cli: Cli) -> None:
    disk = cli.home / "zero.raw"
    disk.write_bytes(bytes(1 << 20))
    lab = f"lab: hopeless\nmachines:\n  z: {{image: {{file: {disk}, format: raw}}, memory: 128M}}\n"
    said = cli("up", cli.file(lab, "hopeless"), status=2)
    assert "nothing on its disk boots" in said
    cli("down", "hopeless", "--yes")
    assert not (cli.home / "labs" / "hopeless").exists()
