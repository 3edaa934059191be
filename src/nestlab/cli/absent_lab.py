"""Whether the words of a command mean a lab that is not there: then `down` has nothing to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nestlab.cli import complete
from nestlab.cli.common import here, home
from nestlab.home.targets import DEFAULT_FILES


def absent_lab(words: Sequence[str] | None) -> str | None:
    """The name of the lab that is meant and not there; None if one that is there may be meant, or its machines. A word
    that is nearly a machine's name means that."""
    labs = home().labs()
    first = words[0] if words else ""
    file = _file_named(first)
    if file is not None:
        from nestlab.home import labs as made

        name = made.lab_of(home(), file)
        if name is None:
            from nestlab.labfile import parse

            name = parse(file, environ=os.environ).name
        return None if name in labs else name
    if not first:
        return None if labs else ""
    lab, colon, _ = first.partition(":")
    if lab in labs or (not colon and _is_machine(first, labs)):
        return None
    return lab if "/" not in lab else None


def _file_named(word: str) -> Path | None:
    """The lab file that is meant, if one is."""
    if word:
        return here() / word if word.endswith((".yaml", ".yml")) else None
    found = [here() / name for name in DEFAULT_FILES if (here() / name).is_file()]
    return found[0] if found else None


def _is_machine(word: str, labs: Sequence[str]) -> bool:
    from difflib import get_close_matches

    from nestlab.home.targets import matches

    paths = [path for lab in labs for path in complete.paths(lab)]
    patterns = word.split(",")
    wild = any(letter in word for letter in "*?[")
    if wild:
        return True
    return any(any(matches(path, each) for path in paths) or bool(get_close_matches(each, paths)) for each in patterns)
