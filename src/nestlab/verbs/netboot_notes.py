"""What a plan says of machines that boot from the network: from which segment, what, and from where. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.netboot import Service, boots_by_network, service_of


def notes(blueprint: Blueprint, paths: Collection[str]) -> tuple[str, ...]:
    """Of the machines that are made."""
    specs = [spec for spec in blueprint.specs if spec.path in paths and boots_by_network(spec.machine)]
    services = {segment.name: service_of(blueprint, segment.name) for segment in blueprint.segments} if specs else {}
    return tuple(note for spec in specs for note in of_machine(spec, services))


def of_machine(spec: Spec, services: dict[str, Service | None]) -> Iterator[str]:
    """Sentences for a person."""
    uefi, boot = spec.machine.hardware.uefi, spec.machine.boot
    cards = [nic for nic in spec.nics if nic.addresses and nic.vlan is None]
    found = [service for nic in cards if (service := services.get(nic.segment)) is not None]
    serving = next((each for each in found if each.netboot.for_firmware(uefi=uefi)), None)
    if serving is not None:
        where = serving.address.partition("/")[0]
        yield f"{spec.path} boots from segment {serving.segment}: {serving.netboot.title}, from {where}."
    else:
        yield f"{spec.path} boots from the network, where no `netboot` answers it: a machine of the lab must."
    if "disk" in boot and boot.index("network") < boot.index("disk"):
        yield (
            f"{spec.path} tries the network before its disk, at every start: with `boot: [disk, network]` what was"
            " installed from the network is what starts afterwards."
        )
