"""TCP ports of machines that lead from 127.0.0.1 of the lab's own host. Pure."""

from __future__ import annotations

from nestlab.base.frozen import frozen

LOWEST = 1024
"""The first port of 127.0.0.1 that a user without rights may have (Linux: net.ipv4.ip_unprivileged_port_start)."""

MOST = 64
"""Ports of one machine in a lab file."""


@frozen
class Port:
    """`port` of a machine, reached at `local` of 127.0.0.1; None: the same number where that can be had, else a free
    one, which it keeps."""

    port: int
    local: int | None = None
