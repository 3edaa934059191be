"""What somebody changed of a machine by hand: what nestlab set, compared with what a Proxmox VE has, key by key. Pure.

What nestlab set stands in the machine's mark (`tags.Mark.options`). Options that it never set are the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.engines.pve.disk_drift import is_disk
from nestlab.engines.pve.hardware import IDENTITY
from nestlab.engines.qemu.launch import ID_SERIAL
from nestlab.lab.model import MIB
from nestlab.plan.steps import Drift

KEPT = re.compile(
    r"name|cores|sockets|memory|balloon|cpu|kvm|machine|ostype|scsihw|agent|serial0|hotplug|hostname|swap|features|net\d+|watchdog"
    r"|vga|smbios1|bios"
)
"""The options that are compared beside disks (`disk_drift.py`): all that nestlab sets, and the disk that says who the
machine is."""

_WHO = f"{IDENTITY}=serial={ID_SERIAL}"

_LIVE = {"qemu": re.compile(r"name|net\d+"), "lxc": re.compile(r"cores|memory|swap|net\d+")}
"""What takes effect while a machine or a container runs (qemu-server: `hotplug: network,usb`; PVE::LXC::Config)."""

_DEFAULTS = {"kvm": "1", "sockets": "1", "firewall": "0", "ip": "", "ip6": ""}
"""What an option is that is not there, where that is what nestlab says, too."""

_FIRST = {"cpu": "cputype", "agent": "enabled", "machine": "type", "memory": "current"}
_FIRST |= {"watchdog": "model", "vga": "type"}
"""The name of the part that may stand without one."""


@frozen
class Change:
    """One option that is not as nestlab set it. `value`: what it was set to; of a disk that is not there any more,
    all but its volume."""

    key: str
    value: str
    drift: Drift


def options_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the parameters that a machine is made with is remembered, as `key=value`."""
    who = (_WHO,) if "scsihw" in params else ()  # a container has no such disk
    return (*(f"{key}={value}" for key, value in params.items() if KEPT.fullmatch(key)), *who)


def changes(options: Iterable[str], rows: Sequence[Mapping[str, Any]], kind: str) -> tuple[Change, ...]:
    """What is not as it was set. `rows`: of GET …/pending, in which an option has its `value` of now, and that of its
    next start in `pending`, or `delete`."""
    there = {str(row["key"]): row for row in rows}
    found = []
    for key, wanted in (line.split("=", 1) for line in options):
        row = there.get(key, {})
        now = None if row.get("value") is None else str(row["value"])
        later = None if row.get("delete") else str(row.get("pending", now)) if "pending" in row or now else None
        live = bool(_LIVE[kind].fullmatch(key)) or _same(key, wanted, now)
        if not _same(key, wanted, now):
            found.append(Change(key, wanted, Drift(_told(key, wanted, now), live)))
        elif not _same(key, wanted, later):
            set_to = str(now) if is_disk(key) else wanted
            found.append(Change(key, set_to, Drift(f"{_told(key, wanted, later)} from its next start on", live)))
    return tuple(found)


def suspect(options: Iterable[str], name: str, memory: int, cpus: int) -> bool:
    """Whether a list shows another name, memory (bytes) or number of CPUs than was set; "" and 0: it does not tell.
    The list of a cluster is up to ten seconds old, so that the machine itself must then be asked."""
    wanted = dict(line.split("=", 1) for line in options)
    given = (name, str(memory // MIB), str(cpus))
    cores = str(int(wanted["cores"]) * int(wanted.get("sockets", 1))) if "cores" in wanted else None
    meant = (wanted.get("name") or wanted.get("hostname"), wanted.get("memory"), cores)
    return any(mine and told.strip("0") and mine != told for told, mine in zip(given, meant, strict=True))


def _same(key: str, wanted: str, found: str | None) -> bool:
    """Whether what is there says at least all that was set."""
    if found is None:
        return _DEFAULTS.get(key) == wanted
    mine, there = _parts(key, wanted), _parts(key, found)
    return all(there.get(part, _DEFAULTS.get(part)) == value for part, value in mine.items())


def _parts(key: str, text: str) -> dict[str, str]:
    if key == "hotplug":
        return dict.fromkeys(text.split(","), "")
    parts = {}
    for part in text.split(","):
        name, is_, value = part.partition("=")
        parts[name if is_ else _FIRST.get(key, "")] = (value if is_ else name).lower()
    return parts


def _told(key: str, wanted: str, found: str | None) -> str:
    """A sentence; of an option with parts, those that differ."""
    if found is None:
        return f"{key} is gone, wanted {wanted}"
    mine, there = _parts(key, wanted), _parts(key, found)
    names = [name for name, value in mine.items() if there.get(name, _DEFAULTS.get(name)) != value]
    if len(mine) > 1 and all(names) and len(names) < len(mine):
        return ", ".join(f"{key}: {name} is {there.get(name, 'gone')}, wanted {mine[name]}" for name in names)
    return f"{key} is {found}, wanted {wanted}"
