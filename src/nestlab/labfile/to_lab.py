"""Parsed values to a `Lab`: defaults, memory and names filled in, contradictions found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nestlab import kinds
from nestlab.base.did_you_mean import meant
from nestlab.lab.model import GIB, MIB, File, Image, Lab, Link, Machine, Segment, Setup, format_size, is_template
from nestlab.labfile import pve
from nestlab.labfile.additions import additions, own_files
from nestlab.labfile.disk_image import of_file, size_of
from nestlab.labfile.fields import MEMORY
from nestlab.labfile.network import Complaint, Use, check
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Reader, Section

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
        self.local = pve.is_local(root)
        self.images: dict[str, Image | None] = {}
        self.inline: dict[int, Image | None] = {}
        self.setups: dict[int, Setup] = {}

    def lab(self) -> Lab:
        values = self.root.values
        for name, section in _sections(values.get("images")):
            if name in kinds.images():
                hint = "Choose another name for yours."
                self.wrong(values["images"].keys[name], f"images.{name}", f"{name} is an image of nestlab's", hint)
            image = self.image(section)
            self.images[name] = replace(image, name=name) if image else None
        segments = self.segments
        wanted = tuple(self.segment(name, segments.values.get(name)) for name in segments.keys) if segments else ()
        machines = tuple(self.machine(section, name) for name, section in _sections(values.get("machines")))
        self.complain(pve.of_lab(self.root))
        if self.defaults is not None:
            self.complain(pve.of_node(self.defaults, self.root))
        self.complain(check(segments, self.uses))
        return Lab(values.get("lab", ""), pve.place(self.root), wanted, machines, values.get("patience", 1))

    def complain(self, complaints: Iterable[Complaint]) -> None:
        for node, key, what, hint in complaints:
            self.wrong(node, key, what, hint)

    def segment(self, name: str, section: Section | None) -> Segment:
        if section is None:
            return Segment(name)
        self.complain(pve.of_segment(section, self.local))
        return Segment(name, **section.values)

    # Images

    def image(self, section: Section) -> Image | None:
        """None when something is wrong with it."""
        given, at, key = section.values, section.at, section.key
        if "from" in at and "file" in at:
            hint = "Keep one of them: nestlab adds to its own images only."
            self.wrong(at["file"], f"{key}.file", "`from` and `file` exclude each other", hint)
            return None
        if "from" not in at and "file" not in at:
            hint = "Say `from: debian` for nestlab's own, or `file: ./disk.qcow2` for yours."
            self.wrong(section.node, key, "it says neither `from` nor `file`", hint)
            return None
        if "file" in at:
            return self.own_disk(section)
        for name in ("format", "user", "cloud_init"):
            if name in at:
                hint = "Leave it out: it is for disks of your own (`file`)."
                self.wrong(section.keys[name], f"{key}.{name}", f"`{name}` means nothing with `from`", hint)
        files = tuple(self.file(path, entry, given["files"]) for path, entry in _values(given.get("files")))
        packages = tuple(name for _, name in given.get("packages", ()))
        self.complain(additions(section))
        return Image(
            base=given.get("from"),
            mirror=given.get("mirror"),
            packages=tuple(dict.fromkeys(packages)),
            files=files,
            script=given.get("script"),
            suite=given.get("suite"),
            kernel=given.get("kernel"),
            said=f"{section.node.source.name}:{where.line}" if (where := _added_at(section)) else None,
        )

    def own_disk(self, section: Section) -> Image | None:
        given, at, key = section.values, section.at, section.key
        for name in ("packages", "files", "script", "mirror", "suite", "kernel"):
            if name in at:
                hint = "Leave it out, or start from an image of nestlab's (`from`)."
                self.wrong(section.keys[name], f"{key}.{name}", f"`{name}` does not go into a disk of yours", hint)
        if "file" not in given:
            return None
        disk = of_file(given["file"], given.get("format"), "format" in at)
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
            missing = of_file(given["source"], "raw", True)
            if isinstance(missing, tuple):
                self.wrong(at["source"], f"{entry.key}.source", *missing)
        return File(path, given.get("text"), given.get("source"), given.get("mode", 0o644))

    def image_of(self, section: Section, kind: str | None) -> tuple[Image | None, Node | None]:
        """The image of a machine (None: something is wrong with it) and where it was said."""
        given, node, key = self.pick(section, "image", own_only=kind is not None)
        if node is None:
            return Image(base=kinds.default_image(kind)), None
        if isinstance(given, Section):
            if id(given) not in self.inline:
                self.inline[id(given)] = self.image(given)
            return self.inline[id(given)], node
        if not isinstance(given, str):
            return None, node
        if given in self.images:
            return self.images[given], node
        if given in kinds.images():
            return Image(base=given), node
        known = [*self.images, *kinds.images()]
        self.wrong(node, key, f"there is no image `{given}`", meant(given, known, listed=True))
        return None, node

    # Machines

    def pick(self, section: Section, name: str, *, own_only: bool = False) -> tuple[Any, Node | None, str]:
        """What a machine or else (unless `own_only`) `defaults` says, where, and under which key path; (None, None, "")
        for nobody."""
        for source in (section, None if own_only else self.defaults):
            if source is not None and name in source.at:
                return source.values.get(name), source.at[name], f"{source.key}.{name}"
        return None, None, ""

    def is_bad(self, section: Section, name: str) -> bool:
        """Whether a mistake has been said about what `pick` looks at."""
        sources = [source for source in (section, self.defaults) if source is not None]
        return any(name in source.at and name not in source.values for source in sources)

    def machine(self, section: Section, path: str) -> Machine:
        name = path.rpartition("/")[2]
        kind = self.pick(section, "hypervisor")[0]
        image, image_at = self.image_of(section, kind)
        links = self.links(section, path)
        inner = section.values.get("machines")
        machines = tuple(self.machine(each, f"{path}/{inside}") for inside, each in _sections(inner))
        if kind is None and inner is not None and inner.keys and not self.is_bad(section, "hypervisor"):
            self.not_inside(section, name)
        if kind is not None and image is not None and image_at is not None:
            self.fits_kind(image, kind, image_at, section)
        container = self.on_pve(section, path, kind, image, image_at)
        image = image or Image(base=kinds.default_image(kind))
        return Machine(
            name=name,
            hypervisor=kind,
            image=image,
            cpus=self.pick(section, "cpus")[0] or 1,
            memory=self.memory(section, kind, image, machines),
            disk=self.disk(section, image),
            links=links,
            internet=bool(self.pick(section, "internet")[0]),
            accel=self.pick(section, "accel")[0] or "auto",
            cmdline=self.only_where(section, "cmdline", image.file is not None, "its own boot loader decides") or "",
            container=container,
            ssh_keys=self.ssh_keys(section),
            setup=self.setup(section, container=container),
            node=self.pick(section, "node", own_only="/" in path)[0],
            machines=machines,
        )

    def ssh_keys(self, section: Section) -> tuple[str, ...]:
        given = self.pick(section, "ssh_keys")[0] or ()
        keys = [key for _, some in given for key in some] if isinstance(given, list) else given
        return tuple(dict.fromkeys(keys))

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
                tuple(self.file(path, entry, files) for path, entry in _values(files)),
                tuple(command for _, command in given.values.get("commands", ())),
            )
        made = self.setups[id(given)]
        return made if made != Setup() else None

    def on_pve(self, section: Section, path: str, kind: str | None, image: Image | None, image_at: Node | None) -> bool:
        """Whether a machine is a container, with what is wrong with that, with its `node` and with its image said."""
        self.complain(pve.of_machine(section, path, kind, self.root))
        if "/" not in path:
            self.complain(pve.of_node(section, self.root))
        said, at, key = self.pick(section, "container", own_only="/" in path or kind is not None)
        image_key = f"{section.key}.image" if "image" in section.at else "defaults.image"
        template = image is not None and is_template(image.file)
        if (
            image is not None
            and template
            and not said
            and image_at is not None
            and not self.is_bad(section, "container")
        ):
            what = f"{image.file} is a container template, and no disk"
            hint = "Say `container: true` (on a Proxmox VE), or take a disk."
            self.wrong(image_at, image_key, what, hint)
        elif image is not None and said and not template and at is not None and self.may_be_container(path, kind):
            what = f"a container cannot be made from the image {image.base or image.file}"
            hint = "Say `image: {file: …}` with a container template (.tar.zst, .tar.gz or .tar.xz)."
            self.wrong(image_at or at, image_key if image_at else key, what, hint)
        return bool(said)

    def may_be_container(self, path: str, kind: str | None) -> bool:
        return not self.local and "/" not in path and kind is None

    def not_inside(self, section: Section, name: str) -> None:
        hint = f"Give {name} a `hypervisor: {min(kinds.names())}`, or move its machines out of it."
        what = f"machines inside {name}, which is a plain guest"
        if self.pick(section, "container")[0]:
            what = f"machines inside {name}, which is a container"
            hint = f"Make {name} a virtual machine with `hypervisor: {min(kinds.names())}`, or move its machines out."
        self.wrong(section.keys["machines"], f"{section.key}.machines", what, hint)

    def fits_kind(self, image: Image, kind: str, node: Node, section: Section) -> None:
        base = kinds.default_image(kind)
        if image.base is not None and image.base != base:
            what = f"a hypervisor of kind {kind} cannot be made from the image {image.base}"
            self.wrong(node, f"{section.key}.image", what, f"Leave it out, or say `from: {base}`, or a file of yours.")

    def only_where(self, section: Section, name: str, useless: bool, why: str) -> Any:
        """The value of a key that only some images use: a mistake there, passed over in defaults."""
        if not useless:
            return self.pick(section, name)[0]
        if name in section.at:
            hint = f"Leave `{name}` out, or choose another image."
            self.wrong(section.keys[name], f"{section.key}.{name}", f"`{name}` means nothing here: {why}", hint)
        return None

    def disk(self, section: Section, image: Image) -> int | None:
        """As said. A mistake where it is smaller than the image, which is passed over in defaults."""
        said = self.only_where(section, "disk", image.base in _NO_DISK, f"{image.base} has no disk")
        least = disk_of(image)
        if not said or said >= least:
            return int(said) if said else None
        if "disk" in section.at:
            what = f"{format_size(said)} is less than the image has: {readable(least)}"
            hint = f"Give it at least {readable(least)}, or leave it out: it takes only as much room as is written."
            self.wrong(section.at["disk"], f"{section.key}.disk", what, hint)
        return None

    def memory(self, section: Section, kind: str | None, image: Image, machines: tuple[Machine, ...]) -> int:
        """As said, or by the rules of the reference. A mistake when it cannot hold the machines inside."""
        said, node, key = self.pick(section, "memory")
        if kind is None:
            plain = kinds.plains().get(image.base or "")
            default = plain.default_memory if plain else GIB
            return said or next((each.default_memory for each in _kinds_of(image)), default)
        about = kinds.kinds()[kind]
        inside = sum(machine.memory for machine in machines)
        need = inside + about.overhead * bool(machines)
        if said and said >= need:
            return int(said)
        if said and "memory" in section.at and node is not None:
            terms = " + ".join(format_size(machine.memory) for machine in machines[:8]) + " + …" * (len(machines) > 8)
            total = f" = {format_size(inside)}" if len(machines) > 1 else ""
            what = (
                f"{format_size(said)} does not hold its machines ({terms}{total})"
                f" and the {format_size(about.overhead)} that {kind} needs itself: {format_size(need)} together"
            )
            self.wrong(node, key, what, f"Give it at least {format_size(need)}, or its machines less.")
            return int(said)
        total_memory = about.default_memory + inside
        if total_memory > MEMORY.high:
            hint = "Give them less, or move some to another hypervisor."
            what = f"its machines have {format_size(inside)} together, more than any machine can hold"
            self.wrong(section.node, section.key, what, hint)
        return total_memory

    def links(self, section: Section, path: str) -> tuple[Link, ...]:
        given, node, key = self.pick(section, "segments")
        links: dict[str, Link] = {}
        for segment, link_node, value in _links(given, node):
            place = f"{key}.{segment}"
            if segment in links:
                hint = "One card on a segment is all a machine can have."
                self.wrong(link_node, place, f"`{segment}` is here twice", hint)
                continue
            link = _link(segment, value)
            links[segment] = link
            if self.segments is None or segment not in self.segments.keys:
                known = list(self.segments.keys) if self.segments else []
                hint = meant(segment, known, listed=True) or f"Add it: `segments:` with `{segment}:` inside."
                self.wrong(link_node, place, f"there is no segment `{segment}`", hint)
                continue
            places = value.at if isinstance(value, Section) else {}
            self.uses.append(Use(path, link, place, link_node, places))
        return tuple(links.values())


def _added_at(section: Section) -> Node | None:
    """Where an image says what is added to nestlab's own."""
    keys = ("packages", "kernel", "suite", "script", "files", "mirror")
    return next((section.keys[key] for key in keys if key in section.keys), None)


