"""The lab as a value: what is wanted, and nothing about how it is made. Pure.

A machine inside another has a path (`hv1/web`); its level is the number of names in the path (the host is level 0).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, Literal

from nestlab.base.frozen import frozen
from nestlab.lab.clusters import Cluster
from nestlab.lab.disks import BootFrom, Bus, Disk
from nestlab.lab.hardware import Card, Hardware
from nestlab.lab.install import Install
from nestlab.lab.netboot import Netboot
from nestlab.lab.places import On
from nestlab.lab.ports import Port
from nestlab.lab.pve_packages import PvePackages
from nestlab.lab.readiness import Ready

Accel = Literal["auto", "kvm", "tcg"]
Format = Literal["qcow2", "raw", "iso", "vmdk", "vhdx", "vdi", "ova", "tar"]
"""What a disk file is. QEMU is given the first three; `tar` is a container template, the packed files of a system, and
stays packed; the others are converted once, when they are downloaded."""

Compression = Literal["none", "xz", "zst", "gz", "bz2"]

TEMPLATE_ENDINGS = (".tar.zst", ".tar.gz", ".tar.xz")
"""The endings of container templates, as Proxmox VE knows them (PVE::Storage, VZTMPL_EXT_RE_1)."""

NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A machine, segment or image name: an RFC 1123 host name label that starts with a letter, lower case."""

NO_IMAGE = "none"
"""The word for a machine that has no image: its disk is empty, and it boots from a CD-ROM or by network."""

LAB_NAME_LIMIT = 40
"""A lab's name is part of unix socket paths, which the kernel limits to 107 bytes."""

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@frozen
class Vlan:
    """A VLAN of a segment (IEEE 802.1Q), with a network of its own. Addresses left out are leased."""

    vlan: int
    cidr: str | None = None
    cidr6: str | None = None


@frozen
class Segment:
    """An isolated layer-2 network between machines at any level. Addresses left out are leased."""

    name: str
    cidr: str | None = None
    cidr6: str | None = None
    mtu: int = 1500
    bridge: str | None = None
    """On a Proxmox VE: a bridge of its nodes that carries the segment, with `vlan` as its tag, instead of a vnet."""
    vlan: int | None = None
    vlans: tuple[Vlan, ...] = ()
    """The VLANs that the lab file names here; a card may be on others where it names none."""
    transparent: bool = False
    """Hypervisors pass on what bridges keep to themselves: LACP, LLDP, EAPOL (IEEE 802.1Q, table 8-1)."""
    netboot: Netboot | None = None
    """What machines on it get that boot from the network."""


@frozen
class Link:
    """A machine's place on a segment; an address left out is leased from the network of the segment, or of the VLAN."""

    segment: str
    address: str | None = None
    address6: str | None = None
    mac: str | None = None
    card: Card = "virtio"
    vlan: int | None = None
    """The VLAN that the card is on, untagged. None: the frames of the segment without a tag."""
    trunk: bool = False
    """The card gets the frames of every VLAN, tagged, and those without a tag."""


MAX_SIZE = 128 * GIB
"""Bytes that a downloaded image may have if nothing else is said."""

SOURCE_LIMIT, SOURCES_LIMIT = 64 * MIB, 256 * MIB
"""Bytes of a file of this computer that a lab file copies, and of all of them together: they are held in memory."""


@frozen
class File:
    """A file to put into an image or a machine: its text, or the path of a local file (absolute once parsed)."""

    path: str
    text: str | None = None
    source: str | None = None
    mode: int = 0o644


@frozen
class Image:
    """The image a machine boots: one of nestlab's own, perhaps with additions, a disk file of the user's, or one that
    is downloaded.

    `base` is the name of a built-in recipe (`kvm`, `debian`, `tiny`) unless `file` (an absolute path) or `url` is
    given; `none` is no image.
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
    drivers: tuple[str, ...] = ()
    """Kernel modules for its machines' hardware that it inserts before their cards are set up, beside its own."""
    words: tuple[str, ...] = ()
    """What its kernel is told for its machines' hardware, beside its own, where a boot disk tells it."""
    cloud_init: str | None = None
    """User-data for the cloud-init in a file of the user's: a cloud-config, as JSON."""
    url: str | None = None
    """Where it is downloaded from (http or https, without a password)."""
    checksum: str | None = None
    """Of what is at `url`: `sha256:` or `sha512:` and lower-case hex digits. None: `sums` says it, and was not read."""
    sums: str | None = None
    """A checksum file that says it: a URL, or an absolute path."""
    signed_by: str | None = None
    """The file (an absolute path) with the OpenPGP keys of which one must have signed `sums`."""
    compression: Compression | None = None
    """How what is at `url` is packed; None: not at all."""
    max_size: int | None = None
    """Bytes that it may have, unpacked and as a disk; None: `MAX_SIZE`."""
    install: Install | None = None
    """How it is installed."""
    pve: PvePackages | None = None
    """Of `pve`: which version, and where it is from; None: the latest, from Proxmox."""
    name: str | None = field(default=None, compare=False)
    """Its name in the lab file. Images that differ in nothing else are the same."""
    said: str | None = field(default=None, compare=False)
    """Where the lab file says what is added to it, `FILE:LINE`, for errors."""

    @property
    def foreign(self) -> bool:
        """Whether it is a disk that nestlab did not make: the user's, a downloaded or an installed one."""
        return self.file is not None or self.url is not None or self.install is not None

    @property
    def template(self) -> bool:
        """Whether containers are made from it, and no machine boots it."""
        return self.format == "tar" or is_template(self.file)

    @property
    def own(self) -> bool:
        """Whether it is one of nestlab's, which knows what is said to a machine by its identity disk."""
        return not self.foreign and self.base != NO_IMAGE


