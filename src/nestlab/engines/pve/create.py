"""Creates machines on a Proxmox VE: clones of templates, each with its identity, cargo and hardware."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from ipaddress import ip_interface
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines import pve_node
from nestlab.engines.pve import disk_drift, drift, hardware, hardware_options, tags
from nestlab.engines.pve.cpu_types import Cpu
from nestlab.engines.pve.disk_work import DiskWork
from nestlab.engines.pve.drift import Change
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.hardware import Choices, Wire
from nestlab.engines.pve.placement import IMAGE, Spot
from nestlab.engines.pve.protocols import ContainerTemplates, Stock
from nestlab.engines.pve.resources import Found, Guest
from nestlab.engines.pve.tags import Mark
from nestlab.engines.pve.vmids import Vmids
from nestlab.engines.qemu import identity
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import short_id
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import GIB
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import PveError

CLONES = 4
"""Machines that are made on one storage at one time: each copies disks."""

ROOM = 4 * GIB
"""Bytes of the root filesystem of a container of nestlab's own; what is not written takes no room."""

NOT_LINKED = "Linked clone feature is not supported"


@frozen
class Order:
    """One machine to be made: where, with which CPU, and where its segments are on the node."""

    spec: Spec
    blueprint: Blueprint
    spot: Spot
    cpu: Cpu
    wires: Mapping[str, Wire] = field(default_factory=dict)

    @property
    def bridged(self) -> tuple[str, ...]:
        """Its segments that are bridges of the node."""
        own = {segment.name for segment in self.blueprint.segments if segment.bridge}
        return tuple(nic.segment for nic in self.spec.nics if nic.segment in own)


