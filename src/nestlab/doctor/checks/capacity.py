"""Checks of memory, swap and disk for nested machines."""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.outer_hypervisor import outer
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

MEMORY = Voice("memory", "capacity")
CPUS = Voice("cpus", "capacity")
DISK = Voice("disk", "capacity")
SWAP = Voice("swap", "capacity")
KSM = Voice("ksm", "capacity")
HUGEPAGES = Voice("hugepages", "capacity")
POLLING = Voice("halt-poll", "capacity")
IOMMU = Voice("iommu", "capacity")

SMALL = 2 * questions.GIB
"""Less is too little for one hypervisor with one small guest (Proxmox VE's least is 2 GB and its guests')."""
ROOMY = 8 * questions.GIB
MEMORY_LEFT, DISK_LEFT = 16 << 20, 256 << 20
"""The limits for a machine of a lab, whose sizes its lab file chose: only less than these is worth a word."""
DISK_LEAST = 16 * questions.GIB
"""Proxmox VE's installer wants this for one node; a useful one takes 32 GiB."""


@checks(*MEMORY)
def memory(facts: Facts, want: Want) -> Finding | None:
    """Memory for hypervisors and what runs in them"""
    free = facts.memory_available or facts.memory
    if not free:
        return MEMORY.note(
            "Unknown: memory was not seen", "Nested guests need all of theirs at once.", "See it.", "free -h"
        )
    said = f"{questions.gib(free)} of {questions.gib(max(facts.memory, free))} are available"
    why = "An inner hypervisor holds all of its guests' memory for good: it cannot be ballooned or shared away."
    if want.role:
        if free >= MEMORY_LEFT:
            return MEMORY.ok(f"{said}; its size is the lab file's")
        return MEMORY.warn(
            said, "What runs in it is soon ended for want of memory.", "Raise `memory:` in the lab file."
        )
    if want.memory > free:
        do = f"Stop other guests, ask for less, or add memory: {questions.gib(want.memory - free)} are missing."
        return MEMORY.warn(f"{said}, and {questions.gib(want.memory)} are wanted", why, do)
    if free < SMALL:
        do = "2 GiB is the least for one hypervisor with a small guest."
        return MEMORY.warn(said, why, f"Stop other guests or add memory: {do}")
    if free < ROOMY and not want.memory:
        return MEMORY.note(
            said, why, "Enough for one small hypervisor; a Proxmox VE node with guests of its own takes 4 to 8 GiB."
        )
    return MEMORY.ok(said)


@checks(*CPUS)
def cpus(facts: Facts, want: Want) -> Finding | None:
    """CPUs for hypervisors and what runs in them"""
    if not facts.cpus:
        return CPUS.note("Unknown: the CPUs were not seen", "Nested guests share them.", "See them.", "nproc")
    many = f"{facts.cpus} CPU{'s' if facts.cpus != 1 else ''}"
    if want.cpus > facts.cpus:
        return CPUS.warn(
            f"{many}, and {want.cpus} are wanted",
            "Virtual CPUs that wait for real ones make inner timers late: watchdogs bark and clusters lose quorum."
            " Proxmox VE refuses a machine with more than its node has.",
            f"Ask for {facts.cpus} at most, in one machine.",
        )
    if facts.cpus < 2 and not want.role:
        return CPUS.note(
            many, "An inner hypervisor and its guests then take turns.", "Two at least make a nested guest bearable."
        )
    return CPUS.ok(many)


@checks(*DISK)
def disk(facts: Facts, want: Want) -> Finding | None:
    """Disk space for nested machines"""
    if not facts.disk:
        if not facts.examined or want.role:
            return None
        return DISK.note("Unknown: free disk space was not seen", "Machines need disks.", "See it.", "df -h /var/lib")
    path = "/var/lib" if "/var/lib" in facts.disk else min(facts.disk)
    said = f"{questions.gib(facts.disk[path])} are free in {path}"
    if want.role:
        if facts.disk[path] >= DISK_LEFT:
            return DISK.ok(f"{said}; its size is the lab file's")
        return DISK.warn(said, "When it is full, the guests on it stop.", "Raise `disk:` in the lab file.")
    if facts.disk[path] < DISK_LEAST:
        return DISK.warn(
            said,
            "A disk of an inner hypervisor holds its guests' disks as well; when the host's is full, all of them stop.",
            "Make room: 16 GiB is Proxmox VE's least for one node, 32 GiB a useful size.",
        )
    return DISK.ok(said)