def diskless(image: Image) -> bool:
    """Whether machines of an image have a disk only where the lab file gives them one."""
    return image.base in ("tiny", NO_IMAGE) or is_medium(image)


def is_medium(image: Image) -> bool:
    """Whether an image is a CD-ROM."""
    return image.format == "iso" or (image.file is not None and image.file.lower().endswith(".iso"))


def is_template(file: str | None) -> bool:
    """Whether a file is one that a container is made from, by its name."""
    return file is not None and file.endswith(TEMPLATE_ENDINGS)


@frozen
class Setup:
    """The first-time setup of a machine, as root: files are written, then commands run."""

    files: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()
    """Each a script of POSIX sh."""


@frozen
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
    """An unprivileged container (LXC) with nesting instead of a virtual machine: on a Proxmox VE itself from a
    template of the user's, inside a hypervisor from one of nestlab's images."""
    node: str | None = None
    """On a Proxmox VE: the node it is to run on."""
    ha: bool = False
    """In a node of a cluster of Proxmox VE: under its high availability."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys that may log in beside the lab's own, as lines of authorized_keys."""
    setup: Setup | None = None
    hardware: Hardware = field(default_factory=Hardware)
    ports: tuple[Port, ...] = ()
    """That lead from 127.0.0.1 of the lab's own host."""
    ready: Ready = field(default_factory=Ready)
    foreign: bool = False
    """It is a hypervisor that nestlab shows vmx or svm to, and does not work in."""
    card: Card = "virtio"
    """That leads to its host; those on segments say their own."""
    bus: Bus = "virtio"
    """Of its own disk."""
    machines: tuple[Machine, ...] = ()
    disks: tuple[Disk, ...] = ()
    """Beside the one that its image is on."""
    cdroms: tuple[str | Image, ...] = ()
    """What is in its CD-ROM drives: files (absolute paths), and what is downloaded."""
    boot: tuple[BootFrom, ...] = ()
    """What its firmware tries to boot from, in order; (): nestlab's choice."""

    @property
    def nests(self) -> bool:
        """It is a hypervisor that nestlab works in: its machines are nestlab's."""
        return self.hypervisor is not None and not self.foreign

    @property
    def by_ssh(self) -> bool:
        """nestlab logs in to it, and runs commands in it."""
        return self.ready.by == "ssh"


@frozen
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


@frozen
class Taken:
    """Something of this computer, from outside of the lab file's folder, that the lab file gives to its machines: a
    file (`what` is its path), a folder (its path and `/`) with all that is in it, or a variable of the environment
    (`what` is `$NAME`). `key`: where the lab file says so. `private`: others on this computer may not read it, as far
    as that is known."""

    what: str
    key: str
    private: bool = False


@frozen
class Lab:
    """Everything wanted."""

    name: str
    on: On | None = None
    """None: on this machine, by the embedded engine."""
    segments: tuple[Segment, ...] = ()
    machines: tuple[Machine, ...] = ()
    patience: int = 1
    """The factor on all waits for its machines."""
    named: bool = field(default=False, compare=False)
    """Whether the user said the address of `on`, rather than only the lab file."""
    taken: tuple[Taken, ...] = field(default=(), compare=False)
    clusters: tuple[Cluster, ...] = ()

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


def is_path(path: str) -> bool:
    """Whether a machine can have this path: names, outer ones first."""
    return all(NAME.fullmatch(name) for name in path.split("/"))


def directly_in(path: str, outer: str) -> bool:
    """Whether `path` is one that a machine right inside `outer` may have ("": on the lab's own host): one name more."""
    return parent_of(path) == outer and NAME.fullmatch(path.rpartition("/")[2]) is not None


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
