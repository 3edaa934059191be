"""What a lab file may say: the one table that reading, the JSON Schema and the reference are made from."""

from __future__ import annotations

from nestlab import kinds
from nestlab.lab.model import LAB_NAME_LIMIT, MIB, TIB
from nestlab.labfile import words_of_others
from nestlab.labfile.cluster_fields import CLUSTER, CLUSTER_NETWORKS, CLUSTERS
from nestlab.labfile.drive_fields import DISK_RECORD, DISK_SIZE, DRIVES, MEDIUM_RECORD
from nestlab.labfile.hardware_fields import CARD, HARDWARE, SMBIOS, TOPOLOGY
from nestlab.labfile.image_fields import ENTRY, IMAGE
from nestlab.labfile.install_fields import INSTALL
from nestlab.labfile.netboot_fields import NETBOOT, NETBOOT_OF_SEGMENT
from nestlab.labfile.port_fields import PORTS
from nestlab.labfile.pve_fields import HA, OF_MACHINE, OF_SEGMENT, PVE
from nestlab.labfile.pve_package_fields import MIRROR_FIELD
from nestlab.labfile.pve_package_fields import RECORD as PVE_MIRROR
from nestlab.labfile.ready_fields import OF_READY, READY
from nestlab.labfile.setup_fields import FIRST_BOOT, SETUP
from nestlab.labfile.shapes import (
    Address,
    Boolean,
    Choice,
    Cidr,
    Either,
    Field,
    Integer,
    ListOf,
    LocalPath,
    Mac,
    MapOf,
    Name,
    Nothing,
    PveAddress,
    Record,
    Ref,
    Reference,
    Size,
    Text,
)
from nestlab.labfile.vlan_fields import VLAN, VLANS_OF_LINK, VLANS_OF_SEGMENT

MEMORY = Size(64 * MIB, 16 * TIB)
DISK = DISK_SIZE

MTU = Integer(1280, 65521, why="Every segment has IPv6, which needs 1280 (RFC 8200, section 5).")

MACHINES_LIMIT = 10_000
CARDS_LIMIT = 100_000
"""Cards of all machines together."""
SIZE_LIMIT = 200_000
"""Keys and values in a lab file with its aliases written out."""
WRITTEN_LIMIT = 50_000
"""Keys and values as they are written, with all included files; what is nested counts for more, as it takes longer."""
DEPTH_LIMIT = 100
MISTAKES_LIMIT = 100
"""After so many mistakes reading ends."""

