"""XCP-ng 8.2 and 8.3."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="xcp-ng",
    title="XCP-ng",
    look="`xl info | grep virt_caps` names hvm in its dom0",
    source="XCP-ng documentation: requirements",
    cpus=2,
    memory=2 * GIB,
    usual_memory=4 * GIB,
    disk=46 * GIB,
    card="e1000e",
    card_why="its dom0 finds that card with every kernel of its releases",
    keys={
        "board": Wish("pc", "Xen's installer hangs least there"),
        "display": Wish(True, "it installs on a screen"),
        "bus": Wish("ide", "its installer looks for a disk as a PC has it"),
    },
)
