"""The Proxmox VE part of the table in `fields`.

Names are those that PVE takes (PVE::JSONSchema, PVE::AccessControl, PVE::Network::SDN::Zones).
"""

from __future__ import annotations

from nestlab.labfile.shapes import Boolean, Choice, Field, Integer, ListOf, PveAddress, Record, Text

NODE = Text("the name of a node", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", limit=63)
STORAGE = Text("the name of a storage", r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]", limit=100)
POOL = Text("the name of a pool", r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", limit=100)
ZONE = Text("the name of an SDN zone, of 2 to 8 letters and digits, first a letter", r"[A-Za-z][A-Za-z0-9]{1,7}")
BRIDGE = Text("the name of a bridge", r"[A-Za-z0-9_][A-Za-z0-9._-]*", limit=20)
CPU = Text("a CPU as PVE writes it", r"[A-Za-z0-9][A-Za-z0-9._=-]*(,[a-z-]+=[A-Za-z0-9._;+-]+)*", limit=200)

OF_MACHINE = (
    Field(
        "container",
        Boolean(),
        "Whether it is an unprivileged container (LXC) instead of a virtual machine. Inside a `kvm` hypervisor its"
        " image is nestlab's own `debian` or `tiny`, with additions if you like; on a Proxmox VE itself it is a"
        " container template, a file or a download. Containers may run in it: with the packages of LXC, Docker or"
        " Podman in its image nothing else is needed.",
        default="false",
        misnomers=("lxc", "ct"),
    ),
    Field(
        "node",
        NODE,
        "On a Proxmox VE: the node to make it on. A machine that is there stays where it is.",
        default="chosen",
        example="pve1",
        misnomers=("on", "target", "target_node", "server"),
    ),
)

HA = Field(
    "ha",
    Boolean(),
    "Whether Proxmox VE's high availability watches over it: for machines inside a `pve` hypervisor that is a member of"
    " a cluster. What has a disk of one node's alone stays on that node, and is started again there.",
    default="false",
    misnomers=("high_availability", "ha_managed", "hamanaged", "protected"),
)

OF_SEGMENT = (
    Field(
        "bridge",
        BRIDGE,
        "On a Proxmox VE: a bridge of its nodes that carries the segment, instead of a network made for it. What else"
        " is on that bridge is then on the segment.",
        example="vmbr1",
        misnomers=("vmbr", "ovs"),
    ),
    Field(
        "vlan",
        Integer(1, 4094),
        "The VLAN of the segment on that bridge, or in an SDN zone of type vlan or qinq.",
        example="77",
        misnomers=("tag", "vid"),
    ),
)

_SECRET = "A lab file holds no secrets: set NESTLAB_PVE_TOKEN=USER@REALM!ID=SECRET in the environment."

PVE = Record(
    "pve",
    "`on`",
    "A Proxmox VE that the outermost machines of the lab run on, and what of it they may use.",
    (
        Field(
            "pve",
            PveAddress(),
            "Its address: `pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]` for its API, `pve+ssh://[USER@]HOST[:22]`"
            " for a node by ssh, or `pve+local` for this computer, which is a node. It holds no secret.",
            example="pve://root@pam!lab@pve1",
            required=True,
            misnomers=("address", "url", "host", "endpoint", "api", "server"),
        ),
        Field("pool", POOL, "The resource pool its machines are in.", default="nestlab"),
        Field(
            "storage",
            STORAGE,
            "Where disks are made.",
            default="chosen, among those that make linked clones first",
            example="local-lvm",
            misnomers=("datastore", "disks"),
        ),
        Field(
            "images",
            STORAGE,
            "The storage that images are uploaded to; it must take the content `import`.",
            default="chosen",
            example="local",
            misnomers=("upload", "uploads", "templates", "iso"),
        ),
        Field("zone", ZONE, "The SDN zone that segments become networks of.", default="nestlab", misnomers=("sdn",)),
        Field(
            "bridge",
            BRIDGE,
            "A bridge of its nodes with DHCP, for machines with `internet: true`, and for ssh straight to them.",
            example="vmbr0",
            misnomers=("network", "vmbr", "outside"),
        ),
        Field(
            "nodes",
            ListOf(NODE),
            "The nodes that may be used.",
            default="all",
            example="[pve1, pve2]",
            misnomers=("node", "hosts"),
        ),
        Field(
            "placement",
            Choice(("spread", "pack")),
            "Which node a machine gets: the one with the most memory free, or the fullest that has room.",
            default="spread",
        ),
        Field(
            "cpu",
            CPU,
            "The CPU of hypervisors, in PVE's own words.",
            default="chosen for the nodes there are",
            example='"EPYC,flags=+nested-virt"',
            misnomers=("cputype", "cpu_type"),
        ),
    ),
    example="""\
on:
  pve: pve://root@pam!lab@pve1.example.org
  storage: local-lvm
  bridge: vmbr0
  nodes: [pve1, pve2]
""",
    refused={
        **dict.fromkeys(("token", "password", "secret"), _SECRET),
        **dict.fromkeys(
            ("user", "username"), "It is part of the address: pve://USER@REALM@HOST, or USER@REALM!TOKENID."
        ),
        **dict.fromkeys(("fingerprint", "ca"), "Set NESTLAB_PVE_FINGERPRINT or NESTLAB_PVE_CA in the environment."),
        "port": "It is part of the address: pve://HOST:8006.",
    },
)
