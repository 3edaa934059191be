"""The lines of a lab file that describe a machine, and the text with them in another hypervisor. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nestlab.base.frozen import frozen
from nestlab.labfile.compose import compose
from nestlab.labfile.nodes import Node, Pairs, Scalar
from nestlab.labfile.source import Source

STEP = 2
"""Blanks that a mapping is indented by where the file does not show what it does."""


@frozen
class _Entry:
    """A key with its value, in lines of their own: from `first` to before `end` (from 0), `indent` blanks before."""

    first: int
    end: int
    indent: int
    value: Pairs


def moved(source: Source, environ: Mapping[str, str], path: str, target: str) -> str | None:
    """The text with a machine in another hypervisor, its comments with it. None where its lines, or those of one of
    the two hypervisors, do not stand for themselves: in brackets, in another file, or an alias of others."""
    root, _ = compose(source, environ)
    if not isinstance(root, Pairs):
        return None
    lines = source.lines
    outer, _, name = path.rpartition("/")
    block, old = _machine(source, root, path), _machine(source, root, outer)
    new = _machine(source, root, target)
    if block is None or old is None or new is None:
        return None
    machines = _entry(source, old.value, "machines")
    if machines is None or name not in machines.value.pairs:
        return None
    alone = len(machines.value.pairs) == 1
    there = _entry(source, new.value, "machines")
    if there is None and "machines" in new.value.pairs:
        return None
    if any(_at(source, key) is None for each in (machines, there) if each for key, _ in each.value.pairs.values()):
        return None  # in brackets
    taken = machines if alone else block
    moving = lines[block.first : block.end]
    if there is not None:
        inner = [_at(source, key) for key, _ in there.value.pairs.values()]
        at, indent, head = there.end, next((each for each in inner if each is not None), there.indent + STEP), []
    else:
        inside = [_at(source, key) for key, _ in new.value.pairs.values()]
        own = next((each for each in inside if each is not None), None)
        if own is None:
            return None
        at, indent, head = new.end, own + STEP, [f"{' ' * own}machines:"]
    put = [*head, *_indented(moving, block.indent, indent)]
    kept: list[str | None] = [None if taken.first <= n < taken.end else line for n, line in enumerate(lines)]
    whole = [*kept[:at], *put, *kept[at:]]
    break_ = "\r\n" if "\r\n" in source.text else "\n"
    return break_.join(line for line in whole if line is not None)


def _machine(source: Source, root: Pairs, path: str) -> _Entry | None:
    found: _Entry | None = None
    here = root
    for name in path.split("/"):
        machines = here.pairs.get("machines", (None, None))[1]
        if not isinstance(machines, Pairs):
            return None
        found = _entry(source, machines, name)
        if found is None:
            return None
        here = found.value
    return found


def _entry(source: Source, within: Pairs, name: str) -> _Entry | None:
    """None unless the key begins a line of this very file, and its value is a mapping that follows it."""
    key, value = within.pairs.get(name, (None, None))
    indent = _at(source, key) if key is not None else None
    if key is None or indent is None or not isinstance(value, Pairs) or value.source is not source:
        return None
    if value.line < key.line or _aliased(source.lines[key.line - 1], key):
        return None
    lines, end = source.lines, key.line
    while end < len(lines) and (not lines[end].strip() or _blanks(lines[end]) > indent or _comment(lines[end])):
        end += 1
    while end > key.line and (not lines[end - 1].strip() or _comment(lines[end - 1])):
        end -= 1
    first = key.line - 1
    while first > 0 and _comment(lines[first - 1]) and _blanks(lines[first - 1]) == indent:
        first -= 1
    return _Entry(first, end, indent, value)


def _at(source: Source, key: Node | None) -> int | None:
    """The blanks before a key that begins a line of this file."""
    if key is None or key.source is not source or not isinstance(key, Scalar):
        return None
    before = source.lines[key.line - 1][: key.column - 1]
    return len(before) if not before.strip(" ") else None


def _aliased(line: str, key: Scalar) -> bool:
    return re.search(r":\s+\*\S+\s*(#.*)?$", line[key.column - 1 :]) is not None


def _blanks(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _comment(line: str) -> bool:
    return line.lstrip(" ").startswith("#")


def _indented(lines: Sequence[str], was: int, now: int) -> list[str]:
    shift = now - was
    if shift >= 0:
        return [f"{' ' * shift}{line}" if line.strip() else line for line in lines]
    return [line[min(-shift, _blanks(line)) :] for line in lines]
