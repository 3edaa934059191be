"""Collects all facts that the doctor wants from a host, in one command."""

from __future__ import annotations

from pathlib import Path

from nestlab.doctor import gather
from nestlab.hosts import probe
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host


async def examine(host: Host, timeout: float = 60.0) -> Facts:
    """The facts of a host with a POSIX shell, and with them what only the doctor asks; `timeout` in seconds.

    LabError when it answers with something else."""
    source = Path(probe.__file__).read_bytes()
    result = await host.run(["sh", "-c", gather.SCRIPT], input=source, timeout=timeout)
    return gather.parse(result.text, host.path or "this machine")
