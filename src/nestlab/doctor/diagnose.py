"""Facts of a host in; all findings, the first broken layer and a one-sentence verdict out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nestlab.doctor.checks import checks, questions
from nestlab.doctor.finding import LAYERS, Finding, Want
from nestlab.hosts.facts import Facts

_NOTHING_WANTED = Want()


def diagnose(facts: Facts, want: Want = _NOTHING_WANTED) -> tuple[Finding, ...]:
    """The findings of every check that applies, one each, by layer. Never raises."""
    found = [check.rule(facts, want) for check in checks]
    if want.role == "plain" and not facts.provider and not facts.kvm.opened:
        found = [_of_plain(finding) for finding in found if finding is not None]
    return tuple(_offered(finding, facts, want) for finding in found if finding is not None)


_NESTING = ("place", "cpu", "module", "device", "proof", "lasting")
_PLAIN = "This is a plain guest: the lab file says no `hypervisor:` for it"


def _of_plain(finding: Finding) -> Finding | None:
    """A finding about a plain guest, for which it is no fault that it cannot nest. One finding says so; the others are
    left out."""
    if finding.check == "outer":
        why = "Its image has no KVM, or its CPU neither vmx nor svm: none is wanted in it."
        do = "Nothing, unless guests are to run in it: then say `hypervisor: kvm` for it in the lab file."
        return replace(finding, level="note", seen=_PLAIN, why=why, do=do, commands=())
    return finding if finding.level == "ok" or finding.layer not in _NESTING else None


def _offered(finding: Finding, facts: Facts, want: Want) -> Finding:
    if not finding.fixable:
        return finding
    from nestlab.doctor.alternatives import offered  # what mends is not needed where nothing is broken

    return offered(finding, facts, want)


def first_broken(findings: Iterable[Finding]) -> Finding | None:
    """The failed finding of the outermost layer: the one to mend first."""
    failed = (finding for finding in findings if finding.level == "fail")
    return min(failed, key=lambda finding: LAYERS.index(finding.layer), default=None)


def verdict(facts: Facts, findings: Iterable[Finding]) -> str:
    """One sentence: what this host is for nesting."""
    found = tuple(findings)
    broken = first_broken(found)
    if not (facts.kernel or facts.provider or questions.flags_known(facts)):
        return "Nothing is known of this host: it said neither its kernel nor its CPU."
    if any(finding.seen == _PLAIN for finding in found) and broken is None:
        return "This is a plain guest, which is to have no guests of its own: nothing is broken."
    if broken is not None and broken.check == "architecture" and not questions.x86_any(facts):
        name = "an ARM host" if questions.arm(facts) else "a host of another architecture"
        own = "its KVM runs guests of its own architecture" if facts.kvm.opened else "/dev/kvm could not be opened"
        return f"This is {name} ({facts.arch}): {own}, and nestlab nests x86-64 only."
    if facts.provider and facts.provider not in questions.VENDORS:
        return _without_hardware(facts)
    if broken is None:
        return _works(facts, found)
    if broken.check == "nested":
        value = questions.parameter(facts, f"{facts.provider}.nested")
        return f"Nesting is off: {facts.provider} has nested={value}, so guests of this host get no KVM of their own."
    if facts.can_nest:
        return f"Nesting works here now ({_proof(facts)}), but one thing is broken: {broken.seen}."
    return f"Nesting does not work here; the first broken layer is the {broken.layer}: {broken.seen}."


def _without_hardware(facts: Facts) -> str:
    opens = f"/dev/kvm opens with API {facts.kvm.api}" if facts.kvm.opened else "KVM is there"
    flag = questions.flag(facts)
    cpu = f"the CPU has {flag}" if flag else "the CPU has neither vmx nor svm"
    return (
        f"This host only looks as if it had KVM: {opens}, but its provider is {facts.provider}, which runs guests in"
        f" software, and {cpu}, so nothing can be nested on it and nestlab emulates instead."
    )


def _works(facts: Facts, found: tuple[Finding, ...]) -> str:
    if not facts.can_nest:
        known = f"{facts.provider}, nested={questions.parameter(facts, f'{facts.provider}.nested') or 'unknown'}"
        where = f" ({known})" if facts.provider else ""
        return f"Nothing speaks against nesting here{where}, but it is not proven: no guest was run."
    security = next((finding for finding in found if finding.check == "security"), None)
    if security is not None and security.level == "warn":
        return f"Nesting works here: {_proof(facts)}; but this kernel lets nesting guests break out (see `security`)."
    return f"Nesting works here: {_proof(facts)}."


def _proof(facts: Facts) -> str:
    value = questions.parameter(facts, f"{facts.provider}.nested") or "unknown"
    return f"{facts.provider}, nested={value}, proven by a guest that ran"
