"""Keys for `--set`, as far as they are typed: from the table of what a lab file may say, and the names in the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nestlab.labfile.fields import RECORDS
from nestlab.labfile.load import Loader
from nestlab.labfile.nodes import Node, Pairs
from nestlab.labfile.shapes import Boolean, Choice, Either, MapOf, Nothing, Record, Ref, Shape


def offered(typed: str, file: Path | None) -> list[str]:
    """The words that a key (`machines.hv1.mem`) may go on with; after its `=` the values, where they are few."""
    key, equals, value = typed.partition("=")
    before, dot, last = key.rpartition(".")
    root = Loader(os.environ).file(file) if file is not None else None
    shapes, node = _at(before.split(".") if before else [], root)
    lead = f"{before}{dot}"
    if equals:
        shapes, _ = _at(key.split("."), root)
        return [f"{key}={word}" for word in _values(shapes) if word.startswith(value)]
    return [f"{lead}{name}" for name in _names(shapes, node) if name.startswith(last)]


def _at(path: list[str], root: Node | None) -> tuple[list[Shape], Node | None]:
    """What may stand at a key, and what stands there."""
    shapes: list[Shape] = [Ref("lab")]
    node = root
    for part in path:
        inner: list[Shape] = []
        for shape in shapes:
            record = _record(shape)
            if record is not None and part in record.by_name:
                inner += _alternatives(record.by_name[part].shape)
            elif isinstance(shape, MapOf):
                inner += _alternatives(shape.of)
        shapes = inner
        node = node.pairs[part][1] if isinstance(node, Pairs) and part in node.pairs else None
    return shapes, node


def _names(shapes: list[Shape], node: Node | None) -> Iterator[str]:
    for shape in shapes:
        record = _record(shape)
        if record is not None:
            for field in record.fields:
                deeper = [isinstance(each, Ref | MapOf) for each in _alternatives(field.shape) if each != Nothing()]
                if any(deeper):
                    yield f"{field.name}."
                if not all(deeper):
                    yield f"{field.name}="
        elif isinstance(shape, MapOf) and isinstance(node, Pairs):
            yield from (f"{name}." for name in node.pairs)


def _values(shapes: list[Shape]) -> Iterator[str]:
    for shape in shapes:
        if isinstance(shape, Choice):
            yield from shape.values
        elif isinstance(shape, Boolean):
            yield from ("true", "false")


def _record(shape: Shape) -> Record | None:
    return RECORDS.get(shape.record) if isinstance(shape, Ref) else None


def _alternatives(shape: Shape) -> list[Shape]:
    return list(shape.shapes) if isinstance(shape, Either) else [shape]
