"""What is settled, and what a change changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, carried_segments, mac_of, settle
from nestlab.lab.model import GIB, Image, Lab, Machine, Segment
from nestlab.labfile import parse_text

PAIR = """
lab: pair
segments:
  wire: {cidr: 10.77.0.0/24, cidr6: "fd77::/64", mtu: 9000}
  back: {cidr: 10.78.0.0/24, cidr6: "fd78::/64"}
machines:
  hv1: &node
    hypervisor: kvm
    memory: 2G
    segments: [wire]
    machines:
      web: {image: tiny, segments: [wire]}
  hv2: *node
"""


def pair(text: str = PAIR) -> Lab:
    return parse_text(text, environ={})


def settled(lab: Lab, leases: Leases | None = None) -> Blueprint:
    """Image keys are made from the image here; they stand for what the image recipes digest."""
    images = {placed.machine.image for placed in lab.walk()} | {PROBE}
    keys = {image: f"{image.base}-{len(image.packages)}" for image in images}
    return settle(lab, leases or lease(lab, Leases(), []), keys)


def changed(change: Callable[[Machine], Machine], path: str) -> set[str]:
    """The paths whose digest is another after one machine of the pair has been changed."""

    def inside(machine: Machine, at: str) -> Machine:
        inner = tuple(inside(each, f"{at}/{each.name}") for each in machine.machines)
        machine = replace(machine, machines=inner)
        return change(machine) if at == path else machine

    lab = pair()
    leases = lease(lab, Leases(), [])
    before = settled(lab, leases)
    after_lab = replace(lab, machines=tuple(inside(machine, machine.name) for machine in lab.machines))
    after = settled(after_lab, lease(after_lab, leases, []))
    old = before.by_path()
    return {spec.path for spec in after.specs if spec.path in old and old[spec.path].digest != spec.digest}


def test_cards_have_addresses_with_prefix_and_the_mtu_of_their_segment() -> None:
    (nic,) = settled(pair())["hv1/web"].nics
    assert (nic.segment, nic.mtu, nic.bridge) == ("wire", 9000, False)
    assert nic.addresses == ("10.77.0.12/24", "fd77::12/64")
    assert nic.mac == mac_of("pair", "hv1/web", "wire")
    assert int(nic.mac[:2], 16) & 3 == 2, "locally administered, unicast"


def test_a_hypervisor_bridges_what_its_machines_use() -> None:
    text = PAIR.replace("web: {image: tiny, segments: [wire]}", "web: {image: tiny, segments: [back, wire]}")
    wire, back = settled(pair(text))["hv1"].nics
    assert (wire.segment, wire.bridge, len(wire.addresses)) == ("wire", True, 2)
    assert (back.segment, back.bridge, back.addresses) == ("back", True, ())


def test_segments_are_carried_through_every_level() -> None:
    inner = "{hypervisor: kvm, machines: {c: {image: tiny, segments: [back]}}}"
    text = f"lab: x\nsegments: {{back: }}\nmachines: {{a: {{hypervisor: kvm, machines: {{b: {inner}}}}}}}"
    assert carried_segments(parse_text(text, environ={})) == {"a": {"back": False}, "a/b": {"back": False}}


def test_a_stated_mac_is_used() -> None:
    text = PAIR.replace("  hv2: *node", "  hv2: {segments: {wire: {mac: '52:54:00:00:00:01'}}}")
    assert settled(pair(text))["hv2"].nics[0].mac == "52:54:00:00:00:01"


def test_images_of_inner_machines_are_on_board_of_every_outer_one() -> None:
    blueprint = settled(pair())
    assert blueprint["hv1"].cargo == ("tiny-0",)
    assert blueprint["hv1/web"].cargo == ()
    assert set(blueprint.images) == {"kvm-0", "tiny-0"}


def test_a_change_of_an_outer_machine_is_none_of_what_runs_inside_it() -> None:
    assert changed(lambda machine: replace(machine, memory=4 * GIB), "hv1") == {"hv1"}


def test_the_size_of_a_disk_is_no_reason_for_a_start_and_what_it_is_made_from_another_matter() -> None:
    assert changed(lambda machine: replace(machine, disk=4 * GIB), "hv1") == set()
    one = settled(pair())["hv1"]
    assert replace(one, machine=replace(one.machine, memory=4 * GIB)).root == one.root
    assert replace(one, image="other").root != one.root
    assert replace(one, machine=replace(one.machine, container=True)).root != one.root
    assert one.has_disk
    assert not settled(pair())["hv1/web"].has_disk


def test_a_change_of_an_inner_machine_leaves_the_outer_one_alone() -> None:
    assert changed(lambda machine: replace(machine, cpus=2), "hv1/web") == {"hv1/web"}


def test_a_change_of_an_image_changes_its_machines() -> None:
    image = Image(base="tiny", packages=("curl",))
    assert changed(lambda machine: replace(machine, image=image), "hv2/web") == {"hv2/web"}


def test_another_machine_changes_none_that_is_there() -> None:
    web = pair().machines[0].machines[0]
    new = replace(web, name="new")
    assert changed(lambda machine: replace(machine, machines=(new, *machine.machines)), "hv1") == set()
    assert changed(lambda machine: replace(machine, machines=()), "hv1") == set(), "those of hv2 may move in"


def test_an_inner_machine_on_a_new_segment_changes_the_outer_one_which_must_carry_it() -> None:
    def on_back(machine: Machine) -> Machine:
        link = replace(machine.links[0], segment="back")
        return replace(machine, machines=(*machine.machines, replace(machine.machines[0], name="new", links=(link,))))

    assert changed(on_back, "hv1") == {"hv1"}


def test_a_container_is_another_machine_and_one_for_another_node_is_not() -> None:
    assert changed(lambda machine: replace(machine, container=True), "hv1/web") == {"hv1/web"}
    assert changed(lambda machine: replace(machine, node="pve2"), "hv1") == set()
    there = replace(pair(), machines=tuple(replace(each, node="pve2") for each in pair().machines))
    assert settled(there)["hv1"].machine.node == "pve2"


def test_another_bridge_under_a_segment_changes_the_outermost_machines_on_it() -> None:
    lab = pair(PAIR.replace("  hv2: *node", "  hv2: {segments: [back]}"))
    leases = lease(lab, Leases(), [])
    before = settled(lab, leases)

    def differ(segment: Segment) -> set[str]:
        segments = tuple(segment if each.name == segment.name else each for each in lab.segments)
        after = settled(replace(lab, segments=segments), leases).by_path()
        return {spec.path for spec in before.specs if after[spec.path].digest != spec.digest}

    wire, back = lab.segments
    assert differ(wire) == set()
    assert differ(replace(wire, bridge="vmbr1")) == {"hv1"}
    assert differ(replace(back, bridge="vmbr1", vlan=7)) == {"hv2"}


def test_moving_machines_about_in_the_file_changes_nothing() -> None:
    text = PAIR.replace("web: {", "web: {image: tiny, segments: [back]}\n      db: {")
    lab = pair(text)
    leases = lease(lab, Leases(), [])
    (hv1, hv2) = lab.machines
    moved = replace(lab, machines=(hv2, replace(hv1, machines=hv1.machines[::-1])))
    before = {spec.path: spec.digest for spec in settled(lab, leases).specs}
    assert {spec.path: spec.digest for spec in settled(moved, lease(moved, leases, [])).specs} == before


def test_names_are_one_text_for_all_and_not_in_the_digest() -> None:
    blueprint = settled(pair())
    texts = {id(spec.hosts) for spec in blueprint.specs}
    assert len(texts) == 1
    assert "10.77.0.12 web.hv1.pair.internal web.hv1\n" in blueprint.specs[0].hosts
    assert len({spec.names for spec in blueprint.specs}) == 1
    other = settled(replace(pair(), machines=pair().machines[:1]))
    assert other.specs[0].names != blueprint.specs[0].names
    assert other.specs[0].digest == blueprint.specs[0].digest


def test_specs_are_found_by_path_and_by_parent() -> None:
    blueprint = settled(pair())
    assert [spec.path for spec in blueprint.specs] == ["hv1", "hv1/web", "hv2", "hv2/web"]
    assert [spec.path for spec in blueprint.children("")] == ["hv1", "hv2"]
    assert [spec.path for spec in blueprint.children("hv1")] == ["hv1/web"]
    assert [spec.path for spec in blueprint.only(["hv2", "nobody"])] == ["hv2"]
    assert blueprint["hv1/web"].machine.machines == blueprint["hv1"].machine.machines == ()


def test_looking_up_a_machine_takes_no_look_at_all_the_others() -> None:
    """A plan asks for each machine of its steps, and a lab may have ten thousand."""
    blueprint = settled(Lab("x", machines=tuple(Machine(f"m{number}") for number in range(200))))
    assert blueprint.by_path() is blueprint.by_path()
    assert blueprint["m7"] is blueprint.by_path()["m7"]
    assert [each.path for each in blueprint.children("")] == list(blueprint.by_path())
    assert blueprint.children("m7") == []
