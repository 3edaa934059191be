"""Live and offline migration of a machine with what is nested in it: whether it may, and the move.

PVE does not look at nested virtualization when it migrates (qemu-server, QemuMigrate.pm), and a machine whose guests
run under KVM has more state than its CPU shows. A machine that is off can always move. What a kernel and a QEMU can
carry: Linux 5.3 with QEMU 4.2 for Intel (kernel documentation, running-nested-guests), Linux 5.8 with QEMU 5.1 for AMD,
where the same documentation warns of guests that run meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.pve import full_copy, resources
from nestlab.engines.pve.full_copy import Copies
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.resources import Found
from nestlab.wire.pve.api import Api, Params
from nestlab.wire.pve.errors import Denied, NodeUnreachable

Version = tuple[int, ...]

CARRIES: Mapping[str, tuple[Version, Version]] = {
    "GenuineIntel": ((5, 3), (4, 2)),
    "AuthenticAMD": ((5, 8), (5, 1)),
}
"""By vendor: the kernel and the QEMU from which on nested state is carried."""

OLDEST: Mapping[int, Version] = {8: (8, 0), 9: (10, 0)}
"""The QEMU that a Proxmox VE began with, by its version: for where a machine does not tell its own."""


LOG, LINE = 5000, 1000
"""Lines of a migration's log that are read, and letters of one."""

_DOWNTIME = re.compile(r"\bdowntime (\d{1,9}) ms\b")


@frozen
class Side:
    """One end of a migration, as its node tells it; empty where it does not."""

    node: str
    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()
    kernel: Version = ()
    qemu: Version = ()
    """The oldest QEMU that its version of Proxmox VE has."""


@frozen
class Move:
    """A migration: the machine and its target. `inside`: machines in it that run; None: it cannot be asked."""

    path: str
    running: bool
    hypervisor: bool
    container: bool
    kvm: bool
    cpu: str
    qemu: Version
    inside: tuple[str, ...] | None
    source: Side
    target: Side
    layers: tuple[str, ...] = ()
    """Its disks that are layers over a template's and seen by its node alone: PVE moves none of them."""


@frozen
class Ruling:
    """The verdict on a migration; `online`: while it runs. `why` says what was found, `hint` what to do if not."""

    allowed: bool
    online: bool
    why: str
    hint: str = ""


def judge(move: Move) -> Ruling:
    """Whether a machine may move now, and why. Pure."""
    if not move.running:
        how = "as a whole copy with another VMID" if move.layers else "with its disks"
        return Ruling(True, False, f"it is off, and moves {how}")
    if move.container:
        return Ruling(True, False, "a container: it is shut down, moved and started again")
    if move.layers:
        why = f"its disks are layers over a template's that {move.target.node} does not see"
        return Ruling(False, True, why, f"{_off(move)}. On a storage that all nodes see (`storage:`) it could.")
    if not move.hypervisor:
        return Ruling(True, True, "nothing runs inside it")
    if move.inside is None:
        why = "what runs inside it cannot be asked"
        return Ruling(False, True, why, f"{_off(move)}, or see why it does not answer: `nestlab status --deep`.")
    refusal = _unequal(move) or _uncarried(move)
    return refusal or Ruling(True, True, _carried(move))


def _unequal(move: Move) -> Ruling | None:
    """Between CPUs that are not the same, or not told, nothing that nests moves while it runs."""
    one, two = move.source, move.target
    if not (one.vendor and two.vendor):
        silent = one.node if not one.vendor else two.node
        return Ruling(False, True, f"node {silent} does not tell its CPU (Sys.Audit on /nodes)", f"{_off(move)}.")
    if one.vendor != two.vendor:
        why = f"{one.node} has a CPU of {one.vendor} and {two.node} one of {two.vendor}"
        return Ruling(False, True, why, f"{_off(move)}.")
    whole = move.cpu.split(",")[0] in ("host", "max")
    if move.kvm and whole and (one.model, one.flags) != (two.model, two.flags):
        why = f"its CPU is `{move.cpu}`, and {one.node} ({one.model}) and {two.node} ({two.model}) are not the same"
        hint = f"{_off(move)}; `on: {{cpu: …,flags=+nested-virt}}` with a model that both have lets it move later."
        return Ruling(False, True, why, hint)
    return None


def _uncarried(move: Move) -> Ruling | None:
    if not move.inside:
        return None if _new_enough(move) else _too_old(move)
    names = ", ".join(move.inside)
    if not move.kvm:
        return Ruling(False, True, f"it is emulated, and {names} runs inside", _stop(move))
    if move.source.vendor != "GenuineIntel":
        why = f"{names} runs inside, and on {move.source.vendor} a guest that runs is not carried over safely"
        return Ruling(False, True, why, _stop(move))
    return None if _new_enough(move) else _too_old(move)


