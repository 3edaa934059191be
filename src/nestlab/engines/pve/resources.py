"""Nodes, storages and guests of a Proxmox VE as values, from the rows of its API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.engines.pve import tags
from nestlab.engines.pve.cpu_types import Processor
from nestlab.engines.pve.placement import At, Room, Store
from nestlab.engines.pve.tags import Mark
from nestlab.lab.blueprint import root_of
from nestlab.plan.room import ANY_SIZE, NO_ROOM
from nestlab.plan.steps import NO_PLUGS, Drift, Plugs, Seen, State

PLUGS = Plugs(pci=12, scsi=True, out=True)
"""What a machine with `hotplug: disk` takes while it runs: PVE makes a controller for each on scsi."""

Kind = Literal["qemu", "lxc"]


@frozen
class Guest:
    """A machine or container as a list shows it. `status`: running, stopped or unknown."""

    vmid: int
    node: str
    kind: Kind = "qemu"
    status: str = "unknown"
    tags: tuple[str, ...] = ()
    template: bool = False
    uptime: float = 0.0
    memory: int = 0
    lock: str = ""
    paused: bool = False
    ha: str = ""
    """Its state in high availability, which may move it; "" where that does not manage it."""
    pool: str = ""
    name: str = ""
    size: int = 0
    """Bytes of memory that it has or would have; 0 where a list does not tell."""
    cpus: int = 0

    @property
    def base(self) -> str:
        """Where it is in the API."""
        return f"/nodes/{self.node}/{self.kind}/{self.vmid}"

    @property
    def title(self) -> str:
        """For people: `VM 105 (db), running`."""
        kind, name = "VM" if self.kind == "qemu" else "CT", f" ({one_line(self.name)[:60]})" if self.name else ""
        return f"{kind} {self.vmid}{name}, {'a template' if self.template else self.status}"

    @property
    def sid(self) -> str:
        """Its name in high availability: `vm:100`, `ct:100`."""
        return f"{'vm' if self.kind == 'qemu' else 'ct'}:{self.vmid}"


@frozen
class Found:
    """A guest with its mark: one of the lab."""

    guest: Guest
    mark: Mark


def guests(rows: Iterable[Mapping[str, Any]]) -> list[Guest]:
    """The guests among the rows of /cluster/resources. Their state there is as of pvestatd's last round, which is up to
    ten seconds ago (pve-manager, API2Tools.pm: extract_vm_stats), `unknown` before the first; tags, locks and pools are
    of now."""
    return [_guest(row, row.get("type"), row.get("node")) for row in rows if row.get("type") in ("qemu", "lxc")]


def _guest(row: Mapping[str, Any], kind: object, node: object) -> Guest:
    return Guest(
        vmid=int(row["vmid"]),
        node=str(node),
        kind="lxc" if kind == "lxc" else "qemu",
        status=_status(row),
        tags=tags.split(str(row.get("tags") or "")),
        template=bool(int(row.get("template") or 0)),
        uptime=float(row.get("uptime") or 0),
        memory=int(row.get("memhost") or row.get("mem") or 0),
        lock=str(row.get("lock") or ""),
        paused=str(row.get("qmpstatus") or row.get("status")) in _PAUSED,
        ha=str(row.get("hastate") or ""),
        pool=str(row.get("pool") or ""),
        name=str(row.get("name") or ""),
        size=int(row.get("maxmem") or 0),
        cpus=int(row.get("maxcpu") or row.get("cpus") or 0),
    )


_PAUSED = ("paused", "prelaunch", "suspended", "io-error", "internal-error", "watchdog")


def _status(row: Mapping[str, Any]) -> str:
    """The cluster's list has QEMU's own word in its place (pve-manager, pvestatd.pm): what is not stopped, runs."""
    said = str(row.get("status") or "unknown")
    return said if said in ("stopped", "unknown") else "running"


def of_node(row: Mapping[str, Any], guest: Guest) -> Guest:
    """A guest with its state of now, as its node's own list has it."""
    now = _guest(row, guest.kind, guest.node)
    return replace(now, tags=now.tags or guest.tags, lock=now.lock or guest.lock, ha=guest.ha, pool=guest.pool)


