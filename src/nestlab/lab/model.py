"""The lab as a value: what is wanted, and nothing about how it is made. Pure.

A machine inside another has a path (`hv1/web`); its level is the number of names in the path (the host is level 0).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal

Accel = Literal["auto", "kvm", "tcg"]
Format = Literal["qcow2", "raw", "iso"]
Placement = Literal["spread", "pack"]

TEMPLATE_ENDINGS = (".tar.zst", ".tar.gz", ".tar.xz")
"""Of container templates, as Proxmox VE knows them (PVE::Storage, VZTMPL_EXT_RE_1)."""

NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A machine, segment or image name: an RFC 1123 host name label that starts with a letter, lower case."""

LAB_NAME_LIMIT = 40
"""A lab's name is part of unix socket paths, which the kernel limits to 107 bytes."""

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@dataclass(frozen=True)
class Segment:
    """An isolated layer-2 network between machines at any level. Addresses left out are leased."""

    name: str
    cidr: str | None = None
    cidr6: str | None = None
    mtu: int = 1500
    bridge: str | None = None
    """On a Proxmox VE: a bridge of its nodes that carries the segment, with `vlan` as its tag, instead of a vnet."""
    vlan: int | None = None


@dataclass(frozen=True)
class Link:
    """A machine's place on a segment; an address left out is leased from the segment."""

    segment: str
    address: str | None = None
    address6: str | None = None
    mac: str | None = None


@dataclass(frozen=True)
class File:
    """A file to put into an image or a machine: its text, or the path of a local file (absolute once parsed)."""

    path: str
    text: str | None = None
    source: str | None = None
    mode: int = 0o644


@dataclass(frozen=True)
class Image:
    """The image a machine boots: one of nestlab's own, perhaps with additions, or a disk file of the user's.

    `base` is the name of a built-in recipe (`kvm`, `debian`, `tiny`) unless `file` (an absolute path) is given.
    """

    base: str | None = None
    file: str | None = None
    format: Format | None = None
    user: str = "root"
    mirror: str | None = None
    packages: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    script: str | None = None
    suite: str | None = None
    """The release of Debian it is made from; None: nestlab's choice."""
    kernel: str | None = None
    """`cloud`, `generic`, or the package of a kernel; None: nestlab's choice."""
    cloud_init: str | None = None
    """User-data for the cloud-init in a file of the user's: a cloud-config, as JSON."""
    name: str | None = field(default=None, compare=False)
    """What the lab file calls it; images that differ in nothing else are the same."""
    said: str | None = field(default=None, compare=False)
    """Where the lab file says what is added to it, `FILE:LINE`, for errors."""


def is_template(file: str | None) -> bool:
    """Whether a file is one that a container is made from, by its name."""
    return file is not None and file.endswith(TEMPLATE_ENDINGS)


@dataclass(frozen=True)
class Setup:
    """What is done in a machine once it is up for the first time, as root: files are written, then commands run."""

    files: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()
    """Each a script of POSIX sh."""


@dataclass(frozen=True)
class Machine:
    """A machine as wanted. `memory` and `disk` are bytes; `hypervisor` names what it is to its own guests."""

    name: str
    hypervisor: str | None = None
    image: Image = field(default_factory=lambda: Image(base="debian"))
    cpus: int = 1
    memory: int = GIB
    disk: int | None = None
    links: tuple[Link, ...] = ()
    internet: bool = False
    accel: Accel = "auto"
    cmdline: str = ""
    container: bool = False
    """On a Proxmox VE: an unprivileged container (LXC) with nesting instead of a virtual machine."""
    node: str | None = None
    """On a Proxmox VE: the node it is to run on."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys that may log in beside the lab's own, as lines of authorized_keys."""
    setup: Setup | None = None
    machines: tuple[Machine, ...] = ()


