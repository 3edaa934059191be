"""YAML text to nodes with places: variables put in, aliases and merge keys resolved, duplicate keys found."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nestlab.base.errors import Mistake
from nestlab.labfile.fields import DEPTH_LIMIT, MISTAKES_LIMIT, SIZE_LIMIT, WRITTEN_LIMIT
from nestlab.labfile.nodes import Inserted, Items, Node, Pairs, Scalar, Value, found, resolve, shortened
from nestlab.labfile.source import Source

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|(\{))")
_STANDARD = "tag:yaml.org,2002:"


INSERTED_LIMIT = 1 << 20
"""Letters that variables may put in, all together: what stands for them is short."""

SECRETS = frozenset({"NESTLAB_PVE_TOKEN", "NESTLAB_PVE_PASSWORD"})


class Unusable(Exception):
    """The text cannot be read any further."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.what)
        self.mistake = mistake


@dataclass
class Intake:
    """What a lab file and all that it names take in: how much of it may still be read, and the variables of the
    environment with the keys that they are first used for."""

    written: int = WRITTEN_LIMIT
    inserted: int = INSERTED_LIMIT
    variables: dict[str, str] = field(default_factory=dict)


def compose(
    source: Source, environ: Mapping[str, str] | None, text: str | None = None, intake: Intake | None = None
) -> tuple[Node | None, list[Mistake]]:
    """The root of a text (None: there is nothing in it, or it cannot be read) and the mistakes met on the way.

    `environ` are the values for `${VAR}`; None leaves dollars alone. `text` is read instead of that of the source,
    whose places it must share. What is read is taken off the `intake`.
    """
    composer = _Composer(source, environ, intake or Intake())
    try:
        for event in _events(source, source.text if text is None else text):
            composer.take(event)
    except Unusable as unusable:
        return None, [*composer.mistakes, unusable.mistake]
    return composer.root, composer.mistakes


