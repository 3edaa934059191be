"""Stamps that a machine gets when steps of its setup are done, so that the machine itself can say. Pure.

The first step is to write the files, if there are any; each command is one more. A stamp depends on all steps before
its own: where a step changes, it and all that follow it are due again, and nothing before it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nestlab.lab.model import Setup, digest_of


def stamps(setup: Setup, contents: Mapping[str, str]) -> tuple[str, ...]:
    """The stamps of all steps, in order. `contents`: digests of the local files that it copies, by path."""
    steps: list[object] = []
    if setup.files:
        steps.append([(file.path, file.mode, _content(file.text, file.source, contents)) for file in setup.files])
    steps += setup.commands
    found: list[str] = []
    for step in steps:
        found.append(digest_of(found[-1] if found else "", step)[:16])
    return tuple(found)


def done(stamped: Sequence[str], wanted: Sequence[str]) -> int:
    """How many of the steps a machine has done already, by what it is stamped with."""
    count = 0
    while count < min(len(stamped), len(wanted)) and stamped[count] == wanted[count]:
        count += 1
    return count


def _content(text: str | None, source: str | None, contents: Mapping[str, str]) -> str:
    return digest_of(text) if source is None else contents[source]
