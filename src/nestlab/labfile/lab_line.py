"""The line of a lab file that names its lab, and the file with another name in it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nestlab.base.frozen import frozen
from nestlab.labfile.compose import compose
from nestlab.labfile.nodes import Pairs, Scalar
from nestlab.labfile.source import Source


@frozen
class LabLine:
    """`line` counts from 1. `old`: the line as it is."""

    line: int
    name: str
    old: str
    _source: Source
    _column: int

    def renamed(self, name: str) -> tuple[str, str] | None:
        """The line and the whole text with another name. None where the name does not simply stand there, plain or in
        quotes: it has a variable, an anchor, or brackets around it."""
        wanted = rf"""(["']?){re.escape(self.name)}\1(?=\s*$|\s+#)"""
        found = re.compile(wanted).match(self.old, self._column - 1)
        if found is None:
            return None
        start, length = found.end(1), len(self.name)
        text, at = self._source.text, self._source.offset(self.line, start + 1)
        return (
            self.old[:start] + name + self.old[start + length :],
            text[:at] + name + text[at + length :],
        )


def find(source: Source, environ: Mapping[str, str]) -> LabLine | None:
    """None where the file is no lab file, or names no lab."""
    root, _ = compose(source, environ)
    _, value = root.pairs.get("lab", (None, None)) if isinstance(root, Pairs) else (None, None)
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        return None
    return LabLine(value.line, value.value, source.lines[value.line - 1], value.source, value.column)
