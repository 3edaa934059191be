"""A lab with everything settled that the file left open: addresses, image keys, digests. Pure.

`Lab` says what a person wants; a `Blueprint` says what each engine must make, and is what plans compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

from nestlab.base.frozen import frozen
from nestlab.lab.clusters import Cluster
from nestlab.lab.disks import MadeDisk
from nestlab.lab.hardware import Card
from nestlab.lab.hosts_file import HostsTables
from nestlab.lab.model import (
    NO_IMAGE,
    Image,
    Lab,
    Machine,
    Placed,
    Segment,
    digest_of,
    diskless,
    level_of,
    parent_of,
)
from nestlab.lab.places import On
from nestlab.lab.readiness import Ready
from nestlab.lab.setup_stamps import stamps
from nestlab.lab.vlans import network_of, tags

PROBE = Image(base="tiny")
"""The image that a hypervisor boots to prove that it can run a guest: every hypervisor has it on board."""

PROBE_NAME = "nestlab-probe"
"""What that guest is called."""


@frozen
class Nic:
    """One network card. `addresses` are interface addresses with prefix (`10.77.0.11/24`), IPv4 first.

    `bridge`: machines inside use this segment, so the card is enslaved to a bridge and the bridge has the addresses.
    """

    segment: str
    mac: str
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    bridge: bool = False
    card: Card = "virtio"
    vlan: int | None = None
    """The VLAN that the card is on, untagged."""
    trunk: bool = False
    """The card gets the frames of all VLANs, tagged: the lab file says so, or machines inside are on VLANs."""
    transparent: bool = False
    """The bridge passes on LACP, LLDP and EAPOL."""

    @property
    def port(self) -> str:
        """What a switch's port for it is: `trunk`, a VLAN such as `20`, or "", which gets frames without tags."""
        return "trunk" if self.trunk else str(self.vlan or "")


@frozen
class Spec:
    """One machine, settled. `digest` covers what its next start decides: the machine, its cards and its image.

    Not in the digest: what can change under a running machine (names of others, `cargo`, the size of its disk, ssh
    keys, setup, ports, high availability, how it is known to be up), on which node it is to be made (one that is there
    stays there), and what it is in: that has its own.
    """

    path: str
    machine: Machine
    nics: tuple[Nic, ...]
    management: str
    """The IPv4 network (CIDR) between this machine and its host: .2 is the host, .3 its DNS, .15 the machine."""
    image: str
    """Key of the image in `Blueprint.images`."""
    cargo: tuple[str, ...]
    """Keys of the images that machines inside need, at any depth, in order."""
    digest: str
    hosts: str = field(default="", compare=False)
    """The text of /etc/hosts, the same string for all machines that reach the same segments."""
    setup: tuple[str, ...] = ()
    """The stamps of the steps of its setup; the machine gets each when that step is done (see `setup_stamps`)."""
    files: tuple[str, ...] = ()
    """The keys of the images that are the files of its disks, then of its CD-ROMs, in their order."""
    born: str = ""
    """The path that it was made under, if that is another: its MAC addresses go by it (see `lab.moved_machines`)."""

    @property
    def parent(self) -> str:
        return parent_of(self.path)

    @property
    def level(self) -> int:
        return level_of(self.path)

    @property
    def root(self) -> str:
        """A digest of what its disk is made from: with another one, the disk that is there is of no use."""
        return root_of(self.image, self.machine.container)

    @property
    def sealed(self) -> bool:
        """It is a container on a Proxmox VE itself, whose API runs no commands in one; those inside hypervisors have an
        sshd as every machine of nestlab's."""
        return self.machine.container and not self.parent

    @property
    def has_disk(self) -> bool:
        """Whether it keeps something while it does not run."""
        return self.machine.disk is not None or bool(self.machine.disks) or not diskless(self.machine.image)

    @property
    def disks(self) -> tuple[MadeDisk, ...]:
        """Its disks beside its own, as they are to be."""
        keys = iter(self.files)
        return tuple(disk.made(next(keys) if disk.is_layer else "") for disk in self.machine.disks)

    @property
    def cdroms(self) -> tuple[str, ...]:
        """The keys of what is in its CD-ROM drives."""
        return self.files[len(self.files) - len(self.machine.cdroms) :]

    @property
    def images(self) -> tuple[str, ...]:
        """The keys of all images that are needed where it runs: its own, its files, and what it is handed."""
        own = (self.image,) if self.machine.image.base != NO_IMAGE else ()
        return (*own, *self.files, *self.cargo)

    @property
    def names(self) -> str:
        """A digest of what this machine knows of others: their names (its /etc/hosts), and who may log in."""
        return _digest_of_names(self.hosts, self.machine.ssh_keys)


@lru_cache(maxsize=256)
def _digest_of_names(hosts: str, ssh_keys: tuple[str, ...]) -> str:
    """Most machines of a lab have the same text: a thousand machines shall not hash it a thousand times."""
    return digest_of(hosts, ssh_keys) if ssh_keys else digest_of(hosts)


