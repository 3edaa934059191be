"""Checks of the CPU: vmx or svm, and what the firmware locks."""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

ARCHITECTURE = Voice("architecture", "cpu")
CPU = Voice("cpu", "cpu")
FIRMWARE = Voice("firmware", "cpu")

_SWITCH = {"intel": "`Intel Virtualization Technology` (VT-x, VMX)", "amd": "`SVM Mode` (AMD-V)"}


def _setup(facts: Facts) -> str:
    """Advice for the firmware's setup."""
    name = _SWITCH[facts.family] if facts.family else " or ".join(_SWITCH.values())
    return (
        f"In the firmware's setup switch on {name}, save, and switch the machine off and on: the lock holds until it"
        " loses power."
    )


@checks(*ARCHITECTURE)
def architecture(facts: Facts, want: Want) -> Finding | None:
    """A 64-bit x86 host"""
    if facts.arch in ("x86_64", "amd64"):
        if "lm" in facts.flags or not facts.flags:
            return ARCHITECTURE.ok("x86_64")
        return ARCHITECTURE.fail(
            "The kernel is x86_64, but the CPU does not show `lm` (long mode)",
            "Its guests could not run 64-bit code.",
            "Where an outer hypervisor chose this CPU, give the machine a 64-bit one.",
        )
    if not facts.arch:
        return ARCHITECTURE.note(
            "Unknown: the host did not say its architecture", "nestlab nests on x86-64 only.", "See it.", "uname -m"
        )
    if questions.x86_any(facts):
        return ARCHITECTURE.fail(
            f"The kernel is {facts.arch}", "A 32-bit kernel runs no 64-bit guests.", "Boot a 64-bit kernel."
        )
    name = "ARM" if questions.arm(facts) else facts.arch
    works = "/dev/kvm works here, for" if facts.kvm.opened else "KVM, where it works at all, runs"
    return ARCHITECTURE.fail(
        f"The kernel is {facts.arch}",
        f"{works} {name} guests only, and nestlab's machines are x86-64.",
        "Use an x86-64 host for nestlab: nothing that is installed or switched on here changes that.",
    )


@checks(*CPU)
def cpu(facts: Facts, want: Want) -> Finding | None:
    """The CPU can virtualize (vmx or svm in /proc/cpuinfo)"""
    if not questions.x86(facts):
        return None
    if not questions.flags_known(facts):
        return CPU.note(
            "Unknown: /proc/cpuinfo was not seen",
            "Without vmx or svm there is no KVM.",
            "Look.",
            "grep -oEm1 'vmx|svm' /proc/cpuinfo",
        )
    model = facts.model or facts.vendor or "the CPU"
    if flag := questions.flag(facts):
        return CPU.ok(f"{model} has {flag}")
    if questions.locked(facts):
        return None  # `firmware` says it better
    if questions.machine(facts) or questions.wsl(facts):
        return CPU.fail(
            f"{model} shows neither vmx nor svm in this virtual machine",
            "Without them KVM has nothing to run guests with.",
            "See the place layer first: the level below decides.",
        )
    return CPU.fail(
        f"{model} shows neither vmx nor svm",
        f"Without {questions.technique(facts)} KVM has nothing to run guests with. Kernels since 5.6 hide the flag"
        " when the firmware disabled it.",
        f"{_setup(facts)} If it is on there, this CPU cannot virtualize.",
        "dmesg | grep -iE 'vmx|svm|kvm'",
    )


@checks(*FIRMWARE)
def firmware(facts: Facts, want: Want) -> Finding | None:
    """The firmware has not locked virtualization"""
    if not questions.x86(facts):
        return None
    if evidence := questions.locked(facts):
        inside = questions.machine(facts)
        return FIRMWARE.fail(
            f"The firmware locked {questions.technique(facts)}: {evidence}",
            "The CPU could virtualize, but the firmware forbade it before Linux started; KVM cannot be loaded.",
            "This is a virtual machine: its outer host has to allow it (see the place layer)."
            if inside
            else _setup(facts),
        )
    if facts.provider in questions.VENDORS:
        return FIRMWARE.ok(f"Not locked: {facts.provider} is loaded, which a lock would prevent")
    looked = [f"MSR {name} is {value:#x}" for name, value in sorted(facts.msr.items()) if name in _LOCKS]
    if looked:
        return FIRMWARE.ok(f"Not locked: {', '.join(looked)}")
    if questions.machine(facts) or questions.wsl(facts):
        return None  # an outer host decides, and `outer` says so
    blind = questions.reason(facts, "messages", "msr")
    return FIRMWARE.note(
        f"Unknown: no kernel message about a lock was found, and the lock's register was not read{blind}",
        "A firmware that locks VMX or SVM keeps KVM from loading.",
        "Ask again as root, with the msr module loaded.",
        "modprobe msr && nestlab doctor",
    )


_LOCKS = ("0x3a", "0xc0010114")
