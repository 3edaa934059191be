"""The nest as a table of machines: what `status` and the end of `up` show. Pure, and light to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.paint import PLAIN, Paint, Style, columns, elapsed, human
from nestlab.base.printable import brief
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.faults import Fault
from nestlab.lab.model import level_of, parent_of
from nestlab.plan.steps import Observed, Seen

NOT_MADE = "not made"
"""The state of a machine that the lab file wants and that is nowhere."""

_STATE: Mapping[str, Style] = MappingProxyType(
    {
        "running": "green",
        "paused": "yellow",
        "stopped": "dim",
        "died": "red",
        "killed": "red",
        "broken": "red",
        "unknown": "yellow",
    }
)
_HEAD = ["NAME", "STATE", "LEVEL", "ACCEL", "ADDRESSES", "UPTIME", "MEMORY", "RESIDENT"]


@frozen
class Row:
    """One machine as shown. `uptime` in seconds; `memory` is what it was given, `resident` what its QEMU takes of its
    host's, in bytes.

    `level` counts from the lab's host, which is 0. `wanted`: the lab file still mentions it.
    """

    path: str
    level: int
    state: str
    accel: str | None = None
    addresses: tuple[str, ...] = ()
    uptime: float | None = None
    memory: int | None = None
    resident: int | None = None
    wanted: bool = True
    why: str = ""
    pid: int | None = None
    """Its QEMU's, on the host that it runs on."""
    node: str = ""
    vmid: int | None = None
    drift: tuple[str, ...] = ()
    """The changes made by hand."""
    ha: bool | None = None
    """Whether high availability watches over it, where the lab file wants that."""


def rows(blueprint: Blueprint | None, observed: Observed, now: float) -> list[Row]:
    """All machines wanted or seen, outer ones before what runs inside them. `now`: seconds since the epoch."""
    specs = blueprint.by_path() if blueprint else {}
    stray = sorted(path for path in observed.machines if path not in specs)
    ordered = _nested([*specs, *stray])
    return [_row(path, specs.get(path), observed.machines.get(path), now) for path in ordered]


def _row(path: str, spec: Spec | None, seen: Seen | None, now: float) -> Row:
    addresses = tuple(each.split("/")[0] for nic in spec.nics for each in nic.addresses) if spec else ()
    memory = spec.machine.memory if spec else None
    wanted = spec is not None
    if seen is None:
        return Row(path, level_of(path), NOT_MADE, addresses=addresses, memory=memory, wanted=wanted)
    alive = seen.state in ("running", "paused")
    uptime = max(0.0, now - seen.since) if alive and seen.since is not None else None
    return Row(
        path,
        level_of(path),
        seen.state,
        seen.accel if alive else None,
        addresses,
        uptime,
        memory,
        seen.memory if alive else None,
        wanted,
        seen.why,
        seen.pid if alive else None,
        seen.node,
        seen.vmid,
        tuple(each.what for each in seen.drift),
        seen.ha if spec is not None and spec.machine.ha else None,
    )


def _nested(paths: Sequence[str]) -> list[str]:
    """The paths with everything inside a machine right after it, in the order given among siblings."""
    known = set(paths)
    children: dict[str, list[str]] = {}
    for path in paths:
        outer = parent_of(path)
        while outer and outer not in known:
            outer = parent_of(outer)
        children.setdefault(outer, []).append(path)
    ordered, stack = [], list(reversed(children.get("", [])))
    while stack:
        path = stack.pop()
        ordered.append(path)
        stack.extend(reversed(children.get(path, [])))
    return ordered


def branches(paths: Sequence[str]) -> list[str]:
    """For each path of a nested order: its last name behind the lines of a tree. Level 1 stands at the margin."""
    last: set[str] = set()
    seen: set[str] = set()
    for path in reversed(paths):
        if parent_of(path) not in seen:
            last.add(path)
            seen.add(parent_of(path))
    lines = []
    for path in paths:
        parts = path.split("/")
        lead = ""
        for depth in range(2, len(parts)):
            lead += "   " if "/".join(parts[:depth]) in last else "│  "
        joint = "" if len(parts) == 1 else ("└─ " if path in last else "├─ ")
        lines.append(lead + joint + parts[-1])
    return lines


_LEAST = ("RESIDENT", "LEVEL", "UPTIME", "ACCEL")
"""Columns that a narrow terminal does without, in this order."""


def table(machines: Sequence[Row], paint: Paint = PLAIN, width: int | None = None) -> str:
    """The machines as an aligned tree, with what is known about those that do not run. `width`: columns of the
    terminal."""
    if not machines:
        return "no machines"
    placed = any(row.node for row in machines)
    head = [*_HEAD, "NODE", "VMID"] if placed else _HEAD
    cells: list[list[str]] = [head]
    styles: list[list[Style | None]] = [["dim"] * len(head)]
    for row, name in zip(machines, branches([row.path for row in machines]), strict=True):
        place = [row.node or "-", str(row.vmid or "-")] if placed else []
        cells.append([name, row.state, str(row.level), row.accel or "", *_details(row), *place])
        accel: Style | None = "yellow" if row.accel == "tcg" else None
        styles.append(["bold", _STATE.get(row.state), None, accel, *([None] * (len(head) - 4))])
    for name in _LEAST if width is not None else ():
        if width is None or max(map(len, columns(cells, styles, PLAIN))) <= width:
            break
        at = cells[0].index(name)
        cells = [[*row[:at], *row[at + 1 :]] for row in cells]
        styles = [[*row[:at], *row[at + 1 :]] for row in styles]
    lines = columns(cells, styles, paint)
    notes = [f"{brief(row.path)}: {brief(_note(row))}" for row in machines if _note(row)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _details(row: Row) -> list[str]:
    uptime = elapsed(row.uptime) if row.uptime is not None else "-"
    sizes = [human(size) if size is not None else "-" for size in (row.memory, row.resident)]
    return [" ".join(row.addresses) or "-", uptime, *sizes]


def _note(row: Row) -> str:
    parts = [row.why] if row.why else []
    if row.drift:
        parts.append(f"changed by hand: {', '.join(row.drift)} (`nestlab up` sets it back)")
    if row.ha is not None:
        parts.append(
            "under high availability" if row.ha else "not under high availability (`nestlab up` puts it there)"
        )
    if not row.wanted:
        parts.append("no longer in the lab file")
    return "; ".join(parts)


def head(lab: str, machines: Sequence[Row], paint: Paint = PLAIN) -> str:
    """One line about a lab: how many of its machines run, and of how many that is not known."""
    running = sum(row.state == "running" for row in machines)
    unknown = sum(row.state == "unknown" for row in machines)
    more = f", {unknown} unknown" if unknown else ""
    return f"{paint('bold', brief(lab))}: {running} of {counted(len(machines), 'machine')} running{more}"


def counted(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def data(lab: str, machines: Sequence[Row], faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """The machines as JSON data: times in seconds, sizes in bytes; and the faults that are made on purpose."""
    return {"lab": lab, "machines": [asdict(row) for row in machines], "faults": [asdict(each) for each in faults]}
