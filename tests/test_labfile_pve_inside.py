"""A lab file with machines inside `pve` hypervisors: what it may say of them, and every mistake with its place."""

from __future__ import annotations

import pytest

from nestlab.base.errors import Mistakes
from nestlab.lab.model import GIB, MIB, Lab
from nestlab.labfile import parse_text

LAB = """
lab: nest
segments: {lan: {cidr: 10.88.0.0/24}}
machines:
  pve1:
    hypervisor: pve
    segments: {lan: 10.88.0.11}
    machines:
      web: {image: tiny, segments: [lan]}
"""


def lab(more: str = "", text: str = LAB) -> Lab:
    return parse_text(
        text.replace("{image: tiny, segments: [lan]}", f"{{image: tiny, segments: [lan]{more}}}"), environ={}
    )


def mistakes(more: str, text: str = LAB) -> str:
    with pytest.raises(Mistakes) as caught:
        lab(more, text)
    return str(caught.value)


def test_machines_inside_a_node_make_it_as_large_as_they_need() -> None:
    (node,) = lab().machines
    (web,) = node.machines
    assert node.memory == 1536 * MIB + web.memory
    small = LAB.replace("hypervisor: pve", "hypervisor: pve\n    memory: 1536M")
    assert "that pve needs itself" in mistakes("", small)


@pytest.mark.parametrize(
    ("more", "key", "what"),
    [
        (", cmdline: quiet", "cmdline", "start from one disk"),
        (", internet: true", "internet", "lead nowhere else"),
        (", ready: {port: 80}", "ready", "nothing of its node's API looks at it"),
        (", container: true", "image", "has no root filesystem"),
        (", firmware: uefi", "firmware", "starts by BIOS"),
        (", topology: {cores: 1, threads: 2}", "topology", "cores of one thread"),
        (", disks: {data: {size: 1G, bus: nvme}}", "disks.data.bus", "no nvme"),
        (", node: pve1", "node", "means nothing here"),
    ],
)
def test_what_no_proxmox_ve_can_is_a_mistake_with_its_place(more: str, key: str, what: str) -> None:
    told = mistakes(more)
    assert f"machines.pve1.machines.web.{key}" in told or "9:" in told
    assert what in told


def test_what_defaults_say_and_cannot_be_there_is_passed_over() -> None:
    text = LAB + "defaults: {internet: true, cmdline: quiet, ready: {port: 80}}\n"
    (node,) = lab(text=text).machines
    (web,) = node.machines
    assert (web.internet, web.cmdline, web.ready.by) == (False, "", "ssh")


def test_containers_are_made_from_debian() -> None:
    (node,) = lab(text=LAB.replace("image: tiny", "container: true, image: debian")).machines
    assert node.machines[0].container


def test_disks_that_a_node_does_not_hold_are_a_mistake() -> None:
    assert "does not hold the disks of its machines" in mistakes(
        "", LAB.replace("image: tiny", "image: debian, disk: 20G")
    )
    roomy = LAB.replace("image: tiny", "image: debian, disk: 20G").replace(
        "hypervisor: pve", "hypervisor: pve\n    disk: 40G"
    )
    assert lab(text=roomy).machines[0].disk == 40 * GIB


def test_a_hypervisor_goes_on_inside_a_machine_of_a_node() -> None:
    deeper = "hypervisor: kvm, segments: [lan], machines: {deep: {image: tiny, cmdline: quiet, segments: [lan]}}"
    (node,) = lab(text=LAB.replace("image: tiny, segments: [lan]", deeper)).machines
    assert node.machines[0].machines[0].cmdline == "quiet"
