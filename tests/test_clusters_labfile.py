"""What a lab file says about clusters, and every mistake in it with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_clustering import PlainClustering, clustered
from nestlab.base.errors import Mistakes
from nestlab.lab.clusters import Cluster, even
from nestlab.lab.model import MIB, Lab
from nestlab.labfile import parse_text, render
from nestlab.labfile.parse import check

HEAD = """\
lab: x
segments: {lan: {vlans: [10, 20]}, ring: {}, far: {}}
machines:
  hv1: {hypervisor: kvm, segments: [lan, ring]}
  hv2: {hypervisor: kvm, segments: [lan, ring]}
  hv3: {hypervisor: kvm, segments: [ring, lan]}
  hv4: {hypervisor: kvm, segments: [lan]}
  web: {image: debian, segments: [lan]}
"""


@pytest.fixture(autouse=True)
def kvm_makes_clusters() -> Iterator[None]:
    with clustered(PlainClustering()):
        yield


def lab(clusters: str, head: str = HEAD) -> Lab:
    return parse_text(f"{head}clusters:\n{clusters}", environ={})


def mistakes(clusters: str, head: str = HEAD) -> list[str]:
    with pytest.raises(Mistakes) as raised:
        lab(clusters, head)
    return [f"{each.line}:{each.column} {each.key}: {each.what}" for each in raised.value.mistakes]


def test_members_alone_are_a_cluster_on_the_first_segment_of_the_first_one() -> None:
    (found,) = lab("  trio: [hv1, hv2, hv3]\n").clusters
    assert found == Cluster("trio", ("hv1", "hv2", "hv3"), ("lan",), "lan")
    assert found.roles == {"management": "lan", "link0": "lan"}


def test_segments_have_roles() -> None:
    networks = "{management: lan, link0: ring, link1: lan, storage: ring, migration: lan}"
    (found,) = lab(f"  trio: {{members: [hv1, hv2, hv3], networks: {networks}}}\n").clusters
    assert found == Cluster("trio", ("hv1", "hv2", "hv3"), ("ring", "lan"), "lan", "ring", "lan")


def test_what_is_left_out_of_the_roles_follows_from_the_others() -> None:
    (found,) = lab("  trio: {members: [hv1, hv2], networks: {link1: ring}}\n").clusters
    assert (found.management, found.links) == ("lan", ("lan", "ring"))


def test_a_rendered_lab_has_the_same_clusters() -> None:
    made = lab("  a: [hv1, hv2]\n  b: {members: [hv3, hv4], networks: {management: lan}, qdevice: web}\n")
    assert parse_text(render(made), environ={}) == made


def test_members_may_be_inside_others() -> None:
    inner = "{hypervisor: kvm, segments: [lan]}"
    head = (
        "lab: x\nsegments: {lan: {}}\nmachines:\n"
        f"  one: {{hypervisor: kvm, segments: [lan], machines: {{a: {inner}}}}}\n"
        f"  two: {{hypervisor: kvm, segments: [lan], machines: {{b: {inner}}}}}\n"
    )
    assert lab("  c: [one/a, two/b]\n", head).clusters[0].members == ("one/a", "two/b")
    assert mistakes("  c: [one/a, b]\n", head) == ["7:14 clusters.c[1]: there is no machine `b`"]


def test_a_qdevice_brings_its_packages_and_those_of_the_members() -> None:
    made = lab("  pair: {members: [hv1, hv2], qdevice: web}\n")
    packages = {machine.name: machine.image.packages for machine in made.machines}
    assert packages["web"] == ("corosync-qnetd",)
    assert packages["hv1"] == packages["hv2"] == ("corosync-qdevice",)
    assert packages["hv3"] == ()
    assert made.clusters[0].votes == 3


def test_an_even_number_of_members_without_a_qdevice_is_noted_and_an_odd_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"{HEAD}clusters:\n  pair: [hv1, hv2]\n  one: [hv3]\n")
    found, notes = check(file, environ={})
    (note,) = notes
    assert (note.line, note.column, note.key) == (10, 3, "clusters.pair")
    assert "2 members: it has no quorum any more when 1 of them is lost" in note.what
    assert [bool(even(each)) for each in found.clusters] == [True, False]


BAD = {
    "a name of 16 letters": (
        "  abcdefghijklmnop: [hv1]\n",
        'clusters.abcdefghijklmnop: the name "abcdefghijklmnop" has 16 letters',
    ),
    "no member": ("  c: []\n", "clusters.c: cluster c has no members"),
    "no members at all": ("  c: {qdevice: web}\n", "members: `members` is missing"),
    "an unknown machine": ("  c: [hv1, hv9]\n", "clusters.c[1]: there is no machine `hv9`"),
    "a member twice": ("  c: [hv1, hv1]\n", "clusters.c[1]: hv1 is here twice"),
    "a plain guest": ("  c: [hv1, web]\n", "clusters.c[1]: web is a plain guest, and members are hypervisors"),
    "a member of two": ("  c: [hv1]\n  d: [hv1]\n", "clusters.d[0]: hv1 is in cluster c already"),
    "an unknown segment": (
        "  c: {members: [hv1], networks: {link0: nowhere}}\n",
        "clusters.c.networks.link0: there is no segment `nowhere`",
    ),
    "a member that is not on the link": (
        "  c: {members: [hv1, hv4], networks: {link0: ring}}\n",
        "clusters.c.networks.link0: hv4 has no card on ring, the link0 network of its cluster",
    ),
    "the same segment for both links": (
        "  c: {members: [hv1], networks: {link0: ring, link1: ring}}\n",
        "clusters.c.networks.link1: `link1` is ring, as `link0`: where that fails both do",
    ),
    "a qdevice that is a member": (
        "  c: {members: [hv1, hv2], qdevice: hv2}\n",
        "clusters.c.qdevice: hv2 is a member, and its vote would be lost with it",
    ),
    "a qdevice that is a hypervisor": (
        "  c: {members: [hv1, hv2], qdevice: hv3}\n",
        "clusters.c.qdevice: hv3 cannot be the qdevice: it is a plain machine of the image `debian`",
    ),
    "a qdevice for an odd number": (
        "  c: {members: [hv1, hv2, hv3], qdevice: web}\n",
        "clusters.c.qdevice: cluster c has 3 members: with an odd number a qdevice makes it weaker",
    ),
    "a qdevice that is not reached": (
        "  c: {members: [hv1, hv2], networks: {management: ring}, qdevice: web}\n",
        "clusters.c.qdevice: web has no card on ring, by which members would reach it",
    ),
    "an unknown key": ("  c: {members: [hv1], quorum: 1}\n", "clusters.c.quorum: `quorum` is not a key of a cluster"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_mistake_has_its_place(what: str) -> None:
    text, expected = BAD[what]
    found = mistakes(text)
    assert len(found) == 1
    assert expected in found[0]


def test_members_are_of_one_kind_on_one_level_with_names_and_vlans_that_fit() -> None:
    inner = "{hypervisor: kvm, segments: [lan]}"
    head = f"""\
