"""The doctor's report as text for a terminal and as JSON. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nestlab.base.frozen import frozen
from nestlab.base.paint import Paint, Style
from nestlab.base.printable import one_line, printable
from nestlab.base.wrap import fit
from nestlab.doctor.diagnose import diagnose, first_broken, verdict
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts import speed
from nestlab.hosts.facts import Facts

WIDTH = 100
"""Columns of a report where no terminal is narrower."""
VIRTUALIZATION = frozenset({"vmx", "svm"})
STYLES: dict[str, Style] = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}
_NOTHING_WANTED = Want()
_NOTHING_KNOWN = Facts()


@frozen
class Visit:
    """One host that was looked at: `where` names it (`this machine`, `hv1`), `level` is its level in the nest.
    `error`: it could not be looked at, and why."""

    where: str
    level: int
    facts: Facts = _NOTHING_KNOWN
    findings: tuple[Finding, ...] = ()
    error: str = ""
    word: str = ""
    """Its name on a command line ("": it has none)."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        return self.error or verdict(self.facts, self.findings)

    @property
    def broken(self) -> Finding | None:
        """The layer to mend first."""
        return first_broken(self.findings)

    def data(self) -> dict[str, object]:
        """For JSON."""
        broken = self.broken
        return {
            "where": self.where,
            "level": self.level,
            "slowness": round(self.facts.slowness, 1) or None,
            "verdict": self.verdict,
            "first_broken": broken.check if broken else None,
            "findings": [finding.data() for finding in self.findings],
        }


def visit(where: str, level: int, facts: Facts, want: Want = _NOTHING_WANTED, word: str = "") -> Visit:
    """Diagnoses the facts of a host."""
    return Visit(where, level, facts, diagnose(facts, want), word=word)


def ok(visits: Sequence[Visit], *, walked: bool = False) -> bool:
    """Nothing failed, and every host could be looked at. `walked`: they are the levels of a lab, of which the outermost
    need not nest where the next is emulated."""
    return not any(each.error or (each.broken and not (walked and _emulated(each, visits))) for each in visits)


def text(each: Visit, paint: Paint, width: int | None = None) -> str:
    """A host: who it is, its findings (what is not as it should be with why and what to do), and the verdict. What the
    host said does nothing to a terminal, of which `width` are the columns; commands stay in one line each."""
    most = WIDTH if width is None else min(WIDTH, width)
    facts = each.facts
    about = ", ".join(filter(None, (facts.distribution, facts.kernel and f"Linux {facts.kernel}", facts.model)))
    head = paint("bold", one_line(each.where)) + f"  level {each.level}" + (f"  {one_line(about)}" if about else "")
    wide = max((len(finding.check) for finding in each.findings), default=0)
    lines = [fit(head, width)]
    if facts.slowness:
        lines.append(paint("dim", fit(f"  speed: {speed.sentence(facts.slowness)}", width)))
    for finding in each.findings:
        lines += _finding(finding, wide, each.word, paint, most)
    return "\n".join([*lines, *_unseen(facts, most), "", *_wrapped(each.verdict, "", most)])


def _unseen(facts: Facts, most: int) -> list[str]:
    """A line with the facts that a user who is not root could not see."""
    if facts.uid in (0, -1) or not facts.unseen:
        return []
    what = "; ".join(f"{name} ({why})" for name, why in sorted(facts.unseen.items()))
    return ["", *_wrapped(f"Not seen by {facts.user or 'this user'}: {what}. Root may see it.", "  ", most)]


def _finding(finding: Finding, wide: int, where: str, paint: Paint, most: int) -> list[str]:
    level = paint(STYLES[finding.level], f"{finding.level:<4}")
    indent = " " * (2 + 4 + 2 + wide + 2)
    seen = _wrapped(finding.seen, indent, most)
    lines = [f"  {level}  {finding.check:<{wide}}  {seen[0].lstrip()}", *seen[1:]]
    if finding.level == "ok":
        return lines
    for part in (finding.why, finding.do):
        lines += [paint("dim", line) for line in _wrapped(part, indent, most)] if part else []
    doctor = f"nestlab doctor {where} --fix" if where else "nestlab doctor --fix"
    commands = (printable(command.replace("nestlab doctor --fix", doctor)) for command in finding.commands)
    return [*lines, *(f"{indent}  {command}" for command in commands)]


def _wrapped(sentence: str, indent: str, most: int) -> list[str]:
    width = max(most, len(indent) + 30)
    text = printable(sentence)
    wrap = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return wrap or [""]


def summary(visits: Sequence[Visit]) -> str:
    """The first broken layer of a walk from the outermost host inwards."""
    for each in visits:
        if each.error:
            return printable(f"First broken: {each.where}: {each.error}")
        if each.broken and not _emulated(each, visits):
            layer = f"{each.where} (level {each.level}), {each.broken.layer}"
            return printable(f"First broken layer: {layer}: {each.broken.seen}.")
    lent = next((each for each in visits if each.broken), None)
    if lent is None:
        return "Every level is sound."
    return f"Every level that is used is sound; {lent.where} cannot nest, so the hypervisors of level 1 are emulated."


def _emulated(each: Visit, visits: Sequence[Visit]) -> bool:
    """The lab's host needs no virtualization where what runs on it is emulated: its hypervisors have vmx or svm, which
    it could not lend them. (None can be looked at: nestlab emulates where the CPU has neither.)"""
    inner = [other for other in visits if other.level == each.level + 1]
    if each.level != 0 or not inner or each.facts.can_nest:
        return False
    looked = [other.facts.flags for other in inner if not other.error] or [
        frozenset() if each.facts.flags & VIRTUALIZATION else VIRTUALIZATION
    ]
    return any(flags & VIRTUALIZATION for flags in looked)
