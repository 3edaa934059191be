"""A lab before its machine, where one machine is meant."""

from __future__ import annotations

import pytest

from nestlab.cli.lab_and_machine import join

LABS = {"own": ["box", "box/web"], "box": ["own"]}


def paths(lab: str) -> list[str]:
    return LABS.get(lab, [])


@pytest.mark.parametrize(
    ("line", "most", "wanted"),
    [
        ("own box", 1, "own:box"),
        ("own box/web", 1, "own:box/web"),
        ("-f own box", 1, "-f own:box"),
        ("--boot 1 own box --json", 1, "--boot 1 own:box --json"),
        ("own box wire", 2, "own:box wire"),
        ("own box", 2, "own box"),
        ("own other", 1, "own other"),
        ("none box", 1, "none box"),
        ("own -f box", 1, "own -f box"),
        ("box own", 1, "box:own"),
        ("", 1, ""),
    ],
)
def test_a_lab_and_its_machine_are_one_word_where_they_would_be_one_too_many(line: str, most: int, wanted: str) -> None:
    assert join(line.split(), {"--boot"}, most, paths) == wanted.split()