def disk_of(image: Image) -> int:
    """Bytes of the disk that an image has; 0 if it has none, or it cannot be told."""
    if image.file is not None:
        return size_of(image.file, image.format)
    plain = kinds.plains().get(image.base or "")
    return plain.disk if plain else next((each.disk for each in _kinds_of(image)), 0)


def readable(size: int) -> str:
    """A size rounded up to whole mebibytes."""
    return format_size(-(-size // MIB) * MIB)


def _kinds_of(image: Image) -> list[kinds.Kind]:
    return [kind for kind in kinds.kinds().values() if kind.image == image.base]


def _sections(section: Section | None) -> list[tuple[str, Section]]:
    return list(section.sections()) if section is not None else []


def _values(section: Section | None) -> list[tuple[str, Any]]:
    return list(section.values.items()) if section is not None else []


def _links(given: Any, node: Node | None) -> list[tuple[str, Node, Any]]:
    """(segment, where it is named, what is said about it) in either way of writing."""
    if isinstance(given, list):
        return [(name, each, None) for each, name in given]
    if isinstance(given, Section):
        return [(name, given.at[name] if value else given.keys[name], value) for name, value in given.values.items()]
    return []


def _link(segment: str, value: Any) -> Link:
    if isinstance(value, Section):
        said: Mapping[str, str] = value.values
        return replace(Link(segment), **said)
    if isinstance(value, str):
        return Link(segment, address6=value) if ":" in value else Link(segment, address=value)
    return Link(segment)