RESERVED = frozenset({"localhost", "localdomain", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters"})
"""Names that /etc/hosts gives another meaning."""

_OF_IMAGE = "It is said of an image of yours: `image: {file: ./disk.qcow2, cloud_init: {…}}`. `setup` works with any."
CMDLINE = Text("kernel parameters in one line of ASCII", r"[ -~]*", limit=1024)

MACHINE = Record(
    "machine",
    "a machine",
    "A machine, by its name: a host name of at most 63 lower-case letters, digits and dashes.",
    (
        Field(
            "hypervisor",
            Either((Choice(tuple(sorted(kinds.names())), others=kinds.NOT_YET), Nothing())),
            "What kind of hypervisor the machine is to the machines inside it. Left out (or empty): a plain guest. In"
            " all but `kvm`, `libvirt` and `pve` nestlab does not work: it boots them from an image of yours, with vmx"
            " or svm.",
            example="kvm",
            misnomers=("kind", "type", "role", "host"),
        ),
        Field(
            "image",
            Either((Reference("image"), Ref("image"))),
            "What it boots: one of nestlab's images, one from `images`, or one described right here; `none`: nothing,"
            " its `disk` is empty, and it boots from a CD-ROM or by network.",
            default="the image of its kind of hypervisor, `debian` for a plain guest",
            example="tiny",
            misnomers=("box", "template", "os", "iso"),
        ),
        Field(
            "cpus",
            Integer(1, 512),
            "Virtual CPUs. Where a hypervisor may be emulated, leave it at 1: with more, it was seen to panic or to"
            " end, rarely.",
            default="1",
            example="2",
            misnomers=("vcpus", "cores", "smp", "vcpu", "processors"),
        ),
        Field(
            "memory",
            MEMORY,
            "Memory, with a unit: powers of 1024. A hypervisor's must hold its machines and what it needs itself.",
            default="512M for `debian`, 128M for `tiny` (UEFI: 256M; containers: 128M and 64M), 1G for a file; a"
            " hypervisor: 1G and its guests'",
            example="4G",
            misnomers=("ram", "mem", "maxmem"),
        ),
        Field(
            "disk",
            DISK,
            "Size of its disk, which takes only as much room as is written. `tiny` has none. `disks` are beside it.",
            default="the size of its image",
            example="32G",
            misnomers=("storage", "size", "rootfs"),
        ),
        Field(
            "segments",
            Either(
                (
                    ListOf(Reference("segment")),
                    MapOf(Reference("segment"), Either((Nothing(), Address(), Ref("link")))),
                    Nothing(),
                )
            ),
            "The segments it has a card on: a list of names, or names with addresses.",
            example="[wire]",
            misnomers=("network", "networks", "nics", "nic", "links", "interfaces", "net"),
        ),
        Field(
            "internet",
            Boolean(),
            "Whether it reaches the networks of the computer that nestlab runs on, and what listens on its 127.0.0.1.",
            default="false",
            misnomers=("egress", "nat", "wan"),
        ),
        Field(
            "accel",
            Choice(("auto", "kvm", "tcg")),
            "How it is run: `kvm`, or emulated by `tcg` (many times slower), or whichever is proved to work.",
            default="auto",
            misnomers=("accelerator", "acceleration", "virt"),
        ),
        Field(
            "cmdline",
            CMDLINE,
            "Kernel parameters to add. Not for an image that is a file, which boots by its own boot loader.",
            example="kvm_amd.nested=0",
            misnomers=("append", "kernel_args", "args"),
        ),
        *HARDWARE,
        *OF_READY,
        *DRIVES,
        *FIRST_BOOT,
        PORTS,
        *OF_MACHINE,
        HA,
        Field(
            "machines",
            Either((MapOf(Name("machine"), Ref("machine")), Nothing())),
            "The machines that run inside it; for a hypervisor only.",
            misnomers=("guests", "vms", "children", "nodes"),
        ),
    ),
    example="""\
machines:
  hv1:
    hypervisor: kvm
    cpus: 2
    segments: {wire: {address: 10.77.0.11}}
    machines:
      web: {image: tiny, segments: [wire]}
""",
    refused={
        "kernel": "It is said of an image: `image: {from: debian, kernel: generic}`. Kernel parameters are `cmdline`.",
        "suite": "It is said of an image: `image: {from: debian, suite: bookworm}`.",
        "packages": "They are said of an image: `image: {from: debian, packages: [curl]}`.",
        "files": "They are said of an image (`image: {from: debian, files: …}`), or in `setup`.",
        "cloud_init": _OF_IMAGE,
        "user_data": _OF_IMAGE,
        "cloud-init": _OF_IMAGE,
        "user": "It is said of an image: `image: {file: ./disk.qcow2, user: admin}`.",
        **words_of_others.OF_MACHINE,
    },
)

LINK = Record(
    "link",
    "a card",
    "A machine's card on a segment. What is left out is chosen once and kept.",
    (
        Field(
            "address",
            Address(4),
            "Its IPv4 address, inside the `cidr` of the segment.",
            example="10.77.0.11",
            misnomers=("ip", "ipv4", "ip_address", "ipaddr"),
        ),
        Field("address6", Address(6), "Its IPv6 address, inside the `cidr6` of the segment.", example="fd77::11"),
        Field("mac", Mac(), "The address of the card.", default="made from the names", example='"52:54:00:aa:bb:cc"'),
        CARD,
        *VLANS_OF_LINK,
    ),
    example="""\
segments:
  wire: {address: 10.77.0.11, address6: "fd77::11"}
  back: 10.78.0.11
  lan: {vlan: 20}
  spare:
""",
)

SEGMENT = Record(
    "segment",
    "a segment",
    "An isolated layer-2 network between machines at any level. Nothing leaves it. Networks left out are leased: chosen"
    " so that they collide with no route of the computer, and kept.",
    (
        Field(
            "cidr",
            Cidr(4),
            "Its IPv4 network.",
            default="leased",
            example="10.77.0.0/24",
            misnomers=("subnet", "network", "ipv4", "address"),
        ),
        Field(
            "cidr6",
            Cidr(6),
            "Its IPv6 network, a /64 or larger.",
            default="leased",
            example='"fd77::/64"',
            misnomers=("subnet6", "ipv6", "prefix"),
        ),
        Field("mtu", MTU, "The largest packet, in bytes.", default="1500", example="9000"),
        *VLANS_OF_SEGMENT,
        NETBOOT_OF_SEGMENT,
        *OF_SEGMENT,
    ),
    example="""\
segments:
  wire: {cidr: 10.77.0.0/24, cidr6: "fd77::/64", mtu: 9000}
  lan: {vlans: [10, {vlan: 20, cidr: 10.20.0.0/24}]}
  back:
""",
    refused=words_of_others.OF_SEGMENT,
)

DEFAULTS = Record(
    "defaults",
    "`defaults`",
    "What machines say when they do not say it themselves. `image` is for plain guests only, and a `memory` too small"
    " for a hypervisor's machines does not count for that hypervisor. `disk` and `cmdline` pass over images that have"
    " no use for them, `node` over machines inside others, and `container` over hypervisors, over images that no"
    " container is made from, over machines inside others on a Proxmox VE, and over outermost ones elsewhere.",
    tuple(field for field in MACHINE.fields if field.name not in ("machines", "ha")),
    example="defaults: {cpus: 2, memory: 2G, segments: [wire]}\n",
)

LAB = Record(
    "lab",
    "the lab file",
    "What stands at the left margin.",
    (
        Field(
            "lab",
            Name("lab", LAB_NAME_LIMIT),
            "The name of the lab.",
            example="pair",
            required=True,
            misnomers=("name", "title"),
        ),
        Field(
            "on",
            Either((PveAddress(local=True), Ref("pve"))),
            "Where the outermost machines run: on this computer (`local`), on its libvirt (`qemu:///system`), on"
            " another Linux host (`ssh://[USER@]HOST[:22]`), on that one's libvirt (`qemu+ssh://[USER@]HOST[:22]/system`),"
            " or on a Proxmox VE.",
            default="local",
            example="pve://root@pam!lab@pve1",
            misnomers=("where", "target", "provider"),
        ),
        Field(
            "patience",
            Integer(1, 1000),
            "What every wait for the lab's machines is multiplied by: more than 1 where its computer is slow or busy."
            " `--patience` and NESTLAB_PATIENCE count instead of it where they are given.",
            default="1",
            example="3",
            misnomers=("timeout", "timeouts", "wait"),
        ),
        Field(
            "include",
            Either((LocalPath(), ListOf(LocalPath()))),
            "Other files to take in, relative to this one. Mappings are merged; later files win, this file over all.",
            example="common.yaml",
            misnomers=("includes", "import", "extends"),
        ),
        MIRROR_FIELD,
        Field("defaults", Either((Ref("defaults"), Nothing())), "For all machines.", misnomers=("default",)),
        Field(
            "segments",
            Either((MapOf(Name("segment"), Either((Nothing(), Ref("segment")))), Nothing())),
            "The networks between machines, by name.",
            misnomers=("networks", "network", "bridges", "vlans"),
        ),
        Field(
            "images",
            Either((MapOf(Name("image"), Ref("image")), Nothing())),
            "Images by name, for `image:` of machines.",
            misnomers=("boxes", "templates"),
        ),
        Field(
            "machines",
            MapOf(Name("machine"), Ref("machine")),
            "The machines, by name, and inside them theirs.",
            required=True,
            misnomers=("nodes", "vms", "hosts", "hypervisors", "topology"),
        ),
        CLUSTERS,
    ),
    example="""\
lab: pair
segments:
  wire:
machines:
  hv1: &node
    hypervisor: kvm
    segments: [wire]
    machines:
      web: {image: tiny, segments: [wire]}
  hv2: *node
""",
    refused={
        "ssh_keys": "Say it under `defaults:`, for all machines, or of a machine.",
        "setup": "Say it under `defaults:`, for all machines, or of a machine.",
    },
)

_ALL = (
    LAB,
    PVE,
    DEFAULTS,
    MACHINE,
    READY,
    DISK_RECORD,
    MEDIUM_RECORD,
    TOPOLOGY,
    SMBIOS,
    SETUP,
    LINK,
    SEGMENT,
    VLAN,
    NETBOOT,
    CLUSTER,
    CLUSTER_NETWORKS,
    IMAGE,
    PVE_MIRROR,
    INSTALL,
    ENTRY,
)
RECORDS = {record.name: record for record in _ALL}
