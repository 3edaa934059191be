"""What of a machine's hardware (`lab.hardware`) a Proxmox VE is told, and how. Pure; golden files as for `hardware`.

Names and values are those of its API (qemu-server: QemuServer.pm, Machine.pm, Network.pm).
"""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections.abc import Iterable, Mapping

from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.hardware import Hardware, Smbios
from nestlab.lab.model import Machine, digest_of, plain

OPTIONAL = ("bios", "watchdog", "vga", "smbios1")
"""Options that a machine has only where its lab file asks for them."""


def processors(machine: Machine) -> dict[str, str | int]:
    """Cores of each socket, and sockets; a Proxmox VE knows no threads."""
    topology = machine.hardware.topology
    return {"cores": topology.cores, "sockets": topology.sockets} if topology else {"cores": machine.cpus, "sockets": 1}


def board(machine: Machine) -> str:
    """The `machine` option. Its IOMMU is the embedded engine's: PVE switches caching mode and remapping on."""
    hardware = machine.hardware
    found = hardware.board or ("q35" if machine.hypervisor or hardware.uefi or hardware.iommu else "pc")
    return f"{found},viommu=intel" if hardware.iommu else found


EFI, TPM = "efidisk0", "tpmstate0"
DISKS = frozenset({EFI, TPM})
"""The options that are disks of the firmware's."""


def volumes(hardware: Hardware, storage: str, config: Mapping[str, object]) -> dict[str, str]:
    """The disks with UEFI's variables and with what a TPM keeps, as far as a machine with the configuration `config`
    does not have them. What is there is kept, but for variables with other keys."""
    found = {}
    if hardware.uefi:
        keys = f"pre-enrolled-keys={int(hardware.firmware == 'secure')}"
        there = str(config[EFI]).split(",") if EFI in config else []
        if not there or ("pre-enrolled-keys=1" in there) != (hardware.firmware == "secure"):
            found[EFI] = f"{storage}:1,efitype=4m,{keys}"
    if hardware.tpm and TPM not in config:
        found[TPM] = f"{storage}:1,version=v2.0"
    return found


def optional(spec: Spec, first_name: str) -> dict[str, str | int]:
    """What else its hardware is. `first_name`: of the lab."""
    hardware, found = spec.machine.hardware, dict[str, str | int]()
    if hardware.uefi:
        found["bios"] = "ovmf"
    if hardware.watchdog:
        found["watchdog"] = "model=i6300esb,action=reset"
    if hardware.display:
        found["vga"] = "type=std"
    if hardware.smbios is not None:
        found["smbios1"] = _smbios(hardware.smbios, first_name, spec.path)
    return found


def card(nic: Nic) -> str:
    """The first part of a card: its model and address."""
    return f"{nic.card}={nic.mac.upper()}"


def mtu(nic: Nic, usual: int) -> list[str]:
    """PVE tells virtio cards alone how large packets may be."""
    return [f"mtu={nic.mtu}"] if nic.mtu != usual and nic.card == "virtio" else []


def gone(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Options that a machine was given, as `key=value`, and is not to have any more."""
    return sorted({line.partition("=")[0] for line in before} & set(OPTIONAL) - set(now))


def _smbios(smbios: Smbios, first_name: str, path: str) -> str:
    """With a UUID always: PVE gives each machine one, and what is set takes its place."""
    said: dict[str, str] = plain(smbios)
    own = str(uuid.UUID(digest_of("smbios", first_name, path)[:32], version=4))
    words = [f"{name}={b64encode(said[name].encode()).decode()}" for name in ("product", "serial") if name in said]
    return ",".join([*(["base64=1"] if words else []), *words, f"uuid={said.get('uuid', own)}"])
