"""Shell completion: labs and machines, read from the state directory without asking anything."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nestlab.base.printable import hidden
from nestlab.home.directories import Home

_WORD = re.compile(r"[\w.@:/+=,%-]+")


def _plain(complete: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Offers only words that no shell makes something else of: zsh evaluates what is offered, and names of files and of
    machines may come from elsewhere."""

    @functools.wraps(complete)
    def offered(incomplete: str) -> list[str]:
        return [word for word in complete(incomplete) if _WORD.fullmatch(word) and not any(map(hidden, word))]

    return offered


@_plain
def labs(incomplete: str) -> list[str]:
    """Names of labs."""
    return [name for name in _labs() if name.startswith(incomplete)]


@_plain
def machines(incomplete: str) -> list[str]:
    """Machines by path, and as LAB:PATH where several labs exist or a colon was typed."""
    names = _labs()
    with_lab = len(names) > 1 or ":" in incomplete
    found = [f"{name}:{path}" if with_lab else path for name in names for path in paths(name)]
    return [word for word in found if word.startswith(incomplete)]


@_plain
def labs_and_machines(incomplete: str) -> list[str]:
    """Lab files here, labs, then machines."""
    return [*_files(incomplete), *labs(incomplete), *machines(incomplete)]


@_plain
def machines_and_segments(incomplete: str) -> list[str]:
    """Labs, machines, then segments."""
    return [*labs(incomplete), *machines(incomplete), *segments(incomplete)]


@_plain
def labs_and_files(incomplete: str) -> list[str]:
    """Lab files here, then labs."""
    return [*_files(incomplete), *labs(incomplete)]


@_plain
def machine_then_command(incomplete: str) -> list[str]:
    """The first word of `ssh`: what follows the machine is typed for that machine."""
    told = [word for word in _typed()[2:] if not word.startswith("-")]
    return machines(incomplete) if not told and "--" not in _typed() else []


@_plain
def machines_then_command(incomplete: str) -> list[str]:
    """The words of `exec` up to `--`."""
    return machines(incomplete) if "--" not in _typed() else []


@_plain
def doctor_words(incomplete: str) -> list[str]:
    """What `doctor` looks at; after `--fix` also the checks that can be mended."""
    checks: tuple[str, ...] = ()
    if "--fix" in _typed():
        from nestlab.doctor.remedies import FIXABLE

        checks = tuple(FIXABLE)
    return [*(word for word in checks if word.startswith(incomplete)), *machines(incomplete)]


@_plain
def keys(incomplete: str) -> list[str]:
    """Keys of a keyboard; behind a dash those that are pressed together with it."""
    from nestlab.base.keyboard import ALIASES, KEYS

    before, dash, begun = incomplete.rpartition("-")
    return [f"{before}{dash}{key}" for key in sorted(KEYS | set(ALIASES)) if key.startswith(begun)]


@_plain
def built_images(incomplete: str) -> list[str]:
    """The images in the cache, by name; by digest where several have one name."""
    from nestlab.images import inventory

    try:
        found = inventory.shelved(_home())
    except Exception:
        return []
    names = [each.name for each in found]
    words = [each.name if names.count(each.name) == 1 else each.digest[:12] for each in found]
    return [word for word in words if word.startswith(incomplete)]


@_plain
def images_to_build(incomplete: str) -> list[str]:
    """nestlab's own images, then lab files here."""
    from nestlab.kinds import images

    return [*(name for name in images() if name.startswith(incomplete)), *_files(incomplete)]


@_plain
def set_keys(incomplete: str) -> list[str]:
    """What `--set` may put over the lab file that is meant: the next part of a key, or a value that is one of few."""
    from nestlab.cli.complete_set import offered

    try:
        return offered(incomplete, _lab_file())
    except Exception:
        return []


def _typed() -> list[str]:
    """The words before the cursor, as the shell's completion script hands them over."""
    words = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    before = os.environ.get("COMP_CWORD", "")
    return words.split()[: int(before)] if before.isdecimal() else words.split()


def _lab_file() -> Path | None:
    """The lab file that the words so far mean."""
    from nestlab.home import labs as known
    from nestlab.home.targets import which

    words = [word for word in _typed()[2:] if word.endswith((".yaml", ".yml")) or word in _labs()]
    found = which(words[:1], _labs(), Path.cwd())
    if found.file is not None:
        return found.file
    source = known.load(known.existing(_home(), found.lab))
    return source.file if source else None


@_plain
def machines_or_files(incomplete: str) -> list[str]:
    """Completes an argument of `cp`: a machine with its colon, or a local path."""
    names = _labs()
    found = [f"{path}:" for name in names for path in paths(name)]
    return [*(word for word in found if word.startswith(incomplete)), *_files(incomplete, ending="")]


@_plain
def goals(incomplete: str) -> list[str]:
    """What `wait --for` takes."""
    return [word for word in ("ready", "ssh", "proofs", "quorum", "port:", "unit:") if word.startswith(incomplete)]


@_plain
def formats(incomplete: str) -> list[str]:
    """What `graph --format` takes."""
    return [word for word in ("mermaid", "dot") if word.startswith(incomplete)]


@_plain
def examples(incomplete: str) -> list[str]:
    """What `init --from` takes."""
    from importlib.resources import files

    found = sorted(each.name.removesuffix(".yaml") for each in (files("nestlab.labfile") / "examples").iterdir())
    return [name for name in found if name.startswith(incomplete)]


@_plain
def segments(incomplete: str) -> list[str]:
    """Segments of all labs."""
    found = sorted({name for lab in _labs() for name in _segments(lab)})
    return [name for name in found if name.startswith(incomplete)]


def _segments(name: str) -> Iterator[str]:
    try:
        place = _home().existing(name)
        data: Any = json.loads(place.blueprint.read_text()) if place else {}
        yield from (segment["name"] for segment in data.get("segments", ()))
    except Exception:
        return


def _home() -> Home:
    return Home.of(os.environ, Path.home())


def _labs() -> list[str]:
    try:
        return _home().labs()
    except Exception:  # a completion that fails must say nothing: its output would be typed for the user
        return []


def paths(name: str) -> Iterator[str]:
    """The machines of a lab as it was made; none where that cannot be read."""
    try:
        place = _home().existing(name)
        data: Any = json.loads(place.blueprint.read_text()) if place else {}
        yield from (spec["path"] for spec in data.get("specs", ()))
    except Exception:
        return


def _files(incomplete: str, ending: str = ".yaml") -> list[str]:
    folder, _, start = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else "."))
    try:
        found = sorted(entry for entry in base.iterdir() if entry.name.startswith(start))
    except OSError:
        return []
    lead = f"{folder}/" if "/" in incomplete else ""
    words = [f"{lead}{entry.name}{'/' if entry.is_dir() else ''}" for entry in found if entry.name[0] != "."]
    return [word for word in words if word.endswith(("/", ending))]
