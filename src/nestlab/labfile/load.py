"""Files to one mapping: includes are read, relative to the file that names them, and merged."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from nestlab.base import regular
from nestlab.base.errors import Mistake
from nestlab.labfile.compose import Intake, Unusable, compose
from nestlab.labfile.nodes import Items, Node, Pairs, Scalar, found
from nestlab.labfile.scalars import Wrong, leaf
from nestlab.labfile.shapes import LocalPath
from nestlab.labfile.source import Source

BYTES_LIMIT = 1 << 20
"""Ten thousand machines need about a million bytes."""

FILES_LIMIT = 100
"""Files that are included, each counted as often as it is named."""


class Loader:
    """Reads files, each once; `mistakes` gathers what is wrong with any of them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[Mistake] = []
        self.intake = Intake()
        self._loaded: dict[Path, Pairs | None] = {}
        self._named = 0

    def file(self, path: Path) -> Pairs | None:
        """The mapping of a file with what it includes; None when there is none (and a mistake says why)."""
        try:
            source = read(path, str(path), any_kind=True)
        except Unusable as unusable:
            self.mistakes.append(unusable.mistake)
            return None
        return self.text(source, (Path(os.path.realpath(path)),))

    def text(self, source: Source, chain: tuple[Path, ...] = ()) -> Pairs | None:
        """The same for a text already read; `chain` are the files that led here, itself last."""
        root, mistakes = compose(source, self.environ, intake=self.intake)
        self.mistakes.extend(mistakes)
        if isinstance(root, Pairs):
            return self._with_includes(root, chain)
        if root is None or (isinstance(root, Scalar) and root.value is None):
            if not mistakes:
                hint = "Begin with `lab: NAME` and `machines:`."
                self.mistakes.append(source.mistake(1, 1, "there is nothing in this file", hint=hint))
        elif not root.bad:
            what = f"found {found(root)}, expected a mapping"
            self.mistakes.append(root.mistake(what, hint="Begin with `lab: NAME` and `machines:`."))
        return None

    def _with_includes(self, root: Pairs, chain: tuple[Path, ...]) -> Pairs:
        if "include" not in root.pairs:
            return root
        _, wanted = root.pairs.pop("include")
        merged = Pairs(root.source, root.line, root.column)
        for at, node in enumerate(wanted.items if isinstance(wanted, Items) else [wanted]):
            key = f"include[{at}]" if isinstance(wanted, Items) else "include"
            merged = merge(merged, self._included(node, key, chain) or Pairs(root.source, root.line, root.column))
        return merge(merged, root)

    def _included(self, node: Node, key: str, chain: tuple[Path, ...]) -> Pairs | None:
        """What a file named by `include` says; mistakes about the file itself are shown where it is named."""
        if node.bad:
            return None
        self._named += 1
        if self._named > FILES_LIMIT:
            if self._named == FILES_LIMIT + 1:
                hint = "Put together what belongs together."
                self.mistakes.append(node.mistake(f"more than {FILES_LIMIT} files are included", key=key, hint=hint))
            return None
        try:
            if not isinstance(node, Scalar):
                raise Wrong(f"found {found(node)}, expected the path of a file", "Name one file, or several in a list.")
            path = Path(leaf(LocalPath(), node))
            name = os.path.normpath(Path(node.source.name).parent / node.text)
            real = Path(os.path.realpath(path))
        except Wrong as found_wrong:
            self.mistakes.append(node.mistake(found_wrong.what, key=key, hint=found_wrong.hint))
            return None
        if real in chain:
            way = " -> ".join([*(file.name for file in chain[chain.index(real) :]), real.name])
            hint = "Take out one of these includes."
            self.mistakes.append(node.mistake(f"this file includes itself: {way}", key=key, hint=hint))
            return None
        if real not in self._loaded:
            try:
                source = read(path, name)
            except Unusable as unusable:
                wrong = unusable.mistake
                self.mistakes.append(node.mistake(f"{name}: {wrong.what}", key=key, hint=wrong.hint))
                return None
            self._loaded[real] = self._fragment(self.text(source, (*chain, real)))
        return self._loaded[real]

    def _fragment(self, root: Pairs | None) -> Pairs | None:
        """An included file, which may say everything but the lab's name."""
        if root is not None and "lab" in root.pairs:
            key, _ = root.pairs.pop("lab")
            hint = "Only the file that is given to nestlab names the lab: leave it out here."
            self.mistakes.append(key.mistake("an included file does not name the lab", key="lab", hint=hint))
        return root


def read(path: Path, name: str, *, any_kind: bool = False) -> Source:
    """A file's text. Unusable, with what is wrong about the file as a whole. `any_kind`: also of a pipe, which the
    user named rather than a file."""

    def unusable(what: str, hint: str, line: int = 1, column: int = 1) -> Unusable:
        return Unusable(Mistake(name, line, column, "", what, hint))

    try:
        data = _start(path) if any_kind else regular.read(path, BYTES_LIMIT)
    except FileNotFoundError as error:
        raise unusable("there is no such file", "Check the path; `nestlab up FILE` takes any lab file.") from error
    except IsADirectoryError as error:
        raise unusable("it is a directory", "Name the lab file inside it.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise unusable(f"{error.strerror}", "Lab files are small: is it the right file?") from error
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise unusable(f"it cannot be read: {reason}", "Check who may read it (ls -l).") from error
    if len(data) > BYTES_LIMIT:
        raise unusable(f"it has more than {BYTES_LIMIT >> 20} MiB", "Lab files are small: is it the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise unusable(what, "Save the file as UTF-8 text.", line, column) from error
    return Source(name, text, path.parent.absolute())


def _start(path: Path) -> bytes:
    """As much as tells that there is too much. A shell's pipe may be read, not one that waits in a folder."""
    if not str(path.absolute()).startswith(("/dev/", "/proc/self/fd/")):
        return regular.read(path, BYTES_LIMIT)
    with path.open("rb") as file:
        return file.read(BYTES_LIMIT + 1)


def merge(base: Pairs, over: Pairs) -> Pairs:
    """Both mappings in one; of what is in both, mappings are merged again, and else `over` counts."""
    merged = Pairs(over.source, over.line, over.column, dict(base.pairs))
    for key, (name, value) in over.pairs.items():
        before = merged.pairs[key][1] if key in merged.pairs else None
        if isinstance(before, Pairs) and isinstance(value, Pairs):
            value = merge(before, value)
        merged.pairs[key] = (name, value)
    return merged