def _new_enough(move: Move) -> bool:
    if not move.kvm:
        return True
    needed = CARRIES.get(move.source.vendor)
    if needed is None:
        return False
    kernel, qemu = needed
    return min(move.source.kernel, move.target.kernel) >= kernel and move.qemu >= qemu


def _too_old(move: Move) -> Ruling:
    needed = CARRIES.get(move.source.vendor)
    if needed is None:
        return Ruling(False, True, f"for CPUs of {move.source.vendor} nothing is known", f"{_off(move)}.")
    have = (
        f"{move.source.node} has Linux {_dotted(move.source.kernel)}, {move.target.node} {_dotted(move.target.kernel)}"
    )
    why = f"{have}, and it runs on QEMU {_dotted(move.qemu)}; nested state needs {_needs(move.source.vendor)}"
    return Ruling(False, True, why, f"{_off(move)}.")


def _carried(move: Move) -> str:
    inside = f"{', '.join(move.inside)} runs inside" if move.inside else "no machine runs inside it"
    if not move.kvm:
        return f"{inside}; it is emulated"
    return f"{inside}; CPUs fit ({move.cpu}), and {_needs(move.source.vendor)} or newer carries nested state"


def _needs(vendor: str) -> str:
    kernel, qemu = CARRIES[vendor]
    return f"Linux {_dotted(kernel)} and QEMU {_dotted(qemu)} ({vendor})"


def _off(move: Move) -> str:
    return f"Switched off it can move: `nestlab stop {move.path}`, then migrate and start it"


def _stop(move: Move) -> str:
    return f"--stop-guests stops them, migrates {move.path}, and starts them again. {_off(move)}."


def _dotted(version: Version) -> str:
    return ".".join(map(str, version)) or "that is not told"


def version_of(text: object) -> Version:
    """The numbers that a version begins with, such as (6, 17, 2) of `6.17.2-1-pve`; () where there are none."""
    found = re.search(r"\d{1,9}(?:\.\d{1,9})+", str(text or ""))
    return tuple(int(part) for part in found[0].split(".")) if found else ()


