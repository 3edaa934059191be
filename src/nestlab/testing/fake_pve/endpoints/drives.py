"""Disks of guests: their property strings, the volumes behind them, and the storages' room and features."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from nestlab.testing.fake_pve.formats import DRIVE
from nestlab.testing.fake_pve.refusals import Refusal, died, wrong
from nestlab.testing.fake_pve.routes import Ask
from nestlab.testing.fake_pve.world import Guest, Storage, Value, Volume, World

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SPECIAL = {"cloudinit": 4 << 20, "efidisk0": 528 << 10, "tpmstate0": 4 << 20}
THIN = ("lvmthin", "zfspool", "rbd")
CT_DRIVE = re.compile(r"rootfs|mp\d+")
NO_PATHS = "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651."


def split(text: Value) -> tuple[str, dict[str, str]]:
    """`local:1,format=raw` -> ("local:1", {"format": "raw"})."""
    file, options = "", {}
    for part in str(text).split(","):
        key, sign, value = part.partition("=")
        if not sign or key in ("file", "volume"):
            file = value or key
        else:
            options[key] = value
    return file, options


def joined(file: str, options: Mapping[str, str]) -> str:
    shown = {key: value for key, value in options.items() if key not in ("format", "import-from")}
    return ",".join([file, *(f"{key}={shown[key]}" for key in sorted(shown))])


def drives(config: Mapping[str, Value], *, unused: bool = False) -> Iterator[str]:
    """The keys of a configuration that are disks or CD-ROM drives."""
    for key in config:
        if DRIVE.fullmatch(key) or CT_DRIVE.fullmatch(key) or (unused and re.fullmatch(r"unused\d+|vmstate", key)):
            yield key


def cdrom(text: Value) -> bool:
    file, options = split(text)
    return options.get("media") == "cdrom" or file in ("none", "cdrom")


def bytes_of(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(match[1]) * UNITS[match[2]]) if match else 0


def sized(size: int) -> str:
    """Bytes in the largest unit that is exact, as PVE writes them: 528K, 2560M, and 0T for nothing."""
    for unit in ("", "K", "M", "G"):
        if size % 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def disk_size(world: World, guest: Guest) -> int:
    """`maxdisk`: the size of the boot disk."""
    first = next((key for key in boot_order(guest.config) if key in guest.config and not cdrom(guest.config[key])), "")
    key = "rootfs" if guest.kind == "lxc" else first if DRIVE.fullmatch(first) else ""
    return bytes_of(split(guest.config.get(key, ""))[1].get("size", "0"))


def boot_order(config: Mapping[str, Value]) -> list[str]:
    order = str(config.get("boot", "")).partition("order=")[2]
    return [part for part in order.split(",")[0].split(";") if part]


def default_boot(config: Mapping[str, Value]) -> str:
    """First disk, first CD-ROM, first network card; a blank where there is none of them."""
    keys = sorted(drives(config), key=lambda key: (re.sub(r"\d", "", key), int(re.sub(r"\D", "", key) or 0)))
    keys = [key for key in keys if key not in ("efidisk0", "tpmstate0")]
    disks = [key for key in keys if not cdrom(config[key])]
    media = [key for key in keys if cdrom(config[key])]
    cards = sorted(key for key in config if re.fullmatch(r"net\d+", key))
    order = [*disks[:1], *media[:1], *cards[:1]]
    return f"order={';'.join(order)}" if order else " "


def storage_for(ask: Ask, name: str, content: str = "images") -> Storage:
    """A storage that takes such content, or PVE's refusal."""
    store = ask.world.storage(name)
    if content not in store.contents():
        what = "vm images" if content == "images" else "container directories"
        raise wrong("storage", f"storage '{name}' does not support {what}")
    return store


def usable(world: World, name: str, node: str) -> Storage:
    store = world.storage(name)
    if store.disabled:
        raise died(f"storage '{name}' is disabled")
    if not store.on(node):
        raise died(f"storage '{name}' is not available on node '{node}'")
    return store


