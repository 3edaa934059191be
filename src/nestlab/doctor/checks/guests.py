"""Checks for special guests (Windows, macOS, …), made only when asked for by name."""

from __future__ import annotations

from nestlab.doctor import modprobe_options
from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

IGNORE = Voice("ignore-msrs", "guests")
REPORT = Voice("report-msrs", "guests")
HYPERV = Voice("hyper-v", "guests")

_NEEDS = {
    "windows": "Windows 10 1803 and later with a blue screen",
    "esxi": "ESXi with a purple screen",
    "macos": "macOS while it boots",
}


@checks(*IGNORE)
def ignore_msrs(facts: Facts, want: Want) -> Finding | None:
    """Unknown MSRs are ignored, for the guests that need it (windows, esxi, macos)"""
    guests = sorted(want.guests & _NEEDS.keys())
    value = questions.parameter(facts, "kvm.ignore_msrs")
    if facts.provider not in questions.VENDORS:
        return None
    if not guests:
        if not questions.on(value):
            return None
        return IGNORE.ok(
            f"kvm has ignore_msrs={value}; only windows, esxi and macos guests need it, and none was named"
        )
    who = ", ".join(guests)
    why = f"A model-specific register that KVM does not know stops {', '.join(_NEEDS[guest] for guest in guests)}."
    if not value:
        return IGNORE.note(
            f"Unknown: kvm's ignore_msrs was not seen, and {who} guests are wanted",
            why,
            "Look.",
            "cat /sys/module/kvm/parameters/ignore_msrs",
        )
    if not questions.on(value):
        here = not questions.container(facts)
        return IGNORE.warn(
            f"kvm has ignore_msrs={value}, and {who} guests are wanted",
            f"{why} With it on, such a register reads as 0 for every guest of this host.",
            "Switch it on: it takes effect at once, without loading a module again."
            if here
            else "On the container's host, switch it on.",
            "nestlab doctor --fix ignore-msrs",
            fixable=here,
        )
    setting = modprobe_options.lasting(facts, "kvm", "ignore_msrs")
    if facts.examined and not (setting and questions.accepts("kvm", setting.value)):
        return IGNORE.note(
            f"kvm has ignore_msrs={value}, but no option keeps it so after a reboot",
            why,
            "Write the option.",
            "nestlab doctor --fix ignore-msrs",
            fixable=not questions.container(facts),
        )
    return IGNORE.ok(f"kvm has ignore_msrs={value}, for {who} guests")


@checks(*REPORT)
def report_msrs(facts: Facts, want: Want) -> Finding | None:
    """Ignored MSRs do not fill the kernel's log"""
    value = questions.parameter(facts, "kvm.report_ignored_msrs")
    if not questions.on(questions.parameter(facts, "kvm.ignore_msrs")) or not value:
        return None
    if not questions.on(value):
        return REPORT.ok(f"kvm has report_ignored_msrs={value}")
    return REPORT.note(
        f"kvm has report_ignored_msrs={value}, with ignore_msrs on",
        "Each register that a guest asks for in vain is a line in the kernel's log, and some guests ask thousands of"
        " times.",
        "Switch the report off when the log is flooded; leave it on to find out what a guest misses.",
        "echo N > /sys/module/kvm/parameters/report_ignored_msrs",
    )


@checks(*HYPERV)
def hyper_v(facts: Facts, want: Want) -> Finding | None:
    """Hyper-V as a nested hypervisor, on this vendor"""
    if "windows" not in want.guests or facts.provider not in questions.VENDORS:
        return None
    if facts.provider == "kvm_amd":
        return HYPERV.note(
            "Windows guests are wanted on an AMD host",
            "The enlightenment hv-evmcs is Intel's: with it a machine does not start here. Hyper-V nests on AMD only in"
            " Windows 11 and Server 2022 or later, and on Proxmox VE 7 or later.",
            "Give such machines the host's CPU without hv-evmcs (`qm set VMID --cpu host`).",
        )
    return HYPERV.note(
        "Windows guests are wanted on an Intel host",
        "Hyper-V and virtualization-based security in them are slow without hv-evmcs, and boot in a loop on some recent"
        " CPUs.",
        "Use these on Proxmox VE; level=30 (qemu-server 9.1.14 or later) only where it boots in a loop.",
        "qm set VMID --cpu 'host,flags=+hv-evmcs'",
        "qm set VMID --cpu 'host,flags=+hv-evmcs,level=30'",
    )
