"""Which lab and which machines the words of a command mean. Pure, apart from looking whether a file exists.

A first word that is a file (or ends in .yaml or .yml) is a lab file; one that is the name of a lab means that lab;
all other words are machines: `hv1/web`, or `LAB:hv1/web`. Where no word says which lab, it is the only one there is,
or that of the lab file in the current directory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from nestlab.base.did_you_mean import closest
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

DEFAULT_FILES = ("lab.yaml", "nestlab.yaml")
"""Lab files that are found in the current directory without being named."""

_ENDINGS = (".yaml", ".yml")


@frozen
class Which:
    """A lab by its file or by its name (exactly one of them), and machines as patterns (none: the whole lab)."""

    file: Path | None = None
    lab: str = ""
    machines: tuple[str, ...] = ()


def which(
    words: Sequence[str],
    labs: Collection[str],
    cwd: Path,
    paths_of: Callable[[str], Iterable[str]] = lambda _: (),
) -> Which:
    """The lab and machines that `words` mean. LabError when they name several labs, or none and it cannot be told which
    is meant. `paths_of` tells the machines of a lab: words that name no lab mean the one that has them all."""
    words = list(words)
    first = words[0] if words else ""
    if first and _is_file(first, labs, cwd):
        return Which(file=cwd / first, machines=tuple(_machines(words[1:], None)))
    if first in labs:
        return Which(lab=first, machines=tuple(_machines(words[1:], first)))
    named = {word.partition(":")[0] for word in words if ":" in word}
    if len(named) > 1:
        raise LabError(f"{' and '.join(sorted(named))} are different labs.", hint="Name machines of one lab at a time.")
    if named:
        lab = named.pop()
        if lab not in labs:
            raise no_such_lab(lab, labs)
        return Which(lab=lab, machines=tuple(_machines(words, lab)))
    if first and len(labs) > 1 and not any((cwd / name).is_file() for name in DEFAULT_FILES):
        having = [lab for lab in labs if _has(list(paths_of(lab)), list(_machines(words, None)))]
        if len(having) == 1:
            return Which(lab=having[0], machines=tuple(_machines(words, None)))
    found = default(labs, cwd, first)
    return Which(found.file, found.lab, tuple(_machines(words, None)))


def _has(paths: Sequence[str], patterns: Sequence[str]) -> bool:
    return all(any(matches(path, pattern) for path in paths) for pattern in patterns)


def _is_file(word: str, labs: Collection[str], cwd: Path) -> bool:
    if word.endswith(_ENDINGS):
        return True
    return word not in labs and ":" not in word and (cwd / word).is_file()


def _machines(words: Iterable[str], lab: str | None) -> Iterable[str]:
    for word in words:
        for each in word.split(","):
            owner, colon, path = each.rpartition(":")
            if colon and lab is not None and owner != lab:
                raise LabError(f"{each} is not in lab {lab}.", hint="Name machines of one lab at a time.")
            if path:
                yield path


@frozen
class Remote:
    """A place on a machine: `machine` as in a command (`hv1/web`, `LAB:hv1/web`)."""

    machine: str
    path: str


def remote(word: str, labs: Collection[str], paths_of: Callable[[str], Iterable[str]]) -> Remote | str:
    """Parses an argument of `cp`: `hv1/web:/etc/hosts` or `LAB:hv1/web:/etc/hosts`, else a local path, as it is.

    A word is local when what stands before its first colon is no machine and no lab; `./` before it makes it so.
    """
    head, colon, rest = word.partition(":")
    if not colon or head.startswith((".", "/")):
        return word
    inner, second, path = rest.partition(":")
    if head in labs and second and inner in set(paths_of(head)):
        return Remote(f"{head}:{inner}", path)
    if any(head in set(paths_of(lab)) for lab in labs):
        return Remote(head, rest)
    if Path(word).exists():
        return word
    raise LabError(f"{head} is no machine, and there is no file {word}.", hint="`nestlab status` lists the machines.")


def default(labs: Collection[str], cwd: Path, word: str = "") -> Which:
    """The lab that is meant where none is named. `word`: what was said instead, for the error."""
    here = [cwd / name for name in DEFAULT_FILES if (cwd / name).is_file()]
    if here:
        return Which(file=here[0])
    if len(labs) == 1:
        return Which(lab=next(iter(labs)))
    if word and "/" not in word and not labs:
        raise LabError(f"There is no lab {word}.", hint="`nestlab up FILE` makes one from a lab file.")
    if not labs:
        names = " or ".join(DEFAULT_FILES)
        raise LabError(f"There is no lab, and no {names} here.", hint="`nestlab up FILE` makes a lab from a lab file.")
    if word:
        close = closest(word, tuple(sorted(labs)))
        meant = f" Did you mean lab {close}?" if close else ""
        raise LabError(
            f"It is not clear which lab {word} is in.",
            hint=f"Labs: {', '.join(sorted(labs))}. Name one first, or write LAB:{word}.{meant}",
        )
    raise LabError("Several labs exist.", hint=f"Name one: {', '.join(sorted(labs))}.")


def no_such_lab(lab: str, labs: Collection[str]) -> LabError:
    """The error for a name that is no lab's."""
    close = closest(lab, tuple(sorted(labs)))
    if close:
        return LabError(f"There is no lab {lab}.", hint=f"Did you mean {close}?")
    known = f"Labs: {', '.join(sorted(labs))}." if labs else "`nestlab up FILE` makes one from a lab file."
    return LabError(f"There is no lab {lab}.", hint=known)


def expand(patterns: Iterable[str], paths: Sequence[str], lab: str) -> tuple[str, ...]:
    """The machines meant, in the order of `paths`. A `*` stays within one name: `hv*` is not `hv1/web`.

    LabError for a name that is no machine's, and for a pattern that matches none.
    """
    meant: set[str] = set()
    for pattern in patterns:
        found = [path for path in paths if matches(path, pattern)]
        if not found:
            raise no_such_machine(pattern, paths, lab)
        meant.update(found)
    return tuple(path for path in paths if path in meant)


def matches(path: str, pattern: str) -> bool:
    """Whether a path fits a pattern, name by name."""
    from fnmatch import fnmatchcase

    names, wanted = path.split("/"), pattern.strip("/").split("/")
    return len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))


def no_such_machine(pattern: str, paths: Sequence[str], lab: str) -> LabError:
    """The error for a machine that the lab does not have."""
    if any(letter in pattern for letter in "*?["):
        return LabError(f"No machine of lab {lab} matches {pattern}.", hint=_list(paths))
    inner = [path for path in paths if path.endswith("/" + pattern)]
    close = inner or [*filter(None, [closest(pattern, tuple(paths))])]
    hint = f"Did you mean {' or '.join(close[:3])}?" if close else _list(paths)
    return LabError(f"Lab {lab} has no machine {pattern}.", hint=hint)


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:20]) + (", …" if len(paths) > 20 else "")
    return f"Its machines: {shown or 'none'}."
