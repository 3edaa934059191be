"""Collects all facts that the doctor wants from a host, in one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.doctor import gather
from nestlab.hosts import probe, speed
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host


async def examine(host: Host, timeout: float = 60.0) -> Facts:
    """The facts of a host with a POSIX shell, and with them what only the doctor asks; `timeout` in nominal seconds.

    LabError when it answers with something else."""
    source = Path(probe.__file__).read_bytes()
    result = await host.run(["sh", "-c", gather.SCRIPT], input=source, timeout=timeout)
    found = gather.parse(result.text, host.path or "this machine")
    try:
        return replace(found, slowness=await speed.measure(host))
    except LabError:  # it has no /proc/uptime, or its shell is none of ours
        return found
