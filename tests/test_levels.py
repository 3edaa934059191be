"""Three levels: a guest in a hypervisor in a hypervisor, each proven, each reached through the one outside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = Path(__file__).resolve().parent.parent / "examples" / "three-levels.yaml"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        yield cli
        cli("down", "three-levels", "--yes", status=None)


def test_three_levels_come_up_and_every_hypervisor_proves_a_guest(cli: Cli) -> None:
    cli("up", str(LAB))
    verdict = json.loads(cli.plain("verify", "three-levels", "--json"))
    proven = {(each["path"], each["claim"]): each["ok"] for each in verdict["proofs"]}
    assert verdict["ok"]
    assert proven["outer", "guest"]
    assert proven["outer/inner", "guest"]
    assert proven["outer/inner/web", "accelerated"]


def test_the_third_level_is_reached_by_every_verb(cli: Cli, tmp_path: Path) -> None:
    web = "outer/inner/web"
    assert cli.plain("exec", web, "--", "hostname") == "web\n"
    (tmp_path / "there").write_text("through three")
    cli("cp", str(tmp_path / "there"), f"{web}:/tmp/file")
    assert cli.plain("exec", web, "--", "cat", "/tmp/file") == "through three"
    assert "nestlab: ready" in cli.plain("logs", web)
    assert cli.states("three-levels") == {"outer": "running", "outer/inner": "running", web: "running"}


def test_a_guest_three_levels_down_is_stopped_and_started(cli: Cli) -> None:
    web = "outer/inner/web"
    cli("stop", "three-levels", web)
    assert cli.states("three-levels")[web] == "stopped"
    cli("start", "three-levels", web)
    assert cli.steps(str(LAB)) == []
