"""What a machine that libvirt runs cannot have is a mistake of the lab file, with its place."""

from __future__ import annotations

import pytest

from nestlab.base.errors import Mistakes
from nestlab.lab import libvirt_address
from nestlab.lab.model import GIB, MIB, Lab
from nestlab.lab.places import Libvirt, is_here
from nestlab.labfile import parse_text
from nestlab.labfile.render import render

MISTAKES = [
    ("container: true", "container", "no containers in a libvirt hypervisor"),
    ("firmware: uefi", "firmware", "UEFI"),
    ("tpm: true", "tpm", "a TPM"),
    ("iommu: true", "iommu", "a virtual IOMMU"),
    ("smbios: {serial: a}", "smbios", "SMBIOS data"),
    ("cpu: 'EPYC,vendor=GenuineIntel'", "cpu", "a CPU whose properties have values"),
    ("disks: [{size: 1G, bus: nvme}]", "disks", "an NVMe disk"),
    ("image: {file: %s}, ready: agent", "ready", "such a look from outside"),
]


def lab(said: str) -> Lab:
    return parse_text(f"lab: x\nmachines: {{hv: {{hypervisor: libvirt, machines: {{m: {{{said}}}}}}}}}\n", environ={})


@pytest.mark.parametrize(("said", "key", "what"), MISTAKES, ids=[said for said, _, _ in MISTAKES])
def test_what_libvirt_is_not_asked_for_is_a_mistake_at_its_place(
    said: str, key: str, what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if "%s" in said:
        disk = tmp_path_factory.mktemp("images") / "own.raw"
        disk.write_bytes(bytes(1 << 20))
        said = said.replace("%s", f"{disk}, format: raw")
    with pytest.raises(Mistakes) as caught:
        lab(said)
    [mistake] = caught.value.mistakes
    assert mistake.key == f"machines.hv.machines.m.{key}"
    assert what in mistake.what
    assert "hypervisor: kvm" in mistake.hint


def test_what_defaults_say_is_a_mistake_of_the_machine_that_cannot_have_it() -> None:
    text = "lab: x\ndefaults: {tpm: true}\nmachines: {hv: {hypervisor: libvirt, tpm: false, machines: {m: {}}}}\n"
    with pytest.raises(Mistakes, match="gives a TPM to no machine that libvirt runs"):
        parse_text(text, environ={})


def test_a_hypervisor_with_libvirt_has_its_image_and_what_it_needs_itself() -> None:
    [hv] = lab("image: tiny, memory: 128M, cpu: 'EPYC,+svm'").machines
    assert (hv.image.base, hv.hypervisor, hv.nests) == ("libvirt", "libvirt", True)
    assert hv.memory == GIB + 128 * MIB


ON = "lab: x\non: qemu:///system\n"


def on_libvirt(rest: str) -> Lab:
    return parse_text(ON + rest, environ={})


def test_a_lab_on_a_libvirt_says_so_and_is_written_as_it_is_read() -> None:
    read = on_libvirt("segments: {wire: {mtu: 1400}}\nmachines: {hv: {hypervisor: kvm, segments: [wire]}}\n")
    assert read.on == Libvirt("qemu:///system")
    assert parse_text(render(read), environ={}) == read


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("qemu:///session", "makes no networks"),
        ("qemu:///sistem", "is no libvirt that nestlab knows"),
        ("qemu://other/system", "is no libvirt that nestlab knows"),
        ("qemu+tcp://other/system", "is not supported"),
        ("{pve: 'qemu:///system'}", "is no Proxmox VE"),
        ("qemu+ssh://h/session", "makes no networks"),
        ("qemu+ssh://h/system?socket=/x", "nothing but /system may follow"),
        ("qemu+ssh:///system", "names no host"),
        ("qemu+ssh://a:b@h/system", "has a password in it"),
    ],
)
def test_another_libvirt_than_the_systems_own_is_a_mistake_with_its_reason(said: str, what: str) -> None:
    with pytest.raises(Mistakes, match=what):
        parse_text(f"lab: x\non: {said}\nmachines: {{a: {{}}}}\n", environ={})


@pytest.mark.parametrize(
    ("rest", "key"),
    [
        ("segments: {w: {vlans: [20]}}\nmachines: {a: {}}", "segments.w.vlans"),
        ("segments: {w: {transparent: true}}\nmachines: {a: {}}", "segments.w.transparent"),
        ("segments: {w: {netboot: {image: tiny}}}\nmachines: {a: {}}", "segments.w.netboot"),
        ("segments: {w: {}}\nmachines: {a: {segments: {w: {vlan: 20}}}}", "machines.a.segments.w.vlan"),
        (
            "segments: {w: {}}\nmachines: {h: {hypervisor: kvm, segments: {w: {trunk: true}}}}",
            "machines.h.segments.w.trunk",
        ),
        ("machines: {a: {iommu: true}}", "machines.a.iommu"),
    ],
)
def test_what_no_network_and_no_machine_of_a_libvirt_can_is_a_mistake_at_its_place(rest: str, key: str) -> None:
    with pytest.raises(Mistakes) as caught:
        on_libvirt(rest)
    assert key in {mistake.key for mistake in caught.value.mistakes}
    assert all("libvirt" in mistake.what and "on: local" in mistake.hint for mistake in caught.value.mistakes)


def test_machines_inside_a_hypervisor_on_a_libvirt_may_have_all_that_its_kind_gives() -> None:
    [hv] = on_libvirt("machines: {h: {hypervisor: kvm, machines: {m: {tpm: true, firmware: uefi}}}}").machines
    assert hv.machines[0].hardware.tpm


def test_the_libvirt_of_another_host_is_a_place_that_is_not_here() -> None:
    read = parse_text("lab: x\non: qemu+ssh://root@h:2222/system\nmachines: {a: {}}\n", environ={})
    assert read.on == Libvirt("qemu+ssh://root@h:2222/system")
    assert not is_here(read.on)
    assert is_here(Libvirt("qemu:///system"))
    assert libvirt_address.reached("qemu+ssh://root@h:2222/system").url == "ssh://root@h:2222"
    assert parse_text(render(read), environ={}) == read
    parse_text("lab: x\non: qemu+ssh://h/system\nmachines: {a: {ports: [80]}}\n", environ={})


def test_outermost_machines_have_uefi_and_a_tpm() -> None:
    [machine] = on_libvirt("machines: {a: {tpm: true, firmware: uefi}}").machines
    assert machine.hardware.tpm
    assert machine.hardware.uefi
