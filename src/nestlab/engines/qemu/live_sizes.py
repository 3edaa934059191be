"""Memory and CPUs come to a machine that runs, and go, through its QEMU's monitor; the machine brings them into use.

What is wanted is asked for, and then looked at until it is so. What was interrupted is seen as not done, and asked for
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import records, room, step_time
from nestlab.engines.qemu.attached_disk import Talk
from nestlab.home.paths import MachinePaths, short_id
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import format_size, parent_of
from nestlab.plan.room import NO_ROOM, Room
from nestlab.wire.qmp import Monitor

GRACE = 60.0
"""Nominal seconds in which nothing need come or go while a machine brings memory or CPUs into use, or gives them up."""

REMAINS, SOON = 32 << 20, 5.0
"""Bytes that a machine may keep of what it was to give up, when nothing more has gone for so many nominal seconds: some
pages cannot be moved now. Its kernel goes on trying."""

LONGEST = 10.0
"""Times GRACE, after which it is not waited for any more: a machine can come nearer for ever."""

TICK = 0.5
"""Seconds between two looks."""

_NOWHERE = (1 << 62, 1 << 62)
"""Bytes and CPUs that a machine of which nothing is known yet is away from what is wanted."""

USE = r"""
[ "$1" = 0 ] || modprobe -q virtio_mem || echo nestlab: no virtio_mem
echo online_movable > /sys/devices/system/memory/auto_online_blocks
for each in /sys/devices/system/cpu/cpu[0-9]*/online; do
  read -r on < "$each" && [ "$on" = 1 ] || echo 1 > "$each"
