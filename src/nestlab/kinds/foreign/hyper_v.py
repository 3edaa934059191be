"""Windows Server with Hyper-V."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="hyper-v",
    title="Windows Server with Hyper-V",
    look="`Get-VMHost` answers and `bcdedit /enum {current}` says hypervisorlaunchtype Auto",
    source="Microsoft: Hyper-V requirements, nested virtualization; QEMU: docs/system/i386/hyperv.rst",
    cpus=2,
    memory=4 * GIB,
    usual_memory=8 * GIB,
    disk=40 * GIB,
    card="e1000e",
    card_why="Windows has no driver for virtio of its own",
    keys={
        "board": Wish("q35", "Windows boots from its SATA"),
        "display": Wish(True, "it installs and is set up on a screen"),
        "bus": Wish("sata", "Windows has no virtio driver of its own"),
        "firmware": Wish("uefi", "Windows Server 2022 and later expect it"),
    },
    ignore_msrs="Windows 10 1803, Server 2019 and later stop with a blue screen",
    vendors={
        "amd": "on AMD, Hyper-V nests in Windows Server 2022 and Windows 11 or later only; hv-evmcs is Intel's",
        "intel": 'on Intel, Hyper-V inside is slow without hv-evmcs: `cpu: "host,+hv-vapic,+hv-evmcs"` gives it that',
    },
)
