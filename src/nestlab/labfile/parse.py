"""Text to a `Lab`, or every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nestlab.base.errors import Mistake, Mistakes
from nestlab.lab.model import Lab
from nestlab.labfile import clusters
from nestlab.labfile.host_memory import too_large
from nestlab.labfile.load import Loader
from nestlab.labfile.nodes import Pairs
from nestlab.labfile.overrides import assign
from nestlab.labfile.read import Enough, Reader
from nestlab.labfile.source import Source
from nestlab.labfile.taken import taken
from nestlab.labfile.to_lab import build


def parse(path: Path, *, environ: Mapping[str, str], sets: Sequence[str] = ()) -> Lab:
    """The lab that a file describes, with `${VAR}` from `environ` and every `KEY=VALUE` of `sets` put over it.

    Mistakes, all of them, when it describes none. Files that the lab takes in (images, includes) are looked for,
    relative to the file that names them; those named in `sets` as if the lab file named them, so that the same `sets`
    mean the same from any directory.
    """
    loader = Loader(environ)
    return _lab(loader.file(path), loader, sets, str(path))


def check(
    path: Path, *, environ: Mapping[str, str], sets: Sequence[str] = (), memory: int = 0
) -> tuple[Lab, tuple[Mistake, ...]]:
    """As `parse`, with notes on what a computer with so many bytes of memory does not hold."""
    loader = Loader(environ)
    notes: list[Mistake] = []
    return _lab(loader.file(path), loader, sets, str(path), notes, memory), tuple(notes)


def parse_text(
    text: str, name: str = "lab", *, environ: Mapping[str, str], sets: Sequence[str] = (), directory: Path | None = None
) -> Lab:
    """The same for a text that `name` stands for in messages; relative paths in it start at `directory`."""
    loader = Loader(environ)
    source = Source(name, text.removeprefix("\ufeff"), (directory or Path()).absolute())
    return _lab(loader.text(source), loader, sets, name)


def _lab(
    root: Pairs | None,
    loader: Loader,
    sets: Sequence[str],
    name: str,
    notes: list[Mistake] | None = None,
    memory: int = 0,
) -> Lab:
    mistakes = loader.mistakes
    if root is None:
        raise Mistakes(_sorted(mistakes, name))
    root, wrong = assign(root, sets, root.source.directory)
    mistakes.extend(wrong)
    reader = Reader(loader.intake)
    try:
        section = reader.lab(root)
        lab = build(section, reader)
    except Enough:
        raise Mistakes(_sorted([*mistakes, *reader.mistakes], name), more=True) from None
    mistakes.extend(reader.mistakes)
    if mistakes:
        raise Mistakes(_sorted(mistakes, name))
    lab = replace(lab, taken=tuple(taken(lab, reader.named, loader.intake.variables, root.source.directory)))
    if notes is not None:
        notes += [*too_large(lab, section, memory), *clusters.notes(lab, section)]
    return lab


def _sorted(mistakes: list[Mistake], name: str) -> list[Mistake]:
    """In the order of the file itself, then of included ones and of `--set`; what aliases repeat only once."""
    unique = {(each.file, each.line, each.column, each.what): each for each in reversed(mistakes)}
    return sorted(unique.values(), key=lambda each: (each.file != name, each.file, each.line, each.column))