lab: x
segments: {{lan: {{vlans: [10, 20]}}}}
machines:
  one: {{hypervisor: kvm, segments: [lan], machines: {{a: {inner}}}}}
  two: {{hypervisor: kvm, segments: [lan], machines: {{a: {inner}}}}}
"""
    assert mistakes("  c: [one/a, two]\n", head) == ["7:14 clusters.c[1]: two is on level 1, and one/a on level 2"]
    (same,) = mistakes("  c: [one/a, two/a]\n", head)
    assert same == "7:14 clusters.c[1]: two/a and one/a have the same host name, by which a cluster knows its members"
    tagged = """\
lab: x
segments: {lan: {vlans: [10, 20]}}
machines:
  one: {hypervisor: kvm, segments: {lan: {vlan: 10}}}
  two: {hypervisor: kvm, segments: {lan: {vlan: 20}}}
"""
    (apart,) = mistakes("  c: [one, two]\n", tagged)
    assert apart.endswith("clusters.c: one and two are on different VLANs of lan, and cannot reach each other there")


def test_a_kind_that_makes_none_is_a_mistake_and_so_are_two_kinds() -> None:
    head = (
        HEAD
        + "  pve1: {hypervisor: pve, segments: [lan]}\n  other: {hypervisor: other, image: none, segments: [lan]}\n"
    )
    with clustered(None, "pve"):
        (wrong,) = mistakes("  c: [pve1]\n", head)
    assert wrong.endswith("clusters.c[0]: nestlab makes no clusters of pve hypervisors, as pve1 is one")
    (wrong,) = mistakes("  c: [other]\n", head)
    assert wrong.endswith("clusters.c[0]: nestlab makes no clusters of other hypervisors, as other is one")
    with clustered(PlainClustering(), "pve"):
        (wrong,) = mistakes("  c: [hv1, pve1]\n", head)
    assert wrong.endswith("clusters.c[1]: pve1 is a pve, and hv1 a kvm: members are of one kind")


def test_a_member_has_memory_for_corosync_beside_its_machines() -> None:
    head = "lab: x\nsegments: {lan: {}}\nmachines:\n  hv1: {hypervisor: kvm, memory: MEMORY, segments: [lan]INSIDE}\n"
    small = head.replace("MEMORY", "256M").replace("INSIDE", "")
    (wrong,) = mistakes("  c: [hv1]\n", small)
    assert wrong.endswith("hv1 has 256M, and a member of a cluster needs more: corosync locks its own")
    assert lab("  c: [hv1]\n", small.replace("256M", "320M")).machines[0].memory == 320 * MIB
    holds = head.replace("INSIDE", ", machines: {a: {image: tiny}}")
    (wrong,) = mistakes("  c: [hv1]\n", holds.replace("MEMORY", "512M"))
    assert "hv1 has 512M" in wrong
    assert lab("  c: [hv1]\n", holds.replace("MEMORY", "662M"))


def test_a_qdevice_that_nobody_would_set_up_is_a_mistake() -> None:
    class Without(PlainClustering):
        qdevice_packages = None

    with clustered(Without()):
        (wrong,) = mistakes("  c: {members: [hv1, hv2], qdevice: web}\n")
    assert wrong.endswith("clusters.c.qdevice: nestlab sets up no qdevice for clusters of kvm yet")