def allocate(
    world: World, name: str, node: str, vmid: int, size: int, form: str = "", stem: str = "", *, used: int | None = None
) -> Volume:
    """A new volume `vm-ID-disk-N`, or `stem`; died when there is no room for what it takes at once."""
    store = usable(world, name, node)
    form = form or "raw"
    if not store.files:
        form = "raw"
    taken = {volume.volid for volume in world.on_storage(name, node)}
    volid = path = ""
    for number in range(1000):
        base = stem or f"vm-{vmid}-disk-{number}"
        file = f"{base}.{form}" if store.files else base
        volid = f"{name}:{vmid}/{file}" if store.files else f"{name}:{file}"
        path = f"{store.path}/images/{vmid}/{file}" if store.files else f"/dev/{name}/{file}"
        if volid not in taken:
            break
    if size >= 1 << 53:
        text = f"qemu-img: {path}: The image size is too large for file format '{form}'"
        raise died(f"unable to create image: {text}")
    needed = used if used is not None else 0 if form != "raw" or store.type in THIN or store.files else size
    if world.used(name, node) + needed > store.total:
        raise died(f"unable to create image: qemu-img: {path}: No space left on device")
    kept = "" if store.shared else node
    return world.keep(Volume(volid, name, kept, "images", form, size, path, vmid, used=max(needed, 4096)))


def size_of(world: World, volid: str, node: str) -> int:
    volume = world.volume(volid, node)
    return volume.size if volume else 0


def check_drive(ask: Ask, key: str, text: Value) -> None:
    """What PVE refuses of a drive before any task starts, rights included (check_storage_access)."""
    file, options = split(text)
    if file.startswith("/") or str(options.get("import-from", "")).startswith("/"):
        if not ask.root:
            raise died(NO_PATHS)
        if file.startswith("/"):
            return
    if file in ("none", "cdrom"):
        if ask.path.endswith("/config"):
            ask.need(f"/vms/{ask.vmid}", "VM.Config.CDROM")
        return
    name, _, rest = file.partition(":")
    size = re.fullmatch(r"\d+(\.\d+)?", rest)
    if "import-from" in options and (not size or float(rest)):
        raise wrong(key, "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>")
    if rest == "cloudinit":
        storage_for(ask, name)
        return
    if size:
        ask.world.storage(name)
        ask.need(f"/storage/{name}", "Datastore.AllocateSpace")
        storage_for(ask, name)
        if source := options.get("import-from"):
            check_source(ask, key, source)
        return
    check_volume(ask, key, file, options)


