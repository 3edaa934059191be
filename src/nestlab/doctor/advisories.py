"""Guest-to-host escapes that nesting opens, and whether the running kernel has their fixes. Data with sources; pure.

To add one: a line in ADVISORIES. Evidence, best first: the changelog of the running kernel's own package, then its
version on an upstream branch, and only where that version is upstream's. Else nothing is known, and that is said.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Literal

from nestlab.base.frozen import frozen
from nestlab.hosts.facts import Facts

State = Literal["fixed", "vulnerable", "unknown"]
Version = tuple[int, int, int]


@frozen
class Advisory:
    """`fixed`: upstream branch -> the first release with the fix. `mainline`: the first mainline branch with it, and
    the release candidate it came in. `exact`: branches where an older release is known to lack it (the others' numbers
    say only from when it is surely there)."""

    cve: str
    name: str
    fixed: dict[tuple[int, int], int]
    mainline: tuple[int, int, int]
    exact: frozenset[tuple[int, int]]
    sources: tuple[str, ...] = field(default=())


_JULY = {(7, 1): 3, (6, 18): 38, (6, 12): 95, (6, 6): 144, (6, 1): 177, (5, 15): 211, (5, 10): 260}

ADVISORIES = (
    Advisory(
        "CVE-2026-53359",
        "Januscape, a use after free in KVM's shadow page tables",
        fixed=_JULY,
        mainline=(7, 2, 1),
        exact=frozenset(_JULY),
        sources=(
            "https://git.kernel.org/torvalds/c/81ccda30b4e8",
            "https://github.com/cozystack/ansible-cozystack/pull/61",
            "https://github.com/coreos/fedora-coreos-tracker/issues/2183",
        ),
    ),
    Advisory(
        "CVE-2026-46113",
        "the companion of CVE-2026-53359: both fixes are needed",
        fixed={**_JULY, (6, 18): 30},
        mainline=(7, 2, 1),
        exact=frozenset({(6, 18)}),
        sources=(
            "https://git.kernel.org/torvalds/c/0cb2af2ea66a",
            "https://github.com/cozystack/cozystack/pull/3240",
        ),
    ),
    Advisory(
        "CVE-2026-64561",
        "Zapscape, another use after free in KVM's shadow page tables",
        fixed={(7, 1): 6},
        mainline=(7, 2, 5),
        exact=frozenset({(7, 1)}),
        sources=(
            "https://nvd.nist.gov/vuln/detail/CVE-2026-64561",
            "https://github.com/coreos/fedora-coreos-tracker/issues/2203",
        ),
    ),
)

CVES: tuple[str, ...] = tuple(each.cve for each in ADVISORIES)

COMPLETE = "Debian"
"""Whose kernel changelogs name the CVEs they fix so completely that one not named is not fixed (with an old version).
PVE's changelogs do not name those that come with Ubuntu's kernel; Ubuntu's and others' versions say nothing."""


@frozen
class Judgement:
    """`evidence`: a clause that says what `state` rests on."""

    cve: str
    state: State
    evidence: str


@frozen
class Upstream:
    """The upstream release a kernel is made of; `text` as it was read. `candidate`: of `-rcN`, else 0.
    `plain`: nobody patched it, as far as its name says, so what upstream lacks it lacks."""

    version: Version
    text: str
    candidate: int = 0
    plain: bool = False

    @property
    def branch(self) -> tuple[int, int]:
        return self.version[:2]


_RELEASE = r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?"
_DEBIAN = re.compile(rf"Debian {_RELEASE}(?:~rc(\d{{1,3}}))?")
_PLAIN = re.compile(rf"{_RELEASE}(?:-rc(\d{{1,3}}))?\+?(?:-arch\d[\w.-]*)?")
_FEDORA = re.compile(rf"{_RELEASE}-0\.rc(\d{{1,3}})\..*|{_RELEASE}-[1-9]\d*\.fc\d+.*")
_LOCAL = re.compile(rf"{_RELEASE}-[A-Za-z][\w.+-]*")


def upstream(facts: Facts) -> Upstream | None:
    """The upstream release of the running kernel; None where its version does not tell.

    Debian names it in `uname -v`, not in `uname -r` (6.1.0-28-amd64 is an ABI, not 6.1.0). Ubuntu and PVE (6.8.0-45,
    6.8.12-4), RHEL and its kin (5.14.0-427.el9) number otherwise: None.
    """
    debian = _DEBIAN.search(facts.kernel_build)
    if debian:
        return _made(debian.group(), debian.groups())
    if re.match(r"\d+\.\d+\.\d+-\d+(-[a-z]+)*$|.*(\.el\d|-pve|-generic|amzn|-azure|-aws|-gcp)", facts.kernel):
        return None
    if plain := _PLAIN.fullmatch(facts.kernel):
        return _made(facts.kernel, plain.groups(), plain="arch" not in facts.kernel)
    if fedora := _FEDORA.fullmatch(facts.kernel):
        parts = fedora.groups()
        return _made(facts.kernel, parts[:4] if parts[0] else parts[4:])
    local = _LOCAL.fullmatch(facts.kernel)
    return _made(facts.kernel, local.groups()) if local and "-rc" not in facts.kernel else None


def _made(text: str, parts: tuple[str | None, ...], *, plain: bool = False) -> Upstream:
    numbers = [int(part or 0) for part in (*parts, None)[:4]]
    return Upstream((numbers[0], numbers[1], numbers[2]), text, numbers[3], plain)


def judge(facts: Facts) -> tuple[Judgement, ...]:
    """Judges for each of CVES whether the running kernel has its fix."""
    return tuple(_judge(facts, each) for each in ADVISORIES)


def risk(facts: Facts) -> str:
    """Why switching nesting on is dangerous on this kernel; "" where it is not known to be."""
    said = "; ".join(f"{each.cve} ({each.evidence})" for each in judge(facts) if each.state == "vulnerable")
    return f"This kernel is vulnerable to {said}" if said else ""


def state(judgements: tuple[Judgement, ...]) -> State:
    """The worst: vulnerable if one is, else unknown if one is."""
    states = {each.state for each in judgements}
    return "vulnerable" if "vulnerable" in states else "unknown" if "unknown" in states else "fixed"


def _judge(facts: Facts, advisory: Advisory) -> Judgement:
    package = facts.package
    if advisory.cve in package.cves:
        return Judgement(advisory.cve, "fixed", f"named in the changelog of {_package(facts)}")
    found = upstream(facts)
    silent = package.changelog and bool(package.cves)
    missing = f", and not named in the changelog of {_package(facts)}" if silent else ""
    if found is None:
        return Judgement(advisory.cve, "unknown", _nothing(facts, missing))
    told, first = _by_version(advisory, found)
    number = ".".join(map(str, found.version)) + (f"-rc{found.candidate}" if found.candidate else "")
    if told == "fixed":
        return Judgement(advisory.cve, "fixed", f"upstream {number} includes the fix of {first}")
    if told == "unknown":
        branch = ".".join(map(str, found.branch))
        on_record = f"upstream {number} may lack the fix that {first} has" if first else ""
        return Judgement(
            advisory.cve, "unknown", f"{on_record or f'no fixed release of upstream {branch} is on record'}{missing}"
        )
    if found.plain or (silent and COMPLETE in f"{facts.distribution} {facts.kernel_build}"):
        return Judgement(
            advisory.cve, "vulnerable", f"upstream {number} is older than {first}, the first fixed{missing}"
        )
    return Judgement(
        advisory.cve,
        "unknown",
        f"upstream {number} is older than {first}, but its packager may have patched it{missing}",
    )


def _by_version(advisory: Advisory, found: Upstream) -> tuple[State, str]:
    """The verdict by upstream releases, and the release that has the fix."""
    major, minor, candidate = advisory.mainline
    if found.branch >= (major, minor):
        early = found.branch == (major, minor) and 0 < found.candidate < candidate
        return ("vulnerable" if early else "fixed"), f"{major}.{minor}-rc{candidate}"
    first = advisory.fixed.get(found.branch)
    if first is not None:
        name = f"{found.branch[0]}.{found.branch[1]}.{first}"
        if found.version[2] >= first and not found.candidate:
            return "fixed", name
        return ("vulnerable" if found.branch in advisory.exact else "unknown"), name
    return "unknown", ""


def _package(facts: Facts) -> str:
    return " ".join(each for each in (facts.package.name or "the kernel's package", facts.package.version) if each)


def _nothing(facts: Facts, missing: str) -> str:
    """Why a kernel tells nothing."""
    if not facts.kernel:
        return "the kernel's version was not seen"
    reason = facts.unseen.get("changelog", "")
    if facts.package.changelog and not missing:
        missing = f", and the changelog of {_package(facts)} names no CVE at all"
    read = missing or (f", and its changelog was not read ({reason})" if reason else ", and no changelog was read")
    return f"the version {facts.kernel} is its distribution's own and does not say what upstream fixed{read}"
