"""VLANs in a lab file: what they become, and every way to say them wrongly."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from nestlab.base.errors import Mistakes
from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, settle
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.model import Lab, Link, Segment, Vlan
from nestlab.lab.vlans import network_of, networks
from nestlab.labfile.parse import parse_text
from nestlab.labfile.render import render
from nestlab.show.graph import mermaid, of_blueprint, of_lab
from nestlab.verbs.reachability import pairs_of

TRUNK = """
lab: trunk
segments:
  lan: {vlans: [10, {vlan: 20, cidr: 10.20.0.0/24}], transparent: true}
machines:
  hv1:
    hypervisor: kvm
    segments: [lan]
    machines:
      a: {image: tiny, segments: {lan: {vlan: 10}}}
      deep: {hypervisor: kvm, machines: {b: {image: tiny, segments: {lan: {vlan: 20, address: 10.20.0.9}}}}}
  hv2: {hypervisor: kvm, segments: {lan: {trunk: true}}}
  a: {image: tiny, segments: {lan: {vlan: 10}}}
  p: {image: tiny, segments: [lan]}
"""


def parsed(text: str) -> Lab:
    return parse_text(text, environ={})


def blueprint(text: str) -> Blueprint:
    lab = parsed(text)
    keys = {placed.machine.image: placed.machine.image.base or "" for placed in lab.walk()} | {PROBE: "tiny"}
    return settle(lab, lease(lab, Leases(), []), keys)


def mistakes(text: str) -> list[tuple[str, str, str]]:
    """Key, what, and what to do of each."""
    with pytest.raises(Mistakes) as caught:
        parsed(text)
    return [(each.key, each.what, each.hint) for each in caught.value.mistakes]


def test_a_segment_names_its_vlans_and_a_card_says_which_it_is_on() -> None:
    lab = parsed(TRUNK)
    assert lab.segments == (Segment("lan", vlans=(Vlan(10), Vlan(20, "10.20.0.0/24")), transparent=True),)
    hv1, hv2, a, p = lab.machines
    assert (hv1.links, hv2.links) == ((Link("lan"),), (Link("lan", trunk=True),))
    assert (a.links, p.links) == ((Link("lan", vlan=10),), (Link("lan"),))


def test_what_a_lab_file_says_of_vlans_is_written_back() -> None:
    lab = parsed(TRUNK)
    assert parsed(render(lab)) == lab
    made = blueprint(TRUNK)
    assert blueprint_from_json(blueprint_to_json(made)) == made


def test_every_vlan_is_a_network_of_its_own_named_or_not() -> None:
    lab = parsed(TRUNK.replace("{vlan: 10}}}\n  p", "{vlan: 30}}}\n  p").replace("vlans: [10, ", "vlans: [10, 30, "))
    assert [each.name for each in networks(lab)] == ["lan", "lan.10", "lan.20", "lan.30"]
    unnamed = parsed("lab: x\nsegments: {lan: }\nmachines: {a: {image: tiny, segments: {lan: {vlan: 7}}}}")
    assert [each.name for each in networks(unnamed)] == ["lan", "lan.7"]
    leases = lease(lab, Leases(), [])
    assert leases.subnets["lan.20"].cidr == "10.20.0.0/24"
    assert len({subnet.cidr for subnet in leases.subnets.values()}) == 4
    assert leases.addresses["hv1/deep/b@lan"][0] == "10.20.0.9"
    assert lease(lab, leases, []) == leases


def test_a_machine_that_changes_its_vlan_gets_an_address_there() -> None:
    before = lease(parsed(TRUNK), Leases(), [])
    after = lease(parsed(TRUNK.replace("{vlan: 10}}}\n  p", "{vlan: 20}}}\n  p")), before, [])
    assert after.addresses["a@lan"][0].startswith("10.20.0.")
    assert after.addresses["hv1/a@lan"] == before.addresses["hv1/a@lan"]


def test_who_is_on_a_vlan_is_known_by_its_address_there_and_proven_among_its_own() -> None:
    made = blueprint(TRUNK)
    assert {path: set(found) for path, found in pairs_of(made).items()} == {
        "hv1": {"lan"},
        "hv1/a": {"lan.10"},
        "hv1/deep": set(),
        "hv1/deep/b": set(),
        "hv2": {"lan"},
        "a": {"lan.10"},
        "p": {"lan"},
    }
    assert {network_of(link) for placed in parsed(TRUNK).walk() for link in placed.machine.links} == {
        "lan",
        "lan.10",
        "lan.20",
    }


def test_a_name_stands_for_the_address_on_the_vlan_that_both_are_on() -> None:
    text = "lab: x\nsegments: {lan: , back: }\nmachines:\n"
    text += "  a: {image: tiny, segments: {back: {vlan: 5}, lan: {vlan: 10}}}\n"
    for name, segments in (("b", "{lan: {vlan: 10}}"), ("c", "{back: {vlan: 5}}"), ("d", "{back: , lan: {vlan: 9}}")):
        text += f"  {name}: {{image: tiny, segments: {segments}}}\n"
    made = blueprint(text)
    on = {nic.segment: nic.addresses[0].split("/")[0] for nic in made["a"].nics}
    named = {path: next(line for line in made[path].hosts.splitlines() if " a.x.internal" in line) for path in "bcd"}
    assert {path: line.split()[0] for path, line in named.items()} == {"b": on["lan"], "c": on["back"], "d": on["back"]}


def test_a_hypervisor_carries_tags_as_soon_as_a_machine_inside_is_on_a_vlan_at_any_depth() -> None:
    made = blueprint(TRUNK)
    ports = {spec.path: [(nic.port, nic.bridge, nic.transparent) for nic in spec.nics] for spec in made.specs}
    assert ports == {
        "hv1": [("trunk", True, True)],
        "hv1/a": [("10", False, False)],
        "hv1/deep": [("trunk", True, True)],
        "hv1/deep/b": [("20", False, False)],
        "hv2": [("trunk", True, True)],  # what is in hv1 may move there
        "a": [("10", False, False)],
        "p": [("", False, False)],
    }


def test_a_lab_without_vlans_is_made_of_what_it_always_was() -> None:
    """Machines of labs that are up stay as they are: what is new says nothing where it is not used."""
    text = "lab: x\nsegments: {w: {cidr: 10.1.0.0/24, cidr6: 'fd01::/64'}}\nmachines:\n"
    text += "  hv: {hypervisor: kvm, segments: [w], machines: {m: {image: tiny, segments: [w]}}}\n"
    made = blueprint(text)
    assert not {"vlan", "trunk", "transparent"} & {
        word for line in blueprint_to_json(made).split('"') for word in (line.strip(),)
    }
    named = blueprint(text.replace("'fd01::/64'", "'fd01::/64', vlans: [10]"))
    assert [spec.digest for spec in named.specs] == [spec.digest for spec in made.specs]


LAB = """
lab: x
segments:
  lan: {vlans: [10, {vlan: 20, cidr: 10.20.0.0/24}]}
  free:
  wide: {cidr: 10.9.0.0/16}
