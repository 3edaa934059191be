"""`container: true` inside hypervisors: what a lab file may say of it, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.base.errors import Mistakes
from nestlab.lab.model import MIB, Image, Machine
from nestlab.labfile import parse_text, render


def inside(said: str, *, on: str = "local", defaults: str = "{}") -> Machine:
    """The machine `m` inside a hypervisor."""
    text = f"""
    lab: x
    on: {on}
    segments: {{wire: }}
    defaults: {defaults}
    machines: {{hv: {{hypervisor: kvm, machines: {{m: {said}}}}}}}
    """
    lab = parse_text(text, environ={})
    assert parse_text(render(lab), environ={}) == lab, "it is written down as it is"
    return lab.machines[0].machines[0]


def mistake(said: str) -> tuple[str, str, str]:
    """(key below the machine, what, hint) of the only mistake."""
    with pytest.raises(Mistakes) as caught:
        inside(said)
    (only,) = caught.value.mistakes
    assert only.line == 6
    return only.key.removeprefix("machines.hv.machines.m."), only.what, only.hint


def test_a_container_inside_a_hypervisor_is_of_an_image_of_nestlabs_and_takes_little_memory() -> None:
    for on in ("local", "pve://h"):
        assert inside("{container: true}", on=on) == Machine("m", memory=128 * MIB, container=True)
        tiny = inside("{container: true, image: tiny, cpus: 2, segments: [wire]}", on=on)
        assert (tiny.container, tiny.memory, tiny.cpus) == (True, 64 * MIB, 2)
    more = inside("{container: true, memory: 1G, image: {from: debian, packages: [curl]}, setup: [echo]}")
    assert (more.memory, more.image) == (1024 * MIB, Image(base="debian", packages=("curl",)))
    assert more.setup is not None


def test_a_container_has_vlans_addresses_and_ports_as_a_virtual_machine_has() -> None:
    card = "wire: {vlan: 20, mac: '52:54:00:00:00:05'}"
    box, vm = (inside(f"{{container: {is_one}, segments: {{{card}}}, ports: [80]}}") for is_one in ("true", "false"))
    assert box.links[0].vlan == 20
    assert (box.links, box.ports) == (vm.links, vm.ports)


def test_a_container_may_be_at_any_level_below_the_first() -> None:
    text = (
        "lab: x\nmachines: {a: {hypervisor: kvm, machines: {b: {hypervisor: kvm, machines: {c: {container: true}}}}}}\n"
    )
    assert parse_text(text, environ={}).machines[0].machines[0].machines[0].container


MISTAKES = [
    ("{container: true, hypervisor: kvm}", "container", "m is a hypervisor, and a container cannot be one"),
    ("{container: true, image: none}", "image", "cannot be made from the image none"),
    ("{container: true, image: kvm}", "image", "cannot be made from the image kvm"),
    ("{container: true, firmware: uefi}", "firmware", "a container has no hardware of its own"),
    ("{container: true, tpm: true}", "tpm", "a container has no hardware of its own"),
    ("{container: true, topology: {cores: 2}}", "topology", "a container has no hardware of its own"),
    ("{container: true, bus: sata}", "bus", "`bus` means nothing here"),
    ("{container: true, disk: 8G}", "disk", "its files are on the disk of its hypervisor"),
    ("{container: true, image: tiny, disk: 8G}", "disk", "tiny has no disk"),
    ("{container: true, disks: [8G]}", "disks", "it is a container"),
    ("{container: true, boot: [network]}", "boot", "it is a container"),
    ("{container: true, accel: kvm}", "accel", "it runs on the kernel of its hypervisor"),
    ("{container: true, internet: true}", "internet", "it has cards on its segments alone"),
    ("{container: true, cmdline: quiet}", "cmdline", "it runs on the kernel of its hypervisor"),
    ("{container: true, ready: agent}", "ready", "a container is known to be up by ssh"),
    ("{container: true, ready: {port: 80}}", "ready", "a container is known to be up by ssh"),
    ("{container: true, segments: {wire: {card: e1000e}}}", "segments.wire.card", "one end of a pair (veth)"),
    ("{container: true, segments: {wire: {trunk: true}}}", "segments.wire.trunk", "a trunk to hv/m, which is a plain"),
    ("{container: true, segments: {wire: {vlan: 1}}}", "segments.wire.vlan", "expected a whole number from 2 to 4094"),
    ("{container: true, machines: {n: {}}}", "machines", "machines inside m, which is a container"),
]


@pytest.mark.parametrize(("said", "key", "what"), MISTAKES, ids=[said for said, _, _ in MISTAKES])
def test_what_makes_no_sense_for_a_container_is_a_mistake_with_its_place(said: str, key: str, what: str) -> None:
    at, why, hint = mistake(said)
    assert at == key
    assert what in why
    assert hint


def test_an_image_of_the_users_is_no_container(tmp_path: Path) -> None:
    disk = tmp_path / "a.raw"
    disk.write_bytes(bytes(1 << 20))
    _, what, hint = mistake(f"{{container: true, image: {{file: {disk}, format: raw}}}}")
    assert "cannot be made from the image a.raw" in what
    assert "`debian` or `tiny`" in hint


def test_an_outermost_container_is_a_mistake_on_this_computer() -> None:
    with pytest.raises(Mistakes, match="a container on the lab's own host itself"):
        parse_text("lab: x\nmachines: {m: {container: true}}\n", environ={})


def test_defaults_make_containers_of_plain_guests_in_hypervisors_alone() -> None:
    text = """
    lab: x
    defaults: {container: true, firmware: uefi, disk: 8G, accel: tcg, internet: true, ready: agent, display: true}
    machines:
      hv: {hypervisor: kvm, memory: 4G, machines: {box: {}, vm: {container: false}}}
      plain: {}
    """
    hv, plain = parse_text(text, environ={}).machines
    box, vm = hv.machines
    assert (hv.container, plain.container, box.container, vm.container) == (False, False, True, False)
    assert box == Machine("box", memory=128 * MIB, container=True)