@frozen
class Blueprint:
    """A whole lab, settled; `specs` lists outer machines before what runs inside them."""

    lab: str
    segments: tuple[Segment, ...] = ()
    specs: tuple[Spec, ...] = ()
    images: Mapping[str, Image] = field(default_factory=lambda: MappingProxyType({}))
    on: On | None = None
    """Where the outermost machines run; None: on this machine."""
    patience: int = 1
    """The factor on all waits for its machines (`base.patience`)."""
    clusters: tuple[Cluster, ...] = ()

    def __getitem__(self, path: str) -> Spec:
        return self._by_path[path]

    def by_path(self) -> Mapping[str, Spec]:
        return self._by_path

    @cached_property
    def _by_path(self) -> Mapping[str, Spec]:
        return MappingProxyType({spec.path: spec for spec in self.specs})

    @cached_property
    def _inside(self) -> Mapping[str, list[Spec]]:
        found: dict[str, list[Spec]] = {}
        for spec in self.specs:
            found.setdefault(spec.parent, []).append(spec)
        return found

    def children(self, path: str) -> list[Spec]:
        """The machines directly inside `path` ("" is the lab's host)."""
        return list(self._inside.get(path, ()))

    def only(self, paths: Iterable[str]) -> tuple[Spec, ...]:
        wanted = set(paths)
        return tuple(spec for spec in self.specs if spec.path in wanted)


@frozen
class Subnet:
    """The networks that a segment, or a VLAN of one, was given."""

    cidr: str
    cidr6: str


@frozen
class Leases:
    """Values that were settled once and stay: kept in the lab's directory. Everything here is reproducible data.

    `subnets`: by network (see `vlans`). `addresses`: by `path@segment`, (IPv4, IPv6) without prefix. `management`: by
    level, a CIDR.
    """

    subnets: Mapping[str, Subnet] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    management: Mapping[int, str] = field(default_factory=dict)


def settle(
    lab: Lab,
    leases: Leases,
    keys: Mapping[Image, str],
    contents: Mapping[str, str] | None = None,
    *,
    first_name: str = "",
    born: Mapping[str, str] = MappingProxyType({}),
) -> Blueprint:
    """The blueprint of a lab under given leases (see `addresses.lease`) and image keys (PROBE's too if it nests).

    `contents`: digests of the local files that setups copy, by path. `first_name`: what the lab was called when it was
    made, if it was renamed since: MAC addresses stay those of that name. `born`: see `away.made_under`."""
    hosts = HostsTables(lab, leases.addresses, born)
    carried = carried_segments(lab)
    segments = {segment.name: segment for segment in lab.segments}
    order = {segment.name: at for at, segment in enumerate(lab.segments)}
    images, inner_images = _images(lab, keys)
    specs = []
    for placed in lab.walk():
        machine = bare(placed.machine)
        key = keys[machine.image]
        # In the order of the file's segments: moving machines about inside must not reorder the cards outside.
        inside = carried.get(placed.path, {})
        inner = {name: inside[name] for name in sorted(inside, key=order.__getitem__)}
        made_under = born.get(placed.path, placed.path)
        nics = tuple(_nics(made_under, placed.machine, inner, leases, segments, first_name or lab.name))
        management = leases.management[placed.level]
        files = tuple(keys[image] for image in files_of(machine))
        also = (*_bridges(lab, placed, nics), *files[len(files) - len(machine.cdroms) :])
        digest = definition(machine, nics, management, key, also)
        specs.append(
            Spec(
                path=placed.path,
                machine=machine,
                nics=nics,
                management=management,
                image=key,
                cargo=tuple(inner_images.get(placed.path, ())),
                digest=digest,
                hosts=hosts.of(placed.machine),
                setup=stamps(machine.setup, contents or {}) if machine.setup else (),
                files=files,
                born=born.get(placed.path, ""),
            )
        )
    return Blueprint(lab.name, lab.segments, tuple(specs), MappingProxyType(images), lab.on, lab.patience, lab.clusters)


def _images(lab: Lab, keys: Mapping[Image, str]) -> tuple[dict[str, Image], dict[str, dict[str, None]]]:
    """The images of a lab by key, and the keys of what each hypervisor needs for what is in it."""
    images: dict[str, Image] = {}
    inner_images: dict[str, dict[str, None]] = {}
    for placed in lab.walk():
        used = {keys[image]: image for image in (placed.machine.image, *files_of(placed.machine))}
        images |= used
        if placed.machine.nests:
            images[keys[PROBE]] = PROBE
            inner_images.setdefault(placed.path, {})[keys[PROBE]] = None
        outer = placed.parent
        while outer:
            inner_images.setdefault(outer, {}).update(
                dict.fromkeys(key for key in used if images[key].base != NO_IMAGE)
            )
            outer = parent_of(outer)
    images |= {keys[image]: image for each in lab.segments for image in netboot_images(each)}
    return images, inner_images


def definition(
    machine: Machine, nics: tuple[Nic, ...], management: str, image: str, also: Iterable[object] = ()
) -> str:
    """A digest of everything that takes a start to change. Of its disk only whether there is one."""
    drive = diskless(machine.image) and machine.disk is not None
    return digest_of(starting(machine), drive, nics, management, image, *also)


