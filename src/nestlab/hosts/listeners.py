"""Who listens on a TCP port of this machine, as far as /proc lets this user see."""

from __future__ import annotations

import os
from pathlib import Path

from nestlab.base.printable import one_line

LISTENS = "0A"
"""TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""


def listener(port: int, proc: Path = Path("/proc")) -> str:
    """`nginx (pid 4711)`, or "" where it cannot be told."""
    sockets = {f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in _inodes(proc / "net" / name, port)}
    if not sockets:
        return ""
    for entry in proc.glob("[0-9]*"):
        try:
            if any(os.readlink(each) in sockets for each in (entry / "fd").iterdir()):  # noqa: PTH115
                name = (entry / "comm").read_text(errors="replace").strip()
                return f"{one_line(name)[:40]} (pid {entry.name})"
        except OSError:
            continue
    return ""


def _inodes(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if len(row) > 9 and row[3] == LISTENS and row[1].endswith(f":{port:04X}")]