done
grep -c '^processor' /proc/cpuinfo
"""
"""Run in the machine. $1: whether it has memory that comes and goes. What comes is used for what can be moved, so that
it can go again. Prints the number of its CPUs."""


@frozen
class LiveSizes:
    """Of one machine on one host. `paths`: its directory there; `talk` opens its monitor; `guest`: the machine
    itself."""

    host: Host
    path: str
    paths: MachinePaths
    talk: Talk
    guest: Callable[[], Awaitable[Host]]

    async def settle(self, spec: Spec, say: Say) -> bool:
        """The machine has the memory and the CPUs of its definition. Whether it takes that while it runs at all.
        LabError when it does not bring them into use, or does not give them up."""
        machine, line = spec.machine, await self._line(self.paths.boot)
        there = records.started(line).room
        resized = there.asked != NO_ROOM.asked
        same = machine.memory == there.memory and machine.cpus == (there.cores or machine.cpus)
        if there == NO_ROOM or (same and not resized):
            made = records.made(await self._line(self.paths.made), parent_of(self.path), short_id(self.path))
            if made is not None and made.digest not in (None, spec.digest):
                hint = f"`nestlab restart {self.path}` gives it what is wanted."
                raise LabError(f"{self.path} runs with another definition.", hint=hint)
            return False
        there = replace(there, asked=(machine.memory, machine.cpus))
        await self._note(line, there)  # whatever becomes of it, the next plan knows
        if machine.container:
            say(f"its limits: {format_size(machine.memory)} of memory, {machine.cpus} CPU{'s' * (machine.cpus != 1)}")
            async with self.talk() as monitor:
                await monitor.execute("nestlab-resize", memory=machine.memory, cpus=machine.cpus)
            return True
        said = await self._ask(spec, there, line)
        if said:
            say(said)
        if said or resized:  # an interrupted nestlab may have asked, and not waited until it was brought into use
            await self._until(spec, there, say)
        return True

    async def _note(self, line: str, there: Room) -> None:
        await self.host.write(self.paths.boot, records.with_room(line, there))

    async def _line(self, file: str) -> str:
        return (await self.host.read(file)).decode(errors="replace").strip()

    async def _ask(self, spec: Spec, there: Room, line: str) -> str:
        """What is asked of it, in words; "": it is as wanted."""
        asked = []
        async with self.talk() as monitor:
            if there.cores and (change := await _cpus(monitor, spec.machine.cpus, there.cpus)):
                asked.append(change)
            above, now = spec.machine.memory - there.memory, await _above(monitor)
            if now is None and above > 0:
                await self._plug(monitor, there, above)
            elif now is not None and above != now["requested-size"]:
                where = f"/machine/peripheral/{room.DEVICE}"
                await monitor.execute("qom-set", path=where, property="requested-size", value=above)
            if now is not None or above > 0:
                await self._note(line, replace(there, plugged=True))
                had = 0 if now is None else now["size"]
                if had != above:
                    asked.append(f"memory {format_size(there.memory + had)} -> {format_size(spec.machine.memory)}")
        return ", ".join(asked)

    async def _plug(self, monitor: Monitor, there: Room, above: int) -> None:
        buses = await monitor.execute("query-pci")
        on_port = any(each.get("qdev_id") == room.PORT for bus in buses for each in bus.get("devices", ()))
        with_it = await monitor.execute("qom-list", path="/objects")
        if not any(each.get("name") == room.BACKEND for each in with_it):  # else an interrupted nestlab did it
            await monitor.command("object-add", room.backend(there))
        await monitor.command("device_add", room.device(above, **({"bus": room.PORT} if on_port else {})))

    async def _until(self, spec: Spec, there: Room, say: Say) -> None:
        """Wait until it is so, as long as it gets nearer than it ever was."""
        machine, now = spec.machine, (-1, -1)
        above, wanted = max(0, machine.memory - there.memory), machine.cpus if there.cores else 0
        allowed = patience.allowed(GRACE, self.host.slowness)
        left, nearest = allowed, _NOWHERE
        clock = asyncio.get_running_loop().time
        ends = clock() + LONGEST * allowed
        while True:
            try:
                now = await self._now(above > 0, wanted)
            except Unreachable:  # QEMU or the machine is busy with what it was asked for
                if left <= 0 or clock() >= ends:
                    raise
            if now[0] == above and (not wanted or now[1] == wanted):
                return
            off = (abs(now[0] - above), abs(now[1] - wanted))
            left = allowed if off[0] < nearest[0] or off[1] < nearest[1] else left - TICK
            nearest = (min(off[0], nearest[0]), min(off[1], nearest[1]))
            kept, idle = now[0] - above, allowed - left
            few = 0 < kept <= REMAINS and (not wanted or now[1] == wanted)
            if few and idle >= patience.allowed(SOON, self.host.slowness):
                say(f"it keeps {format_size(kept)} of that for now: it cannot move what is there")
                return
            if left <= 0 or clock() >= ends:
                raise self._refused(spec, there, now)
            await asyncio.sleep(TICK)

    async def _now(self, memory: bool, wanted: int) -> tuple[int, int]:
        """The bytes above its start's, and the CPUs, that it has and uses."""
        used = await self._use(memory)
        async with self.talk() as monitor:
            found = await _above(monitor)
            cpus = len(await monitor.execute("query-cpus-fast"))
        return (found["size"] if found is not None else 0), min(cpus, used) if used < wanted else max(cpus, used)

    async def _use(self, memory: bool) -> int:
        """The machine brings what came into use; how many CPUs it has by its own word."""
        guest = await self.guest()
        argv = ("sh", "-c", USE, "use", str(int(memory)))
        ran = await guest.run(argv, check=False, timeout=step_time.LOOK)
        if "nestlab: no virtio_mem" in ran.text:
            what = f"The kernel of {self.path} takes no memory while it runs: it has no virtio_mem."
            raise LabError(what, hint=f"`nestlab restart {self.path}` gives it what it lacks.")
        last = ran.text.strip().rpartition("\n")[2]
        return int(last) if last.isdecimal() and len(last) < 6 else 0

    def _refused(self, spec: Spec, there: Room, now: tuple[int, int]) -> LabError:
        memory, cpus = there.memory + now[0], now[1]
        has = [f"{format_size(memory)} of memory"] * (memory != spec.machine.memory)
        has += [f"{cpus} CPU{'s' * (cpus != 1)}"] * bool(there.cores and cpus != spec.machine.cpus)
        what = f"{self.path} does not get to what is wanted while it runs: it still has {' and '.join(has)}."
        return LabError(what, hint=f"What it uses it does not give up: `nestlab restart {self.path}` does it.")


async def _above(monitor: Monitor) -> dict[str, Any] | None:
    """The device that memory is in that came later."""
    for each in await monitor.execute("query-memory-devices"):
        found: dict[str, Any] = each["data"]
        ours = each["type"] == "virtio-mem" and found.get("id") == room.DEVICE
        if ours and {"size", "requested-size"} <= found.keys():
            return found
    return None


async def _cpus(monitor: Monitor, wanted: int, most: int) -> str:
    """Ask for CPUs, or for some of them back, the last ones first; what is asked, in words. `most`: it can have."""
    slots = sorted(await monitor.execute("query-hotpluggable-cpus"), key=_place)[:most]
    there = [slot for slot in slots if "qom-path" in slot]
    free = [slot for slot in slots if "qom-path" not in slot]
    for slot in free[: max(0, wanted - len(there))]:
        await monitor.command("device_add", room.cpu(slot["type"], slot["props"]))
    for slot in there[:0:-1][: max(0, len(there) - wanted)]:
        await monitor.execute("device_del", id=slot["qom-path"])
    return f"cpus {len(there)} -> {wanted}" if len(there) != wanted else ""


def _place(slot: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(slot["props"].get(name, 0)) for name in room.PLACE)
