"""Starts, stops and waits for the machines of a lab on a Proxmox VE."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.engines.names_and_keys import introduce
from nestlab.engines.pve import disk_drift, drift, network_reload
from nestlab.engines.pve.cpu_types import EMULATED
from nestlab.engines.pve.create import Maker
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.hardware import IDENTITY
from nestlab.engines.pve.protocols import Door
from nestlab.engines.pve.resources import Found, Guest
from nestlab.engines.pve.segments import Segments
from nestlab.engines.pve.tags import Mark
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Missing, PveError

REACHED = 400.0
"""Nominal seconds in which a machine must be reached, as long as its QEMU is idle."""

LONGEST = 3
"""Times that, after which the wait ends however hard it works."""

START = 300.0
"""Nominal seconds that QEMU gets to start; PVE's own 30 (qemu-server, QemuServer.pm: vm_start) end a busy node's
starts."""

GRACE = 60.0
"""Nominal seconds that a machine gets to shut down by itself."""

SETTLING = 30.0
"""Nominal seconds after a change of the SDN in which a node may not have its networks: PVE's task only starts the
reloads."""

WORKS = 0.2
"""Share of its CPUs from which a machine counts as at work."""

HIBERNATED = "suspended"
"""The lock of a machine whose memory is on disk: it can be started and removed, and its configuration stays."""

NO_KVM = "KVM virtualisation configured, but not available"
_TOO_EARLY = re.compile(r"unable to get PID for CT|failed to connect to monitor socket")
_NO_BRIDGE = re.compile(r"bridge '([^']*)' does not exist")


class Runner:
    """Every method may be called concurrently, for different machines."""

    def __init__(self, api: Api, guests: Guests, maker: Maker, segments: Segments, *, with_node: bool = False) -> None:
        """`with_node`: what is to run starts whenever its node does."""
        self._api = api
        self._guests = guests
        self._maker = maker
        self._segments = segments
        self._with_node = with_node
        self.slowness = 1.0
        """How slow what its machines run on is."""

    def _follows(self, *, runs: bool) -> dict[str, int] | None:
        """The option by which a machine starts with its node, or does not."""
        return {"onboot": int(runs)} if self._with_node else None

    async def boot(self, found: Found, spec: Spec, blueprint: Blueprint, say: Say) -> Found:
        """It runs; what it has to know for that, it knows, and what was changed by hand is set back. Of one that runs
        already only what can be while it does."""
        guest = found.guest

        def started(mark: Mark) -> Mark:
            return replace(mark, wanted="running", unmet=guest.kind == "qemu")

        state = await self._guests.runs(guest)
        if state == "paused":
            say("letting it go on")
            await self._guests.work(self._api.create, f"{guest.base}/status/resume", None, say)
        elif state == "stopped":
            await self._guests.unlocked(guest, say)
            if guest.lock != HIBERNATED:
                found = await self._introduced(found, spec, blueprint, say)
                if await self._set_back(found, say, running=False):
                    await self._maker.renew(guest, spec, blueprint, found.mark, say)
                mark = await self._guests.note(guest, started, self._follows(runs=True))
                found = replace(found, mark=mark)
            found = await self._start(found, spec, say)
        else:
            await self._set_back(found, say, running=True)
        if found.mark.wanted != "running":
            mark = await self._guests.note(guest, started, self._follows(runs=True))
            found = replace(found, mark=mark)
        return found

    async def reached(self, found: Found) -> None:
        """It was reached since it was started."""
        if found.mark.unmet:
            await self._guests.note(found.guest, lambda mark: replace(mark, unmet=False))

    async def reach(
        self, found: Found, door: Door, host: Callable[[], Awaitable[Host]], say: Say, *, own: bool
    ) -> None:
        """Wait until its guest agent answers and commands can be run in it. `own`: its image is the user's."""
        say("waiting for its guest agent")
        try:
            await self._answers(found, door, say)
        except Unreachable as error:
            raise await self._unreached(found, error, own=own) from error
        say("waiting for its ssh")
        deadline = time.monotonic() + self._allowed(REACHED, found)
        while True:
            try:
                await (await host()).run(("true",), timeout=60)
                return
            except (Unreachable, Overdue) as error:
                if time.monotonic() > deadline or await self._guests.runs(found.guest) == "stopped":
                    raise await self._unreached(found, error, own=own) from error
                say(f"waiting for its ssh: {error.what}")
            await asyncio.sleep(1)

    async def _answers(self, found: Found, door: Door, say: Say) -> None:
        """Wait for its agent, again while the machine is at work. Unreachable when it does not answer."""
        for turn in range(1, LONGEST + 1):
            try:
                await door.wait(self._allowed(REACHED, found), self._guests.alive(found.guest))
                return
            except Unreachable:
                works = await self._guests.works(found.guest) if turn < LONGEST else 0.0
                if works < WORKS:
                    raise
                say(f"waiting for its guest agent: it takes {100 * works:.0f} % of its CPUs")

    async def introduce(self, found: Found, spec: Spec, host: Host | None) -> None:
        """New names for a machine that runs. Its identity disk has the old ones until it is booted by nestlab again.
        `host`: None for one that nestlab does not log in to."""
        if host is not None:
            await introduce(host, spec)
        await self._guests.note(found.guest, lambda mark: told(mark, spec.names))

    async def stop(self, found: Found, say: Say) -> None:
        """Shut it down, and pull the plug after a minute."""
        guest = found.guest
        if guest.lock == HIBERNATED:
            return
        await self._guests.note(guest, lambda mark: replace(mark, wanted="stopped"), self._follows(runs=False))
        state = await self._guests.runs(guest)
        if state == "stopped":
            return
        if state == "paused":
            await self._guests.work(self._api.create, f"{guest.base}/status/resume", None, say)
        say("shutting down")
        try:
            params = {"timeout": round(self._allowed(GRACE, found)), "forceStop": True}
            await self._guests.work(self._api.create, f"{guest.base}/status/shutdown", params, say)
        except PveError:
            say("ending it: it does not shut down")
        await self._end(guest, say)

    async def remove(self, found: Found, say: Say) -> None:
        """End it and delete everything of it. LabError when it is not nestlab's any more."""
        guest = found.guest
        if not await self._guests.unlocked(guest, say):
            return
        if found.mark.making:
            await self._maker.cleared(guest, found.mark.path)
        try:
            await self._end(guest, say)
            await self._delete(guest, say)
        except Missing as error:
            if error.guest != guest.vmid:
                raise

    async def _delete(self, guest: Guest, say: Say) -> None:
        if guest.lock != HIBERNATED:
            await self._guests.note(guest, lambda mark: replace(mark, making=True))
        params = {"purge": True, "destroy-unreferenced-disks": True}
        await self._guests.work(self._api.delete, guest.base, params, say)

    async def _end(self, guest: Guest, say: Say) -> None:
        if await self._guests.runs(guest) != "stopped":
            await self._guests.work(self._api.create, f"{guest.base}/status/stop", None, say)

    async def _introduced(self, found: Found, spec: Spec, blueprint: Blueprint, say: Say) -> Found:
        """Its identity disk has the names of now."""
        if found.guest.kind == "lxc" or (found.mark.names == spec.names and not found.mark.told):
            return found
        say("telling it the names of now")
        await self._maker.renew(found.guest, spec, blueprint, found.mark, say)
        mark = await self._guests.note(found.guest, lambda mark: replace(mark, names=spec.names, told="", since=0))
        return replace(found, mark=mark)

    async def _set_back(self, found: Found, say: Say, *, running: bool) -> bool:
        """The options that somebody changed are as nestlab set them. True: its identity disk is still to be made."""
        changes = [each for each in await self._guests.changes(found) if each.drift.live or not running]
        await self._maker.attach(found, changes, say)
        changes = [each for each in changes if not disk_drift.is_disk(each.key) and each.key != "boot"]
        for each in changes:
            say(f"setting back what was changed by hand: {each.drift.what}")
        params: dict[str, str | int] = {each.key: each.value for each in changes}
        nobody = params.pop(IDENTITY, None) is not None
        config = f"{found.guest.base}/config"
        if params and found.guest.kind == "lxc":
            await self._api.set(config, params)  # PVE knows no task for a container's
        elif params:
            await self._guests.work(self._api.create, config, params, say)
        return nobody

    async def _start(self, found: Found, spec: Spec, say: Say) -> Found:
        guest = found.guest
        how = "" if guest.kind == "lxc" else " under KVM" if found.mark.kvm else " under emulation (kvm: 0)"
        say(f"starting{how}")
        again, deadline = False, time.monotonic() + patience.allowed(SETTLING)
        while True:
            try:
                patient = {"timeout": int(patience.allowed(START))} if guest.kind == "qemu" else None
                await self._guests.work(self._api.create, f"{guest.base}/status/start", patient, say)
                return found
            except PveError as error:
                told = f"{error.message}\n{error.detail}"  # what QEMU's scripts say stands in the log only
                if "already running" in error.message or await self._runs_after_all(guest, told):
                    return found
                if NO_KVM in told and spec.machine.accel != "kvm" and found.mark.kvm:
                    found = await self._emulated(found, say)
                elif not (lacking := _NO_BRIDGE.search(told)):
                    raise
                elif time.monotonic() <= deadline:
                    say("waiting for its network")
                elif not again and await self._segments.again(lacking[1], say):
                    again, deadline = True, time.monotonic() + patience.allowed(SETTLING)
                else:
                    raise await self._no_network(guest.node, error) from error
            await asyncio.sleep(1)

    def _allowed(self, seconds: float, found: Found) -> float:
        """A nominal time for a machine, which may be emulated."""
        return patience.allowed(seconds, patience.inside(self.slowness, "kvm" if found.mark.kvm else "tcg"))

    async def _runs_after_all(self, guest: Guest, told: str) -> bool:
        """Whether a container runs whose monitor was too slow for its start: PVE asks it for its process before it
        listens, and takes it for dead (pve-container, LXC.pm: vm_start)."""
        if guest.kind != "lxc" or not _TOO_EARLY.search(told):
            return False
        deadline = time.monotonic() + patience.allowed(SETTLING)
        while time.monotonic() <= deadline:
            if await self._guests.runs(guest) == "running":
                return True
            await asyncio.sleep(1)
        return False

    async def _no_network(self, node: str, error: PveError) -> PveError:
        """The error of a start whose network is not there, with the reason that its node gave."""
        reason = self._segments.failures.get(node) or await network_reload.last_failure(self._api, node)
        if reason:
            error.what = f"{error.what} Node {node} did not reload its network: {reason}."
            error.hint = f"Mend that on {node} (`ifreload -a` there shows it), then try again."
        return error

    async def _emulated(self, found: Found, say: Say) -> Found:
        """The node turns out to have no KVM: `cpu: host` does not start without."""
        say(f"node {found.guest.node} has no KVM: starting it emulated (kvm: 0, cpu: {EMULATED}), 20 times slower")
        also: dict[str, str | int] = {"kvm": 0, "cpu": EMULATED}

        def emulated(mark: Mark) -> Mark:
            kept = [line for line in mark.options if line.partition("=")[0] not in also]
            return replace(mark, kvm=False, options=(*kept, *drift.options_of(also)) if mark.options else ())

        return replace(found, mark=await self._guests.note(found.guest, emulated, also))

    async def _unreached(self, found: Found, error: LabError, *, own: bool) -> LabError:
        guest, path = found.guest, found.mark.path
        if await self._guests.runs(guest) == "stopped":
            what = f"{path} (VM {guest.vmid} on {guest.node}) stopped before it could be reached."
            return LabError(what, hint=f"See its console while it boots: `nestlab console`, or on {guest.node}.")
        look = "" if "console" in error.hint else "Look at its console: `nestlab console`. "
        hint = f"{look}{error.hint}".strip()
        if patience.LONGER not in hint:
            hint = f"{hint}\n{patience.LONGER}"
        hint = hint.replace(" Does qemu-guest-agent run in it?", "")  # in nestlab's own it does
        if own:
            hint = f"An image of yours needs qemu-guest-agent and cloud-init, and must start both. {hint}"
        return Unreachable(f"{path} (VM {guest.vmid} on {guest.node}) runs and is not reached: {error.what}", hint=hint)


def told(mark: Mark, names: str) -> Mark:
    """The mark of a running machine that has just been told names: its identity disk keeps those that it has."""
    disk = mark.told or mark.names
    return replace(mark, names=names, told="" if disk == names else disk, since=int(time.time()))
