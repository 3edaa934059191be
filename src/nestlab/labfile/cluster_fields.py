"""What a lab file may say about clusters: a part of the table in `fields`."""

from __future__ import annotations

from nestlab.lab.clusters import NAME_LIMIT
from nestlab.labfile import words_of_others
from nestlab.labfile.shapes import Either, Field, ListOf, MapOf, Name, Nothing, Record, Ref, Reference

_SEGMENT = Reference("segment")
_MEMBERS = ListOf(Reference("machine"))

CLUSTERS = Field(
    "clusters",
    Either((MapOf(Name("cluster", NAME_LIMIT), Either((_MEMBERS, Ref("cluster")))), Nothing())),
    "Clusters of hypervisors, by name: the members, or more about it. `up` makes them, and changes them as they change"
    " here (docs/clusters.md).",
    example="{trio: [hv1, hv2, hv3]}",
    misnomers=("cluster", "pools", "groups"),
)

CLUSTER = Record(
    "cluster",
    "a cluster",
    f"Hypervisors of one kind, on one level, that are a cluster. Its name has at most {NAME_LIMIT} letters, as Proxmox"
    " VE allows. A machine that is added to `members` joins, and one that is taken out leaves.",
    (
        Field(
            "members",
            _MEMBERS,
            "The machines, by name, or by path where they are inside others (`hv1/a`).",
            required=True,
            example="[hv1, hv2, hv3]",
            misnomers=("nodes", "machines", "hosts", "hypervisors"),
        ),
        Field(
            "networks",
            Either((Ref("cluster_networks"), Nothing())),
            "Which segments are used for what.",
            default="corosync uses the first segment of the first member",
            misnomers=("network", "links", "segments", "nets"),
        ),
        Field(
            "qdevice",
            Reference("machine"),
            "A machine of the lab, no member, that has a vote too: for an even number of members. For clusters"
            " of `pve`.",
            example="witness",
            misnomers=("qnetd", "witness", "quorum_device", "tiebreaker", "arbiter"),
        ),
    ),
    example="""\
clusters:
  trio: [hv1, hv2, hv3]
""",
    refused=words_of_others.OF_CLUSTER,
)

CLUSTER_NETWORKS = Record(
    "cluster_networks",
    "`networks` of a cluster",
    "Segments by what members use them for. All members have a card on each, without a VLAN or on the same one.",
    (
        Field(
            "management",
            _SEGMENT,
            "Where members call each other by name, and are managed.",
            default="the first segment of the first member",
            misnomers=("mgmt", "public", "admin"),
        ),
        Field(
            "link0",
            _SEGMENT,
            "What corosync uses.",
            default="`management`",
            misnomers=("corosync", "ring0", "cluster", "link"),
        ),
        Field("link1", _SEGMENT, "What corosync uses where link 0 fails.", misnomers=("ring1", "backup")),
        Field("storage", _SEGMENT, "By which disks of guests are reached that are elsewhere.", misnomers=("san",)),
        Field("migration", _SEGMENT, "By which guests move.", misnomers=("migrate", "vmotion")),
    ),
    example="""\
clusters:
  trio:
    members: [hv1, hv2, hv3]
    networks: {management: lan, link0: ring, link1: lan, migration: lan}
""",
)
