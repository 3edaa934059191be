"""`nestlab explain`: what the errors in a log mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli.common import paint, print_json
from nestlab.cli.exit_status import MEND, guarded, show
from nestlab.cli.options import Debug, Json

if TYPE_CHECKING:
    from nestlab.base.paint import Paint
    from nestlab.explain.explain import Explained
    from nestlab.explain.level_below import Below

WHAT = "Give a log file, - for stdin, or an error line in quotes: nestlab explain 'Module kvm_intel is in use.'"

MORE = (
    "The cause may stand further up, or in another log: give all of `sudo dmesg`, the task log, or the program's own"
    " with its -v. `nestlab doctor` asks the host itself what is missing; run it at the level that fails."
)
"""What to give instead of a text in which nothing is known."""

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE|-|TEXT", help="A log, a dmesg, a task log; - is stdin; or an error line itself."),
]


@guarded
def explain(words: Words = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Say what the errors in a log mean, and what to do about them: root causes first.

    Exit status 2 if nothing in it is known.
    """
    from nestlab.explain.explain import explain as explained

    text, where = _text(words or [])
    found = explained(text)
    if as_json:
        print_json({"found": [each.data() for each in found]})
        return None if found else MEND
    if not found:
        empty = not text.strip()
        what = f"{where} is empty." if empty else f"Nothing in {where} is known to nestlab."
        hint = WHAT if empty else MORE
        raise LabError(what, hint=hint)
    show("\n\n".join([*(_shown(each, paint()) for each in found), *_missing(found)]))
    return None


def _missing(found: tuple[Explained, ...]) -> list[str]:
    """What to give as well, where nothing that was found is a cause."""
    from nestlab.explain.signatures import Rank

    lowest = min(each.signature.rank for each in found)
    if lowest < Rank.SYMPTOM:
        return []
    if lowest == Rank.NOTE:
        return [f"Nothing of this is a failure by itself. {MORE}"]
    return [f"All of this follows from another failure. {MORE}"]


def _text(words: list[str]) -> tuple[str, str]:
    """What is to be explained, and how to name it."""
    if words in ([], ["-"]):
        if sys.stdin.isatty() and not words:
            raise LabError("There is nothing to explain.", hint=WHAT)
        return sys.stdin.buffer.read().decode(errors="replace"), "stdin"
    path = Path(words[0])
    if len(words) == 1 and (_there(path) or not any(letter.isspace() for letter in words[0])):
        return _read(path), str(path)
    files = [word for word in words if _there(Path(word))]
    if files:
        raise LabError("nestlab explain reads one file.", hint=f"Several: cat {' '.join(files)} | nestlab explain")
    return " ".join(words), "that text"


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, not to be looked at, or with a NUL
        return False


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LabError(f"{path} cannot be read: {reason}.", hint=WHAT) from None


def _shown(each: Explained, colours: Paint) -> str:
    times = f" (and {each.times - 1} more like it)" if each.times > 1 else ""
    rows = [
        f"{colours('bold', f'line {each.number}')}{times}: {brief(each.line)}",
        f"  cause  {brief(each.cause)}",
        f"  sure   {each.sure}",
        f"  do     {colours('green', brief(each.do))}",
        *_below(each.below, colours),
        f"  see    {colours('dim', each.signature.see)}",
    ]
    return "\n".join(rows)


def _below(below: Below | None, colours: Paint) -> list[str]:
    """Who mends the level below, and what is typed there."""
    if below is None:
        return []
    name = f"This log shows {below.name}: " if below.name else ""
    return [f"  below  {name}{below.way.do}", *(f"         $ {colours('green', line)}" for line in below.way.commands)]