class Migration:
    """Of one lab's machines."""

    def __init__(self, api: Api, guests: Guests, copies: Copies) -> None:
        self._api = api
        self._guests = guests
        self._copies = copies

    async def look(
        self, path: str, target: str, *, hypervisor: bool, inside: Collection[str] | None, managed: bool = False
    ) -> Move:
        """Everything that decides whether a machine may move to the node `target`. LabError for a node that is none,
        or cannot take it at all, and for a machine that high availability manages, unless it may be (`managed`)."""
        found = await self._guests.one(path)
        guest = found.guest
        await self._target(found, target, managed=managed)
        state, status, source, there = await asyncio.gather(
            self._guests.runs(guest),
            self._api.get(f"{guest.base}/status/current"),
            self._side(guest.node),
            self._side(target),
        )
        config = await self._api.get(f"{guest.base}/config", {"current": True})
        return Move(
            path=path,
            running=state != "stopped",
            hypervisor=hypervisor,
            container=guest.kind == "lxc",
            kvm=str(config.get("kvm", 1)) != "0",
            cpu=str(config.get("cpu") or "kvm64"),
            qemu=version_of(status.get("running-qemu")) or source.qemu,
            inside=None if inside is None else tuple(sorted(inside)),
            source=source,
            target=there,
            layers=tuple(full_copy.layers(config, await self._shared())),
        )

    async def part(self, move: Move, say: Say) -> Move:
        """A machine that runs, with its disks no layers any more: each is copied whole, in another format, to the
        storage that it is on, so that it can move while it runs. LabError where that storage knows one format alone."""
        found = await self._guests.one(move.path)
        config = await self._guests.config(found.guest)
        for key, value in sorted(config.items()):
            volume = str(value).split(",")[0]
            if volume not in move.layers:
                continue
            say(f"copying its disk {key} whole: PVE moves no disk that is a layer over a template's")
            form = "raw" if volume.endswith(".qcow2") else "qcow2"
            there: dict[str, str | bool] = {
                "disk": key,
                "storage": volume.partition(":")[0],
                "format": form,
                "delete": True,
            }
            await self._guests.work(self._api.create, f"{found.guest.base}/move_disk", there, say)
        return replace(move, layers=())

    async def go(self, move: Move, ruling: Ruling, say: Say) -> float | None:
        """Move it, to the end of PVE's task: for how many seconds it stood still, where PVE says so. What cannot move
        itself moves as a copy, and is removed once that has arrived. LabError, with where everything is, when PVE
        fails."""
        found = await self._guests.one(move.path)
        downtime = None
        if not move.layers:
            _, downtime = await self._moved(found, move, ruling, say)
        else:
            copy = await self._copies.make(found, say)
            try:
                arrived, _ = await self._moved(copy, move, ruling, say)
            except LabError as error:
                raise await self._unmoved(found, copy, error, say) from error
            await self._copies.replace(found, arrived, say)
        await self._guests.look(exact=False)
        return downtime

    async def _moved(self, found: Found, move: Move, ruling: Ruling, say: Say) -> tuple[Found, float | None]:
        """One machine, moved: where it is then, and for how long it stood still."""
        told: list[str] = []

        async def begin(path: str, params: Params | None) -> Any:
            told.append(str(await self._api.create(path, params)))
            return told[-1]

        params: dict[str, str | int] = {"target": move.target.node}
        if move.running and move.container:
            params["restart"] = 1
        elif move.running and ruling.online:
            params |= {"online": 1, "with-local-disks": 1}
        say(f"migrating to {move.target.node}" + (" while it runs" if "online" in params else ""))
        try:
            await self._guests.work(begin, f"{found.guest.base}/migrate", params, say)
        except LabError as error:
            error.what = f"{error.what} {await self._place(found)}"
            raise
        downtime = await self._downtime(found.guest.node, told[-1]) if "online" in params else None
        return replace(found, guest=replace(found.guest, node=move.target.node)), downtime

    async def _downtime(self, node: str, upid: str) -> float | None:
        """What the log of a migration says of it (qemu-server, QemuMigrate.pm: "- downtime 57 ms")."""
        try:
            rows = await self._api.get(f"/nodes/{node}/tasks/{upid}/log", {"limit": LOG})
        except LabError:
            return None
        found = [match for row in rows for match in _DOWNTIME.finditer(str(row.get("t") or "")[:LINE])]
        return int(found[-1][1]) / 1000 if found else None

    async def _unmoved(self, found: Found, copy: Found, error: LabError, say: Say) -> LabError:
        """The error of a copy that did not arrive: it is removed, and the machine is as it was."""
        number = copy.guest.vmid
        rows = await self._api.get("/cluster/resources", {"type": "vm"})
        left = next((each for each in resources.guests(rows) if each.vmid == number), None)
        try:
            if left is not None:
                await self._copies.drop(replace(copy, guest=left), say)
            gone = f"The copy that was to move, VM {number}, is removed."
        except LabError as other:
            where = left.node if left else copy.guest.node
            gone = f"The copy that was to move, VM {number} on {where}, could not be removed: {other.what}"
        error.what = f"{error.what} {gone} {await self._place(found)}"
        return error

    async def _place(self, found: Found) -> str:
        """Where a machine is now, in a sentence."""
        try:
            rows = await self._api.get("/cluster/resources", {"type": "vm"})
        except LabError:
            return ""
        guest = next((each for each in resources.guests(rows) if each.vmid == found.guest.vmid), None)
        if guest is None:
            return f"VM {found.guest.vmid} ({found.mark.path}) is not shown any more."
        held = (
            f", locked ({guest.lock}: `qm unlock {guest.vmid}` there, once no task works on it)" if guest.lock else ""
        )
        kind = "The copy" if found.mark.making else found.mark.path
        return f"{kind} is on {guest.node} as VM {guest.vmid}{held}."

    async def _target(self, found: Found, target: str, *, managed: bool) -> None:
        guest = found.guest
        rows: Sequence[Mapping[str, Any]] = await self._api.get("/cluster/resources")
        nodes = {str(row["node"]): row.get("status") == "online" for row in rows if row.get("type") == "node"}
        if target not in nodes:
            raise LabError(f"{self._api.where} has no node {target}.", hint=f"Its nodes: {', '.join(sorted(nodes))}.")
        if target == guest.node:
            raise LabError(f"{found.mark.path} is on {target} already.", hint=f"Its nodes: {', '.join(sorted(nodes))}.")
        if not nodes[target]:
            raise LabError(f"Node {target} does not answer.", hint="Start it, or name another node.")
        listed = next((each for each in resources.guests(rows) if each.vmid == guest.vmid), guest)
        if listed.ha and not managed:
            what = (
                f"{found.mark.path} is managed by high availability ({guest.sid}, {listed.ha}), which moves it itself."
            )
            raise LabError(what, hint=f"Take it out first, as root on a node: ha-manager remove {guest.sid}")

    async def _shared(self) -> set[str]:
        """The storages that all nodes see."""
        rows: Sequence[Mapping[str, Any]] = await self._api.get("/cluster/resources", {"type": "storage"})
        return {str(row["storage"]) for row in rows if int(row.get("shared") or 0)}

    async def _side(self, node: str) -> Side:
        try:
            status = await self._api.get(f"/nodes/{node}/status")
        except (Denied, NodeUnreachable):
            return Side(node)
        info = status.get("cpuinfo") or {}
        kernel = (status.get("current-kernel") or {}).get("release") or status.get("kversion")
        return Side(
            node,
            str(info.get("vendor") or ""),
            str(info.get("model") or ""),
            frozenset(str(info.get("flags") or "").split()),
            version_of(kernel),
            OLDEST.get((version_of(status.get("pveversion")) or (0,))[0], ()),
        )