def check_source(ask: Ask, key: str, source: str) -> None:
    if source.startswith("/"):
        return
    store = ask.world.storage(source.partition(":")[0])
    kind = content_of(source, store)
    if kind not in ("images", "import"):
        raise wrong(key, f"{source} has wrong type '{kind}' - needs to be 'images' or 'import'")
    ask.need(f"/storage/{store.name}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)


def check_volume(ask: Ask, key: str, file: str, options: Mapping[str, str]) -> None:
    name = file.partition(":")[0]
    store = ask.world.storage(name)
    kind = content_of(file, store)
    ask.need(f"/storage/{name}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    if kind == "iso" and options.get("media") != "cdrom":
        raise wrong(key, "explicit 'media=cdrom' is required for iso images")


def content_of(volid: str, store: Storage) -> str:
    """The kind of content that a volume's name tells."""
    rest = volid.partition(":")[2]
    first = rest.split("/")[0]
    if first in ("iso", "vztmpl", "snippets", "backup", "import"):
        return first
    if not store.files or re.fullmatch(r"\d+/[^/]+(/\d+/[^/]+)?", rest):
        return "images"
    raise died(f"unable to parse directory volume name '{rest}'")


def make_drive(ask: Ask, guest: Guest, key: str, text: Value) -> str:
    """Carry out one drive option: allocate, import or attach; the option as the configuration keeps it."""
    file, options = split(text)
    world, node = ask.world, guest.node
    name, _, rest = file.partition(":")
    if file in ("none", "cdrom") or file.startswith("/"):
        return joined(file, options)
    if rest == "cloudinit":
        others = [other for other in drives(guest.config) if "-cloudinit" in str(guest.config[other]) and other != key]
        if others:
            raise died(f"{key} - cloud-init drive is already attached at '{others[0]}'")
        form = options.get("format") or ("qcow2" if world.storage(name).files else "raw")
        made = allocate(world, name, node, guest.vmid, SPECIAL["cloudinit"], form, f"vm-{guest.vmid}-cloudinit")
        return joined(made.volid, {**options, "media": "cdrom"})
    if re.fullmatch(r"\d+(\.\d+)?", rest):
        if source := options.get("import-from"):
            return imported(ask, guest, name, source, options)
        size = SPECIAL.get(key) or int(float(rest) * (1 << 20)) << 10
        made = allocate(world, name, node, guest.vmid, size, "raw" if key == "tpmstate0" else options.get("format", ""))
        return joined(made.volid, {**options, "size": sized(size)})
    volume = world.volume(file, node)
    if volume is None:
        raise died(f"volume '{file}' does not exist")
    if options.get("media") == "cdrom" and volume.content == "iso":
        return joined(file, {**options, "size": sized(volume.size)})
    return joined(file, {**options, "size": sized(volume.size)})


def imported(ask: Ask, guest: Guest, name: str, source: str, options: Mapping[str, str]) -> str:
    """A copy of an image of `import` content, of another guest's disk, or (root only) of a file."""
    volume = ask.world.volume(source, guest.node)
    if volume is None and source.startswith("/"):
        raise died(f"can't find file '{source}'")
    if volume is None:
        store = ask.world.storage(source.partition(":")[0])
        raise died(f"failed to stat '{store.path}/{source.partition(':')[2]}'")
    if volume.note == "backing":
        raise died(f"backing file not allowed for untrusted image '{volume.path}'!")
    if volume.note == "garbage":
        raise died(f"qemu-img: Could not open '{volume.path}': Image is not in {volume.format} format")
    # The source's format, where the storage has such files.
    form = options.get("format") or (volume.format if volume.format in ("qcow2", "vmdk") else "raw")
    made = allocate(ask.world, name, guest.node, guest.vmid, volume.size, form, used=volume.used or volume.size)
    made.file = volume.file
    return joined(made.volid, {**options, "size": sized(volume.size)})


def owned(world: World, guest: Guest, volid: str) -> Volume | None:
    """The volume if it belongs to this guest: only those are ever freed with it."""
    volume = world.volume(volid, guest.node)
    return volume if volume and volume.vmid == guest.vmid and volume.content in ("images", "rootdir") else None


def detach(world: World, guest: Guest, key: str, *, force: bool = False) -> None:
    """Take a drive off: a disk stays as `unusedN`, a cloud-init drive is freed, an ISO stays where it is."""
    file, _ = split(guest.config.pop(key))
    order = [device for device in boot_order(guest.config) if device != key]
    if "order=" in str(guest.config.get("boot", "")):
        guest.config["boot"] = f"order={';'.join(order)}" if order else " "
    volume = owned(world, guest, file)
    if volume is None:
        return
    if "-cloudinit" in file or force:
        free(world, guest, volume)
        return
    number = next(index for index in range(256) if f"unused{index}" not in guest.config)
    guest.config[f"unused{number}"] = file


def free(world: World, guest: Guest, volume: Volume) -> None:
    """Delete a volume, unless a snapshot or a linked clone still needs it."""
    for snapshot in guest.snapshots.values():
        if any(split(snapshot[key])[0] == volume.volid for key in drives(snapshot)):
            raise died(f"unable to delete '{volume.volid}' - volume is still in use (snapshot?)")
    in_use(world, [volume])
    world.drop(volume)


def in_use(world: World, volumes: Iterable[Volume]) -> None:
    """Refusal while layers are over them. Thin LVs do not tell by their names (Storage.pm: volume_is_base_and_used)."""
    layers = [other for other in world.volumes.values() if "/" in other.volid]
    for volume in volumes:
        if any(other.parent == volume.volid and other.node == volume.node for other in layers):
            raise died(f"base volume '{volume.volid}' is still in use by linked cloned")


def volumes_of(world: World, guest: Guest) -> list[Volume]:
    """What the guest's configuration and snapshots refer to and it owns."""
    found: dict[str, Volume] = {}
    for config in (guest.config, *guest.snapshots.values()):
        for key in drives(config, unused=True):
            if volume := owned(world, guest, split(config[key])[0]):
                found[volume.volid] = volume
    return list(found.values())


def can_snapshot(world: World, guest: Guest) -> bool:
    """Whether every disk can: qcow2 files and thin volumes."""
    for key in drives(guest.config):
        if cdrom(guest.config[key]):
            continue
        volume = world.volume(split(guest.config[key])[0], guest.node)
        store = world.storages.get(volume.storage) if volume else None
        if volume is None or store is None or not (volume.format == "qcow2" or store.type in THIN):
            return False
    return True


def only(error: Refusal, prefix: str) -> Refusal:
    """The error of a part of a task, with what the task was doing before it."""
    return died(prefix + error.as_exit_status())