machines:
  hv:
    hypervisor: kvm
    machines: {in: {image: tiny, segments: {free: {vlan: 7}}}}
  m: {image: tiny, segments: {SAID}}
"""


@pytest.mark.parametrize(
    ("said", "key", "what", "hint"),
    [
        ("lan: {vlan: 4095}", "vlan", "found 4095, expected a whole number from 2 to 4094", "reserved"),
        ("lan: {vlan: 0}", "vlan", "found 0, expected a whole number from 2 to 4094", "reserved"),
        ("lan: {vlan: 1}", "vlan", "found 1, expected", "leave `vlan` out"),
        ("lan: {vlan: '10'}", "vlan", "found the text", "quotes"),
        ("lan: {vlan: 30}", "vlan", "the segment lan has no VLAN 30", "There is `10`, `20`"),
        ("lan: {vlan: 120}", "vlan", "the segment lan has no VLAN 120", "Did you mean `10`?"),
        ("lan: {vlans: [10, 20]}", "vlans", "`vlans` is not a key of a card", "Did you mean `trunk`?"),
        ("lan: {tag: 10}", "tag", "`tag` is not a key of a card", "Did you mean `vlan`?"),
        ("lan: {trunk: [10, 20]}", "trunk", "found a list", ""),
        ("lan: {trunk: true}", "trunk", "a trunk to m, which is a plain guest", "`vlan: 20`"),
        (
            "lan: {vlan: 10, address: 10.20.0.5}",
            "address",
            "10.20.0.5 is in no network: the segment lan.10",
            "vlan: 10",
        ),
        (
            "lan: {vlan: 20, address: 10.9.0.5}",
            "address",
            "outside 10.20.0.0/24, the network of the segment lan.20",
            "",
        ),
    ],
)
def test_a_card_that_says_a_vlan_wrongly_is_a_mistake_with_its_place(said: str, key: str, what: str, hint: str) -> None:
    [(place, found, todo)] = mistakes(LAB.replace("SAID", said))
    assert place == f"machines.m.segments.{said.split(':')[0]}.{key}"
    assert found.startswith(what) or what in found
    assert hint in todo


def test_a_card_is_on_one_vlan_or_a_trunk() -> None:
    text = LAB.replace("SAID", "").replace("kvm\n", "kvm\n    segments: {lan: {trunk: true, vlan: 10}}\n")
    [(place, what, _)] = mistakes(text)
    assert (place, what) == ("machines.hv.segments.lan.vlan", what)
    assert what.startswith("`vlan` and `trunk` exclude each other")


def test_a_hypervisor_is_on_one_vlan_only_where_nothing_inside_uses_the_segment() -> None:
    inside = LAB.replace("SAID", "")
    assert parsed(inside.replace("kvm\n", "kvm\n    segments: {lan: {vlan: 10}}\n"))
    [(place, what, hint)] = mistakes(inside.replace("kvm\n", "kvm\n    segments: {free: {vlan: 8}}\n"))
    assert place == "machines.hv.segments.free.vlan"
    assert "VLAN 8 of free alone, and hv/in inside is on that segment, too (line 11)" in what
    assert "Leave out `vlan`" in hint


def test_a_disk_of_ones_own_may_have_a_trunk(tmp_path: object) -> None:
    from pathlib import Path

    disk = Path(str(tmp_path)) / "router.raw"
    disk.write_bytes(bytes(1 << 20))
    text = LAB.replace("SAID", "lan: {trunk: true}").replace("m: {image: tiny", f"m: {{image: {{file: {disk}}}")
    assert parsed(text).machines[1].links == (Link("lan", trunk=True),)


@pytest.mark.parametrize(
    ("segment", "key", "what"),
    [
        ("{vlans: [10, 10]}", "vlans[1]", "VLAN 10 is here twice"),
        ("{vlans: [10, {vlan: 10}]}", "vlans[1]", "VLAN 10 is here twice"),
        ("{vlans: [{cidr: 10.2.0.0/24}]}", "vlan", "`vlan` is missing"),
        ("{vlans: [4095]}", "vlans[0]", "found 4095"),
        ("{vlans: 10}", "vlans", "found 10, expected a list"),
        ("{trunk: [10, 20]}", "trunk", "`trunk` is not a key of a segment"),
        ("{cidr: 10.2.0.0/16, vlans: [{vlan: 10, cidr: 10.2.1.0/24}]}", "vlans[0].cidr", "10.2.1.0/24 overlaps"),
        ("{vlans: [{vlan: 9, cidr: 10.2.0.0/24}, {vlan: 10, cidr: 10.2.0.0/24}]}", "vlans[1].cidr", "10.2.0.0/24 over"),
    ],
)
def test_a_segment_that_says_its_vlans_wrongly_is_a_mistake_with_its_place(segment: str, key: str, what: str) -> None:
    found = mistakes(f"lab: x\nsegments: {{lan: {segment}}}\nmachines: {{m: {{image: tiny, segments: [lan]}}}}")
    assert len(found) == 1
    assert found[0][0].endswith(key)
    assert found[0][1].startswith(what)


def test_a_drawing_says_which_vlan_a_card_is_on() -> None:
    drawn = mermaid(of_lab(parsed(TRUNK)))
    assert "10.20.0.9 VLAN 20" in drawn
    assert "trunk" in drawn
    made = of_blueprint(blueprint(TRUNK))
    assert made.segments["lan"] == str(ip_interface(blueprint(TRUNK)["p"].nics[0].addresses[0]).network)
    assert any(card.endswith(" VLAN 10") for box in made.boxes for _, card in box.cards)


ON = "on: pve://root@pam!lab@pve1\n"


def test_on_a_proxmox_ve_a_segment_is_not_transparent_and_a_vlan_has_none_inside() -> None:
    machines = "machines: {m: {image: debian, segments: {lan: {vlan: 10}}}}\n"
    [(key, what, _)] = mistakes(f"lab: x\n{ON}segments: {{lan: {{transparent: true}}}}\n{machines}")
    assert (key, what.split(":")[0]) == ("segments.lan.transparent", "`transparent` means nothing on a Proxmox VE")
    bridge = "bridge: vmbr1, vlan: 77"
    [(key, what, _)] = mistakes(f"lab: x\n{ON}segments: {{lan: {{{bridge}}}}}\n{machines}")
    assert key == "machines.m.segments.lan.vlan"
    assert "the whole segment lan is VLAN 77" in what
    both = mistakes(f"lab: x\n{ON}segments: {{lan: {{{bridge}, vlans: [10]}}}}\n{machines}")
    assert [each[0] for each in both] == ["segments.lan.vlans", "machines.m.segments.lan.vlan"]
    assert parsed(f"lab: x\n{ON}segments: {{lan: {{bridge: vmbr1, vlans: [10]}}}}\n{machines}")
