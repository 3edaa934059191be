"""`nestlab doctor`: whether a host can nest, at any level; mending what keeps it from that, and taking it back."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli import complete
from nestlab.cli.common import home, meant, one_lab, paint, print_json, site
from nestlab.cli.exit_status import MEND, answered, guarded, out, run, say, show, width
from nestlab.cli.options import Debug, Json, Yes

if TYPE_CHECKING:
    from nestlab.base.proofs import Proof
    from nestlab.doctor.finding import Remedy, Want
    from nestlab.doctor.report import Visit
    from nestlab.hosts.host import Host
    from nestlab.lab.blueprint import Spec

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WHERE] [CHECK...]",
        help="Nothing (this machine), ssh://[user@]host[:port], or a machine of a lab; checks after --fix.",
        autocompletion=complete.doctor_words,
    ),
]
Fix = Annotated[bool, typer.Option("--fix", help="Mend what fails, or the checks named; shows it first and asks.")]
Undo = Annotated[bool, typer.Option("--undo", help="Restore what was there before --fix.")]
Everywhere = Annotated[bool, typer.Option("--all", help="Walk all levels of a lab; WHERE is the lab.")]
For = Annotated[list[str] | None, typer.Option("--for", metavar="GUEST", help="For windows, esxi or macos guests too.")]
ShowFacts = Annotated[bool, typer.Option("--facts", help="Print what the host said, as JSON, and judge nothing.")]
FromFacts = Annotated[
    str, typer.Option("--from-facts", metavar="FILE", help="Judge what --facts printed (- is stdin), not a host.")
]
Temporary = Annotated[bool, typer.Option("--temporary", help="With --fix: at once and until reboot; no file in /etc.")]
Risk = Annotated[bool, typer.Option("--accept-risk", help="With --fix: switch nesting on in a vulnerable kernel too.")]


@guarded
def doctor(
    words: Words = None,
    fix: Fix = False,
    undo: Undo = False,
    everywhere: Everywhere = False,
    wanted: For = None,
    facts: ShowFacts = False,
    from_facts: FromFacts = "",
    temporary: Temporary = False,
    accept_risk: Risk = False,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Say whether guests of a host can nest, and what keeps them from it; mend it, and take that back. Without --fix
    or --undo nothing is changed. Exit status 2 if a check fails.

    \b
    Examples:
      nestlab doctor                             this machine
      nestlab doctor ssh://root@server           another one
      nestlab doctor hv1/inner                   a machine of a lab
      nestlab doctor --all pair                  every level of a lab
      nestlab doctor --fix                       mend what can be mended
      nestlab doctor --fix ignore-msrs --temporary
      nestlab doctor --undo                      as it was before
      nestlab doctor --facts > host.json         for a bug report
    """
    where, checks = _split(words or [], fix=fix)
    _consistent(fix=fix, undo=undo, facts=facts, from_facts=from_facts, everywhere=everywhere, where=where)
    want = _want(wanted or [])
    if from_facts:
        return _judge_file(from_facts, want, as_json=as_json)
    if fix:
        return run(_fix(where, checks, want, temporary=temporary, accept_risk=accept_risk, yes=yes, as_json=as_json))
    if undo:
        return run(_undo(where, want, yes=yes, as_json=as_json))
    if everywhere:
        return run(_walk(where, want, show_facts=facts, as_json=as_json))
    return run(_look(where, want, show_facts=facts, as_json=as_json))


def _split(words: Sequence[str], *, fix: bool) -> tuple[str, tuple[str, ...]]:
    """WHERE ("": this machine), and the checks that are named."""
    from nestlab.base.did_you_mean import meant as guess
    from nestlab.doctor.checks import checks as all_checks
    from nestlab.doctor.remedies import FIXABLE

    names = {check.name for check in all_checks}
    checks = tuple(word for word in words if fix and word in names)
    places = [word for word in words if word not in checks]
    if fix:
        for word in places:
            if not {":", "/"} & set(word) and not _is_machine(word):
                hint = guess(word, FIXABLE) or f"Checks that can be fixed: {', '.join(FIXABLE)}."
                raise LabError(f"`{word}` is neither a check nor a machine.", hint=hint)
    elif named := [word for word in words if word in names and not _is_place(word)]:
        place = next((f"{word} " for word in words if word not in named), "")
        hint = f"Without --fix all are made. To mend it: nestlab doctor {place}--fix {named[0]}"
        hint = hint if named[0] in FIXABLE else "Without --fix all checks are made."
        raise LabError(f"`{named[0]}` is a check, and checks go with --fix.", hint=hint)
    if len(places) > 1 or (not fix and len(words) > 1):
        unknown = places[-1]
        close = guess(unknown, {*(FIXABLE if fix else names)} - {unknown})
        hint = close or f"Checks that can be fixed: {', '.join(FIXABLE)}."
        raise LabError(f"`{unknown}` is no check, and one place is enough.", hint=hint)
    return (places[0] if places else ""), checks


def _is_machine(word: str) -> bool:
    return any(path == word for lab in home().labs() for path in complete.paths(lab))


