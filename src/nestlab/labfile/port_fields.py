"""What a lab file may say about the ports of a machine: the part of the table in `fields` that is about them."""

from __future__ import annotations

from nestlab.lab.ports import LOWEST
from nestlab.labfile.shapes import Either, Field, Integer, ListOf, MapOf, Nothing

PORT = Integer(1, 65535)

PORTS = Field(
    "ports",
    Either((ListOf(PORT), MapOf(PORT, Either((Nothing(), Integer(LOWEST, 65535)))))),
    "TCP ports of it that are reached at 127.0.0.1 of this computer while it runs: a list, or with the port here behind"
    " each. A port here that is left out is the same number where that is free, else another one, which `status` shows"
    " and it keeps. Not on a Proxmox VE: there `nestlab forward` does it while it runs.",
    example="{8006: 18006}",
    misnomers=("forwards", "port_forwards", "forwarded_ports", "hostfwd", "publish", "expose", "port"),
)
