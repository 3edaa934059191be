"""Questions about facts that several checks ask. Pure."""

from __future__ import annotations

import re

from nestlab.hosts.facts import Facts

VENDORS = ("kvm_intel", "kvm_amd")
CONTAINERS = frozenset(
    ("docker", "podman", "lxc", "lxc-libvirt", "openvz", "systemd-nspawn", "rkt", "pouch", "proot", "container-other")
)
"""The names of containers in systemd-detect-virt(1), without wsl."""

TECHNIQUE = {"intel": "VMX (Intel VT-x)", "amd": "SVM (AMD-V)"}
ALIEN = {"intel": "svm", "amd": "vmx"}
"""The flag that a CPU of that family never has."""
GIB = 1 << 30

_LOCKED = re.compile(
    r"(vmx|svm|kvm).*(disabled|not enabled)\W{0,3}by (bios|firmware)|svm disabled .*msr_vm_cr", re.IGNORECASE
)


def wsl(facts: Facts) -> bool:
    """It runs in the Windows Subsystem for Linux."""
    return "wsl" in (facts.virtualization, facts.container, facts.machine) or "microsoft" in facts.kernel.lower()


def container(facts: Facts) -> str:
    """The container it is in, "" for none or WSL."""
    if facts.container and facts.container != "wsl":
        return facts.container
    return facts.virtualization if facts.virtualization in CONTAINERS else ""


def machine(facts: Facts) -> str:
    """The virtual machine it is in, as systemd-detect-virt names it; `vm-other` where only the CPU's flag says so."""
    if facts.machine:
        return facts.machine
    if facts.virtualization and facts.virtualization not in (*CONTAINERS, "wsl", "none"):
        return facts.virtualization
    return "vm-other" if "hypervisor" in facts.flags else ""


def x86(facts: Facts) -> bool:
    """64-bit x86, or not known to be anything else."""
    return facts.arch in ("", "x86_64", "amd64")


def x86_any(facts: Facts) -> bool:
    """x86 of 64 or 32 bits."""
    return x86(facts) or facts.arch in ("i386", "i486", "i586", "i686")


def arm(facts: Facts) -> bool:
    """64-bit or 32-bit ARM."""
    return facts.arch.startswith(("aarch64", "arm"))


def technique(facts: Facts) -> str:
    """The name of the CPU's virtualization, for people."""
    return TECHNIQUE[facts.family] if facts.family else "VMX (Intel) or SVM (AMD)"


def flag(facts: Facts) -> str:
    """The flag of /proc/cpuinfo that the CPU has, `vmx` or `svm`; "" for none."""
    return next((flag for flag in ("vmx", "svm") if flag in facts.flags), "")


def flags_known(facts: Facts) -> bool:
    """/proc/cpuinfo was read."""
    return bool(facts.flags or facts.vendor)


def vendor(facts: Facts) -> str:
    """The vendor module that KVM would need here, `kvm_intel` or `kvm_amd`; "" where the CPU does not tell."""
    if facts.provider in VENDORS:
        return facts.provider
    if facts.family:
        return f"kvm_{facts.family}"
    return {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(flag(facts), "")


def locked(facts: Facts) -> str:
    """The evidence that the firmware locked the CPU's virtualization; "" for none.

    Messages of the kernel (arch/x86/kernel/cpu/feat_ctl.c, kvm's vmx.c and svm.c); IA32_FEATURE_CONTROL: bit 0 locks,
    bit 2 allows VMX (Intel SDM volume 3, 24.7); VM_CR: bit 4 SVMDIS (AMD APM volume 2, 15.30.1).
    """
    if facts.provider in VENDORS:
        return ""
    for message in facts.messages:
        if _LOCKED.search(message):
            return f"the kernel says `{message.strip()}`"
    control, vm_cr = facts.msr.get("0x3a"), facts.msr.get("0xc0010114")
    if facts.family != "amd" and control is not None and control & 0b101 == 0b001:
        return f"IA32_FEATURE_CONTROL (MSR 0x3a) is {control:#x}: locked, without VMX"
    if facts.family != "intel" and vm_cr is not None and vm_cr & 0x10:
        return f"VM_CR (MSR 0xc0010114) is {vm_cr:#x}: SVMDIS is set"
    return ""


def parameter(facts: Facts, name: str) -> str:
    """The running value of `module.parameter`; "" where it is not there."""
    return facts.parameters.get(name, "").strip()


def on(value: str) -> bool:
    """A boolean parameter as sysfs shows it, in either spelling (`Y`, `1`)."""
    return value in ("Y", "y", "1")


def accepts(module: str, value: str) -> bool | None:
    """The effect of `nested=VALUE` on a vendor module: on, off; None: the module refuses to load.

    kvm_intel's is a bool (kstrtobool: y t 1 on, n f 0 off; bare: on), kvm_amd's an int (arch/x86/kvm: vmx.c, svm.c)."""
    if module == "kvm_amd":
        number = re.fullmatch(r"[+-]?(?:0[xX]([0-9a-fA-F]{1,8})|([0-9]{1,9}))", value)
        return None if number is None else (number[1] or number[2]).strip("0") != ""
    head = value.lower()
    if not value or head[0] in "yt1" or head.startswith("on"):
        return True
    return False if head[0] in "nf0" or head.startswith("of") else None


def builtin(facts: Facts, module: str) -> bool:
    known = facts.kernel_modules.get(module)
    return known is not None and known.builtin


def version(facts: Facts) -> tuple[int, int] | None:
    """The first two numbers of the kernel's version."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", facts.kernel)
    return (int(found[1]), int(found[2])) if found else None


def reason(facts: Facts, *names: str) -> str:
    """` (why)` for the first of these that could not be seen; "" where nothing is known of it."""
    return next((f" ({facts.unseen[name]})" for name in names if facts.unseen.get(name)), "")


def gib(size: int) -> str:
    """Bytes for people: `3.5 GiB`, `54 MiB`."""
    if 0 < size < GIB:
        return f"{size >> 20} MiB"
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"


def guests(facts: Facts) -> str:
    """The guests that have KVM open: `web (pve 101), pid 4242`; "" for none."""
    named = [f"{each.guest} ({each.kind})" if each.guest else f"pid {each.pid}" for each in facts.holders]
    return ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