def _is_place(word: str) -> bool:
    return word in home().labs() or _is_machine(word)


def _consistent(*, fix: bool, undo: bool, facts: bool, from_facts: str, everywhere: bool, where: str) -> None:
    chosen = [name for name, on in (("--fix", fix), ("--undo", undo), ("--from-facts", bool(from_facts))) if on]
    if len(chosen) > 1 or (chosen and everywhere):
        both = " and ".join([*chosen, *(["--all"] if everywhere else [])])
        raise LabError(f"{both} do not go together.", hint="Use one of them; `nestlab doctor --help` has examples.")
    if facts and (fix or undo or from_facts):
        raise LabError("--facts only looks.", hint=f"Leave out --facts, or {chosen[0]}.")
    if from_facts and where:
        raise LabError("--from-facts judges a file, not a host.", hint=f"Leave out {where}, or --from-facts.")


def _want(guests: Sequence[str]) -> Want:
    from nestlab.base.did_you_mean import meant as guess
    from nestlab.doctor.finding import Want
    from nestlab.doctor.remedies import GUESTS

    words = {word for each in guests for word in each.lower().split(",") if word}
    for unknown in sorted(words - GUESTS):
        hint = guess(unknown, GUESTS) or f"--for takes {', '.join(sorted(GUESTS))}."
        raise LabError(f"No guest `{unknown}` is known that needs more than others.", hint=hint)
    return Want(guests=frozenset(words))


# -- looking


@asynccontextmanager
async def _host(where: str, want: Want) -> AsyncIterator[tuple[str, int, Host, Want]]:
    """A host by its name on the command line: how it is called, its level in the nest, the host, and what it is to be
    good for, to which a machine of a lab adds its role."""
    from nestlab.hosts import local, ssh

    if not where:
        yield "this machine", 0, local.LocalHost(), want
    elif where.startswith("ssh://"):
        remote = ssh.at(where, ask=_ask_key if sys.stdin.isatty() else None)
        try:
            yield remote.path, 0, remote, want
        finally:
            await remote.close()
    elif "://" in where:
        raise LabError(f"{where} is no place the doctor goes to.", hint="It goes to ssh://[user@]host[:port].")
    else:
        from nestlab.cli.machines import at

        async with at(meant([where])) as (session, path, host):
            yield path, host.level, host, _in_role(want, session.blueprint[path])


def _in_role(want: Want, spec: Spec) -> Want:
    return replace(want, role="hypervisor" if spec.machine.hypervisor else "plain")


def _ask_key(question: str) -> bool:
    return answered(question)


async def _visit(where: str, level: int, host: Host, want: Want) -> Visit:
    from nestlab.doctor.examine import examine
    from nestlab.doctor.report import visit

    word = where if level else f"ssh://{where}" if host.path else ""
    return visit(where, level, await examine(host), want, word)


async def _look(where: str, want: Want, *, show_facts: bool, as_json: bool) -> int | None:
    async with _host(where, want) as (name, level, host, want):
        found = await _visit(name, level, host, want)
    if show_facts:
        out(found.facts.to_json())
        return None
    return _show([found], as_json=as_json)


async def _walk(lab: str, want: Want, *, show_facts: bool, as_json: bool) -> int | None:
    """The lab's host and all machines in it that run, level by level; those of one level at once."""
    import asyncio

    from nestlab.doctor.report import Visit
    from nestlab.lab.places import is_here
    from nestlab.plan import states
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=one_lab([lab] if lab else [])) as session:
        observed = await session.look()
        hypervisors = [spec.path for spec in session.blueprint.specs if spec.machine.nests]

        async def one(path: str) -> Visit:
            name, level = path or "this machine", path.count("/") + 1 if path else 0
            seen = observed.machines.get(path)
            if path and (seen is None or seen.state != "running"):
                return Visit(name, level, error=f"{states.said(seen)}.")
            try:
                here = _in_role(want, session.blueprint[path]) if path else want
                return await _visit(name, level, await session.nest.host(path), here)
            except LabError as error:
                return Visit(name, level, error=error.what)

        far = not is_here(session.blueprint.on)
        platform = (await session.platform.proofs(session.blueprint))[0] if far else None
        visits = await asyncio.gather(*(one(path) for path in [*([] if far else [""]), *hypervisors]))
    visits = sorted(visits, key=lambda each: each.level)
    if show_facts:
        import json

        print_json({each.where: json.loads(each.facts.to_json()) for each in visits})
        return None
    if platform is not None and not as_json:  # its nodes are not this machine: what their API tells is all there is
        why = f": {platform.why}" if platform.why else ""
        out(brief(f"{platform.where}, level 0: {platform.seen}{why}") + "\n")
    return _show(visits, as_json=as_json, walked=True, platform=platform)


def _judge_file(file: str, want: Want, *, as_json: bool) -> int | None:
    from nestlab.doctor.report import visit
    from nestlab.hosts.facts import Facts

    name = "stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        facts = Facts.from_json(text)
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror}.", hint="Name what --facts printed.") from error
    except (ValueError, TypeError) as error:
        what = f"{name} holds no facts of a host: {error}."
        raise LabError(what, hint="Facts are what `nestlab doctor --facts` prints, for one host.") from error
    return _show([visit("recorded host" if file == "-" else file, 0, facts, want)], as_json=as_json)