def _events(source: Source, text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        parts = [str(part).strip() for part in (error.context, error.problem) if part]
        raise Unusable(_malformed(source, line, column, ", ".join(parts))) from error
    except YAMLError as error:
        # Reader errors: they know only an offset, and the text is in memory, so look for the letter ourselves.
        line, column = _unprintable(text)
        raise Unusable(_malformed(source, line, column, "a control character")) from error
    except (ValueError, OverflowError, IndexError, TypeError, AttributeError, AssertionError) as error:
        # The parser trips over some input instead of refusing it: chr() of an escape beyond Unicode, for example.
        raise Unusable(_malformed(source, 1, 1, f"the YAML parser gave up: {error}")) from error


def _malformed(source: Source, line: int, column: int, problem: str) -> Mistake:
    hint = "YAML shows nesting by indentation with blanks; text with ': ' or ' #' in it needs quotes."
    if 0 < line <= len(source.lines) and "${" in source.lines[line - 1]:
        hint = "Inside { } and [ ] YAML takes ${…} only within quotes: write that mapping on lines of its own."
    return source.mistake(line, column, f"this is not YAML: {problem}", hint=hint)


def _unprintable(text: str) -> tuple[int, int]:
    bad = re.search("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: bad.start()] if bad else ""
    lines = re.split(r"\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1


@dataclass(slots=True, eq=False)
class _Frame:
    """A sequence or mapping that is still being read."""

    node: Items | Pairs
    anchor: str | None
    key: Scalar | None = None
    merged: list[Pairs] = field(default_factory=list)
    merges: bool = False


class _Composer:
    def __init__(self, source: Source, environ: Mapping[str, str] | None, intake: Intake) -> None:
        self.source = source
        self.environ = environ
        self.intake = intake
        self.mistakes: list[Mistake] = []
        self.root: Node | None = None
        self.frames: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.documents = 0

    def take(self, event: Any) -> None:
        """One event of the parser. Unusable when nothing after it can be understood."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        self.spend(1 + len(self.frames) // 10, line, column)
        match type(event).__name__:
            case "ScalarEvent":
                self.add(self.scalar(event, line, column), event.anchor)
            case "MappingStartEvent":
                self.open(Pairs(self.source, line, column), event)
            case "SequenceStartEvent":
                self.open(Items(self.source, line, column), event)
            case "MappingEndEvent" | "SequenceEndEvent":
                self.close()
            case "AliasEvent":
                self.add(self.alias(event.anchor, line, column), None)
            case "DocumentStartEvent":
                self.documents += 1
                if self.documents > 1:
                    raise self.unusable(line, column, "a second document starts here", "Keep one lab in a file.")
                if event.version not in (None, (1, 2)):
                    raise self.unusable(line, column, "lab files are YAML 1.2", "Leave out the %YAML line.")

    def spend(self, count: int, line: int, column: int) -> None:
        """What is read takes time, even if nothing comes of it."""
        self.intake.written -= count
        if self.intake.written < 0:
            hint = "Let machines that are alike share an anchor; or is it another file than you meant?"
            raise self.unusable(line, column, f"there are more than {WRITTEN_LIMIT} values up to here", hint)

    def said(self, mistake: Mistake) -> None:
        """Keep a mistake. Unusable when there are so many that no more of them help."""
        self.mistakes.append(mistake)
        if len(self.mistakes) >= MISTAKES_LIMIT:
            what, hint = f"more than {MISTAKES_LIMIT - 1} mistakes up to here", "Correct those first."
            raise Unusable(self.source.mistake(mistake.line, mistake.column, what, hint=hint))

    def unusable(self, line: int, column: int, what: str, hint: str) -> Unusable:
        return Unusable(self.source.mistake(line, column, what, key=self.path(), hint=hint))

    def path(self) -> str:
        """The key path of the value that comes next."""
        path = ""
        for frame in self.frames:
            if isinstance(frame.node, Items):
                path += f"[{len(frame.node.items)}]"
            elif frame.key is not None:
                path += f".{frame.key.text}"
        return path.removeprefix(".")

    def open(self, node: Items | Pairs, event: Any) -> None:
        if len(self.frames) >= DEPTH_LIMIT:
            raise self.unusable(node.line, node.column, f"nested more than {DEPTH_LIMIT} deep", "Nest less deeply.")
        self.no_tag(event, node)
        self.frames.append(_Frame(node, event.anchor))
        if event.anchor is not None:
            self.anchors[event.anchor] = node

    def close(self) -> None:
        frame = self.frames.pop()
        node = frame.node
        if isinstance(node, Pairs) and frame.merged:
            self.spend(sum(len(each.pairs) for each in frame.merged), node.line, node.column)
            inherited = {key: pair for each in reversed(frame.merged) for key, pair in each.pairs.items()}
            node.pairs = inherited | node.pairs
        inner = node.items if isinstance(node, Items) else [value for _, value in node.pairs.values()]
        node.size = 1 + sum(each.size for each in inner) + len(inner) * isinstance(node, Pairs)
        node.depth = 1 + max((each.depth for each in inner), default=0)
        if node.size > SIZE_LIMIT or node.depth > DEPTH_LIMIT:
            raise self.unusable(
                node.line,
                node.column,
                f"its aliases make it {node.size} values, {node.depth} deep",
                f"A lab file may hold {SIZE_LIMIT} values, nested {DEPTH_LIMIT} deep.",
            )
        self.add(node, None)

    def alias(self, name: str, line: int, column: int) -> Node:
        """The node an alias stands for; its mistakes are shown at its own place."""
        node = self.anchors.get(name)
        what, hint = "", ""
        if node is None:
            what, hint = f"*{name} stands for nothing", f"Put &{name} before the value it shall repeat, further up."
        elif any(frame.node is node for frame in self.frames):
            what, hint = f"*{name} is part of itself", f"Take it out of what &{name} names."
        if node is not None and not what:
            return node
        self.said(self.source.mistake(line, column, what, key=self.path(), hint=hint))
        return Scalar(self.source, line, column, None, "", True, bad=True)

    def add(self, node: Node, anchor: str | None) -> None:
        """Put a complete node where it belongs."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        if isinstance(frame.node, Items):
            frame.node.items.append(node)
        elif frame.key is None:
            frame.key = self.key(node, frame.node)
        else:
            key, frame.key = frame.key, None
            if key.plain and key.text == "<<":
                self.merge(node, frame)
            elif not key.bad:
                frame.node.pairs.setdefault(key.text, (key, node))

    def key(self, node: Node, mapping: Pairs) -> Scalar:
        """The node as a key; `bad` when it cannot be one, and its value is then left out."""
        if not isinstance(node, Scalar):
            self.said(node.mistake(f"{found(node)} as a key", key=self.path(), hint="Keys are names."))
            return Scalar(self.source, node.line, node.column, None, "", False, bad=True)
        what, hint = "", ""
        if node.plain and node.text == "<<":
            if not self.frames[-1].merges:
                self.frames[-1].merges = True
                return node
            what, hint = "it is here twice", "Write <<: [*one, *other]."
        elif not isinstance(node.value, str) and not node.bad and not _is_number(node):
            what, hint = f"found {found(node)}, expected a name", "Keys are text that begins with a letter."
        elif node.text in mapping.pairs:
            first = mapping.pairs[node.text][0]
            what, hint = "it is here twice", f"The first is on line {first.line}: keep one of them."
        if what:
            path = f"{self.path()}.{node.text}".removeprefix(".")
            self.said(node.mistake(what, key=path, hint=hint))
        if what or node.bad:
            return Scalar(self.source, node.line, node.column, node.value, node.text, False, bad=True)
        return node

    def merge(self, node: Node, frame: _Frame) -> None:
        """`<<: *one` or `<<: [*one, *two]`: of the same key the mapping's own counts, then the earlier."""
        for each in node.items if isinstance(node, Items) else [node]:
            if isinstance(each, Pairs):
                frame.merged.append(each)
            elif not each.bad:
                hint = "Write <<: *name, or <<: [*one, *other]."
                self.said(each.mistake(f"<< takes mappings, found {found(each)}", key=self.path(), hint=hint))

    def scalar(self, event: Any, line: int, column: int) -> Scalar:
        plain = bool(event.implicit[0])
        if plain and not event.value and self.frames and (key := self.frames[-1].key) is not None:
            # The parser puts what is left out at the next thing that is there, lines further down.
            line, column = key.line, key.column
        node = Scalar(self.source, line, column, None, event.value, plain)
        text = event.value
        if "$" in text and self.environ is not None:
            text = self.substituted(node, self.environ)
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            self.wrong(node, "it holds half a character", "Write text in UTF-8, and \\U escapes with eight digits.")
            text = ""
        node.text = text
        value: Value = text
        if plain and not event.tag:
            value = resolve(text)
        elif event.tag and event.tag not in ("!", f"{_STANDARD}str"):
            self.no_tag(event, node)
        node.value = value
        return node

    def no_tag(self, event: Any, node: Node) -> None:
        tag = event.tag
        if tag and tag not in ("!", f"{_STANDARD}map", f"{_STANDARD}seq"):
            shown = tag.replace(_STANDARD, "!!")
            self.wrong(node, f"the tag {shortened(shown)[1:-1]} means nothing here", "Leave it out.")

    def wrong(self, node: Node, what: str, hint: str) -> None:
        node.bad = True
        self.said(node.mistake(what, key=self.path(), hint=hint))

    def substituted(self, node: Scalar, environ: Mapping[str, str]) -> str:
        """The text with its variables put in; at the first that is wrong, nothing of it is worth having."""
        parts: list[str] = []
        inserted: list[Inserted] = []
        at = length = 0
        for match in _VARIABLE.finditer(node.text):
            dollar, name, default, brace = match.groups()
            wrong = self.not_usable(name, default, environ) if name else None
            if brace:
                shown = shortened(node.text[match.start() : match.start() + 20])[1:-1]
                form = "Write ${NAME} or ${NAME:-default}, and $$ for a dollar that shall stay one."
                wrong = f"{shown} is not a variable", form
            if wrong is not None:
                self.wrong(node, *wrong)
                return ""
            known = "$" if dollar else environ.get(name, "") or default or ""
            parts += [node.text[at : match.start()], known]
            start = length + match.start() - at
            length, at = start + len(known), match.end()
            if name and environ.get(name):
                inserted.append(Inserted(name, start, length))
                self.intake.inserted -= len(known)
                if name not in self.intake.variables:
                    self.intake.variables[name] = self.path()
        if self.intake.inserted < 0:
            what = f"the values of variables make more than {INSERTED_LIMIT >> 10} KiB up to here"
            raise self.unusable(node.line, node.column, what, "Put such a text into a file, and name that.")
        node.inserted = tuple(inserted)
        return "".join([*parts, node.text[at:]])

    def not_usable(self, name: str, default: str | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """What is wrong with a variable, and what to do."""
        if name in SECRETS:
            what = f"{name} is nestlab's own secret, and no variable for lab files"
            return what, "Name another variable: what a lab file takes may end up in its machines."
        if default is None and name not in environ:
            return f"the variable {name} is not set", f"Set it in the environment, or write ${{{name}:-default}}."
        return None


def _is_number(node: Scalar) -> bool:
    """A number in its usual digits: what a port is."""
    return type(node.value) is int and node.text == str(node.value)
