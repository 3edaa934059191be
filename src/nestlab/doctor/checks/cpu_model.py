"""CPU models of virtual machines that were put together by hand: vmx or svm without what goes with it."""

from __future__ import annotations

import re

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.outer_hypervisor import PVE, outer
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

MODEL = Voice("cpu-model", "place")

# QEMU's target/i386/cpu.c, model_id of qemu64, qemu32, kvm64, kvm32; cpu64-rhel6 is Red Hat's qemu64.
_GENERIC = re.compile(r"QEMU Virtual CPU|Common (?:32-bit )?KVM processor|cpu64-rhel|Pentium\(R\) |Intel Pentium I")
_TCG = re.compile(r"QEMU TCG CPU")


@checks(*MODEL)
def model(facts: Facts, want: Want) -> Finding | None:
    """A virtual machine's CPU is a whole model, not one with vmx or svm added by hand"""
    machine, flag = questions.machine(facts), questions.flag(facts)
    if not machine or not flag or not questions.x86(facts) or machine == "qemu" or _TCG.search(facts.model):
        return None
    below = outer(facts, machine)
    do, commands = below.do, below.commands
    alien = questions.ALIEN[facts.family] if facts.family else ""
    if alien in facts.flags:
        return MODEL.fail(
            f"The CPU calls itself {facts.vendor} and shows {alien}, which is not that vendor's",
            "The flag was added by hand to another vendor's model: KVM here looks for the vendor, and refuses.",
            do,
            *commands,
        )
    if not _GENERIC.search(facts.model):
        return MODEL.ok(f"{facts.model or facts.vendor} is no generic model") if facts.model else None
    seen = f"{flag} was added to a generic CPU model ({facts.model})"
    why = (
        "Such a model has not what goes with it (SSE4.1 and later instructions, the host's VMX or SVM capabilities):"
        " KVM loads, and the guests in here crash, reboot or are refused."
    )
    # Proxmox VE's x86-64-v2 and later call themselves so too, and its own flag nested-virt is meant for them.
    if below is PVE and "QEMU Virtual CPU" in facts.model:
        why += " (Proxmox VE's x86-64-v2 and later, which have SSE4.1, call themselves so, too.)"
        return MODEL.warn(seen, why, do, *commands)
    return MODEL.fail(seen, why, do, *commands)
