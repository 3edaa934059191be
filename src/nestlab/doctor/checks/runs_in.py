"""Checks of what the host itself runs in; what is missing there cannot be mended from inside."""

from __future__ import annotations

import re

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.outer_hypervisor import outer as who
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
        who(facts, questions.machine(facts)).open.do,
        *who(facts, questions.machine(facts)).open.commands,
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
        "WSL 2 is a Hyper-V machine: without nested virtualization from Windows it has no KVM. Windows 11 lends it by"
        " default (for AMD as for Intel); Windows 10 never does, whatever .wslconfig says.",
        "On Windows 11 see that %UserProfile%\\.wslconfig does not switch it off (these two lines are the default), and"
        " where Windows is itself a virtual machine, that its host lends it virtualization; then shut WSL down. On"
        " Windows 10 nothing helps in WSL: update to Windows 11, or nest in a virtual machine with VT-x or AMD-V.",
        "[wsl2]",
        "nestedVirtualization=true",
        "wsl --shutdown",
        "winver",
    )


@checks(*OUTER)
def outer(facts: Facts, want: Want) -> Finding | None:
    """In a virtual machine, the outer host lends it virtualization"""
    machine = questions.machine(facts)
    if not machine or questions.wsl(facts):
        return None
    if not questions.x86(facts):
        return _arm(facts, machine) if questions.arm(facts) else None
    below = who(facts, machine)
    name = below.name
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
        below.do,
        *below.commands,
    )


def _arm(facts: Facts, machine: str) -> Finding:
    """On ARM what is lent is EL2; by Apple's hypervisor from M3 and macOS 15 on, and by QEMU."""
    below = who(facts, machine)
    if facts.kvm.opened or facts.device.exists:
        return OUTER.ok(f"An ARM virtual machine ({machine}); the outer {below.name} lends it EL2, so it has KVM")
    if below.rented:
        do = "Take a bare-metal ARM type: virtual ARM machines of providers have no KVM."
    elif machine in ("apple", "parallels"):
        do = (
            "On a Mac with an M3 or later and macOS 15 or later, switch nested virtualization on for this machine"
            " (Lima: `nestedVirtualization: true`; UTM and Tart have a setting); older ones cannot."
        )
    else:
        do = (
            "Start it with EL2 (QEMU: `-M virt,virtualization=on`); under KVM the outer host needs FEAT_NV2, Linux 6.16"
            " and kvm-arm.mode=nested for that."
        )
    return OUTER.note(
        f"This is itself an ARM virtual machine ({below.name}), and it has no /dev/kvm",
        "Its ARM guests are emulated, too: the outer host does not lend it EL2.",
        do,
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
