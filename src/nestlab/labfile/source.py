"""The text of a lab file, into which mistakes point."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nestlab.base.errors import Mistake
from nestlab.base.printable import hidden
from nestlab.lab.pve_address import veiled

_BREAK = re.compile(r"\r\n|\r|\n")
"""Line breaks of YAML 1.2; `str.splitlines` knows more of them."""

_SHOWN = 160
"""Letters of a line that are shown before or after a mistake."""

_READ = 2000
"""Letters of a line that are looked through for secrets."""


@dataclass(frozen=True, eq=False)
class Source:
    """A lab file, an included file, or the argument of one `--set`. Relative paths in it start at `directory`."""

    name: str
    text: str
    directory: Path
    by_user: bool = False
    """Whether the user wrote it on the command line, rather than somebody in a file."""

    @cached_property
    def lines(self) -> list[str]:
        return _BREAK.split(self.text)

    @cached_property
    def _veiled(self) -> dict[int, str]:
        return {}

    def _harmless(self, line: int) -> str:
        """The start of a line without secrets; looked through once, however many mistakes are on it."""
        if line not in self._veiled:
            self._veiled[line] = veiled(self.lines[line - 1][:_READ])
        return self._veiled[line]

    def offset(self, line: int, column: int) -> int:
        """Where in the text a place is that counts from 1."""
        starts = [0, *(each.end() for each in _BREAK.finditer(self.text))]
        return starts[line - 1] + column - 1

    def mistake(self, line: int, column: int, what: str, *, key: str = "", hint: str = "") -> Mistake:
        """A mistake at a place that counts from 1. Of its line only what fits a screen is shown, and what cannot be
        printed as a blank, nor what looks like a secret."""
        whole = self._harmless(line) if 0 < line <= len(self.lines) and column <= _SHOWN else ""
        shown = "".join(" " if hidden(letter) else letter for letter in whole[: column + _SHOWN]).rstrip()
        if len(whole) > column + _SHOWN:
            shown += "…"
        return Mistake(self.name, line, column, key, what, hint, shown)
