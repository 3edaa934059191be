"""A lab with everything settled that the file left open: addresses, image keys, digests. Pure.

`Lab` says what a person wants; a `Blueprint` says what each engine must make, and is what plans compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

from nestlab.lab.hosts_file import HostsTables
from nestlab.lab.model import Image, Lab, Machine, Placed, Pve, Segment, digest_of, level_of, parent_of
from nestlab.lab.setup_stamps import stamps

PROBE = Image(base="tiny")
"""What a hypervisor boots to prove that it can run a guest: every hypervisor has it on board."""


@dataclass(frozen=True)
class Nic:
    """One network card. `addresses` are interface addresses with prefix (`10.77.0.11/24`), IPv4 first.

    `bridge`: machines inside use this segment, so the card is enslaved to a bridge and the bridge has the addresses.
    """

    segment: str
    mac: str
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    bridge: bool = False


@dataclass(frozen=True)
class Spec:
    """One machine, settled. `digest` covers what its next start decides: the machine, its cards and its image.

    Not in the digest: what can change under a running machine (names of others, `cargo`, the size of its disk, ssh
    keys, setup), on which node it is to be made (one that is there stays there), and what it is in: that has its own.
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
    """What the machine is stamped with once each step of its setup is done (see `setup_stamps`)."""

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
    def has_disk(self) -> bool:
        """Whether it keeps something while it does not run."""
        return self.machine.disk is not None or not diskless(self.machine.image)

    @property
    def names(self) -> str:
        """A digest of what this machine is told of others while it runs: names (its /etc/hosts), and who may log in."""
        return _digest_of_names(self.hosts, self.machine.ssh_keys)


@lru_cache(maxsize=256)
def _digest_of_names(hosts: str, ssh_keys: tuple[str, ...]) -> str:
    """Most machines of a lab have the same text: a thousand machines shall not hash it a thousand times."""
    return digest_of(hosts, ssh_keys) if ssh_keys else digest_of(hosts)


@dataclass(frozen=True)
class Blueprint:
    """A whole lab, settled; `specs` lists outer machines before what runs inside them."""

    lab: str
    segments: tuple[Segment, ...] = ()
    specs: tuple[Spec, ...] = ()
    images: Mapping[str, Image] = field(default_factory=lambda: MappingProxyType({}))
    on: Pve | None = None
    """Where the outermost machines run; None: on this machine."""
    patience: int = 1
    """What all waits for its machines are multiplied by (`base.patience`)."""

    def __getitem__(self, path: str) -> Spec:
        for spec in self.specs:
            if spec.path == path:
                return spec
        raise KeyError(path)

    def by_path(self) -> dict[str, Spec]:
        return {spec.path: spec for spec in self.specs}

    def children(self, path: str) -> list[Spec]:
        """The machines directly inside `path` ("" is the lab's host)."""
        return [spec for spec in self.specs if spec.parent == path]

    def only(self, paths: Iterable[str]) -> tuple[Spec, ...]:
        wanted = set(paths)
        return tuple(spec for spec in self.specs if spec.path in wanted)


@dataclass(frozen=True)
class Subnet:
    """The networks a segment was given."""

    cidr: str
    cidr6: str


