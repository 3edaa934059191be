"""A hypervisor that nestlab does not work in, as far as its machine has to be made for it: data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from nestlab.base.frozen import frozen
from nestlab.lab.hardware import Card
from nestlab.lab.model import GIB

Vendor = Literal["intel", "amd"]


@frozen
class Wish:
    """What a key of the machine is where the lab file does not say it, and why."""

    value: object
    why: str


@frozen
class Foreign:
    """What `hypervisor:` may say of a system of somebody else's. `title` names it in sentences.

    `cpus`, `memory` and `disk` (bytes; 0: whatever its image has) are the least that it takes, `usual_memory` what it
    gets where the lab file does not say. `card`: of all its cards, the one that leads to its host too. `keys`: further
    keys of the lab file. `ignore_msrs`: KVM on the computers below it must let it read registers that KVM does not
    know. `vendors`: what holds on one vendor's CPUs only. `look`: how a person sees inside it that it can run guests,
    which nestlab does not see. `source`: where the numbers are from.
    """

    name: str
    title: str
    look: str
    source: str = ""
    cpus: int = 1
    memory: int = 64 << 20
    usual_memory: int = 4 * GIB
    disk: int = 0
    card: Card = "virtio"
    card_why: str = ""
    keys: Mapping[str, Wish] = field(default_factory=dict)
    ignore_msrs: str = ""
    """What happens in it without, "" where it is not needed."""
    vendors: Mapping[Vendor, str] = field(default_factory=dict)
