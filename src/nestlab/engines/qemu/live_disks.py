"""Disks beside its own come to a machine that runs, grow, and go, through its QEMU's monitor.

Each is made first, then plugged in, then written down: what was interrupted is seen as not done, and done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import attached_disk, disk_devices, identity, records, scripts, step_time
from nestlab.engines.qemu.argv import HOTPLUG_PORT
from nestlab.engines.qemu.attached_disk import Talk
from nestlab.engines.qemu.create import Maker
from nestlab.engines.qemu.disk_devices import ON_PCI, PORT
from nestlab.home.paths import short_id
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.disks import MadeDisk, by_name
from nestlab.lab.model import parent_of
from nestlab.wire.qmp import Monitor

ROOT_DRIVE = "d0"
"""A machine's own disk to QEMU: the first that `argv` gives it."""


@frozen
class LiveDisks:
    """Of one machine on one host. `talk` opens its monitor."""

    host: Host
    maker: Maker
    path: str
    talk: Talk

    async def settle(self, spec: Spec, blueprint: Blueprint, own: int, say: Say) -> bool:
        """Disks that it lacks are plugged in, and those that are to be larger grow. `own`: the bytes that its own disk
        is still to have, 0: that stays as it is. Whether anything was done."""
        if own:
            say("making its disk larger")
            async with self.talk() as monitor:
                await monitor.grow(ROOT_DRIVE, own)
        return await self._beside(spec, blueprint, say) or bool(own)

    async def _beside(self, spec: Spec, blueprint: Blueprint, say: Say) -> bool:
        there = by_name((await self._made()).disks)
        new = [disk for disk in spec.disks if disk.name not in there]
        grown = [disk for disk in spec.disks if disk.name in there and disk.size > there[disk.name].size]
        if not new and not grown:
            return False
        if any(there[disk.name].where != disk.where for disk in spec.disks if disk.name in there):
            raise LabError(f"{self.path} runs with its disks on other buses.", hint="`nestlab up` restarts it.")
        if new:
            say(f"making {', '.join(disk.name for disk in new)}")
            await self.maker.make_disks(spec, blueprint, say)
        for disk in new:
            await self._plug(disk)
        for disk in grown:
            say(f"making {disk.name} larger")
            async with self.talk() as monitor:
                await monitor.execute("block_resize", node_name=disk.id, size=disk.size)
        await self._count(-sum(disk.bus in ON_PCI for disk in new))
        return True

    async def tell(self, spec: Spec, guest: Callable[[], Awaitable[Host]], *, grown: bool) -> None:
        """A machine of nestlab's own image finds them; one of the user's does so itself. `grown`: its own disk has, and
        its filesystem follows."""
        if not (spec.machine.image.own and spec.machine.by_ssh):
            return
        host = await guest()
        scripted = [identity.disks_script(spec)] * bool(spec.disks) + [scripts.GROW] * grown
        for text in scripted:
            await host.run(("sh", "-c", text), check=False, timeout=step_time.LOOK)

    async def discard(self, names: Collection[str], say: Say, *, runs: bool) -> tuple[MadeDisk, ...]:
        """Take disks out of the machine and delete them. Those that it had."""
        made = await self._made()
        gone = tuple(disk for disk in made.disks if disk.name in names)
        paths = self.maker.environment.place.of(self.path)
        for disk in gone:
            if runs:
                say(f"taking {disk.name} out")
                await self._unplug(disk)
            await self.host.run(("rm", "-f", "--", disk_devices.file_of(paths, disk)))
        left = tuple(disk for disk in made.disks if disk.name not in names)
        await self.host.write(paths.made, records.line_of(replace(made, disks=left)))
        if runs and gone:
            await self._count(sum(disk.bus in ON_PCI for disk in gone))
        return gone

    async def _made(self) -> records.Made:
        text = await self.host.read(self.maker.environment.place.of(self.path).made)
        made = records.made(text.decode(errors="replace").strip(), parent_of(self.path), short_id(self.path))
        if made is None:
            raise LabError(f"What {self.path} was made from cannot be read.", hint="`nestlab recreate` makes it anew.")
        return made

    async def _plug(self, disk: MadeDisk) -> None:
        paths = self.maker.environment.place.of(self.path)
        async with self.talk() as monitor:
            if any(node.get("node-name") == disk.id for node in await monitor.execute("query-named-block-nodes")):
                return  # an interrupted nestlab did it
            place = await _free_port(monitor, self.path) if disk.bus in ON_PCI else {}
            await monitor.command("blockdev-add", disk_devices.blockdev(paths, disk))
            try:
                await monitor.command("device_add", disk_devices.device(disk, **place))
            except LabError:
                await monitor.execute("blockdev-del", node_name=disk.id)
                raise

    async def _unplug(self, disk: MadeDisk) -> None:
        async with self.talk() as monitor:
            nodes = await monitor.execute("query-named-block-nodes")
        if not any(node.get("node-name") == disk.id for node in nodes):
            return
        try:
            await attached_disk.take(self.talk, disk.id)
        except LabError as error:
            hint = f"Is it mounted there? `nestlab stop {self.path}`, then `up`, takes it out as well."
            raise LabError(f"{self.path} does not let go of its disk {disk.name}: {error.what}", hint=hint) from error

    async def _count(self, more: int) -> None:
        """What it still takes while it runs is written down."""
        boot = self.maker.environment.place.of(self.path).boot
        line = (await self.host.read(boot)).decode(errors="replace").strip()
        plugs = records.started(line).plugs
        plugs = replace(plugs, pci=max(0, plugs.pci + more))
        await self.host.write(boot, records.with_plugs(line, plugs))


async def _free_port(monitor: Monitor, path: str) -> disk_devices.Options:
    """A PCIe port that is free; {}: it has none, and its bus takes devices as it is."""
    buses = await monitor.execute("query-pci")
    ports = {
        device.get("qdev_id", ""): device.get("pci_bridge", {}).get("devices", [])
        for bus in buses
        for device in bus.get("devices", ())
    }
    ours = {port: inside for port, inside in ports.items() if port.startswith(PORT) or port == HOTPLUG_PORT}
    free = sorted((port for port, inside in ours.items() if not inside), key=lambda port: (port == HOTPLUG_PORT, port))
    if ours and not free:
        raise LabError(f"{path} has no free port for another disk.", hint=f"`nestlab restart {path}` gives it one.")
    return {"bus": free[0]} if free else {}
