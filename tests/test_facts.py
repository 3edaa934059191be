"""Facts: recorded from real machines, made from the text of files, and what follows from them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.hosts import gather_facts, probe
from nestlab.hosts.facts import Facts, Kvm
from nestlab.hosts.host import Result
from nestlab.hosts.local import LocalHost

RECORDED = sorted((Path(__file__).parent / "facts").glob("*.json"))

REAL = Facts(
    flags=frozenset({"svm", "lm"}),
    provider="kvm_amd",
    parameters={"kvm_amd.nested": "1"},
    kvm=Kvm(opened=True, api=12, nested_cpuid="svm", nested_state=4224, ran=True),
)


def recorded(name: str) -> Facts:
    return Facts.from_json((Path(__file__).parent / "facts" / f"{name}.json").read_text())


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_facts_go_round(path: Path) -> None:
    facts = Facts.from_json(path.read_text())
    assert Facts.from_json(facts.to_json()) == facts
    assert facts.kernel


def test_a_kvm_without_virtualization_hardware_is_no_hardware_though_it_opens() -> None:
    facts = recorded("pvm-no-svm")
    assert facts.provider == "kvm_pvm"
    assert facts.kvm.api == 12
    assert facts.kvm.ran is False
    assert not facts.hardware
    assert not facts.can_nest
    assert not facts.nested


def test_emulated_svm_is_hardware_for_its_guests() -> None:
    facts = recorded("emulated-svm")
    assert facts.virtualization == "qemu"
    assert facts.hardware
    assert facts.can_nest
    assert facts.nested


@pytest.mark.parametrize(
    "facts",
    [
        replace(REAL, flags=frozenset({"lm"})),
        replace(REAL, provider="kvm_pvm"),
        replace(REAL, provider="kvm_intel"),
        replace(REAL, provider=""),
        replace(REAL, kvm=replace(REAL.kvm, opened=False)),
        replace(REAL, kvm=replace(REAL.kvm, ran=False)),
        replace(REAL, kvm=replace(REAL.kvm, ran=None)),
        replace(REAL, kvm=replace(REAL.kvm, api=11)),
    ],
)
def test_hardware_takes_a_vendor_its_flag_and_code_that_ran(facts: Facts) -> None:
    assert REAL.hardware
    assert not facts.hardware
    assert not facts.can_nest


def test_hardware_whose_guests_are_not_offered_svm_cannot_nest() -> None:
    facts = replace(REAL, kvm=replace(REAL.kvm, nested_cpuid=None))
    assert facts.hardware
    assert not facts.can_nest


@pytest.mark.parametrize(
    ("value", "on"), [("Y", True), ("1", True), ("y", True), ("N", False), ("0", False), ("", False)]
)
def test_nested_is_read_in_either_vendors_spelling(value: str, on: bool) -> None:
    assert replace(REAL, parameters={"kvm_amd.nested": value}).nested is on


def test_facts_of_a_newer_nestlab_are_read() -> None:
    data = json.loads(REAL.to_json())
    data["unheard"] = data["kvm"]["of"] = 1
    assert Facts.from_json(json.dumps(data)) == REAL


def test_a_few_keys_are_facts_of_an_older_nestlab() -> None:
    assert Facts.from_json('{"kernel": "5.10", "cpus": 2}') == Facts(kernel="5.10", cpus=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "none of their keys"),
        ('{"name": "x"}', "none of their keys"),
        ('{"where": "this machine", "findings": []}', "it is what was found"),
        ('{"hosts": [], "summary": ""}', "it is what was found"),
        ('{"this machine": {"kernel": "6"}, "hv1": {"cpus": 2}}', "each for itself: this machine, hv1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"clock": 1' + "0" * 400 + "}", "too large"),
    ],
)
def test_json_of_something_else_is_told_what_it_is(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Facts.from_json(text)


@given(st.text())
def test_what_is_no_facts_is_a_message(text: str) -> None:
    with pytest.raises(LabError, match="no facts"):
        gather_facts.of_probe("x" + text, "hv1")


# -- text of files

CPU = "processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A CPU\nflags\t\t: fpu {flags}\nvmx flags\t: {vmx}\n\n"


def files(flags: str = "lm", vmx: str = "", **others: str) -> dict[str, str]:
    cpu = CPU.format(vendor="GenuineIntel", flags=flags, vmx=vmx)
    return {"/proc/cpuinfo": cpu + cpu.replace(": 0", ": 1"), **others}


def test_facts_from_files() -> None:
    given = files(
        "vmx lm sse2 ept",
        "unrestricted_guest shadow_vmcs other",
        **{
            "/proc/meminfo": "MemTotal:       2048 kB\nMemAvailable:   1024 kB\n",
            "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
            "/sys/module/kvm_intel/parameters/nested": "Y\n",
            "/proc/sys/kernel/osrelease": "6.12.0\n",
        },
    )
    found = probe.facts(given, ["kvm", "kvm_intel"])
    assert found["flags"] == ["ept", "lm", "shadow_vmcs", "unrestricted_guest", "vmx"]
    assert (found["cpus"], found["memory"], found["memory_available"]) == (2, 2 << 20, 1 << 20)
    assert found["distribution"] == "Debian GNU/Linux 13 (trixie)"
    assert (found["provider"], found["parameters"]) == ("kvm_intel", {"kvm_intel.nested": "Y"})
    assert (found["kernel"], found["vendor"], found["model"]) == ("6.12.0", "GenuineIntel", "A CPU")
    assert found["virtualization"] == ""


def test_nothing_to_read_is_nothing_known() -> None:
    found = probe.facts({}, [])
    assert (found["cpus"], found["memory"], found["provider"], found["routes"]) == (0, 0, "", [])


CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
DMI = "/sys/class/dmi/id/"


@pytest.mark.parametrize(
    ("name", "flags", "others"),
    [
        ("", "lm", {DMI + "sys_vendor": "QEMU"}),
        ("kvm", "hypervisor", {DMI + "sys_vendor": "QEMU\n", CLOCKS: "kvm-clock tsc acpi_pm\n"}),
        ("qemu", "hypervisor", {DMI + "sys_vendor": "QEMU\n", CLOCKS: "tsc acpi_pm\n"}),
        ("kvm", "hypervisor", {CLOCKS: "tsc kvm-clock\n"}),
        ("vmware", "hypervisor", {DMI + "sys_vendor": "VMware, Inc.\n"}),
        ("oracle", "hypervisor", {DMI + "sys_vendor": "innotek GmbH\n", DMI + "product_name": "VirtualBox\n"}),
        ("microsoft", "hypervisor", {DMI + "sys_vendor": "Microsoft Corporation\n"}),
        ("amazon", "hypervisor", {DMI + "sys_vendor": "Amazon EC2\n"}),
        ("google", "hypervisor", {DMI + "product_name": "Google Compute Engine\n", DMI + "sys_vendor": "Google\n"}),
        ("xen", "hypervisor", {DMI + "sys_vendor": "Xen\n"}),
        ("xen", "lm", {"/sys/hypervisor/type": "xen\n"}),
        ("vm-other", "hypervisor", {}),
        ("docker", "hypervisor", {"/.dockerenv": "", DMI + "sys_vendor": "QEMU"}),
        ("podman", "lm", {"/run/.containerenv": ""}),
        ("lxc", "lm", {"/run/systemd/container": "lxc\n"}),
        ("wsl", "hypervisor", {"/proc/sys/kernel/osrelease": "5.15.1-microsoft-standard-WSL2"}),
        ("openvz", "lm", {"/proc/vz": ""}),
        ("", "lm", {"/proc/vz": "", "/proc/bc": ""}),
    ],
)
def test_virtualization_has_the_name_that_systemd_gives_it(name: str, flags: str, others: dict[str, str]) -> None:
    assert probe.facts(files(flags, **others), [])["virtualization"] == name


# -- what a shell sees


async def test_a_shell_sees_what_the_probe_sees_but_not_into_kvm() -> None:
    host = LocalHost()
    result = await host.run(["sh", "-c", gather_facts.FALLBACK])
    shell, full = gather_facts.of_marks(result.text), await host.facts()
    vague = replace(
        full,
        kvm=replace(shell.kvm, opened=full.kvm.opened),
        clock=shell.clock,
        memory_available=shell.memory_available,
    )
    assert shell == vague
    assert shell.kvm.ran is None
    assert not shell.hardware


class Bare(LocalHost):
    """This machine with nothing but a shell and what its script needs."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        for name in ("sh", "cat", "uname", "id", "date"):
            (folder / name).symlink_to(shutil.which(name) or "")

    async def run(self, argv: Sequence[str], **options: Any) -> Result:
        return await super().run([str(self._folder / "sh"), *argv[1:]], env={"PATH": str(self._folder)}, **options)


async def test_a_host_without_python_is_asked_by_its_shell(tmp_path: Path) -> None:
    facts = await gather_facts.over_shell(Bare(tmp_path), 60)
    assert facts.kernel
    assert facts.uid == os.getuid()
    assert facts.kvm.ran is None
