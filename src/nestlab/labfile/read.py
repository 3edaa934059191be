"""Nodes to values of the shapes that the table of fields asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestlab.base.did_you_mean import meant
from nestlab.base.errors import Mistake
from nestlab.labfile.cloud_config import cloud_config, file_of, json_of
from nestlab.labfile.compose import Intake
from nestlab.labfile.fields import MACHINES_LIMIT, MISTAKES_LIMIT, RECORDS
from nestlab.labfile.nodes import Items, Node, Pairs, Scalar, found, shortened
from nestlab.labfile.scalars import AS_TEXT, Wrong, leaf
from nestlab.labfile.shapes import (
    CloudConfig,
    Either,
    ListOf,
    LocalPath,
    MapOf,
    Name,
    Nothing,
    Record,
    Ref,
    Settings,
    Shape,
    Text,
)


class Enough(Exception):
    """There are so many mistakes that no more of them help."""


class _Bad:
    """Stands for a value that a mistake has been said about."""


BAD: Final = _Bad()


@dataclass(slots=True, eq=False)
class Section:
    """A mapping that has been read. `values` holds what is good in it; `at` where each key's value stands (also of
    bad ones), `keys` the keys themselves."""

    node: Pairs
    key: str
    values: dict[str, Any] = field(default_factory=dict)
    at: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Scalar] = field(default_factory=dict)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """The members that are valid and mappings themselves."""
        return ((name, value) for name, value in self.values.items() if isinstance(value, Section))


class Reader:
    """Reads by the table and gathers every mistake in `mistakes`."""

    def __init__(self, intake: Intake | None = None) -> None:
        self.mistakes: list[Mistake] = []
        self.machines = 0
        self.intake = intake or Intake()
        self.named: dict[str, str] = {}
        """Files of this computer that files name, by their paths: the first key that names them."""

    def lab(self, root: Pairs) -> Section:
        return self._record(RECORDS["lab"], root, "")

    def wrong(self, node: Node, key: str, what: str, hint: str = "") -> None:
        if len(self.mistakes) >= MISTAKES_LIMIT:
            raise Enough
        self.mistakes.append(node.mistake(what, key=key, hint=hint))

    def read(self, shape: Shape, node: Node, key: str) -> Any:
        """The value: a Section for a mapping, a list of (node, value), what `leaf` gives for a scalar, None for
        nothing; BAD when it is wrong."""
        if node.bad:
            return BAD
        mapped = False
        if isinstance(shape, Either):
            mapped = any(isinstance(each, MapOf) for each in shape.shapes)
            shape = next((each for each in shape.shapes if _fits(each, node)), shape)
        if isinstance(shape, Ref) and isinstance(node, Pairs):
            return self._record(RECORDS[shape.record], node, key)
        if isinstance(shape, MapOf) and isinstance(node, Pairs):
            return self._map(shape, node, key)
        if isinstance(shape, ListOf) and isinstance(node, Items):
            return self._list(shape, node, key, mapped=mapped)
        if isinstance(shape, CloudConfig):
            try:
                if (path := file_of(node)) is not None:
                    self._names(node, path, key)
                return cloud_config(node, self.intake)
            except Wrong as wrong:
                self.wrong(node, key, wrong.what, wrong.hint)
                return BAD
        if isinstance(shape, Settings):
            return self._settings(node, key)
        if isinstance(shape, Either | Ref | MapOf | ListOf | Nothing) or not isinstance(node, Scalar):
            if not (isinstance(shape, Nothing) and _fits(shape, node)):
                self.wrong(node, key, f"found {found(node)}, expected {shape.words}", self._wrapped(shape, node))
                return BAD
            return None
        try:
            value = leaf(shape, node)
        except Wrong as wrong:
            self.wrong(node, key, wrong.what, wrong.hint)
            return BAD
        if isinstance(shape, LocalPath):
            self._names(node, value, key)
        return value

    def _wrapped(self, shape: Shape, node: Node) -> str:
        """How a scalar is written where a list of such is wanted, or a mapping whose first key is that: a hint."""
        if not isinstance(node, Scalar) or node.value is None:
            return ""
        text = shortened(node.text)[1:-1]
        for each in shape.shapes if isinstance(shape, Either) else (shape,):
            if isinstance(each, ListOf) and self._right(each.of, node):
                return f"Write a list: [{text}]"
            if isinstance(each, Ref):
                first = next((one for one in RECORDS[each.record].fields if self._right(one.shape, node)), None)
                return f"Write a mapping: {{{first.name}: {text}}}" if first else ""
        return ""

    def _right(self, shape: Shape, node: Node) -> bool:
        """Whether a node is such a value."""
        trial = Reader(self.intake)
        return trial.read(shape, node, "") is not BAD and not trial.mistakes

    def _list(self, shape: ListOf, node: Items, key: str, *, mapped: bool) -> list[tuple[Node, Any]]:
        """`mapped`: names with their values would do, too."""
        values = []
        for at, each in enumerate(node.items):
            value = self.read(shape.of, each, f"{key}[{at}]")
            if value is not BAD:
                values.append((each, value))
            elif mapped and isinstance(each, Pairs) and self.mistakes and not self.mistakes[-1].hint:
                hint = f"With more than names, write a mapping: `{key.rpartition('.')[2]}: {{NAME: {{…}}}}`."
                self.mistakes[-1] = replace(self.mistakes[-1], hint=hint)
        return values

    def _settings(self, node: Node, key: str) -> Any:
        """A mapping as JSON, or text as it is."""
        try:
            if isinstance(node, Pairs):
                return json_of(node)
            if isinstance(node, Scalar) and isinstance(node.value, str):
                return leaf(Text(), node)
        except Wrong as wrong:
            self.wrong(node, key, wrong.what, wrong.hint)
            return BAD
        self.wrong(node, key, f"found {found(node)}, expected {Settings.words}")
        return BAD

    def _names(self, node: Node, path: str, key: str) -> None:
        """A file is named, and may be given to machines. What the user names on the command line is no news to them."""
        if not node.source.by_user:
            self.named.setdefault(path, key)

    def _record(self, record: Record, node: Pairs, key: str) -> Section:
        section = Section(node, key)
        if record.name == "machine":
            self.machines += 1
            if self.machines > MACHINES_LIMIT:
                if self.machines == MACHINES_LIMIT + 1:
                    hint = "Look for aliases that repeat each other."
                    self.wrong(node, key, f"there are more than {MACHINES_LIMIT} machines", hint)
                return section
        for name, (name_node, value_node) in node.pairs.items():
            path = f"{key}.{name}" if key else name
            known = record.by_name.get(name)
            if known is None:
                self._unknown(record, name_node, path)
                continue
            section.keys[name] = name_node
            section.at[name] = value_node
            value = self.read(known.shape, value_node, path)
            if value is not BAD:
                section.values[name] = value
            else:
                self._one_or_many(record, name, value_node, path, node)
        for wanted in record.fields:
            said = {wanted.name, *wanted.misnomers} & {*node.pairs}  # what is misnamed is not missing, too
            if wanted.required and not said:
                hint = f"Add {wanted.name}: {wanted.example}" if wanted.example else f"Add `{wanted.name}:`."
                self.wrong(node, wanted.name, f"`{wanted.name}` is missing: {wanted.shape.words}", hint)
        return section

    def _one_or_many(self, record: Record, name: str, value: Node, path: str, node: Pairs) -> None:
        """Where a value is wrong for `cpu` and right for `cpus`, or the other way round, that key is named."""
        other = name.removesuffix("s") if name.endswith("s") else f"{name}s"
        told = self.mistakes[-1] if self.mistakes else None
        if other not in record.by_name or other in node.pairs or told is None or told.key != path:
            return
        if told.hint and not told.hint.startswith(AS_TEXT):  # it says more
            return
        if self._right(record.by_name[other].shape, value):
            self.mistakes[-1] = replace(told, hint=f"Did you mean `{other}`?")

    def _unknown(self, record: Record, node: Scalar, path: str) -> None:
        if refused := record.refused.get(node.text.lower()):
            self.wrong(node, path, f"`{node.text}` is not a key of {record.called}", refused)
            return
        misnomers = {word: known.name for known in record.fields for word in known.misnomers}
        name = shortened(node.text)[1:-1]
        what = f"`{name}` is not a key of {record.called}"
        self.wrong(node, path, what, meant(node.text, record.by_name, misnomers=misnomers, listed=True))

    def _map(self, shape: MapOf, node: Pairs, key: str) -> Section:
        section = Section(node, key)
        for name, (name_node, value_node) in node.pairs.items():
            path = f"{key}.{name if len(name) < 80 else name[:40] + '…'}"
            try:
                leaf(shape.keys, name_node)
            except Wrong as wrong:
                self.wrong(name_node, path, wrong.what, wrong.hint)
            value = self.read(shape.of, value_node, path)
            section.keys[name] = name_node
            section.at[name] = value_node
            if value is not BAD:
                section.values[name] = value
        if isinstance(shape.keys, Name) and shape.keys.of == "machine" and not node.pairs and key == "machines":
            self.wrong(node, key, "there is no machine in the lab", "Add one, such as `web: {image: tiny}`.")
        return section


def _fits(shape: Shape, node: Node) -> bool:
    """Whether a node looks like the shape: nothing, a scalar, a list or a mapping."""
    match shape:
        case CloudConfig() | Settings():
            return True
        case Ref() | MapOf():
            return isinstance(node, Pairs)
        case ListOf():
            return isinstance(node, Items)
        case Nothing():
            return isinstance(node, Scalar) and node.value is None
        case Either():
            return any(_fits(each, node) for each in shape.shapes)
    return isinstance(node, Scalar) and node.value is not None


def sections_of(section: Section | None) -> list[tuple[str, Section]]:
    """The members of a mapping that may not be there that are mappings themselves."""
    return list(section.sections()) if section is not None else []


def values_of(section: Section | None) -> list[tuple[str, Any]]:
    """All that is good in a mapping that may not be there."""
    return list(section.values.items()) if section is not None else []