@dataclass(frozen=True)
class Placed:
    """A machine with its place in the nest. `parent` is "" for a machine on the lab's own host."""

    path: str
    machine: Machine

    @property
    def parent(self) -> str:
        return parent_of(self.path)

    @property
    def level(self) -> int:
        return level_of(self.path)


@dataclass(frozen=True)
class Pve:
    """A Proxmox VE that the outermost machines of a lab run on, and what of it they may use. What is None is chosen.

    `address`: `pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]` for its API over HTTPS, `pve+ssh://[USER@]HOST[:22]`
    for pvesh on a node over ssh, `pve+local` for pvesh on this machine. It holds no secret.
    """

    address: str
    pool: str = "nestlab"
    storage: str | None = None
    """Where disks are made."""
    images: str | None = None
    """Where images are uploaded to (content `import`)."""
    zone: str = "nestlab"
    """The SDN zone that segments become vnets of."""
    bridge: str | None = None
    """A bridge of the nodes with DHCP, for machines with `internet: true`, and for ssh straight to them."""
    nodes: tuple[str, ...] = ()
    """The nodes that may be used; empty: all."""
    placement: Placement = "spread"
    cpu: str | None = None
    """The CPU of hypervisors in PVE's own words, such as `EPYC,flags=+nested-virt`."""


@dataclass(frozen=True)
class Lab:
    """Everything wanted."""

    name: str
    on: Pve | None = None
    """None: on this machine, by the embedded engine."""
    segments: tuple[Segment, ...] = ()
    machines: tuple[Machine, ...] = ()
    patience: int = 1
    """What all waits for its machines are multiplied by."""

    def walk(self) -> Iterator[Placed]:
        """Every machine, outer ones before what runs inside them, in the file's order."""
        stack = [Placed(machine.name, machine) for machine in reversed(self.machines)]
        while stack:
            placed = stack.pop()
            yield placed
            inner = placed.machine.machines
            stack.extend(Placed(f"{placed.path}/{machine.name}", machine) for machine in reversed(inner))


def parent_of(path: str) -> str:
    """`hv1` for `hv1/web`, "" for `hv1`."""
    return path.rpartition("/")[0]


def level_of(path: str) -> int:
    """1 for `hv1`, 2 for `hv1/web`; 0 for "", the host itself."""
    return path.count("/") + 1 if path else 0


def within(path: str, outer: str) -> bool:
    """Whether `path` is `outer` or runs somewhere inside it; everything is within ""."""
    return not outer or path == outer or path.startswith(outer + "/")


_SIZE = re.compile(r"(\d+)(?:\.(\d+))?([KMGTkmgt]?)(?:i?[Bb])?", re.ASCII)
_UNIT = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}


def parse_size(text: str) -> int:
    """Bytes in `4G`, `512M`, `1.5G`: powers of 1024, as QEMU and Proxmox VE read them. ValueError otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size")
    whole, fraction, unit = match.groups()
    scale = _UNIT[unit.lower()]
    size = int(whole) * scale
    if fraction:
        size += int(fraction) * scale // 10 ** len(fraction)
    return size


def format_size(size: int) -> str:
    """The shortest of `4G`, `512M`, `3K`, `17` that means exactly `size` bytes."""
    for unit, scale in (("T", TIB), ("G", GIB), ("M", MIB), ("K", KIB)):
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def plain(value: object) -> Any:
    """The value as JSON data, without what equals its default: what a digest hashes and a file keeps."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((item, getattr(value, item.name)) for item in fields(value))
        return {item.name: plain(each) for item, each in pairs if not _is_default(item, each)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        items = sorted(value) if isinstance(value, frozenset | set) else value
        return [plain(each) for each in items]
    return value


def _is_default(item: Any, value: object) -> bool:
    if item.default is not MISSING:
        return bool(item.default == value)
    if item.default_factory is not MISSING:
        return bool(item.default_factory() == value)
    return False


def digest_of(*values: object) -> str:
    """40 hex digits that are equal when the values are: SHA-256 of canonical JSON without defaults."""
    text = json.dumps([plain(value) for value in values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
