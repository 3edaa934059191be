"""The hardware that a lab file asks for: what is read, what is a mistake, and what QEMU and Proxmox VE are told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from blueprints import guest, hypervisor
from golden_files import assert_golden
from nestlab.base.errors import LabError, Mistakes
from nestlab.engines.pve import cpu_types, drift, hardware_options
from nestlab.engines.pve.cpu_types import Processor
from nestlab.engines.qemu.accel import choose
from nestlab.engines.qemu.argv import Kernel, Launch, argv
from nestlab.engines.qemu.hardware_argv import Uefi, generation
from nestlab.hosts.facts import Facts
from nestlab.images.image_files import recipe_of
from nestlab.lab.blueprint import Spec
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.hardware import Hardware, Smbios, Topology, emulates, nests
from nestlab.lab.model import Image, Machine
from nestlab.labfile import parse_text
from nestlab.labfile.render import render
from nestlab.plan.changes import changes
from test_pve_hardware import assert_published, only, params
from test_qemu_argv import GUEST, HYPERVISOR, INNER, OUTER

UUID = "6f3ca5a4-4f53-4b0c-9d6e-4a5a3a4c1d20"
ALL = Hardware(
    cpu="EPYC,+svm,-pcid",
    topology=Topology(2, 2),
    board="pc",
    watchdog=True,
    display=True,
    tpm=True,
    smbios=Smbios("LAB, 1", UUID, "Server=x"),
)


def with_hardware(launch: Launch, hardware: Hardware, **rest: Any) -> Launch:
    spec = launch.spec
    return replace(launch, spec=replace(spec, machine=replace(spec.machine, hardware=hardware, **rest)))


def cards(launch: Launch, *names: Any) -> Launch:
    nic = launch.spec.nics[0]
    nics = tuple(replace(nic, segment=f"s{at}", card=name) for at, name in enumerate(names))
    return replace(launch, spec=replace(launch.spec, nics=nics))


KVM = replace(OUTER, accel="kvm")
UEFI = Uefi("uefi", "/fw/CODE.fd", "/fw/VARS.fd")
SECURE = Uefi("secure", "/fw/CODE.ms.fd", "/fw/VARS.ms.fd")
SWTPM = ("/fw/ld.so", "--library-path", "/fw", "/fw/swtpm")
GIVEN = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
ARGV = {
    "cpu-kvm": with_hardware(KVM, Hardware(cpu="Haswell-noTSX,vendor=GenuineIntel,+invtsc,+vmx")),
    "cpu-emulated": with_hardware(OUTER, Hardware(cpu="EPYC-Rome,+svm")),
    "cpu-host-emulated": with_hardware(OUTER, Hardware(cpu="host,+invtsc,+vmx")),
    "topology": with_hardware(KVM, Hardware(topology=Topology(2, 2, 2)), cpus=8),
    "board": with_hardware(KVM, Hardware(board="pc")),
    "board-inside": with_hardware(INNER, Hardware(board="q35")),
    "watchdog": with_hardware(KVM, Hardware(watchdog=True)),
    "display": with_hardware(KVM, Hardware(display=True)),
    "display-inside": with_hardware(INNER, Hardware(display=True)),
    "smbios": with_hardware(KVM, Hardware(smbios=ALL.smbios)),
    "cards": cards(KVM, "virtio", "e1000e", "vmxnet3", "rtl8139"),
    "uefi": replace(with_hardware(KVM, Hardware(firmware="uefi")), uefi=UEFI),
    "uefi-inside": replace(with_hardware(INNER, Hardware(firmware="uefi")), uefi=UEFI),
    "secure": replace(with_hardware(KVM, Hardware(firmware="secure")), uefi=SECURE),
    "secure-own-disk": replace(with_hardware(KVM, Hardware(firmware="secure")), uefi=SECURE, kernel=None),
    "tpm": replace(with_hardware(KVM, Hardware(tpm=True)), swtpm=SWTPM),
    "tpm-inside": replace(with_hardware(INNER, Hardware(tpm=True)), swtpm=SWTPM),
    "tpm-lowered": replace(
        with_hardware(KVM, Hardware(tpm=True), memory=4 << 30), swtpm=SWTPM, kernel=Kernel("/k", "/i", lowered=True)
    ),
    "iommu-kvm": with_hardware(KVM, Hardware(iommu=True)),
    "iommu-emulated": with_hardware(OUTER, Hardware(iommu=True)),
    "generation": replace(KVM, generation=GIVEN),
}


@pytest.mark.parametrize("name", ARGV)
def test_the_hardware_is_on_the_golden_command_line(name: str) -> None:
    assert_golden(f"argv/hardware-{name}.txt", "\n".join(argv(ARGV[name])))


def test_each_machine_has_a_generation_id_that_stays() -> None:
    assert generation("ssh-ed25519 A") == generation("ssh-ed25519 A") != generation("ssh-ed25519 B")


def test_a_firmware_that_only_starts_a_kernel_is_given_nothing_that_it_does_not_know() -> None:
    """QBOOT stops at a generation ID."""
    lean = argv(replace(INNER, generation=GIVEN))
    assert "-bios" in lean
    assert not [word for word in lean if "vmgenid" in word]
    shown = argv(replace(with_hardware(INNER, Hardware(display=True)), generation=GIVEN))
    assert "-bios" not in shown
    assert f"vmgenid,guid={GIVEN}" in shown


# The lab file.


def lab(machine: str, *, on: str = "local", more: str = "") -> str:
    return f"lab: x\non: {on}\nsegments: {{wire: }}\n{more}\nmachines:\n  m: {{{machine}}}\n"


def read(machine: str, **rest: str) -> Machine:
    return parse_text(lab(machine, **rest), environ={}).machines[0]


def mistakes(machine: str, **rest: str) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        read(machine, **rest)
    return [f"{each.key}: {each.what}" for each in caught.value.mistakes]


PVE = "pve://pve.example.org"
EVERY = (
    'image: {from: debian, kernel: generic}, cpu: "EPYC,+svm", topology: {sockets: 2, cores: 2}, board: q35,'
    " iommu: true,"
    f" firmware: uefi, tpm: true, watchdog: true, display: true, smbios: {{serial: a b, uuid: {UUID}, product: P}},"
    " segments: {wire: {card: e1000e}}"
)


def test_hardware_is_read_and_written_as_a_lab_file_again() -> None:
    machine = read(EVERY)
    wanted = Hardware("uefi", True, "EPYC,+svm", Topology(2, 2), "q35", True, True, True, Smbios("a b", UUID, "P"))
    assert machine.hardware == wanted
    assert machine.cpus == 4
    assert machine.links[0].card == "e1000e"
    whole = parse_text(lab(EVERY), environ={})
    assert parse_text(render(whole), environ={}) == whole


def test_hardware_survives_in_what_a_lab_was_made_from() -> None:
    made = only(guest("m"), hardware=ALL)
    assert blueprint_from_json(blueprint_to_json(made)).specs == made.specs


def test_what_has_no_hardware_said_is_what_it_was() -> None:
    """Labs that are up stay as wanted: no digest knows of hardware that is not asked for."""
    assert "hardware" not in blueprint_to_json(only(guest("m")))
    assert "card" not in blueprint_to_json(only(guest("m")))
    assert recipe_of(Image("debian")).digest == recipe_of(Image("debian", drivers=())).digest


def test_an_image_of_ours_loads_the_drivers_of_a_machines_cards() -> None:
    words = read("image: tiny, iommu: true", on=PVE).image
    assert recipe_of(words).cmdline[-2:] == ("intel_iommu=on", "iommu=pt")
    image = read("image: tiny, segments: {wire: {card: vmxnet3}}").image
    assert recipe_of(image).modules[-1] == "vmxnet3"
    assert recipe_of(image).digest != recipe_of(Image("tiny")).digest


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("cpu: Haswel", "machines.m.cpu: QEMU has no CPU model `Haswel`"),
        ("cpu: help", "machines.m.cpu: QEMU has no CPU model `help`"),
        ("hypervisor: kvm, cpu: Haswell", "machines.m.cpu: Haswell has no vmx unless that is said, and without it"),
        ("hypervisor: kvm, cpu: EPYC", "machines.m.cpu: EPYC has no svm unless that is said, and without it"),
        ('hypervisor: kvm, cpu: "host,-vmx"', "machines.m.cpu: it hides vmx, without which KVM does not work"),
        ('hypervisor: kvm, cpu: "EPYC,svm=off"', "machines.m.cpu: it hides svm, without which KVM does not work"),
        ('hypervisor: kvm, accel: tcg, cpu: "Haswell,+vmx"', "machines.m.cpu: emulated, Haswell has no vmx"),
        ("cpus: 3, topology: {sockets: 2}", "machines.m.topology: 2 x 1 x 1 are 2 CPUs, and `cpus` says 3"),
        ("topology: {sockets: 64, cores: 512}", "machines.m.topology: 32768 CPUs are more than any machine has"),
        ("topology: {threads: 3}", "machines.m.topology.threads:"),
        ("board: virt", "machines.m.board: found the text"),
        ("image: tiny, firmware: uefi, memory: 255M", "machines.m.memory: 255M is too little for UEFI to start"),
        ("firmware: ovmf", "machines.m.firmware: found the text"),
        ("firmware: secure, board: pc", "machines.m.board: Secure Boot needs the board q35"),
        ("iommu: true, board: pc", "machines.m.board: an IOMMU needs the board q35"),
        ("smbios: {uuid: 1234}", "machines.m.smbios.uuid:"),
        ("segments: {wire: {card: e1000e}}", "machines.m.segments.wire.card: the kernel of debian has no driver"),
        ("segments: {wire: {card: ne2k}}", "machines.m.segments.wire.card: found the text"),
    ],
)
def test_what_cannot_be_is_a_mistake_with_its_place(machine: str, said: str) -> None:
    assert len(mistakes(machine)) == 1
    assert mistakes(machine)[0].startswith(said), mistakes(machine)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("topology: {cores: 2, threads: 2}", "machines.m.topology: Proxmox VE gives a machine cores of one thread"),
        ('cpu: "host,+invtsc"', "machines.m.cpu: Proxmox VE gives a machine no `invtsc`"),
        ('cpu: "Haswell,vendor=AuthenticAMD"', "machines.m.cpu: Proxmox VE gives a machine no `vendor`"),
        ("firmware: uefi", "machines.m.firmware: on a Proxmox VE debian starts by BIOS"),
        ("cpu: Snowridge", "machines.m.cpu: Proxmox VE has no CPU model Snowridge"),
        ("container: true, image: {file: a.tar.zst}, watchdog: true", "machines.m.watchdog: `watchdog` means nothing"),
    ],
)
def test_what_a_proxmox_ve_cannot_is_a_mistake_there_alone(machine: str, said: str, tmp_path: Any) -> None:
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    machine = machine.replace("a.tar.zst", f"{tmp_path}/a.tar.zst")
    assert any(each.startswith(said) for each in mistakes(machine, on=PVE)), mistakes(machine, on=PVE)
    if "container" not in machine:
        assert read(machine)
        assert parse_text(lab(f"hypervisor: kvm, machines: {{i: {{{machine}}}}}", on=PVE), environ={}), (
            "inside it may be"
        )


def test_defaults_pass_over_what_has_no_use_for_them() -> None:
    found = read("hypervisor: kvm", more="defaults: {cpu: Haswell, topology: {cores: 2}}")
    assert found.hardware.cpu is None, "a hypervisor needs vmx or svm"
    assert found.cpus == 2
    assert read("cpus: 3", more="defaults: {topology: {cores: 2}}").hardware.topology is None
    assert read("topology: {cores: 2}", more="defaults: {cpus: 3}").cpus == 2
    assert read("image: tiny, firmware: uefi", more="defaults: {memory: 128M}").memory == 256 << 20
    assert read("iommu: true", more="defaults: {board: pc}").hardware.board is None
    assert read("", on=PVE, more="defaults: {firmware: uefi}").hardware.firmware is None


def test_a_change_of_hardware_is_told() -> None:
    before = Spec("m", Machine("m"), (), "", "k", (), "d")
    after = replace(before, machine=replace(before.machine, hardware=ALL))
    told = changes(before, after)
    assert "cpu none -> EPYC,+svm,-pcid, topology none -> sockets=2 cores=2, board none -> pc" in told
    assert "watchdog no -> yes" in told


# What a CPU means.


@pytest.mark.parametrize(
    ("cpu", "nesting", "emulated"),
    [
        ("host", True, True),
        ("max", True, True),
        ("host,-svm", False, False),
        ("EPYC", False, False),
        ("EPYC,+svm", True, True),
        ("Haswell,vmx=on", True, False),
        ("Haswell,+vmx,-vmx", False, False),
    ],
)
def test_a_cpu_nests_where_it_has_vmx_or_svm(cpu: str, nesting: bool, emulated: bool) -> None:
    assert nests(cpu) is nesting
    assert emulates(cpu) is emulated


def test_a_hypervisor_that_must_be_emulated_cannot_have_intels() -> None:
    machine = replace(HYPERVISOR.machine, hardware=Hardware(cpu="Haswell,+vmx"))
    with pytest.raises(LabError, match="with cpu: Haswell,\\+vmx it could run no machines"):
        choose(Facts(), machine, "hv1", "this machine")
    host = replace(machine, hardware=Hardware(cpu="host"))
    assert "`cpu: host` is then all that QEMU emulates" in choose(Facts(), host, "hv1", "this machine").cost
    plain = replace(GUEST.machine, hardware=Hardware(cpu="Haswell"))
    assert choose(Facts(), plain, "web", "this machine").accel == "tcg"


# Proxmox VE.

LAB = only(hypervisor("m"), hardware=replace(ALL, cpu=None))
SEALED = Hardware(firmware="secure", tpm=True, iommu=True)
NODE = Processor("pve1", kvm=True, word=True)


def test_the_hardware_on_a_proxmox_ve_is_exactly_these_parameters() -> None:
    spec = LAB["m"]
    kinds = tuple(replace(spec.nics[0], mtu=1400, card=card) for card in ("virtio", "e1000e", "vmxnet3", "rtl8139"))
    made = replace(LAB, specs=(replace(spec, nics=kinds),))
    cpu = cpu_types.choose(replace(spec.machine, hardware=ALL), "m", NODE, (), None)
    found = params(made, cpu=cpu)
    assert_published("POST", "/nodes/pve1/qemu/105/config", found)
    assert_golden("pve/hardware.json", json.dumps(found, indent=1))


def test_firmware_a_tpm_and_an_iommu_on_a_proxmox_ve_are_exactly_these_parameters() -> None:
    made = only(guest("m"), hardware=SEALED)
    found = params(made) | hardware_options.volumes(SEALED, "local-lvm", {})
    assert_published("POST", "/nodes/pve1/qemu/105/config", found)
    assert_golden("pve/firmware.json", json.dumps(found, indent=1))


def test_what_firmware_and_a_tpm_keep_stays_on_a_proxmox_ve() -> None:
    there = {"efidisk0": "l:vm-1-disk-0,efitype=4m,pre-enrolled-keys=1,size=4M", "tpmstate0": "l:vm-1-disk-1,size=4M"}
    assert hardware_options.volumes(SEALED, "l", there) == {}
    plain = replace(SEALED, firmware="uefi")
    assert hardware_options.volumes(plain, "l", there) == {"efidisk0": "l:1,efitype=4m,pre-enrolled-keys=0"}
    assert hardware_options.volumes(Hardware(firmware="uefi"), "l", {"efidisk0": "l:vm-1-disk-0,size=4M"}) == {}


@pytest.mark.parametrize(
    ("cpu", "line"),
    [
        ("host", "host"),
        ("host,+vmx,kvm=off", "host,hidden=1"),
        ("EPYC,+svm", "EPYC,flags=+nested-virt"),
        ("Haswell-noTSX,+vmx,+aes,-pcid", "Haswell-noTSX,flags=+nested-virt;+aes;-pcid"),
    ],
)
def test_a_cpu_is_said_in_the_words_of_a_proxmox_ve(cpu: str, line: str) -> None:
    machine = replace(HYPERVISOR.machine, hardware=Hardware(cpu=cpu))
    found = cpu_types.choose(machine, "hv1", NODE, (), "EPYC,flags=+nested-virt")
    assert (found.line, found.kvm) == (line, True)
    assert_published("POST", "/nodes/pve1/qemu/105/config", {"cpu": found.line})


def test_a_proxmox_ve_without_kvm_or_too_old_is_told() -> None:
    machine = replace(HYPERVISOR.machine, hardware=Hardware(cpu="host,+aes"))
    assert cpu_types.choose(machine, "hv1", replace(NODE, kvm=False), (), None).line == "max,flags=+aes"
    intel = replace(machine, hardware=Hardware(cpu="Haswell,+vmx"))
    with pytest.raises(LabError, match="it could run no machines"):
        cpu_types.choose(intel, "hv1", replace(NODE, kvm=False), (), None)
    with pytest.raises(LabError, match="knows no nested-virt yet"):
        cpu_types.choose(intel, "hv1", replace(NODE, word=False), (), None)


def test_hardware_changed_by_hand_on_a_proxmox_ve_is_seen() -> None:
    set_to = params(LAB)
    options = drift.options_of(set_to)
    rows = [{"key": key, "value": value} for key, value in set_to.items()]
    rows.append({"key": "virtio2", "value": "l:x,serial=nestlab-id"})
    assert drift.changes(options, rows, "qemu") == ()
    assert not drift.suspect(options, "lab-m", LAB["m"].machine.memory, 4), "two sockets of two cores"
    gone = [row for row in rows if row["key"] != "watchdog"]
    assert [each.key for each in drift.changes(options, gone, "qemu")] == ["watchdog"]


def test_hardware_that_is_not_wanted_any_more_is_taken_away_on_a_proxmox_ve() -> None:
    before = drift.options_of(params(LAB))
    assert hardware_options.gone(before, params(only(hypervisor("m")))) == ["smbios1", "vga", "watchdog"]
    assert hardware_options.gone(before, params(LAB)) == []