class Maker:
    """Every method may be called concurrently."""

    def __init__(
        self,
        api: Api,
        pve: Pve,
        lab_keys: LabKeys,
        stock: Stock,
        guests: Guests,
        containers: ContainerTemplates | None = None,
    ) -> None:
        self._api = api
        self._pve = pve
        self._vault = lab_keys
        self._stock = stock
        self._guests = guests
        self._drives = DiskWork(api, stock, guests)
        self._numbers = Vmids(api)
        self._containers = containers
        self._slots: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CLONES))

    async def make(self, order: Order, say: Say) -> Guest:
        """A machine that is not there. Interrupted, it leaves one that says it is half made."""
        if order.spec.machine.container:
            return await self._container(order, say)
        return await self._machine(order, say)

    def papers(self, spec: Spec, blueprint: Blueprint) -> bytes:
        """The disk that tells a machine who it is: nestlab's own archive, or a seed for cloud-init."""
        image, key = spec.machine.image, self._vault.host_key(spec.path)
        authorized = self._vault.authorized_keys(spec.machine.ssh_keys)
        outside = hardware.outside_of(spec, self._pve)
        mac = hardware.outside_mac(self._guests.names.first, spec.path) if outside else None
        if image.own:
            node = self._vault.node(spec.path) if pve_node.is_node(spec) else None
            made = identity.files(
                spec, host_key=key, authorized=authorized, management_mac=None, dhcp_mac=mac, node=node
            )
            return identity.archive(made)
        from nestlab.images.cloud_init import seed

        return seed(spec, authorized, key.private, key.public, None, mac)

    async def renew(self, guest: Guest, spec: Spec, blueprint: Blueprint, mark: Mark, say: Say) -> None:
        """Another identity disk for a machine that does not run; the old one is freed."""
        config = await self._guests.config(guest)
        old = hardware.volume_of(config.get(hardware.IDENTITY, ""))
        storage = mark.storage or old.partition(":")[0]
        async with self._uploaded(guest, spec, blueprint) as volid:
            disk = {hardware.IDENTITY: hardware.identity_disk(storage, volid)}
            await self._guests.work(self._api.create, f"{guest.base}/config", disk, say)
        await self._free(guest, [old])

    async def _free(self, guest: Guest, drives: Iterable[object]) -> None:
        """Delete the volumes of drives that are not in use any more."""
        old = {volume for drive in drives if (volume := hardware.volume_of(drive))}
        config = await self._guests.config(guest) if old else {}
        spent = [key for key, value in config.items() if key.startswith("unused") and hardware.volume_of(value) in old]
        if spent:
            with contextlib.suppress(PveError):  # a snapshot needs it: it goes with the machine
                await self._api.set(f"{guest.base}/config", {"delete": ",".join(spent)})

    async def update(self, order: Order, found: Found, say: Say) -> None:
        """Another definition for a machine that does not run, or a container, which takes memory and CPUs as it runs
        (PVE::LXC::Config, vmconfig_hotplug_pending). Its disk stays, and grows where it is to be larger.
        LabError when it was made from something else."""
        guest, spec = found.guest, order.spec
        kind = "lxc" if spec.machine.container else "qemu"
        if guest.kind != kind or found.mark.image not in ("", spec.image):
            what = f"{spec.path} (VM {guest.vmid} on {guest.node}) was made from another image."
            raise LabError(what, hint="`nestlab up` looks again, and makes it anew if you agree.")
        say("giving it the definition of now")
        params, drives = self._options(order, guest), found.mark.options
        await self.attach(found, await self._guests.changes(found), say)
        config = await self._guests.config(guest)
        gone = sorted(key for key in config if hardware.CARD.fullmatch(key) and key not in params)
        gone += [key for key in hardware_options.gone(found.mark.options, params) if key in config]
        own = {} if kind == "lxc" else hardware_options.volumes(spec.machine.hardware, order.spot.storage, config)
        if hardware_options.TPM in config and not spec.machine.hardware.tpm:
            gone.append(hardware_options.TPM)
        also = {"delete": ",".join(gone)} if gone else {}
        if kind == "lxc":
            await self._api.set(f"{guest.base}/config", {**params, **also})
        else:
            await self._guests.work(self._api.create, f"{guest.base}/config", {**params, **own, **also}, say)
            old = hardware_options.DISKS & config.keys() & {*own, *gone}
            await self._free(guest, [config[key] for key in sorted(old)])
            await self.renew(guest, spec, order.blueprint, found.mark, say)
            drives = await self._drives.settle(found, spec, order.blueprint, say)
        await self._grow(guest, spec, config, say)
        mark, options = self._mark(order, guest.vmid), drift.options_of(params)

        def updated(old: Mark) -> Mark:
            kept = replace(mark, storage=old.storage, cargo=old.cargo, wanted=old.wanted)
            disks = disk_drift.kept(drives) or disk_drift.options_of(config)
            return replace(kept, making=False, options=(*options, *disks))

        await self._guests.note(guest, updated)

    async def attach(self, found: Found, changes: Iterable[Change], say: Say) -> None:
        """Disks that somebody detached by hand are attached again, and the machine boots as it did. LabError where one
        cannot be."""
        ours = [each for each in changes if disk_drift.is_disk(each.key) or each.key == "boot"]
        if not ours:
            return
        where, config = f"{found.mark.path} (VM {found.guest.vmid})", await self._guests.config(found.guest)
        params = {each.key: each.value for each in ours}
        for each in ours:
            say(f"setting back what was changed by hand: {each.drift.what}")
            if disk_drift.is_disk(each.key) and not disk_drift.names_volume(each.value):
                params[each.key] = disk_drift.put_back(where, each.key, each.value, config)
        await self._guests.work(self._api.create, f"{found.guest.base}/config", params, say)

    async def rewired(self, found: Found, spec: Spec, wires: Mapping[str, Wire], say: Say) -> Found:
        """A machine that does not run is on its segments where those are now: a network that was made again may have
        another name."""
        cards = hardware.moved(found.mark.options, spec, wires)
        if not cards or await self._guests.runs(found.guest) != "stopped":
            return found
        say("connecting it to the networks of now")
        rest = [line for line in found.mark.options if line.partition("=")[0] not in cards]
        options = (*rest, *(f"{key}={value}" for key, value in cards.items()))
        mark = await self._guests.note(found.guest, lambda mark: replace(mark, options=options), cards)
        return replace(found, mark=mark)

    async def grow(self, found: Found, spec: Spec, say: Say) -> None:
        """Its disk is as large as the lab file says, also while it runs."""
        wanted = spec.machine.disk or 0
        if wanted > (found.mark.disk or 0):
            await self._grow(found.guest, spec, await self._guests.config(found.guest), say)
            await self._guests.note(found.guest, lambda mark: replace(mark, disk=wanted))

    async def settle(self, found: Found, spec: Spec, blueprint: Blueprint, say: Say) -> bool:
        """A machine that is as defined gets the disks of now, also while it runs. Whether there was anything to do."""
        if found.mark.disks == spec.disks:
            return False
        options = await self._drives.settle(found, spec, blueprint, say)

        def settled(mark: Mark) -> Mark:
            # Its identity disk knows the disks that it had: it is made again before the next start.
            stale = replace(mark, told=mark.told or mark.names, since=int(time.time()))
            return replace(stale, disks=spec.disks, options=options)

        await self._guests.note(found.guest, settled)
        return True

    async def discard(self, found: Found, names: Collection[str], say: Say) -> None:
        """See `plan.steps.Discard`."""
        await self._drives.discard(found, names, say)

    def _options(self, order: Order, guest: Guest) -> hardware.Params:
        """The configuration that a machine which is there can be given."""
        outside = hardware.outside_of(order.spec, self._pve)
        choices = Choices(
            guest.vmid, order.cpu, order.spot.storage, order.wires, outside, self._pve.pool, self._guests.names.first
        )
        if not order.spec.machine.container:
            return hardware.machine(order.spec, order.blueprint.lab, choices)
        made = hardware.container(order.spec, order.blueprint.lab, choices, ostemplate="", disk=IMAGE, authorized="")
        changing = ("hostname", "cores", "memory", "swap")
        return {key: value for key, value in made.items() if key in changing or hardware.CARD.fullmatch(key)}

    async def cleared(self, guest: Guest, path: str) -> None:
        """Nothing of what was uploaded to make a machine is left."""
        with contextlib.suppress(PveError):
            await self._stock.drop_named(guest.node, self._upload_name(path, guest.vmid))

    async def _machine(self, order: Order, say: Say) -> Guest:
        spec, spot, images = order.spec, order.spot, order.blueprint.images
        key = spec.image
        await self._stock.fits(spec, images)
        template = await self._stock.template(key, images[key], spot.node, spot.storage, say)
        cargo: list[tuple[str, str]] = []
        for each in spec.cargo:
            cargo += await self._stock.cargo(each, images[each], spot.node, say)
        async with self._slots["" if spot.shared else spot.node, spot.storage]:
            guest, mark = await self._clone(order, template, say)
            say(f"setting it up as VM {guest.vmid}")
            options = await self._equip(order, guest, cargo, say)
            config = await self._guests.config(guest)
            await self._grow(guest, spec, config, say)
            await self._drives.grow(guest, spec, config, say)
        options = (*options, *disk_drift.options_of(config))
        await self._guests.note(guest, lambda _: replace(mark, making=False, options=options))
        return guest

    async def _clone(self, order: Order, template: int, say: Say) -> tuple[Guest, Mark]:
        """A clone of the image's template, linked where the storage can, with a mark that says it is half made."""
        source = await self._stock.node_of(template)
        spot, mark = order.spot, self._mark(order, 0)
        told: list[Mark] = []

        async def clone(number: int) -> None:
            say(f"cloning template {template} as VM {number} on {spot.node}")
            told.append(replace(mark, vmid=number))
            params: dict[str, Any] = {
                "newid": number,
                "name": hardware.name_of(order.blueprint.lab, order.spec.path),
                "pool": self._pve.pool,
                "description": tags.line(told[-1]),
            }
            if source != spot.node:
                params["target"] = spot.node
            await self._cloned(f"/nodes/{source}/qemu/{template}/clone", params, spot.storage, say)

        number = await self._numbers.use(clone)
        guest = Guest(number, spot.node, status="stopped")
        self._guests.made(guest, told[-1])
        return guest, told[-1]

    async def _cloned(self, path: str, params: Mapping[str, Any], storage: str, say: Say) -> None:
        try:
            await self._guests.work(self._api.create, path, params, say)
        except PveError as error:
            if NOT_LINKED not in error.message:
                raise
            say(f"copying all of it: storage {storage} makes no linked clones")
            full = {**params, "full": True, "storage": storage}
            await self._guests.work(self._api.create, path, full, say)

    async def _equip(self, order: Order, guest: Guest, cargo: Sequence[tuple[str, str]], say: Say) -> tuple[str, ...]:
        """Hardware, identity and cargo, in one task. What was set, as its mark keeps it."""
        spec, spot = order.spec, order.spot
        choices = Choices(
            guest.vmid,
            order.cpu,
            spot.storage,
            order.wires,
            hardware.outside_of(spec, self._pve),
            first_name=self._guests.names.first,
        )
        params = hardware.machine(spec, order.blueprint.lab, choices)
        async with self._uploaded(guest, spec, order.blueprint) as volid:
            room = hardware.MOST_CARGO - sum(disk.bus == "virtio" for disk in spec.disks)
            disks = hardware.disks(spot.storage, volid, cargo[:room])
            disks |= hardware_options.volumes(spec.machine.hardware, spot.storage, {})
            disks |= await self._drives.new(guest, spec, order.blueprint, spot.storage, {**params, **disks}, say)
            await self._guests.work(self._api.create, f"{guest.base}/config", {**params, **disks}, say)
        return drift.options_of(params)

    @contextlib.asynccontextmanager
    async def _uploaded(self, guest: Guest, spec: Spec, blueprint: Blueprint) -> AsyncIterator[str]:
        """The identity as a volume to import from, which is gone when the context is left: it holds a secret."""
        papers, name = self.papers(spec, blueprint), self._upload_name(spec.path, guest.vmid)
        volid = await self._stock.upload(guest.node, name, papers)
        try:
            yield volid
        finally:
            with contextlib.suppress(LabError):
                await self._stock.drop(volid, guest.node)

    async def _grow(self, guest: Guest, spec: Spec, config: Mapping[str, Any], say: Say) -> None:
        """Its disk is as large as the lab file says; never smaller than the image. `config`: of now."""
        if spec.machine.disk is None:
            return
        key = "rootfs" if guest.kind == "lxc" else hardware.root_key(config)
        if key and hardware.size_of(config[key]) < spec.machine.disk:
            say("making its disk larger")
            size = f"{hardware.mebibytes(spec.machine.disk)}M"
            await self._guests.work(self._api.set, f"{guest.base}/resize", {"disk": key, "size": size}, say)

    async def _container(self, order: Order, say: Say) -> Guest:
        spec, spot = order.spec, order.spot
        image = order.blueprint.images[spec.image]
        if not (self._containers.takes(image) if self._containers is not None else image.template):
            what = f"{spec.path} is a container, and its image is none that a container can be made from."
            raise LabError(
                what, hint="Give it `image: {file: …}` with a container template (.tar.zst, .tar.gz, .tar.xz)."
            )
        ensure = self._containers.ensure if self._containers is not None else self._stock.container
        ostemplate = await ensure(spec.image, image, spot.node, say)
        outside = hardware.outside_of(spec, self._pve)
        mark, told = self._mark(order, 0), [self._mark(order, 0)]

        async def create(number: int) -> None:
            say(f"making it as container {number} on {spot.node}")
            choices = Choices(
                number, order.cpu, spot.storage, order.wires, outside, self._pve.pool, self._guests.names.first
            )
            size = spec.machine.disk or (IMAGE if spec.sealed else ROOM)
            authorized = self._vault.authorized_keys(spec.machine.ssh_keys)
            params = hardware.container(
                spec, order.blueprint.lab, choices, ostemplate=ostemplate, disk=size, authorized=authorized
            )
            told.append(replace(mark, vmid=number, options=drift.options_of(params)))
            # Without tags: PVE wants VM.Config.Options for them on the container, not on its pool (GuestHelpers.pm).
            own = {"description": tags.line(told[-1])}
            await self._guests.work(self._api.create, f"/nodes/{spot.node}/lxc", {**params, **own}, say)

        async with self._slots["" if spot.shared else spot.node, spot.storage]:
            number = await self._numbers.use(create)
        guest = Guest(number, spot.node, "lxc", status="stopped")
        self._guests.made(guest, told[-1])
        await self._guests.note(guest, lambda _: replace(told[-1], making=False))
        return guest

    def _mark(self, order: Order, vmid: int) -> Mark:
        spec, outer = order.spec, order.blueprint.by_path().get(self._guests.names.parent)
        return Mark(
            lab=order.blueprint.lab,
            path=spec.path,
            vmid=vmid,
            digest=spec.digest,
            names=spec.names,
            making=True,
            image=spec.image,
            cargo=spec.cargo,
            bridged=order.bridged,
            storage=order.spot.storage,
            kvm=order.cpu.kvm,
            user=spec.machine.image.user,
            disk=spec.machine.disk or 0,
            disks=spec.disks,
            media=spec.cdroms,
            addresses=reached_at(spec, outer) if outer is not None else (),
        )

    def _upload_name(self, path: str, vmid: int) -> str:
        return f"{vmid}-{short_id(path)}"


def reached_at(spec: Spec, outer: Spec) -> tuple[str, ...]:
    """The addresses of a machine that what it is in reaches: those on networks in which both have one, IPv4 first."""
    there = {(nic.segment, nic.vlan) for nic in outer.nics if nic.addresses}
    found = [each for nic in spec.nics if (nic.segment, nic.vlan) in there for each in nic.addresses]
    return tuple(sorted((str(ip_interface(each).ip) for each in found), key=lambda each: ":" in each))
