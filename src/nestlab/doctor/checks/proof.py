"""Checks of what KVM really does, by running a guest rather than reading files."""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

RUNS = Voice("runs", "proof")
OFFERS = Voice("offers", "proof")
STATE = Voice("state", "proof")


def _unasked(facts: Facts) -> str:
    """Why the functional probe did not run."""
    if facts.examined and not facts.python:
        return "there is no python3 here to run the probe with"
    return "the probe did not run"


@checks(*RUNS)
def runs(facts: Facts, want: Want) -> Finding | None:
    """KVM ran a 64-bit guest to its end"""
    kvm = facts.kvm
    if kvm.ran:
        return RUNS.ok(f"A 64-bit guest ran to its end and computed what it should (API {kvm.api})")
    if not kvm.opened:
        return None  # the device layer says it
    if kvm.ran is None or not questions.x86(facts):
        return RUNS.note(
            f"Unknown: {_unasked(facts) if kvm.ran is None else kvm.ran_error}",
            "That /dev/kvm opens proves nothing: only a guest that ran does.",
            "Install python3 and ask again.",
        )
    return RUNS.fail(
        f"A 64-bit guest did not run: {kvm.ran_error or 'no reason given'}",
        "KVM answers but does not do what Linux as a guest needs; QEMU would abort or hang.",
        "Mend what the layers before this one say; if nothing, look for the reason in the kernel's messages.",
        "dmesg | grep -iE 'kvm|vmx|svm'",
    )


@checks(*OFFERS)
def offers(facts: Facts, want: Want) -> Finding | None:
    """KVM offers VMX or SVM to guests (KVM_GET_SUPPORTED_CPUID)"""
    kvm = facts.kvm
    if kvm.nested_cpuid:
        return OFFERS.ok(f"KVM_GET_SUPPORTED_CPUID offers {kvm.nested_cpuid} to guests")
    if not kvm.opened or (facts.provider in questions.VENDORS and not facts.nested and kvm.ran is not None):
        return None  # not asked, or `nested` says why
    if kvm.ran is None:
        return OFFERS.note(
            f"Unknown: {_unasked(facts)}",
            "The parameter `nested` says what was asked for; only KVM_GET_SUPPORTED_CPUID says what guests can get.",
            "Install python3 and ask again.",
        )
    said = f"though {facts.provider} says nested={questions.parameter(facts, f'{facts.provider}.nested')}"
    return OFFERS.fail(
        f"KVM_GET_SUPPORTED_CPUID offers neither vmx nor svm to guests{f', {said}' if facts.nested else ''}",
        "Whatever CPU a guest is given, it cannot have KVM of its own.",
        "Look for the reason in the kernel's messages."
        if facts.nested
        else "Use a host whose KVM is kvm_intel or kvm_amd; nestlab emulates here instead.",
    )


@checks(*STATE)
def state(facts: Facts, want: Want) -> Finding | None:
    """KVM can save nested state (live migration and memory snapshots)

    Documentation/virt/kvm/x86/running-nested-guests.rst, "Live migration"; KVM_CAP_NESTED_STATE is its largest size."""
    size = facts.kvm.nested_state
    if facts.kvm.nested_cpuid is None:
        return None
    if size is None:
        return STATE.note(
            "Unknown: KVM_CAP_NESTED_STATE was not asked",
            "Without it a machine with running nested guests cannot be moved or snapshotted with its memory.",
            "Install python3 and ask again.",
        )
    if not size:
        return STATE.warn(
            "KVM_CAP_NESTED_STATE is 0",
            "A machine whose nested guests run cannot be moved live or snapshotted with its memory; QEMU before 4.2"
            " refuses it for every machine with vmx.",
            "Use Linux 5.3 (Intel) or 5.8 (AMD) or later, or shut the nested guests down first.",
        )
    if facts.provider == "kvm_amd":
        return STATE.note(
            f"KVM_CAP_NESTED_STATE is {size} bytes, on AMD",
            "KVM can save nested state since 5.8, but the kernel's own document still calls moving or saving a machine"
            " with running nested guests undefined behaviour on AMD.",
            "Shut nested guests down, or snapshot disks only, before moving or snapshotting the machine they run in.",
        )
    return STATE.ok(f"KVM_CAP_NESTED_STATE is {size} bytes: nested guests can be saved with their machine")