def _show(visits: Sequence[Visit], *, as_json: bool, walked: bool = False, platform: Proof | None = None) -> int | None:
    from nestlab.doctor import report

    if as_json:
        data = [each.data() for each in visits]
        told = {"platform": platform.seen} if platform is not None else {}
        print_json({**told, "hosts": data, "summary": report.summary(visits)} if walked else data[0])
    else:
        out("\n\n".join(report.text(each, paint(), width(sys.stdout)) for each in visits))
        if walked:
            show("\n" + report.summary(visits))
    return None if report.ok(visits, walked=walked) else MEND


# -- mending


async def _fix(
    where: str, checks: Sequence[str], want: Want, *, temporary: bool, accept_risk: bool, yes: bool, as_json: bool
) -> int | None:
    from nestlab.doctor import advisories, surgery
    from nestlab.doctor.finding import Remedy
    from nestlab.doctor.fix_preview import show
    from nestlab.doctor.remedies import remedies

    async with _host(where, want) as (name, level, host, want):
        before = await _visit(name, level, host, want)
        risk = advisories.risk(before.facts)
        found = remedies(before.facts, checks, want=want, temporary=temporary, accept_risk=accept_risk, risk=risk)
        old = await surgery.pending(host) if before.facts.uid == 0 else None
        unfinished = old is not None and bool(old.unfinished)
        if not found and not unfinished:
            say(f"{name}: nothing to fix.")
            return _show([before], as_json=as_json)
        _tell(show(found), as_json=as_json)
        if old is not None and unfinished:
            _tell("An earlier --fix was interrupted; this is finished first.", as_json=as_json)
            _tell(show([Remedy("unfinished", old.unfinished)]), as_json=as_json)
        _refuse(found, unfinished=unfinished)
        if any(remedy.changes for remedy in found if not remedy.refused) or unfinished:
            _confirm(f"Change {name}?", yes=yes)
        outcome = await surgery.fix(host, found, _say)
        for line in (*outcome.staged, *outcome.left):
            _say(line)
        after = await _visit(name, level, host, want)
    if as_json:
        done = {"changed": list(outcome.changed), "staged": list(outcome.staged), "left": list(outcome.left)}
        print_json({**after.data(), **done})
    else:
        _changes(before, after)
    refused = any(remedy.refused for remedy in found)
    still = {finding.check for finding in after.findings if finding.level == "fail"}
    mended = {remedy.check for remedy in found if not remedy.staged}
    whole = not checks and not any(remedy.staged for remedy in found)
    return MEND if refused or still & mended or (whole and still) else None


def _refuse(found: Sequence[Remedy], *, unfinished: bool) -> None:
    """Nothing can be done: the first reason is the error."""
    refused = [remedy for remedy in found if remedy.refused]
    if refused and len(refused) == len(found) and not unfinished:
        raise LabError(f"{refused[0].check} cannot be fixed: {refused[0].refused}", hint=refused[0].hint)


def _tell(text: str, *, as_json: bool) -> None:
    """What a person should read before it happens; not between the lines of JSON."""
    if text:
        say(text) if as_json else out(text)
        sys.stdout.flush()


def _say(text: str) -> None:
    """What happens on a host, partly in its own words."""
    say(text)


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise LabError("Nothing was changed: nobody can be asked here.", hint="Say --yes if that is what you want.")
    if not answered(question):
        raise LabError("Nothing was changed.", hint="You said no.")


def _changes(before: Visit, after: Visit) -> None:
    """The findings that are different now, and the verdict."""
    from dataclasses import replace

    from nestlab.doctor.report import text

    old = {finding.check: finding for finding in before.findings}
    new = tuple(finding for finding in after.findings if old.get(finding.check) != finding)
    out("")
    out(text(replace(after, findings=new), paint(), width(sys.stdout)).rsplit("\n\n", 1)[0] if new else after.where)
    show(f"\n{after.verdict}")


async def _undo(where: str, want: Want, *, yes: bool, as_json: bool) -> int | None:
    from nestlab.doctor import surgery
    from nestlab.doctor.fix_preview import show_undo

    async with _host(where, want) as (name, level, host, want):
        record = await surgery.pending(host)
        if record is not None:
            _tell(show_undo(record), as_json=as_json)
            _confirm(f"Restore this on {name}?", yes=yes)
        before = await _visit(name, level, host, want)
        outcome = await surgery.undo(host, _say)
        after = await _visit(name, level, host, want)
    if outcome.nothing:
        say(f"{name}: nothing to undo.")
    for line in (*outcome.staged, *outcome.left):
        _say(line)
    if as_json:
        done = {"changed": list(outcome.changed), "staged": list(outcome.staged), "left": list(outcome.left)}
        print_json({**after.data(), **done})
    elif not outcome.nothing:
        _changes(before, after)
    return MEND if outcome.left else None
