"""Checks of what KVM really does, by running a guest rather than reading files."""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

RUNS = Voice("runs", "proof")
OFFERS = Voice("offers", "proof")
STATE = Voice("state", "proof")


_NV2 = "+NV2"
"""In the kernel's `kvm [1]: VHE+NV2 mode initialized successfully` (arch/arm64/kvm/arm.c)."""


def _unasked(facts: Facts) -> tuple[str, str]:
    """Why the functional probe did not run, and what to do about it."""
    if facts.examined and not facts.python:
        return "there is no python3 here to run the probe with", "Install python3 and ask again."
    why = facts.unseen.get("kvm", "")
    do = "Ask again; `nestlab doctor --facts` prints what the host says." if facts.examined else "Ask with the doctor."
    return f"the probe did not run{f' ({why})' if why else ''}", do


@checks(*RUNS)
def runs(facts: Facts, want: Want) -> Finding | None:
    """KVM ran a 64-bit guest to its end"""
    kvm = facts.kvm
    if kvm.ran:
        return RUNS.ok(f"A 64-bit guest ran to its end and computed what it should (API {kvm.api})")
    if not kvm.opened:
        return None  # the device layer says it
    if not questions.x86(facts):
        return RUNS.note(
            f"Unknown: the doctor's proof is a guest for x86-64, and this is {facts.arch}",
            "/dev/kvm opens, so guests of this architecture should run; that one did is not proven.",
            "Start one.",
            *((f"qemu-system-{facts.arch} -M virt -accel kvm -cpu host …",) if questions.arm(facts) else ()),
        )
    if kvm.ran is None:
        why, do = _unasked(facts)
        return RUNS.note(f"Unknown: {why}", "That /dev/kvm opens proves nothing: only a guest that ran does.", do)
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
    if not questions.x86(facts):
        return _arm(facts) if questions.arm(facts) else None
    if kvm.ran is None:
        reason, do = _unasked(facts)
        why = "The parameter `nested` says what was asked for; only KVM_GET_SUPPORTED_CPUID says what guests can get."
        return OFFERS.note(f"Unknown: {reason}", why, do)
    said = f"though {facts.provider} says nested={questions.parameter(facts, f'{facts.provider}.nested')}"
    return OFFERS.fail(
        f"KVM_GET_SUPPORTED_CPUID offers neither vmx nor svm to guests{f', {said}' if facts.nested else ''}",
        "Whatever CPU a guest is given, it cannot have KVM of its own.",
        "Look for the reason in the kernel's messages."
        if facts.nested
        else "Use a host whose KVM is kvm_intel or kvm_amd; nestlab emulates here instead.",
    )


def _arm(facts: Facts) -> Finding:
    """Whether ARM guests get EL2, and with it KVM: Documentation/admin-guide/kernel-parameters.txt, kvm-arm.mode."""
    said = next((each.strip() for each in facts.messages if _NV2 in each), "")
    if said:
        return OFFERS.ok(f"The kernel says `{said}`: ARM guests that are given EL2 have KVM of their own")
    asked = "kvm-arm.mode=nested" in facts.cmdline
    return OFFERS.note(
        "kvm-arm.mode=nested is on the command line, and no message says that NV2 is used"
        if asked
        else "ARM guests of this host get no KVM of their own: kvm-arm.mode=nested is not on the command line",
        "KVM nests on ARM with that, on a CPU with FEAT_NV2 and since Linux 6.16; QEMU's `virtualization=on` fails"
        " otherwise. A virtual machine seldom has FEAT_NV2: Apple's framework, for one, lends one level, not two.",
        "Leave `virtualization=on` out where one level is enough."
        if asked or questions.machine(facts)
        else "Where the CPU has FEAT_NV2, boot with kvm-arm.mode=nested; else leave `virtualization=on` out.",
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
            _unasked(facts)[1],
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
