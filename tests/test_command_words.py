"""Which words of `ssh` and `exec` are nestlab's, and which are the command's."""

from __future__ import annotations

import pytest

from nestlab.cli.command_words import shifts_last, split

OPTIONS = {"--all": False, "--on": True, "--lab": True, "--json": False, "--debug": False}


@pytest.mark.parametrize(
    ("line", "own", "command"),
    [
        ("hv1", "hv1", None),
        ("hv1 ls -la /", "hv1", "ls -la /"),
        ("hv1 -- ls -la /", "hv1", "ls -la /"),
        ("hv1 --json ls --json", "hv1 --json", "ls --json"),
        ("--json hv1 ls", "--json hv1", "ls"),
        ("hv1 grep -- -x file", "hv1", "grep -- -x file"),
        ("hv1 -- grep -- -x file", "hv1", "grep -- -x file"),
        ("hv1 hv2 -- uptime", "hv1 hv2", "uptime"),
        ("hv1 hv2", "hv1", "hv2"),
        ("pair hv1 uptime", "pair hv1", "uptime"),
        ("pair hv1 -- uptime", "pair hv1", "uptime"),
        ("--all uptime -p", "--all", "uptime -p"),
        ("--on hv* --json uptime", "--on hv* --json", "uptime"),
        ("--on=hv* uptime", "--on=hv*", "uptime"),
        ("--lab pair hv1 uptime", "--lab pair hv1", "uptime"),
        ("--all -- uptime", "--all", "uptime"),
        ("", "", None),
        ("hv1 --", "hv1", ""),
        ("hv1 - x", "hv1", "- x"),
    ],
)
def test_the_command_begins_after_the_machine_or_two_dashes(line: str, own: str, command: str | None) -> None:
    found = split(line.split(), OPTIONS, lambda word: word == "pair", lambda word: word in ("hv1", "hv2"))
    assert found == (own.split(), None if command is None else command.split())


def test_what_is_a_shift_is_no_option() -> None:
    assert shifts_last(["hv1", "-1h"]) == ["hv1", "--", "-1h"]
    assert shifts_last(["hv1", "-90s", "--json"]) == ["hv1", "--json", "--", "-90s"]
    assert shifts_last(["hv1", "--", "-1h"]) == ["hv1", "--", "-1h"]
    assert shifts_last(["hv1", "+1h", "-h"]) == ["hv1", "+1h", "-h"]
