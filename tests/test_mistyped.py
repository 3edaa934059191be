"""Commands and options that are not there: what may have been meant is named, and nothing else."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from nestlab.cli.app import app
from nestlab.cli.verbs_of_others import MISNOMERS


def refused(line: str) -> str:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2
    return result.output.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("destroy pair", " Did you mean `down`?"),
        ("halt pair", " Did you mean `stop`?"),
        ("validat x", " Did you mean `validate`?"),
        ("images list", " Did you mean `ls`?"),
        ("pve chekc x", " Did you mean `check`?"),
        ("thaw x", ""),
        ("xyzzy", ""),
        ("images destroy", ""),
    ],
)
def test_a_command_that_is_not_there_is_told_with_the_one_of_the_same_meaning_if_there_is_one(
    line: str, hint: str
) -> None:
    assert refused(line).endswith(
        f"No such command '{line.removeprefix('images ').removeprefix('pve ').split()[0]}'.{hint}"
    )


def test_an_option_that_is_not_there_is_told_with_one_that_looks_like_it_or_how_a_key_is_set() -> None:
    assert "(Possible options: --json)" in refused("up --jso")
    assert refused("up --on pve1").endswith("No such option: --on. A key of the lab file is changed by --set KEY=VALUE")
    assert refused("down --on pve1").endswith("No such option: --on")


def test_words_of_other_tools_lead_to_commands_and_are_none_themselves() -> None:
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(MISNOMERS.values()) <= commands
    assert not set(MISNOMERS) & commands
