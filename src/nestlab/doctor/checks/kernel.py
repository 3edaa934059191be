"""Checks of the kernel: its version, and other hypervisors in it."""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

KERNEL = Voice("kernel", "kernel")
OTHERS = Voice("other-hypervisor", "kernel")

_RIVALS = {
    "vboxdrv": "VirtualBox",
    "vmmon": "VMware Workstation",
    "mshv": "Microsoft's hypervisor",
    "mshv_root": "Microsoft's hypervisor",
    "acrn": "ACRN",
    "xen_privcmd": "Xen (dom0)",
}


@checks(*KERNEL)
def kernel(facts: Facts, want: Want) -> Finding | None:
    """The kernel is new enough (3.10), and what its version means for nesting

    kvm_intel nests by default since 4.20 (1e58e5e59148), kvm_amd since 2.6.32; nested state can be saved since 5.3
    (Intel) and 5.8 (AMD): Documentation/virt/kvm/x86/running-nested-guests.rst and commit cc440cdad5b7.
    """
    number = questions.version(facts)
    if number is None:
        return KERNEL.note(
            f"Unknown: the kernel calls itself `{facts.kernel}`" if facts.kernel else "Unknown: no kernel version seen",
            "Nesting needs Linux 3.10 or later.",
            "See it.",
            "uname -r",
        )
    text = f"Linux {facts.kernel}"
    if number < (3, 10):
        return KERNEL.fail(
            text,
            "Nesting of before 3.10 is too incomplete for today's guests.",
            "Install a newer kernel: 3.10 at least, 5.10 or later advised.",
        )
    if questions.arm(facts):
        return _arm(text, number)
    if not questions.x86(facts):
        return KERNEL.ok(text)
    amd = questions.vendor(facts) == "kvm_amd"
    intel = questions.vendor(facts) == "kvm_intel"
    saves = number >= ((5, 8) if amd else (5, 3))
    if intel and number < (4, 20):
        return KERNEL.note(
            text,
            "Before 4.20 kvm_intel does not nest unless told to, and a running nested guest cannot be saved or moved.",
            "Nesting must stay configured here (see `lasting`); a kernel of 5.10 or later is advised.",
        )
    if not saves:
        since = "5.8" if amd else "5.3"
        return KERNEL.note(
            text,
            f"Nesting is on by default, but before {since} the state of a running nested guest cannot be saved: no"
            " live migration or memory snapshot of such a machine.",
            "Shut nested guests down before moving or snapshotting the machine they run in, or use a newer kernel.",
        )
    return KERNEL.ok(f"{text}: nests by default, and can save nested state")


def _arm(text: str, number: tuple[int, int]) -> Finding:
    """Nesting on ARM (KVM_CAP_ARM_EL2) is in Linux 6.16 and later, off unless the command line asks for it."""
    if number < (6, 16):
        return KERNEL.note(
            text,
            "On ARM, KVM cannot lend virtualization to guests before 6.16: ARM guests run here, and nest nothing.",
            "For ARM guests with guests of their own use 6.16 or later.",
        )
    return KERNEL.ok(f"{text}: nests ARM guests where the command line has kvm-arm.mode=nested and the CPU FEAT_NV2")


@checks(*OTHERS)
def others(facts: Facts, want: Want) -> Finding | None:
    """No other hypervisor holds VMX or SVM"""
    names = [name for name in sorted(_RIVALS) if name in facts.kernel_modules and facts.kernel_modules[name].loaded]
    busy = next((text for text in (facts.kvm.ran_error, facts.kvm.error, *facts.messages) if _busy(text)), "")
    if not names and not busy:
        return None
    who = ", ".join(f"{name} ({_RIVALS[name]})" for name in names) or "some other hypervisor"
    unload = tuple(f"modprobe -r {name}" for name in names)
    if busy:
        return OTHERS.fail(
            f"KVM found the CPU's virtualization taken (`{busy.strip()}`); loaded is {who}",
            "VMX and SVM have one owner at a time: as long as another hypervisor has it, KVM runs no guest.",
            "Stop the other hypervisor's machines and unload its modules.",
            *unload,
        )
    return OTHERS.warn(
        f"{who} is loaded beside KVM",
        "VMX and SVM have one owner at a time: whichever starts a machine first keeps the other from it (EBUSY).",
        f"Do not run its machines beside KVM's, or unload it.{_sharing(facts)}",
        *unload,
    )


def _sharing(facts: Facts) -> str:
    """How VirtualBox and an idle KVM get along since Linux 6.12, which made KVM take the CPU when it is loaded.

    VirtualBox of 7.2.10 and later asks KVM for the CPU, which fails where KVM does not hold it
    (VirtualBox/virtualbox#711, #713; void-linux/void-packages#61332)."""
    number = questions.version(facts)
    if "vboxdrv" not in facts.kernel_modules or (number is not None and number < (6, 12)):
        return ""
    value = questions.parameter(facts, "kvm.enable_virt_at_load")
    now = f" (it is {value} here)" if value else ""
    return (
        f" Versions decide which setting of `kvm.enable_virt_at_load`{now} lets VirtualBox start while KVM has no"
        " guests: before VirtualBox 7.2.10, and on Linux 6.12 itself, 0; from 7.2.10 on with later kernels the default"
        " (1: remove what sets 0 in /etc/modprobe.d and on the kernel command line)."
    )


def _busy(text: str) -> bool:
    lower = text.lower()
    taken = "resource busy" in lower or "ebusy" in lower or "already in use" in lower or "error -16" in lower
    return taken and "in use by" not in lower
