"""Checks of what nesting opens to guests on this kernel."""

from __future__ import annotations

from nestlab.doctor import advisories
from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

SECURITY = Voice("security", "security")

_UPDATE = "Install the distribution's newest kernel and boot it"


@checks(*SECURITY)
def security(facts: Facts, want: Want) -> Finding | None:
    """The kernel has the fixes of guest-to-host escapes that nesting opens"""
    if facts.provider not in questions.VENDORS:
        return None
    found = advisories.judge(facts)
    state = advisories.state(found)
    said = "; ".join(f"{each.cve} {each.state}: {each.evidence}" for each in _grouped(found))
    if state == "fixed":
        return SECURITY.ok(said)
    on = facts.nested
    off = "" if on else " Nesting is off here, perhaps on purpose because of this: ask before it is switched on."
    if state == "unknown":
        return SECURITY.note(
            said,
            "A guest that may nest could break out into this host if the fixes are missing." + off,
            f"{_UPDATE}, and see its changelog, or its distribution's security tracker, for these CVEs.",
            *_changelog(facts),
        )
    if on:
        return SECURITY.warn(
            said,
            "Nesting is on, so a guest whose CPU has vmx or svm can break out and own this host.",
            f"{_UPDATE}; until then run no guest here that you do not trust, or switch nesting off.",
        )
    return SECURITY.note(
        said,
        "A guest that may nest can break out and own this host." + off,
        f"{_UPDATE} before nesting is switched on.",
    )


def _changelog(facts: Facts) -> tuple[str, ...]:
    """Commands that find the CVEs in the changelog of the running kernel's package, where it has one."""
    find = f" | grep -oE '{'|'.join(advisories.CVES)}' | sort -u"
    if questions.container(facts):
        return ()
    if any(name in facts.distribution for name in ("Fedora", "Red Hat", "Rocky", "Alma", "CentOS", "SUSE", "Oracle")):
        return (f'rpm -q --changelog -f "/lib/modules/$(uname -r)/kernel"{find}',)
    if any(name in facts.distribution for name in ("Debian", "Ubuntu", "Proxmox")):
        return (f"zcat /usr/share/doc/{facts.package.name or 'linux-image-$(uname -r)'}/changelog.Debian.gz{find}",)
    return ()


def _grouped(found: tuple[advisories.Judgement, ...]) -> tuple[advisories.Judgement, ...]:
    """Judgements of the same state on the same evidence as one."""
    same: dict[tuple[advisories.State, str], list[str]] = {}
    for each in found:
        same.setdefault((each.state, each.evidence), []).append(each.cve)
    return tuple(advisories.Judgement(", ".join(cves), state, said) for (state, said), cves in same.items())
