"""The VLAN part of the table in `fields`: of a segment, of a card on one, and a VLAN itself."""

from __future__ import annotations

from nestlab.lab.vlans import HIGHEST, LOWEST
from nestlab.labfile.shapes import Boolean, Cidr, Either, Field, Integer, ListOf, Record, Ref

NUMBER = Integer(
    LOWEST,
    HIGHEST,
    why="0 and 4095 are reserved (IEEE 802.1Q), and 1 is what bridges call frames without a tag: leave `vlan` out for"
    " those.",
)

VLANS_OF_SEGMENT = (
    Field(
        "vlans",
        ListOf(Either((Ref("vlan"), NUMBER))),
        "The VLANs that cards on it may be on, each with networks of its own. Left out, they may be on any.",
        example="[10, 20]",
        misnomers=("trunk", "trunks", "tags", "allowed_vlans"),
    ),
    Field(
        "transparent",
        Boolean(),
        "Whether hypervisors on it pass on LACP, LLDP and EAPOL, which Linux bridges keep to themselves. STP they pass"
        " anyway; pause frames never.",
        default="false",
        misnomers=("group_fwd_mask", "l2_transparent"),
    ),
)

VLANS_OF_LINK = (
    Field(
        "vlan",
        NUMBER,
        "The VLAN of the segment that the card is on. The machine itself sees no tags.",
        default="the frames without a tag",
        example="20",
        misnomers=("tag", "vid", "access", "pvid"),
    ),
    Field(
        "trunk",
        Boolean(),
        "Whether the card gets the frames of every VLAN, with their tags. For hypervisors, where it is so anyway as"
        " soon as machines inside are on VLANs, and for disks of yours.",
        default="false",
        misnomers=("vlans", "trunks", "tagged"),
    ),
)

VLAN = Record(
    "vlan",
    "a VLAN",
    "A VLAN of a segment, with its networks. What is left out is leased.",
    (
        Field("vlan", NUMBER, "Its number.", example="20", required=True, misnomers=("id", "tag", "vid")),
        Field("cidr", Cidr(4), "Its IPv4 network.", default="leased", example="10.20.0.0/24", misnomers=("subnet",)),
        Field("cidr6", Cidr(6), "Its IPv6 network.", default="leased", example='"fd20::/64"', misnomers=("subnet6",)),
    ),
    example="""\
segments:
  lan:
    vlans:
      - 10
      - {vlan: 20, cidr: 10.20.0.0/24}
""",
)
