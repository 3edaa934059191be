"""A random number in the memory of each machine, and nowhere else: whoever finds it again after a restore knows that
the machine went on, and was not booted."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress

from nestlab.base.errors import LabError
from nestlab.verbs.session import Session

WHERE = r"""
place() { # a directory that is in memory, and that one may write to
  for d in /run /dev/shm /tmp; do
    [ -d "$d" ] && [ -w "$d" ] || continue
    while read -r _ at kind _; do
      case $kind:$at in
        tmpfs:"$d" | ramfs:"$d" | rootfs:/ | ramfs:/ | tmpfs:/) at=$d; return 0 ;;
      esac
    done </proc/mounts
  done
  return 1
}
"""

PUT = WHERE + 'umask 077; place && cat >"$at/nestlab-nonce" && sync && echo put'

ANSWER = 30.0
"""Nominal seconds in which a machine does that."""


async def put(session: Session) -> dict[str, str]:
    """Give one to each machine that runs and answers ssh, and have it write to its disks what it has not yet. SHA-256
    of each, by path."""

    async def one(path: str) -> tuple[str, str]:
        nonce = secrets.token_hex(16)
        with suppress(LabError, OSError, TimeoutError):
            host = await session.nest.host(path)
            done = await host.run(("sh", "-c", PUT), input=nonce.encode(), check=False, timeout=ANSWER)
            if done.status == 0 and done.text.strip() == "put":
                return path, hashlib.sha256(nonce.encode()).hexdigest()
        return path, ""

    known = session.blueprint.by_path()
    paths = [
        path
        for path, seen in session.observed.machines.items()
        if seen.state == "running" and seen.ready and path in known and known[path].machine.by_ssh
        if not known[path].machine.container
    ]
    return {path: digest for path, digest in await asyncio.gather(*map(one, paths)) if digest}
