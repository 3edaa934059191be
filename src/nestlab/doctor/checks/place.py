"""Checks of what the host itself runs in; what is missing there cannot be mended from inside."""

from __future__ import annotations

import re

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.outer import outer as who
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

CONFIDENTIAL = Voice("confidential", "place")
WSL = Voice("wsl", "place")
OUTER = Voice("outer", "place")
CONTAINER = Voice("container", "place")

# arch/x86/mm/mem_encrypt.c, arch/x86/coco/tdx/tdx.c, arch/x86/kvm/svm/svm.c
_SEALED = re.compile(
    r"Encryption Features active:.*(\bSEV|Intel TDX)|Secure Encrypted Virtualization \(SEV\) active"
    r"|tdx: Guest detected|unsupported when running as an SEV guest"
)


@checks(*CONFIDENTIAL)
def confidential(facts: Facts, want: Want) -> Finding | None:
    """Not a confidential guest (SEV, TDX), where KVM refuses to work"""
    message = next((message for message in facts.messages if _SEALED.search(message)), "")
    if not message:
        return None
    return CONFIDENTIAL.fail(
        f"This is a confidential virtual machine: the kernel says `{message.strip()}`",
        "KVM does not work inside SEV and TDX guests, so nothing can be nested here.",
        "Create the machine anew without memory encryption (a `standard` instead of a `confidential` one).",
    )


@checks(*WSL)
def wsl(facts: Facts, want: Want) -> Finding | None:
    """In WSL, Windows lends it virtualization"""
    if not questions.wsl(facts):
        return None
    if questions.flag(facts):
        return WSL.ok(f"WSL 2, and Windows gives its CPU {questions.flag(facts)}")
    if not questions.flags_known(facts):
        return WSL.note(
            "Unknown: this is WSL, and its CPU's flags were not seen",
            "Without vmx or svm in WSL there is no KVM in it.",
            "Look for them in WSL.",
            "grep -oEm1 'vmx|svm' /proc/cpuinfo",
        )
    old = "" if "WSL2" in facts.kernel or "wsl2" in facts.kernel.lower() else " (WSL 1 cannot: it has no Linux kernel)"
    return WSL.fail(
        f"This is WSL, and its CPU has neither vmx nor svm{old}",
        "WSL 2 is a Hyper-V machine: without nested virtualization from Windows it has no KVM.",
        "In %UserProfile%\\.wslconfig on Windows 11 set these two lines, then shut WSL down.",
        "[wsl2]",
        "nestedVirtualization=true",
        "wsl --shutdown",
    )


@checks(*OUTER)
def outer(facts: Facts, want: Want) -> Finding | None:
    """In a virtual machine, the outer host lends it virtualization"""
    machine = questions.machine(facts)
    if not machine or questions.wsl(facts) or not questions.x86(facts):
        return None
    name = who(facts, machine).name
    if questions.flag(facts):
        return OUTER.ok(f"A virtual machine ({machine}); the outer {name} gives its CPU {questions.flag(facts)}")
    if not questions.flags_known(facts):
        return OUTER.note(
            f"Unknown: a virtual machine ({machine}), and its CPU's flags were not seen",
            "Without vmx or svm in them it cannot have KVM.",
            "Look for them.",
            "grep -oEm1 'vmx|svm' /proc/cpuinfo",
        )
    return OUTER.fail(
        f"This is itself a virtual machine ({name}; systemd-detect-virt calls it {machine}), and its CPU has neither"
        " vmx nor svm",
        "The outer host does not lend it hardware virtualization; nothing that is done in here changes that.",
        who(facts, machine).do,
        *who(facts, machine).commands,
    )


@checks(*CONTAINER)
def container(facts: Facts, want: Want) -> Finding | None:
    """In a container, what only its host can change"""
    kind = questions.container(facts)
    if not kind:
        return None
    return CONTAINER.note(
        f"This is a container ({kind})",
        "Modules, their parameters and modprobe.d belong to the container's host: they can be seen here, not changed.",
        "Run `nestlab doctor` on the container's host for what it says about modules.",
    )
