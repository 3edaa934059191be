"""Addresses of libvirts that run a lab's outermost machines: `qemu:///system`, that of this computer, and
`qemu+ssh://[USER@]HOST[:PORT]/system`, as libvirt's own tools take them. They hold no secret. Pure."""

from __future__ import annotations

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.lab import ssh_address
from nestlab.lab.places import LIBVIRT
from nestlab.lab.ssh_address import Address

_REMOTE, _SYSTEM = "qemu+ssh://", "/system"

RIGHT = f"Write {LIBVIRT}, or qemu+ssh://[USER@]HOST[:22]/system."


def of_lab(text: str) -> str:
    """The address as it is kept. LabError for what is none."""
    if text == LIBVIRT:
        return text
    shown = one_line(text)[:80]
    if "session" in text.rpartition("/")[2].partition("?")[0]:
        what = f"{shown}: a libvirt of a user's own makes no networks, which segments are on it."
        raise LabError(what, hint=f"{RIGHT} Or leave `on` out: that takes no libvirt, and no root either.")
    if not text.startswith(_REMOTE):
        raise LabError(f"{shown} is no libvirt that nestlab knows.", hint=RIGHT)
    if not text.endswith(_SYSTEM) or "?" in text:
        raise LabError(f"{shown}: nothing but {_SYSTEM} may follow the host.", hint=RIGHT)
    return f"{_REMOTE}{reached(text)}{_SYSTEM}"


def reached(address: str) -> Address:
    """Where the host of a remote libvirt is reached. LabError for what is no address."""
    return ssh_address.of_lab(f"ssh://{address.removeprefix(_REMOTE).removesuffix(_SYSTEM)}")
