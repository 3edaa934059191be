"""Alternatives offered by findings whose fix would be refused. Pure."""

from __future__ import annotations

from dataclasses import replace

from nestlab.doctor import advisories
from nestlab.doctor.finding import Finding, Want
from nestlab.doctor.remedies import remedies
from nestlab.hosts.facts import Facts


def offered(finding: Finding, facts: Facts, want: Want) -> Finding:
    """The finding as it is where `--fix` would do it, for root at least; else with why not, and what to do."""
    if not finding.fixable:
        return finding
    as_root = replace(facts, uid=0, readonly=facts.readonly if facts.uid == 0 else "")
    risk = advisories.risk(facts)
    refused = next(iter(remedies(as_root, (finding.check,), want=want, risk=risk)), None)
    if refused is None or not refused.refused:
        return finding
    fix = f"nestlab doctor --fix {finding.check}"
    do = " ".join(part for part in (refused.refused, refused.hint) if part)
    if risk and not any(each.refused for each in remedies(as_root, (finding.check,), want=want, accept_risk=True)):
        return replace(finding, do=do, commands=(f"{fix} --accept-risk",))
    return replace(finding, do=do, commands=tuple(each for each in finding.commands if each != fix), fixable=False)
