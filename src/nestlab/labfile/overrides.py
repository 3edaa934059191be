"""`--set machines.hv1.memory=4G`: values from the command line replace those of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nestlab.base.did_you_mean import meant
from nestlab.base.errors import Mistake
from nestlab.labfile.compose import compose
from nestlab.labfile.fields import RECORDS
from nestlab.labfile.nodes import Node, Pairs, Scalar, found, resolve, shortened
from nestlab.labfile.shapes import Either, MapOf, Ref, Shape
from nestlab.labfile.source import Source


class _Wrong(Exception):
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.what)
        self.mistake = mistake


def assign(root: Pairs, sets: Sequence[str], directory: Path) -> tuple[Pairs, list[Mistake]]:
    """The mapping with every `KEY=VALUE` applied, in order. What aliases share is changed only where the key says.

    Relative paths among the values start at `directory`.
    """
    mistakes: list[Mistake] = []
    for number, text in enumerate(sets, 1):
        source = Source(f"--set #{number}", text, directory, by_user=True)
        try:
            path, equals, value = text.partition("=")
            if not equals or not path.strip():
                hint = "Write --set machines.NAME.memory=4G."
                raise _Wrong(source.mistake(1, 1, f"found {shortened(text)}, expected KEY=VALUE", hint=hint))
            node, wrong = _value(source, value, len(path) + 2)
            mistakes.extend(wrong)
            changed = _put(root, Ref("lab"), _parts(source, path), node, "")
            assert isinstance(changed, Pairs)
            root = changed
        except _Wrong as wrong_path:
            mistakes.append(wrong_path.mistake)
    return root, mistakes


def _parts(source: Source, path: str) -> list[Scalar]:
    parts, column = [], 1
    for part in path.split("."):
        parts.append(Scalar(source, 1, column, part.strip(), part.strip(), True))
        column += len(part) + 1
    return parts


def _value(source: Source, text: str, column: int) -> tuple[Node, list[Mistake]]:
    """A plain scalar as it stands; what begins as a list, a mapping or a quoted text does in YAML is read as YAML."""
    if text.lstrip()[:1] in ("[", "{", '"', "'"):
        node, mistakes = compose(source, None, " " * (column - 1) + text)
        return node or Scalar(source, 1, column, None, "", True, bad=True), mistakes
    return Scalar(source, 1, column, resolve(text.strip()), text.strip(), True), []


def _put(node: Node, shape: Shape, parts: list[Scalar], value: Node, key: str) -> Node:
    """A copy of `node` in which the value stands at the end of the path `parts`."""
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    inner = _mapping(shape)
    if isinstance(node, Scalar) and node.value is None and inner is not None:
        node = Pairs(part.source, part.line, part.column)
    if inner is None or not isinstance(node, Pairs):
        hint = "End the path there, or write that part of the file as a mapping."
        what = f"{key} is {shortened(node.text) if isinstance(node, Scalar) else found(node)} and has no keys inside"
        raise _Wrong(part.mistake(what, key=key, hint=hint))
    path = f"{key}.{part.text}".removeprefix(".")
    if isinstance(inner, Ref):
        record = RECORDS[inner.record]
        field = record.by_name.get(part.text)
        if field is None or path == "include":
            known = [name for name in record.by_name if path != name or name != "include"]
            where = f"{key} has" if key else "there is"
            what = f"{where} no key {shortened(part.text)} that could be set"
            raise _Wrong(part.mistake(what, key=path, hint=meant(part.text, known, listed=True)))
        name, before = node.pairs.get(part.text, (part, Scalar(part.source, 1, part.column, None, "", True)))
        return _with(node, part.text, name, _put(before, field.shape, rest, value, path))
    if part.text not in node.pairs:
        what, hint = f"there is no {shortened(part.text)} in {key}", meant(part.text, list(node.pairs), listed=True)
        if part.text.partition("/")[0] in node.pairs:  # a machine, as commands call it
            hint = f"Write its keys as the file has them: {key}.{part.text.replace('/', '.machines.')}"
        raise _Wrong(part.mistake(what, key=path, hint=hint))
    name, before = node.pairs[part.text]
    return _with(node, part.text, name, _put(before, inner.of, rest, value, path))


def _with(node: Pairs, text: str, key: Scalar, value: Node) -> Pairs:
    return Pairs(node.source, node.line, node.column, {**node.pairs, text: (key, value)}, bad=node.bad)


def _mapping(shape: Shape) -> Ref | MapOf | None:
    """What of a shape can have keys."""
    if isinstance(shape, Either):
        return next((each for each in shape.shapes if isinstance(each, Ref | MapOf)), None)
    return shape if isinstance(shape, Ref | MapOf) else None