def starting(machine: Machine) -> Machine:
    """A machine as far as its start decides what of it holds. Its `disks` are compared one by one."""
    image = replace(_anywhere(machine.image), name=None, said=None)
    media = tuple(each if isinstance(each, str) else _anywhere(each) for each in machine.cdroms)
    kept = replace(machine, node=None, disk=None, ssh_keys=(), setup=None, ports=(), image=image, cdroms=media)
    return replace(kept, ready=Ready(), disks=(), ha=False)


def _anywhere(image: Image) -> Image:
    """Without where it is downloaded from, which decides nothing: its key tells its content."""
    if image.url is None:
        return image
    return replace(image, url="", checksum=None, sums=None, signed_by=None, max_size=None)


def images_of(lab: Lab) -> list[Image]:
    """All images of a lab's machines, the files of their disks and CD-ROMs, and what its segments serve."""
    machines = [each for placed in lab.walk() for each in (placed.machine.image, *files_of(placed.machine))]
    return machines + [image for segment in lab.segments for image in netboot_images(segment)]


def netboot_images(segment: Segment) -> tuple[Image, ...]:
    """What a segment serves to what boots from it, as far as it is built or downloaded."""
    return segment.netboot.images() if segment.netboot is not None else ()


def files_of(machine: Machine) -> tuple[Image, ...]:
    """The files of a machine's disks, then of its CD-ROMs, as images: they are handed on as images are."""
    disks = (disk.image or Image(file=disk.file, format=disk.format) for disk in machine.disks if disk.is_layer)
    media = (Image(file=each, format="iso") if isinstance(each, str) else each for each in machine.cdroms)
    return (*disks, *media)


def root_of(image: str, container: bool) -> str:
    """A digest of what a disk is made from: the key of an image, and whether it is a container's."""
    return digest_of(image, container)


def _bridges(lab: Lab, placed: Placed, nics: Iterable[Nic]) -> Iterable[tuple[str, str, int | None]]:
    """The bridges of the lab file that an outermost machine's cards are on: cards do not follow when those change."""
    if placed.level > 1:
        return
    on = {nic.segment for nic in nics}
    for segment in lab.segments:
        if segment.bridge is not None and segment.name in on:
            yield segment.name, segment.bridge, segment.vlan


def bare(machine: Machine) -> Machine:
    """The machine without what runs inside it."""
    return replace(machine, machines=())


def carried_segments(lab: Lab) -> dict[str, dict[str, bool]]:
    """By path of a hypervisor: the segments that machines inside it use, at any depth, which it must bridge, and
    whether that is with tags; and those that it is on and others of its level bridge, whose machines may move in."""
    carried: dict[str, dict[str, bool]] = {}
    for placed in lab.walk():
        outer = placed.parent
        while outer:
            known = carried.setdefault(outer, {})
            for link in placed.machine.links:
                known[link.segment] = known.get(link.segment, False) or tags((link,))
            outer = parent_of(outer)
    bridged: dict[tuple[int, str], bool] = {}
    for path, segments in carried.items():
        for name, tagged in segments.items():
            bridged[level_of(path), name] = bridged.get((level_of(path), name), False) or tagged
    for placed in lab.walk():
        if placed.machine.nests and placed.machine.hypervisor == "kvm":
            for link in placed.machine.links:
                if (placed.level, link.segment) in bridged and link.vlan is None:
                    known = carried.setdefault(placed.path, {})
                    known.setdefault(link.segment, bridged[placed.level, link.segment])
    return carried


def _nics(
    path: str,
    machine: Machine,
    carried: Mapping[str, bool],
    leases: Leases,
    segments: Mapping[str, Segment],
    lab: str,
) -> Iterable[Nic]:
    stated = {link.segment: link for link in machine.links}
    for name in dict.fromkeys([*stated, *carried]):
        link, segment = stated.get(name), segments[name]
        addresses: tuple[str, ...] = ()
        if link is not None:
            subnet = leases.subnets[network_of(link)]
            four, six = leases.addresses[f"{path}@{name}"]
            addresses = (f"{four}/{subnet.cidr.split('/')[1]}", f"{six}/{subnet.cidr6.split('/')[1]}")
        mac = link.mac if link is not None and link.mac else mac_of(lab, path, name)
        bridge = name in carried
        yield Nic(
            name,
            mac,
            segment.mtu,
            addresses,
            bridge,
            vlan=link.vlan if link is not None else None,
            trunk=carried.get(name, False) or (link is not None and link.trunk),
            card=link.card if link is not None else "virtio",
            transparent=bridge and segment.transparent,
        )


def mac_of(lab: str, path: str, segment: str) -> str:
    """A MAC address that is always the same for a card: locally administered, with four octets of a digest, so that
    among 1,000 cards two are the same in 1 of 10,000 labs."""
    tail = digest_of(lab, path, segment)[:8]
    return "52:54:" + ":".join(tail[at : at + 2] for at in (0, 2, 4, 6))
