"""YAML nodes with their places, and what a plain scalar means in YAML 1.2."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TypeAlias

from nestlab.base.errors import Mistake
from nestlab.lab.pve_address import veiled
from nestlab.labfile.source import Source

Value: TypeAlias = str | int | float | bool | None

_CONSTANTS: dict[str, Value] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True, eq=False)
class Node:
    """A part of a file. `bad`: a mistake about it has been said already. `size`: how many parts it has, aliases
    written out; `depth`: how deep they go."""

    source: Source
    line: int
    column: int
    bad: bool = field(default=False, kw_only=True)
    size: int = field(default=1, kw_only=True)
    depth: int = field(default=1, kw_only=True)

    def mistake(self, what: str, *, key: str = "", hint: str = "") -> Mistake:
        return self.source.mistake(self.line, self.column, what, key=key, hint=hint)


@dataclass(frozen=True, slots=True)
class Inserted:
    """A part of a text, from `start` to `end`, that is the value of a variable of the environment."""

    name: str
    start: int
    end: int


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """`text` is what `value` was resolved from; `plain`: it was not quoted."""

    value: Value
    text: str
    plain: bool
    inserted: tuple[Inserted, ...] = field(default=(), kw_only=True)

    @property
    def whole(self) -> bool:
        """Whether one variable of the environment is all of it, so that nobody but the user chose it."""
        return len(self.inserted) == 1 and self.inserted[0].start == 0 and self.inserted[0].end == len(self.text)


@dataclass(slots=True, eq=False)
class Items(Node):
    """A sequence."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Pairs(Node):
    """A mapping, by the text of its keys: (key, value)."""

    pairs: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)


def resolve(text: str) -> Value:
    """The value of a plain scalar by the core schema of YAML 1.2 (`on`, `yes` and `12:30` are text)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def found(node: Node) -> str:
    """The node in words: what was found where something else was expected."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Pairs):
        return "a mapping"
    assert isinstance(node, Scalar)
    if node.value is None:
        return "nothing"
    if isinstance(node.value, str):
        return f"the text {shortened(node.value)}"
    return shortened(node.text)[1:-1]


def shortened(text: str) -> str:
    """Text in quotes on one line, the middle left out when it is long, and what looks like a secret hidden."""
    text = veiled(text if len(text) < 2000 else text[:1000] + text[-1000:])
    if len(text) > 60:
        text = f"{text[:40]}…{text[-10:]}"
    return json.dumps(text, ensure_ascii=not text.isprintable())
