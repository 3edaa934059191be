"""Images for machines that run nothing inside."""

from __future__ import annotations

from nestlab.kinds.base import Plain
from nestlab.lab.model import MIB

DEFAULT = "debian"
"""What a machine boots when the lab file says neither `image` nor `hypervisor`."""

IMAGES = (
    Plain("debian", 512 * MIB, "Debian with systemd and sshd."),
    Plain(
        "tiny",
        128 * MIB,
        "Busybox and sshd, wholly in memory: boots in well under a second.",
        disk=0,
        packages=False,
    ),
)
