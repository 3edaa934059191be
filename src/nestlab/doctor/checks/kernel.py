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
        "Do not run its machines beside KVM's, or unload it. Since Linux 6.12, `kvm.enable_virt_at_load=0` on the"
        " kernel command line makes KVM take the CPU only while it has guests.",
        *unload,
    )


def _busy(text: str) -> bool:
    lower = text.lower()
    taken = "resource busy" in lower or "ebusy" in lower or "already in use" in lower or "error -16" in lower
    return taken and "in use by" not in lower
