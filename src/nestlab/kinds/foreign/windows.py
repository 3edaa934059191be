"""Windows 11 with what it virtualizes itself by: VBS, WSL 2, Windows Sandbox."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="windows",
    title="Windows 11 with VBS or WSL 2",
    look="`wsl --status` answers; VirtualizationBasedSecurityStatus of Win32_DeviceGuard is 2",
    source="Microsoft: Windows 11 requirements; QEMU: docs/system/i386/hyperv.rst",
    cpus=2,
    memory=4 * GIB,
    usual_memory=8 * GIB,
    disk=64 * GIB,
    card="e1000e",
    card_why="Windows has no driver for virtio of its own",
    keys={
        "board": Wish("q35", "Windows boots from its SATA"),
        "display": Wish(True, "it installs and is used on a screen"),
        "bus": Wish("sata", "Windows has no virtio driver of its own"),
        "firmware": Wish("secure", "Windows 11 wants Secure Boot"),
        "tpm": Wish(True, "Windows 11 wants a TPM 2.0"),
    },
    ignore_msrs="Windows 10 1803 and later stop with a blue screen",
    vendors={
        "amd": "on AMD, hv-evmcs is no flag to give: with it the machine does not start",
        "intel": 'on Intel, VBS and WSL 2 are slow without hv-evmcs: `cpu: "host,+hv-vapic,+hv-evmcs"` gives them that',
    },
)