@checks(*SWAP)
def swap(facts: Facts, want: Want) -> Finding | None:
    """Swap, for when memory is short"""
    if not facts.examined or not facts.memory or (want.role and not facts.swap):
        return None
    if facts.swap:
        return SWAP.ok(f"{questions.gib(facts.swap)} of swap")
    return SWAP.note(
        "There is no swap",
        "When memory is short the kernel kills the largest process at once: a machine with all that runs in it.",
        "Keep memory free, or add swap or zram.",
    )


@checks(*KSM)
def ksm(facts: Facts, want: Want) -> Finding | None:
    """Whether equal pages of guests are merged (KSM)"""
    if facts.ksm is None:
        return None
    if not facts.ksm:
        return KSM.ok("KSM is off")
    return KSM.note(
        "KSM is on",
        "Machines of one image share equal pages, which saves memory and costs CPU time; it sees only this host's"
        " guests, not those within them, and lets guests find out what others hold.",
        "Good for a lab of your own; for guests that do not trust each other switch it off.",
        "echo 2 > /sys/kernel/mm/ksm/run",
    )


@checks(*HUGEPAGES)
def hugepages(facts: Facts, want: Want) -> Finding | None:
    """Memory that is reserved as huge pages"""
    sizes = {size: count for size, count in facts.hugepages.items() if count > 0 and size.isdecimal()}
    if not facts.hugepages:
        return None
    if not sizes:
        return HUGEPAGES.ok("No huge pages are reserved")
    held = sum(int(size[:12]) * 1024 * count for size, count in sizes.items())
    pages = ", ".join(f"{count} of {size} KiB" for size, count in sorted(sizes.items()))
    return HUGEPAGES.note(
        f"{questions.gib(held)} are reserved as huge pages ({pages})",
        "Only machines that ask for huge pages can use that memory; for hypervisors they make nested page walks short.",
        "Give them to the hypervisors (`hugepages` on Proxmox VE, `memoryBacking` in libvirt), or reserve none.",
    )


@checks(*POLLING)
def polling(facts: Facts, want: Want) -> Finding | None:
    """Idle guests of an inner hypervisor do not burn the outer host's CPU

    Documentation/virt/kvm/halt-polling.rst: a host polls up to halt_poll_ns for a halted vCPU to wake."""
    value = questions.parameter(facts, "kvm.halt_poll_ns")
    if not questions.machine(facts) or facts.provider not in questions.VENDORS or not value:
        return None
    if value == "0":
        return POLLING.ok("kvm has halt_poll_ns=0 inside a virtual machine")
    return POLLING.note(
        f"kvm has halt_poll_ns={value} inside a virtual machine",
        "When a guest in here idles, KVM here polls before it sleeps, and the outer host runs that polling as work.",
        "Where many nested guests idle, switch polling off here; the outer host polls anyway.",
        "echo 0 > /sys/module/kvm/parameters/halt_poll_ns",
    )


@checks(*IOMMU)
def iommu(facts: Facts, want: Want) -> Finding | None:
    """An IOMMU, for devices that are passed through to nested guests"""
    if facts.iommu is None or (want.role and not facts.iommu):
        return None
    if facts.iommu:
        return IOMMU.ok(f"{facts.iommu} IOMMU groups")
    seen, why = "There are no IOMMU groups", "Only passing PCI devices through to guests needs them; nesting does not."
    machine = questions.machine(facts)
    if questions.wsl(facts):
        return IOMMU.note(seen, why, "WSL has none to give: if you want that, use Linux on the machine itself.")
    if machine and questions.x86(facts):
        below = outer(facts, machine).iommu
        return IOMMU.note(seen, why, below.do, *below.commands)
    if not questions.x86(facts):
        do = "If you want that: the hypervisor below has to give this machine a virtual SMMU, which few can."
        return IOMMU.note(seen, why, do if machine else "If you want that: see whether this machine has an SMMU.")
    do = "If you want that: switch on VT-d or AMD-Vi in the firmware's setup; on Intel boot with intel_iommu=on."
    return IOMMU.note(seen, why, do)
