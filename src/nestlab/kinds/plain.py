"""Images for machines that run nothing inside."""

from __future__ import annotations

from nestlab.kinds.base import Plain
from nestlab.lab.hardware import Hardware
from nestlab.lab.model import MIB, Image, Machine

DEFAULT = "debian"
"""The image of a machine for which the lab file says neither `image` nor `hypervisor`."""

IMAGES = (
    Plain("debian", 512 * MIB, 128 * MIB, "Debian with systemd and sshd."),
    Plain(
        "tiny",
        128 * MIB,
        64 * MIB,
        "Busybox and sshd, wholly in memory: boots in well under a second.",
        disk=0,
        packages=False,
    ),
)


def makes_containers(image: Image) -> bool:
    """Whether a container inside a hypervisor can be made from an image: one of these, perhaps with additions."""
    return image.own and any(image.base == plain.name for plain in IMAGES)


def could_be_container(machine: Machine) -> bool:
    """Whether a machine inside a hypervisor is Linux of nestlab's with nothing that only a virtual machine has."""
    only_of_machines = (machine.hypervisor, machine.cmdline, machine.disks, machine.cdroms, machine.boot)
    ordinary = machine.hardware == Hardware() and machine.card == "virtio" and not any(only_of_machines)
    plain = ordinary and not machine.container and machine.by_ssh and makes_containers(machine.image)
    plain = plain and not machine.internet
    return plain and all(link.card == "virtio" and not link.trunk for link in machine.links)
