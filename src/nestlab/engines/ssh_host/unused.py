"""What is kept on a host that ssh reaches, and no lab there uses any more."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nestlab.base.frozen import frozen
from nestlab.engines.ssh_host.survey import survey
from nestlab.hosts.host import Host
from nestlab.images import qemu_runtime

LIST = r"""
cd -- "$1" 2>/dev/null || exit 0
for d in files/*; do
  [ -d "$d" ] || continue
  used=
  for l in labs/*/uses/"${d#files/}"; do [ ! -e "$l" ] || used=yes; done
  [ "$used" ] || du -sk -- "$d"
done
set -- labs/*
[ -d "$1" ] || for d in runtime/* lib/*; do [ ! -e "$d" ] || du -sk -- "$d"; done
exit 0
"""
"""Argument: the root of what is kept. Prints `KIBIBYTES NAME` for what no lab there has marked; QEMU and programs only
where there is no lab."""

REMOVE = r"""
cd -- "$1" || exit 1
shift
for d; do
  used=
  case $d in
    files/*) for l in labs/*/uses/"${d#files/}"; do [ ! -e "$l" ] || used=yes; done ;;
    *) for l in labs/*; do [ ! -d "$l" ] || used=yes; done ;;
  esac
  [ "$used" ] || rm -rf -- "$d" || exit 1
done
"""
"""Arguments: the root, names as LIST prints them. What a lab marked meanwhile stays."""

_ROW = re.compile(
    r"([0-9]{1,15})\s+(files/[0-9a-f]{20}|runtime/[0-9a-f]{16}(?:\.[0-9a-f]{12})?|lib/[0-9a-f]{16}\.zip(?:\.\w+\.new)?)"
)


@frozen
class Unused:
    """`name`: below the root there; `size` in bytes."""

    name: str
    size: int


async def unused(host: Host) -> tuple[Unused, ...]:
    """What may go. LabError where the host cannot be asked."""
    root = (await survey(host, qemu_runtime.digest(), "")).root
    said = (await host.run(("sh", "-c", LIST, "list", root))).text
    rows = (found for line in said.splitlines() if (found := _ROW.fullmatch(line)))
    return tuple(Unused(row[2], int(row[1]) << 10) for row in rows)


async def remove(host: Host, found: Iterable[Unused]) -> None:
    """Remove it, but for what a lab uses meanwhile."""
    root = (await survey(host, qemu_runtime.digest(), "")).root
    await host.run(("sh", "-c", REMOVE, "remove", root, *(each.name for each in found)))
