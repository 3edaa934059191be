"""Parsed values to a `Lab`: defaults, memory and names filled in, contradictions found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nestlab import kinds
from nestlab.base.did_you_mean import meant
from nestlab.lab.disks import Bus
from nestlab.lab.model import (
    GIB,
    NO_IMAGE,
    SOURCES_LIMIT,
    File,
    Image,
    Lab,
    Link,
    Machine,
    Segment,
    Setup,
    format_size,
    is_template,
)
from nestlab.lab.readiness import Ready
from nestlab.labfile import containers, hardware, in_node, netboot, of_kind, pve, pve_packages, ready, url_image, vlans
from nestlab.labfile.additions import added_at, additions, own_files
from nestlab.labfile.cards import cards_said, link_of
from nestlab.labfile.clusters import with_clusters
from nestlab.labfile.disk_image import of_disk, size_of_source, too_many_bytes
from nestlab.labfile.drives import Drives
from nestlab.labfile.fields import CARDS_LIMIT
from nestlab.labfile.image_size import disk_of, kinds_of, readable
from nestlab.labfile.network import Complaint, Use, check
from nestlab.labfile.nodes import Node
from nestlab.labfile.ports import Ports
from nestlab.labfile.read import Reader, Section, sections_of, values_of
from nestlab.labfile.to_install import around, installed

_NO_DISK = frozenset(name for name, plain in kinds.plains().items() if not plain.disk)


def build(root: Section, reader: Reader) -> Lab:
    """The lab of a file. Worth something only when `reader.mistakes` is empty afterwards."""
    return _Builder(root, reader).lab()


class _Builder:
    def __init__(self, root: Section, reader: Reader) -> None:
        self.root = root
        self.wrong = reader.wrong
        self.uses: list[Use] = []
        self.defaults: Section | None = root.values.get("defaults")
        self.segments: Section | None = root.values.get("segments")
        self.embedded = pve.is_embedded(root)
        self.packages = pve_packages.of_lab(root)
        self.ports = Ports(made=self.embedded)
        self.images: dict[str, Image | None] = {}
        self.inline: dict[int, Image | None] = {}
        self.setups: dict[int, Setup] = {}
        self.keys: dict[int, tuple[str, ...]] = {}
        self.plain: dict[str, Image] = {}
        self.readies: dict[int, Ready | None] = {}
        self.copied = self.cards = 0
        self.drives = Drives(self)

    def lab(self) -> Lab:
        values = self.root.values
        for name, section in sections_of(values.get("images")):
            if name in (NO_IMAGE, *kinds.images()):
                hint = "Choose another name for yours."
                self.wrong(values["images"].keys[name], f"images.{name}", f"{name} is an image of nestlab's", hint)
            image = self.image(section)
            self.images[name] = replace(image, name=name) if image else None
        segments = self.segments
        wanted = tuple(self.segment(name, segments.values.get(name)) for name in segments.keys) if segments else ()
        machines = tuple(self.machine(section, name) for name, section in sections_of(values.get("machines")))
        self.complain((*pve.of_lab(self.root, machines, self.uses), *pve_packages.of_mirror(self.root)))
        if self.defaults is not None:
            self.complain(pve.of_node(self.defaults, self.root))
        self.complain((*check(segments, self.uses), *vlans.of_cards(self.uses, segments, self.plain)))
        self.complain(netboot.of_machines(segments, machines, self.uses))
        on, named, patience = pve.place(self.root), pve.is_named(self.root), values.get("patience", 1)
        lab = Lab(values.get("lab", ""), on, wanted, machines, patience, named)
        lab, complaints = with_clusters(lab, self.root)
        self.complain(complaints)
        return lab

    def complain(self, complaints: Iterable[Complaint]) -> None:
        for node, key, what, hint in complaints:
            self.wrong(node, key, what, hint)

    def segment(self, name: str, section: Section | None) -> Segment:
        if section is not None:
            self.complain((*pve.of_segment(section, self.root), *vlans.of_segment(section, self.embedded)))
        return vlans.segment(name, section)

    # Images

    def image(self, section: Section) -> Image | None:
        """None when something is wrong with it."""
        given, at, key = section.values, section.at, section.key
        if "install" in at:
            self.complain(around(section))
            return installed(section, self.complain, self.image)
        sources = [name for name in ("from", "file", "url") if name in at]
        if len(sources) > 1:
            hint = "Keep one of them: nestlab adds to its own images only."
            first, second = sources[:2]
            self.wrong(at[second], f"{key}.{second}", f"`{first}` and `{second}` exclude each other", hint)
            return None
        if not sources:
            hint = "Say `from: debian` for nestlab's own, `file: ./disk.qcow2` for yours, or `url:` to download one."
            self.wrong(section.node, key, "it says neither `from`, `file` nor `url`", hint)
            return None
        self.complain(url_image.out_of_place(section, sources[0]))
        if "url" in at:
            image, complaints = url_image.downloaded(section)
            self.complain(complaints)
            return image
        if "file" in at:
            return self.own_disk(section)
        files = tuple(self.file(path, entry, given["files"]) for path, entry in values_of(given.get("files")))
        packages = tuple(name for _, name in given.get("packages", ()))
        self.complain((*additions(section), *pve_packages.mistakes(section)))
        return Image(
            base=given.get("from"),
            mirror=given.get("mirror"),
            packages=tuple(dict.fromkeys(packages)),
            files=files,
            script=given.get("script"),
            suite=given.get("suite"),
            kernel=given.get("kernel"),
            pve=pve_packages.of_image(section, self.packages),
            said=f"{section.node.source.name}:{where.line}" if (where := added_at(section)) else None,
        )

    def own_disk(self, section: Section) -> Image | None:
        given, at, key = section.values, section.at, section.key
        if "file" not in given:
            return None
        disk = of_disk(given["file"], given.get("format"), "format" in at)
        if isinstance(disk, tuple):
            self.wrong(at["file"], f"{key}.file", *disk)
            return None
        if is_template(given["file"]) and "format" in at:
            hint = "Leave it out."
            self.wrong(
                section.keys["format"], f"{key}.format", "`format` means nothing with a container template", hint
            )
        return Image(
            file=given["file"], format=disk, user=given.get("user", "root"), cloud_init=given.get("cloud_init")
        )

    def file(self, path: str, entry: Any, files: Section) -> File:
        if isinstance(entry, str):
            return File(path, text=entry)
        given, at = entry.values, entry.at
        if ("text" in at) == ("source" in at):
            both = "text" in at
            what = "`text` and `source` exclude each other" if both else "it says neither `text` nor `source`"
            self.wrong(at["source"] if both else files.at[path], entry.key, what, "Say one of them.")
        elif "source" in given:
            size = size_of_source(given["source"])
            if isinstance(size, tuple):
                self.wrong(at["source"], f"{entry.key}.source", *size)
            else:
                self.copied += size
                if self.copied > SOURCES_LIMIT >= self.copied - size:
                    self.wrong(at["source"], f"{entry.key}.source", *too_many_bytes())
        return File(path, given.get("text"), given.get("source"), given.get("mode", 0o644))

    def image_of(self, section: Section, kind: str | None) -> tuple[Image | None, Node | None]:
        """The image of a machine (None: something is wrong with it) and where it was said."""
        given, node, key = self.pick(section, "image", own_only=kind is not None)
        if node is None:
            return pve_packages.own(kinds.default_image(kind), self.packages), None
        if isinstance(given, Section):
            if id(given) not in self.inline:
                self.inline[id(given)] = self.image(given)
            return self.inline[id(given)], node
        if not isinstance(given, str):
            return None, node
        if given in self.images:
            return self.images[given], node
        if given in (NO_IMAGE, *kinds.images()):
            return pve_packages.own(given, self.packages), node
        known = [*self.images, *kinds.images(), NO_IMAGE]
        self.wrong(node, key, f"there is no image `{given}`", meant(given, known, listed=True))
        return None, node

    # Machines

    def pick(self, section: Section, name: str, *, own_only: bool = False) -> tuple[Any, Node | None, str]:
        """What a machine, or its kind of hypervisor, or else (unless `own_only`) `defaults` says, where, and under
        which key path; (None, None, "") for nobody."""
        if name not in section.at and (wish := self.wish(section, name)) is not None:
            return wish
        for source in (section, None if own_only else self.defaults):
            if source is not None and name in source.at:
                return source.values.get(name), source.at[name], f"{source.key}.{name}"
        return None, None, ""

    def bus(self, section: Section, image: Image, *, by_pve: bool) -> Bus:
        """What its own disk is on. A mistake where that cannot be chosen, passed over where its kind or `defaults` says
        it."""
        by_firmware = image.base is None or image.base == NO_IMAGE
        found: Bus | None = self.only_where(section, "bus", not by_firmware, f"{image.base} looks for it on virtio")
        if found == "nvme" and by_pve:
            found = self.only_where(section, "bus", True, "a Proxmox VE has no nvme disks", "Say `bus: scsi`.")
        return found or "virtio"

    def wish(self, section: Section, name: str) -> tuple[Any, Node | None, str] | None:
        """What a kind of hypervisor that nestlab does not work in asks for, said where its kind is said."""
        for source in (section, self.defaults) if name != "hypervisor" else ():
            if source is not None and "hypervisor" in source.at:
                made = kinds.foreign().get(source.values.get("hypervisor") or "")
                wished = made.keys.get(name) if made is not None else None
                place = source.at["hypervisor"], f"{source.key}.hypervisor"
                return (wished.value, *place) if wished is not None else None
        return None

    def is_bad(self, section: Section, name: str) -> bool:
        """Whether a mistake has been said about what `pick` looks at."""
        sources = [source for source in (section, self.defaults) if source is not None]
        return any(name in source.at and name not in source.values for source in sources)

    def machine(self, section: Section, path: str, inside: str | None = None) -> Machine:
        """`inside`: the kind of what it is right inside of."""
        name = path.rpartition("/")[2]
        kind = self.pick(section, "hypervisor")[0]
        image, image_at = self.image_of(section, kind)
        links = of_kind.with_cards(self.links(section, path), kind, self.uses)
        inner = section.values.get("machines")
        machines = tuple(self.machine(each, f"{path}/{own}", kind) for own, each in sections_of(inner))
        if kind is None and inner is not None and inner.keys and not self.is_bad(section, "hypervisor"):
            self.complain(of_kind.not_inside(section, name, container=bool(self.pick(section, "container")[0])))
        self.complain((*of_kind.mistakes(section, kind, image, image_at), *of_kind.unfit(section, kind, machines)))
        place = containers.Place(path, kind, self.embedded, inside)
        container = self.contained(section, place, image, image_at)
        image = image or pve_packages.own(kinds.default_image(kind), self.packages)
        nested = container and not place.on_pve
        asked = hardware.Asked(section, self.pick, kind, image, place.by_pve, container)
        cpus, made, wrong = hardware.of_machine(asked)
        usual = containers.memory(image) if nested else None
        memory, short = hardware.memory_for(asked, made, self.memory(section, kind, image, machines, usual))
        of_cards = (containers if nested else hardware).of_cards(links, image, self.uses)
        self.complain((*wrong, *short, *of_cards))
        ports, wrong_ports = self.ports.of(self.pick(section, "ports"), path, own="ports" in section.at)
        self.complain(wrong_ports)
        self.plain |= {} if kind is not None else {path: image}
        known = self.ready(section, image, kind, on_pve=container and place.on_pve, nested=nested)
        self.complain(ready.without_screen(section, known, screen=place.by_pve or not image.own or made.display))
        machine = Machine(
            name=name,
            hypervisor=kind,
            image=hardware.image_for(asked, links, made),
            cpus=of_kind.cpus(kind, section, cpus),
            memory=memory,
            disk=of_kind.disk(kind, image, self.disk(section, image)),
            links=links,
            internet=bool(self.pick(section, "internet")[0]),
            accel=self.pick(section, "accel")[0] or "auto",
            cmdline=self.only_where(section, "cmdline", not image.own, "its own boot loader decides") or "",
            container=container,
            ssh_keys=self.ssh_keys(section) if known.by == "ssh" else (),
            setup=self.setup(section, container=container and place.on_pve) if known.by == "ssh" else None,
            ready=known,
            foreign=kinds.is_foreign(kind),
            card=of_kind.card(kind),
            bus=self.bus(section, image, by_pve=place.by_pve),
            node=self.pick(section, "node", own_only="/" in path)[0],
            hardware=made,
            ports=ports,
            machines=machines,
        )
        self.complain(in_node.mistakes(section, machine, machines, image_at, inside=place.in_node))
        machine = in_node.fitting(section, machine) if place.in_node else machine
        return self.drives.equipped(containers.bare(machine) if nested else machine, section, by_pve=place.by_pve)

    def ready(self, section: Section, image: Image, kind: str | None, *, on_pve: bool, nested: bool) -> Ready:
        """How it is known that a machine is up. `defaults` are passed over by those of which only one thing is true."""
        foreign = kinds.is_foreign(kind)
        nests = kind is not None and not foreign
        given = self.pick(section, "ready", own_only=on_pve or nested or nests)[0]
        if id(given) not in self.readies:
            self.readies[id(given)] = ready.read(given)
            self.complain(ready.of_ready(given))
        found = self.readies[id(given)] or ready.usual(image, foreign=foreign)
        if nested:
            self.complain(containers.ready(section))
            return Ready()
        self.complain(ready.of_machine(section, found, nests=nests, container=on_pve, kind=kind))
        return Ready() if on_pve or nests else found

    def ssh_keys(self, section: Section) -> tuple[str, ...]:
        given = self.pick(section, "ssh_keys")[0] or ()
        if id(given) not in self.keys:
            keys = [key for _, some in given for key in some] if isinstance(given, list) else given
            self.keys[id(given)] = tuple(dict.fromkeys(keys))
        return self.keys[id(given)]

    def setup(self, section: Section, *, container: bool) -> Setup | None:
        """What is done once in a machine. A mistake where no command can be run."""
        given, node, key = self.pick(section, "setup")
        if given is None or node is None:
            return None
        if container:
            if "setup" in section.at:
                what = "`setup` means nothing here: PVE's API runs no commands in a container"
                self.wrong(section.keys["setup"], key, what, "Leave it out, or do it in the container's template.")
            return None
        if isinstance(given, list):
            return Setup(commands=tuple(command for _, command in given)) if given else None
        if id(given) not in self.setups:
            files = given.values.get("files")
            self.complain(own_files(files))
            self.setups[id(given)] = Setup(
                tuple(self.file(path, entry, files) for path, entry in values_of(files)),
                tuple(command for _, command in given.values.get("commands", ())),
            )
        made = self.setups[id(given)]
        return made if made != Setup() else None

    def contained(self, section: Section, place: containers.Place, image: Image | None, image_at: Node | None) -> bool:
        """Whether a machine is a container, with what is wrong with that, with its `node` and with its image said."""
        self.complain((*pve.of_machine(section, place.path, self.root), *containers.in_place(section, place)))
        if place.outermost:
            self.complain(pve.of_node(section, self.root))
        said = containers.wanted(section, place, self.pick, image)
        bad = self.is_bad(section, "container")
        self.complain(containers.of_image(section, place, said, image, image_at, bad=bad))
        if said and not place.on_pve:
            self.complain(containers.keys(section, image))
        return said

    def only_where(self, section: Section, name: str, useless: bool, why: str, hint: str = "") -> Any:
        """The value of a key that only some images use: a mistake there, passed over in defaults."""
        if not useless:
            return self.pick(section, name)[0]
        if name in section.at:
            hint = hint or f"Leave `{name}` out, or choose another image."
            self.wrong(section.keys[name], f"{section.key}.{name}", f"`{name}` means nothing here: {why}", hint)
        return None

    def disk(self, section: Section, image: Image) -> int | None:
        """As said. A mistake where it is smaller than the image, which is passed over in defaults."""
        said = self.only_where(section, "disk", image.base in _NO_DISK, f"{image.base} has no disk")
        least = disk_of(image) if said else 0
        if not said or said >= least:
            return int(said) if said else None
        if "disk" in section.at:
            what = f"{format_size(said)} is less than the image has: {readable(least)}"
            hint = f"Give it at least {readable(least)}, or leave it out: it takes only as much room as is written."
            self.wrong(section.at["disk"], f"{section.key}.disk", what, hint)
        return None

    def memory(
        self, section: Section, kind: str | None, image: Image, machines: tuple[Machine, ...], usual: int | None
    ) -> int:
        """As said, or by the rules of the reference. A mistake when it cannot hold the machines inside."""
        said, node, key = self.pick(section, "memory")
        if kind is None:
            plain = kinds.plains().get(image.base or "")
            default = usual or (plain.default_memory if plain else GIB)
            return said or next((each.default_memory for each in kinds_of(image)), default)
        size, complaints = of_kind.memory(section, kind, machines, said, (node, key))
        self.complain(complaints)
        return size

    def links(self, section: Section, path: str) -> tuple[Link, ...]:
        given, node, key = self.pick(section, "segments")
        links: dict[str, Link] = {}
        if given is not None and node is not None and not self.room_for(given, node, key):
            return ()
        for segment, link_node, value in cards_said(given, node):
            place = f"{key}.{segment}"
            if segment in links:
                hint = "One card on a segment is all a machine can have."
                self.wrong(link_node, place, f"`{segment}` is here twice", hint)
                continue
            link = link_of(segment, value)
            links[segment] = link
            if self.segments is None or segment not in self.segments.keys:
                known = list(self.segments.keys) if self.segments else []
                hint = meant(segment, known, listed=True) or f"Add it: `segments:` with `{segment}:` inside."
                self.wrong(link_node, place, f"there is no segment `{segment}`", hint)
                continue
            places = value.at if isinstance(value, Section) else {}
            self.uses.append(Use(path, link, place, link_node, places))
        return tuple(links.values())

    def room_for(self, given: Any, node: Node, key: str) -> bool:
        """Whether the lab may have the cards of one more machine. A mistake at the first that it may not."""
        before = self.cards
        self.cards += len(given.values if isinstance(given, Section) else given)
        if self.cards > CARDS_LIMIT >= before:
            self.wrong(node, key, f"there are more than {CARDS_LIMIT} cards up to here", "Take fewer segments.")
        return self.cards <= CARDS_LIMIT