def seen(found: Found, now: float, drift: tuple[Drift, ...] = ()) -> Seen:
    """A machine as the rest of nestlab sees it. `now`: seconds since the epoch."""
    guest, mark = found.guest, found.mark
    state, why = _state(guest, mark)
    runs = state in ("running", "paused")
    since = now - guest.uptime if runs else None
    return Seen(
        path=mark.path,
        state=state,
        digest=mark.digest or None,
        names=names_of(mark, since if runs else None),
        accel=("kvm" if mark.kvm else "tcg") if runs and guest.kind == "qemu" else None,
        since=since,
        memory=guest.memory or None if runs else None,
        ready=not (mark.unmet and state == "running"),
        why=why,
        node=guest.node,
        vmid=guest.vmid,
        root=root_of(mark.image, guest.kind == "lxc") if mark.image else None,
        disk=mark.disk,
        disks=mark.disks,
        plugs=PLUGS if runs and any(line.startswith("hotplug=disk") for line in mark.options) else NO_PLUGS,
        room=ANY_SIZE if state == "running" and guest.kind == "lxc" else NO_ROOM,
        drift=drift,
    )


def at(found: Found) -> At:
    """Where a machine is, with the memory that it has there now."""
    running = found.guest.status == "running"
    return At(found.guest.node, found.mark.storage, found.guest.memory if running else 0)


SKEW = 5.0
"""Seconds by which a start may seem to be earlier than it was: PVE tells an uptime in whole seconds."""


def names_of(mark: Mark, since: float | None) -> str | None:
    """The names that a machine knows: those it was told, unless it started again since then from its identity disk."""
    if mark.told and since is not None and since > mark.since + SKEW:
        return mark.told
    return mark.names or None


def _state(guest: Guest, mark: Mark) -> tuple[State, str]:
    if guest.status == "unknown":
        return "unknown", f"node {guest.node} does not tell of VM {guest.vmid}"
    if mark.making or guest.lock in ("create", "clone", "disk"):
        held = f", and a task ({guest.lock}) is at work on it" if guest.lock else ""
        return "broken", f"VM {guest.vmid} on {guest.node} was not finished{held}"
    if guest.status == "running":
        if guest.paused:
            return "paused", "PVE has paused it"
        return "running", "it was started, and has not been reached yet" if mark.unmet else ""
    if guest.lock == "suspended":
        return "stopped", "it is hibernated"
    if mark.wanted == "running":
        return "died", f"VM {guest.vmid} on {guest.node} does not run, and nobody stopped it by nestlab"
    return "stopped", ""


def rooms(rows: Sequence[Mapping[str, Any]]) -> list[Room]:
    """The nodes with their storages, from the rows of /cluster/resources; of their CPUs nothing yet."""
    stores: dict[str, list[Store]] = {}
    for row in rows:
        if row.get("type") == "storage" and row.get("status") == "available":
            stores.setdefault(str(row["node"]), []).append(_store(row))
    found = []
    for row in rows:
        if row.get("type") == "node":
            memory, node = int(row.get("maxmem") or 0), str(row["node"])
            found.append(
                Room(
                    node=node,
                    memory=memory,
                    free=max(0, memory - int(row.get("mem") or 0)),
                    cpus=int(row.get("maxcpu") or 0),
                    stores=tuple(sorted(stores.get(node, ()), key=lambda store: store.name)),
                    online=row.get("status") == "online",
                    processor=Processor(node),
                )
            )
    return sorted(found, key=lambda room: room.node)


def _store(row: Mapping[str, Any]) -> Store:
    return Store(
        name=str(row["storage"]),
        free=max(0, int(row.get("maxdisk") or 0) - int(row.get("disk") or 0)),
        shared=bool(int(row.get("shared") or 0)),
        kind=str(row.get("plugintype") or ""),
        content=frozenset(str(row.get("content") or "").split(",")),
    )


def processor(node: str, status: Mapping[str, Any] | None, flags: Sequence[Mapping[str, Any]] | None) -> Processor:
    """The CPU of a node: from its status, and the flags that its QEMU can give. None: what may not be asked. While its
    statistics daemon (pvestatd) has not reported, the node is listed for no flag at all: then nothing is known yet."""
    if status is None:
        return Processor(node, why="Sys.Audit on /nodes is missing")
    info = status.get("cpuinfo") or {}
    listed = next((row for row in flags or () if row.get("name") == "nested-virt"), None)
    where = listed.get("supported-on") if listed else None
    early = isinstance(where, list) and not any(node in (row.get("supported-on") or ()) for row in flags or ())
    return Processor(
        node=node,
        vendor=str(info.get("vendor") or ""),
        model=str(info.get("model") or ""),
        flags=frozenset(str(info.get("flags") or "").split()),
        kvm=str(info.get("hvm") or "") not in ("", "0"),
        nests=node in where if isinstance(where, list) and not early else None,
        word=listed is not None,
        early=early,
    )
