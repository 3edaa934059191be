"""Errors that are no fault of nestlab's: one clear message each."""

from __future__ import annotations

from collections.abc import Sequence

from nestlab.base.frozen import frozen


class LabError(Exception):
    """Something the user (or the world) can mend: `what` happened and where, `hint` what to do.

    The command line prints both and exits with status 2; anything that is not a LabError is a bug (status 1).
    `detail` holds further lines worth showing, such as the end of a console. `many`: the lines of `what` and `hint`
    each stand for themselves; else all but the first are shown indented, for they may be words from elsewhere.
    """

    many = False

    def __init__(self, what: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        parts = [self.what, self.hint, self.detail]
        return "\n".join(part for part in parts if part)


def continued(text: str) -> str:
    """The text, of which all lines but the first are indented: none looks like one of nestlab's own."""
    return text.replace("\n", "\n  ")


@frozen
class Mistake:
    """One mistake in a lab file, at a place a person can go to. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    key: str
    what: str
    hint: str = ""
    source: str = ""

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.key + ': ' if self.key else ''}{self.what}"
        lines = [head]
        if self.source:
            number = str(self.line)
            lines.append(f"  {number} | {self.source}")
            lines.append(f"  {' ' * len(number)} | {' ' * (self.column - 1)}^")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class Mistakes(LabError):
    """All mistakes of a lab file together."""

    many = True

    def __init__(self, mistakes: Sequence[Mistake], *, more: bool = False) -> None:
        """`more`: there may be others, which were not looked for."""
        self.mistakes = tuple(mistakes)
        count = len(self.mistakes)
        counted = f"{count} mistake{'s' * (count > 1)} in the lab file{', and it was read no further' * more}."
        super().__init__("\n".join(map(str, self.mistakes)), hint=counted)


def unwritten(error: OSError) -> LabError:
    """The error where stdout takes no more of what was asked for."""
    import errno

    if error.errno == errno.EBADF:
        hint = "Give nestlab a stdout: a terminal, a pipe, a file or /dev/null."
        return LabError("stdout cannot be written: it is closed.", hint=hint)
    what = f"stdout cannot be written: {error.strerror}."
    return LabError(what, hint="Make room where it goes, or send it elsewhere.")


class Unreachable(LabError):
    """A host or a machine does not answer (ssh, QMP, agent)."""


class Overdue(LabError):
    """Something did not end in its time, and was ended: it may go better another time."""


class Busy(LabError):
    """Somebody else holds the lab."""


class Refused(LabError):
    """The step was refused by the world and may be tried again."""
