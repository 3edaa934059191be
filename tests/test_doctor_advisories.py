"""Whether a kernel has the fixes is judged from evidence, and called unknown where there is none."""

from __future__ import annotations

import pytest

from nestlab.doctor.advisories import ADVISORIES, CVES, judge, state, upstream
from nestlab.hosts.facts import Facts, Package

JANUSCAPE, COMPANION, ZAPSCAPE = "CVE-2026-53359", "CVE-2026-46113", "CVE-2026-64561"
DEBIAN = "Debian GNU/Linux 12 (bookworm)"


def states(facts: Facts) -> tuple[str, ...]:
    return tuple(each.state for each in judge(facts))


def test_the_table_names_all_three_with_sources() -> None:
    assert CVES == (JANUSCAPE, COMPANION, ZAPSCAPE)
    assert all(each.sources for each in ADVISORIES)


@pytest.mark.parametrize(
    ("kernel", "build", "version"),
    [
        ("6.1.0-28-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)", (6, 1, 119)),
        ("6.12.9+bpo-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.9-1~bpo12+1 (2025-01-19)", (6, 12, 9)),
        ("6.18.44", "", (6, 18, 44)),
        ("7.2.0-rc4", "", (7, 2, 0)),
        ("7.1.5-arch1-1", "", (7, 1, 5)),
        ("7.1.7-200.fc44.x86_64", "", (7, 1, 7)),
        ("7.2.0-0.rc6.260805gc21bb4193868.50.fc45.x86_64", "", (7, 2, 0)),
        ("6.18.44-local-build", "", (6, 18, 44)),
    ],
)
def test_a_version_that_is_upstream_s_is_read(kernel: str, build: str, version: tuple[int, int, int]) -> None:
    found = upstream(Facts(kernel=kernel, kernel_build=build))
    assert found is not None
    assert found.version == version


@pytest.mark.parametrize(
    "kernel",
    [
        "6.1.0-28-amd64",
        "6.8.0-45-generic",
        "6.8.12-4-pve",
        "6.17.2-1-pve",
        "5.14.0-427.13.1.el9_4.x86_64",
        "6.12.103-127.188.amzn2023.x86_64",
        "6.8.0-1017-gcp",
        "5.15.167.4-microsoft-standard-WSL2",
        "6.4.0-150600.23-default",
        "",
        "odd",
    ],
)
def test_a_version_that_is_its_distribution_s_own_says_nothing(kernel: str) -> None:
    assert upstream(Facts(kernel=kernel)) is None
    assert set(states(Facts(kernel=kernel))) == {"unknown"}


def test_the_changelog_of_the_running_kernel_s_package_comes_first() -> None:
    package = Package("proxmox-kernel-6.8.12-4-pve", "6.8.12-4", True, (JANUSCAPE, COMPANION))
    assert states(Facts(kernel="6.8.12-4-pve", package=package)) == ("fixed", "fixed", "unknown")
    assert judge(Facts(package=package))[0].evidence == "named in the changelog of proxmox-kernel-6.8.12-4-pve 6.8.12-4"


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("7.1.2", ("vulnerable", "unknown", "vulnerable")),
        ("7.1.3", ("fixed", "fixed", "vulnerable")),
        ("7.1.6", ("fixed", "fixed", "fixed")),
        ("7.2.0-rc4", ("fixed", "fixed", "vulnerable")),
        ("7.2.0-rc5", ("fixed", "fixed", "fixed")),
        ("7.3.1", ("fixed", "fixed", "fixed")),
        ("6.18.29", ("vulnerable", "vulnerable", "unknown")),
        ("6.18.36", ("vulnerable", "fixed", "unknown")),
        ("6.18.38", ("fixed", "fixed", "unknown")),
        ("6.1.177", ("fixed", "fixed", "unknown")),
        ("6.17.9", ("unknown", "unknown", "unknown")),
        ("4.19.300", ("unknown", "unknown", "unknown")),
    ],
)
def test_an_upstream_kernel_is_judged_by_its_branch(kernel: str, expected: tuple[str, ...]) -> None:
    assert states(Facts(kernel=kernel)) == expected


def test_an_old_version_that_its_packager_may_have_patched_is_unknown() -> None:
    for kernel in ("7.1.2-arch1-1", "7.1.2-201.fc44.x86_64", "7.1.2-local"):
        assert states(Facts(kernel=kernel))[0] == "unknown"


def test_debian_s_silent_changelog_and_an_old_version_are_vulnerable() -> None:
    old = Facts(kernel="6.1.0-28-amd64", kernel_build="Debian 6.1.119-1", distribution=DEBIAN)
    assert states(old)[0] == "unknown"
    read = Facts(
        **{**old.__dict__, "package": Package("linux-image-6.1.0-28-amd64", "6.1.119-1", True, ("CVE-2024-50302",))}
    )
    assert states(read)[0] == "vulnerable"
    assert judge(read)[0].evidence == (
        "upstream 6.1.119 is older than 6.1.177, the first fixed, and not named in the changelog of"
        " linux-image-6.1.0-28-amd64 6.1.119-1"
    )
    cut = Facts(
        **{**old.__dict__, "package": Package("linux-image-6.1.0-28-amd64", "6.1.119-1", False, ("CVE-2024-50302",))}
    )
    assert states(cut)[0] == "unknown", "a changelog that was not read to its end proves nothing"


def test_the_worst_counts() -> None:
    assert state(judge(Facts(kernel="7.1.6"))) == "fixed"
    assert state(judge(Facts(kernel="6.18.44"))) == "unknown"
    assert state(judge(Facts(kernel="6.18.36"))) == "vulnerable"


def test_a_changelog_that_names_no_cve_is_not_called_unread() -> None:
    package = Package("proxmox-kernel-6.8.12-4-pve", "6.8.12-4", True, ())
    said = judge(Facts(kernel="6.8.12-4-pve", package=package))[0].evidence
    assert said.endswith("the changelog of proxmox-kernel-6.8.12-4-pve 6.8.12-4 names no CVE at all")