@dataclass(frozen=True)
class Leases:
    """Values that were settled once and stay: kept in the lab's directory. Everything here is reproducible data.

    `subnets`: by segment. `addresses`: by `path@segment`, (IPv4, IPv6) without prefix. `management`: by level, a CIDR.
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
) -> Blueprint:
    """The blueprint of a lab under given leases (see `addresses.lease`) and image keys (PROBE's too if it nests).

    `contents`: digests of the local files that setups copy, by path. `first_name`: what the lab was called when it was
    made, if it was renamed since: MAC addresses stay those of that name."""
    hosts = HostsTables(lab, leases.addresses)
    carried = carried_segments(lab)
    mtus = {segment.name: segment.mtu for segment in lab.segments}
    order = {segment.name: at for at, segment in enumerate(lab.segments)}
    images: dict[str, Image] = {}
    inner_images: dict[str, dict[str, None]] = {}
    specs = []
    for placed in lab.walk():
        key = keys[placed.machine.image]
        images[key] = placed.machine.image
        if placed.machine.hypervisor:
            images[keys[PROBE]] = PROBE
            inner_images.setdefault(placed.path, {})[keys[PROBE]] = None
        outer = placed.parent
        while outer:
            inner_images.setdefault(outer, {})[key] = None
            outer = parent_of(outer)
    for placed in lab.walk():
        machine = bare(placed.machine)
        key = keys[machine.image]
        # In the order of the file's segments: moving machines about inside must not reorder the cards outside.
        inner = tuple(sorted(carried.get(placed.path, ()), key=order.__getitem__))
        nics = tuple(_nics(placed.path, placed.machine, inner, leases, mtus, first_name or lab.name))
        management = leases.management[placed.level]
        digest = definition(machine, nics, management, key, _bridges(lab, placed, nics))
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
            )
        )
    return Blueprint(lab.name, lab.segments, tuple(specs), MappingProxyType(images), lab.on, lab.patience)


def definition(
    machine: Machine, nics: tuple[Nic, ...], management: str, image: str, also: Iterable[object] = ()
) -> str:
    """A digest of everything that takes a start to change. Of its disk only whether there is one."""
    drive = diskless(machine.image) and machine.disk is not None
    return digest_of(starting(machine), drive, nics, management, image, *also)


def starting(machine: Machine) -> Machine:
    """A machine as far as its start decides what of it holds."""
    image = replace(machine.image, name=None, said=None)
    return replace(machine, node=None, disk=None, ssh_keys=(), setup=None, image=image)


def root_of(image: str, container: bool) -> str:
    """A digest of what a disk is made from: the key of an image, and whether it is a container's."""
    return digest_of(image, container)


def diskless(image: Image) -> bool:
    """Whether machines of an image have a disk only where the lab file gives them one."""
    medium = image.format == "iso" or (image.file is not None and image.file.lower().endswith(".iso"))
    return image.base == "tiny" or medium


def _bridges(lab: Lab, placed: Placed, nics: Iterable[Nic]) -> Iterable[tuple[str, str, int | None]]:
    """What an outermost machine's cards are put on that the lab file names: cards do not follow when it changes."""
    if placed.level > 1:
        return
    on = {nic.segment for nic in nics}
    for segment in lab.segments:
        if segment.bridge is not None and segment.name in on:
            yield segment.name, segment.bridge, segment.vlan


def bare(machine: Machine) -> Machine:
    """The machine without what runs inside it."""
    return replace(machine, machines=())


def carried_segments(lab: Lab) -> dict[str, tuple[str, ...]]:
    """By path of a hypervisor: the segments that machines inside it use, at any depth, which it must bridge."""
    carried: dict[str, dict[str, None]] = {}
    for placed in lab.walk():
        outer = placed.parent
        while outer:
            for link in placed.machine.links:
                carried.setdefault(outer, {})[link.segment] = None
            outer = parent_of(outer)
    return {path: tuple(segments) for path, segments in carried.items()}


def _nics(
    path: str, machine: Machine, carried: tuple[str, ...], leases: Leases, mtus: Mapping[str, int], lab: str
) -> Iterable[Nic]:
    stated = {link.segment: link for link in machine.links}
    for segment in dict.fromkeys([*stated, *carried]):
        link = stated.get(segment)
        addresses: tuple[str, ...] = ()
        if link is not None:
            subnet = leases.subnets[segment]
            four, six = leases.addresses[f"{path}@{segment}"]
            addresses = (f"{four}/{subnet.cidr.split('/')[1]}", f"{six}/{subnet.cidr6.split('/')[1]}")
        mac = link.mac if link is not None and link.mac else mac_of(lab, path, segment)
        yield Nic(segment, mac, mtus[segment], addresses, bridge=segment in carried)


def mac_of(lab: str, path: str, segment: str) -> str:
    """A MAC address that is always the same for a card: locally administered, with four octets of a digest, so that
    among 1,000 cards two are the same in 1 of 10,000 labs."""
    tail = digest_of(lab, path, segment)[:8]
    return "52:54:" + ":".join(tail[at : at + 2] for at in (0, 2, 4, 6))
