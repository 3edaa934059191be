"""Disks, CD-ROMs and what is booted from, as a lab file says them, and every mistake at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_headers import qcow2
from nestlab.base.errors import Mistakes
from nestlab.lab.disks import SERIAL, Disk, is_own, made_disks, serial_of
from nestlab.lab.model import GIB, Image, Machine, plain
from nestlab.labfile import parse_text, render


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    file = tmp_path / "installer.iso"
    file.write_bytes(bytes(0x8001) + b"CD001" + bytes(2042))
    return file


def machine(inside: str, head: str = "") -> Machine:
    (found,) = parse_text(f"lab: x\n{head}segments: {{wire: }}\nmachines:\n  m: {{{inside}}}\n", environ={}).machines
    return found


def mistake(inside: str, head: str = "") -> tuple[str, str]:
    """The key and the sentence of the only mistake."""
    with pytest.raises(Mistakes) as raised:
        machine(inside, head)
    (only,) = raised.value.mistakes
    return only.key, only.what


def test_a_list_of_sizes_is_disks_that_are_numbered() -> None:
    assert machine("disks: [20G, {size: 1G, bus: scsi}]").disks == (
        Disk("disk1", 20 * GIB, serial="disk1"),
        Disk("disk2", GIB, bus="scsi", serial="disk2"),
    )


def test_disks_by_name_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "old.qcow2").write_bytes(qcow2(GIB))
    text = f"disks: {{data: 20G, old: {{file: {tmp_path}/old.qcow2, bus: sata, ssd: true, serial: WD-0815}}}}"
    data, old = machine(text).disks
    assert data == Disk("data", 20 * GIB, serial="data")
    assert old == Disk("old", 0, f"{tmp_path}/old.qcow2", "qcow2", "sata", True, "WD-0815")


@pytest.mark.parametrize("name", ["root", "boot", "nestlab-id", "abcdef", "a" * 40, "abcdefabcdefabcdefab"])
def test_a_serial_made_from_a_name_is_never_one_of_nestlabs(name: str) -> None:
    serial = serial_of(name)
    assert SERIAL.fullmatch(serial)
    assert not is_own(serial)
    assert machine(f"disks: {{{name}: 1G}}").disks[0].serial == serial


def test_what_is_said_is_rendered_and_read_again(tmp_path: Path, medium: Path) -> None:
    (tmp_path / "old.raw").write_bytes(bytes(1 << 20))
    text = (
        "lab: x\nsegments: {wire: }\nmachines:\n"
        f"  a: {{disks: {{old: {{file: {tmp_path}/old.raw, size: 2M, bus: ide}}, fast: {{size: 1G, bus: nvme}}}}}}\n"
        f"  b: {{image: none, disk: 4G, cdroms: {medium}, boot: [cdrom, disk, network], segments: [wire]}}\n"
        "  c: {image: tiny, disks: [1G]}\n"
    )
    lab = parse_text(text, environ={})
    assert lab.machines[1].image == Image(base="none")
    assert parse_text(render(lab), environ={}) == lab


def test_files_of_disks_and_cdroms_are_named_as_taken(tmp_path: Path, medium: Path) -> None:
    (tmp_path / "old.raw").write_bytes(bytes(1 << 20))
    text = f"lab: x\nmachines: {{m: {{cdroms: {medium}, disks: {{a: {{file: {tmp_path}/old.raw}}}}}}}}"
    assert {each.what for each in parse_text(text, environ={}).taken} == {str(medium), f"{tmp_path}/old.raw"}


@pytest.mark.parametrize(
    ("inside", "key", "says"),
    [
        ("disks: {a: {bus: sata}}", "machines.m.disks.a", "neither `size`, `file` nor `url`"),
        ("disks: {a: {size: 1G, serial: root}}", "machines.m.disks.a.serial", "nestlab gives its own"),
        ("disks: {a: {size: 1G, serial: 0123456789abcdef0123}}", "machines.m.disks.a.serial", "nestlab gives its own"),
        ("disks: {a: {size: 1G, serial: X}, b: {size: 1G, serial: X}}", "machines.m.disks.b.serial", "its disk a"),
        ("disks: {a: 1G, b: {size: 1G, serial: a}}", "machines.m.disks.b.serial", "its disk a already"),
        (f"disks: [{', '.join(['{size: 1G, bus: sata}'] * 17)}]", "machines.m.disks[6].bus", "sata, which takes 6"),
        ("disks: {a: {size: 1G, ssd: true}}", "machines.m.disks.a.ssd", "virtio does not tell"),
        ("disks: {a: {size: 1G, bus: nvme, ssd: true}}", "machines.m.disks.a.ssd", "in any case"),
        ("disks: {a: {size: 1G, format: raw}}", "machines.m.disks.a.format", "means nothing"),
        ("disks: {a: {size: 1G, serial: much-too-long-a-serial}}", "machines.m.disks.a.serial", "expected a serial"),
        ("image: tiny, disks: {a: {size: 1G, bus: sata}}", "machines.m.disks.a.bus", "tiny has no driver for sata"),
        (
            "image: {from: tiny, kernel: generic}, disks: [{size: 1G, bus: nvme}]",
            "machines.m.disks[0].bus",
            "no driver",
        ),
        ("cdroms: [/etc/passwd]", "machines.m.cdroms", "is no ISO image"),
        ("boot: disk", "machines.m.boot", "hands it the kernel"),
        ("image: none", "machines.m", "nothing that it could boot from"),
        ("image: none, segments: [wire], boot: cdrom", "machines.m.boot", "nothing to boot from by `cdrom`"),
        ("image: none, segments: [wire], boot: [network, network]", "machines.m.boot", "here twice"),
        ("hypervisor: kvm, image: none, segments: [wire]", "machines.m.image", "cannot be made from the image none"),
    ],
)
def test_a_mistake_is_found_at_its_place(inside: str, key: str, says: str) -> None:
    found = mistake(inside)
    assert found[0] == key
    assert says in found[1]


def test_a_disk_is_at_least_as_large_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(qcow2(2 * GIB))
    key, what = mistake(f"disks: {{a: {{file: {tmp_path}/a.qcow2, size: 1G}}}}")
    assert key == "machines.m.disks.a.size"
    assert "less than its file has: 2G" in what


def test_a_file_that_names_another_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(qcow2(GIB, below=b"/etc/shadow"))
    key, what = mistake(f"disks: {{a: {{file: {tmp_path}/a.qcow2}}}}")
    assert key == "machines.m.disks.a.file"
    assert "a layer over another file" in what


def test_an_iso_is_no_disk(medium: Path) -> None:
    assert mistake(f"disks: {{a: {{file: {medium}}}}}")[0] == "machines.m.disks.a.file"


def test_a_proxmox_ve_has_no_nvme_and_a_machine_inside_one_of_its_has() -> None:
    on = "on: pve://root@pam!t@host\n"
    key, what = mistake("disks: [{size: 1G, bus: nvme}]", on)
    assert (key, what) == ("machines.m.disks[0].bus", "a Proxmox VE has no nvme disks")
    inner = "hypervisor: kvm, machines: {g: {image: tiny, disks: [{size: 1G, bus: nvme}]}}"
    assert machine(inner, on).machines[0].disks[0].bus == "nvme"


def test_cdroms_share_the_places_of_ide_disks(medium: Path) -> None:
    copies = [medium.with_name(f"{number}.iso") for number in range(3)]
    for copy in copies:
        copy.write_bytes(medium.read_bytes())
    names = ", ".join(map(str, copies))
    assert len(machine(f"cdroms: [{names}], disks: [{{size: 1G, bus: ide}}]").cdroms) == 3
    key, what = mistake(f"cdroms: [{names}], disks: [{{size: 1G, bus: ide}}, {{size: 1G, bus: ide}}]")
    assert key == "machines.m.cdroms"
    assert "room for 4" in what


def test_the_disk_of_its_image_takes_one_of_the_four_places_of_ide(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(qcow2(GIB))
    some = [f"disks: [{', '.join(['{size: 1G, bus: ide}'] * count)}]" for count in (3, 4)]
    own = f"image: {{file: {tmp_path}/a.qcow2}}, bus: ide"
    assert len(machine(f"{own}, {some[0]}").disks) == 3
    key, what = mistake(f"{own}, {some[1]}")
    assert key == "machines.m.disks[3].bus"
    assert what == "4 disks are on ide, which takes 3 beside its own"
    assert len(machine(f"{own.replace('bus: ide', 'bus: sata')}, {some[1]}").disks) == 4


def test_defaults_pass_over_machines_that_have_no_use_for_them(medium: Path) -> None:
    head = f"defaults: {{cdroms: {medium}, boot: cdrom, disks: [1G]}}\n"
    assert machine("image: tiny", head) == machine("image: tiny, disks: [1G]")


disks = st.builds(
    Disk,
    name=st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True),
    size=st.integers(0, 1 << 46),
    bus=st.sampled_from(["virtio", "scsi", "sata", "nvme", "ide"]),
    ssd=st.booleans(),
    serial=st.from_regex(SERIAL, fullmatch=True),
)


@given(st.lists(disks, max_size=4), st.sampled_from(["", "file-" + "0" * 40]))
def test_a_record_of_disks_is_read_as_it_was_written(some: list[Disk], key: str) -> None:
    made = tuple(disk.made(key) for disk in some)
    assert made_disks(plain(made)) == made


@pytest.mark.parametrize(
    "rows",
    [
        "no",
        [1],
        [{}],
        [{"name": "../../etc"}],
        [{"name": "a", "bus": "floppy"}],
        [{"name": "a", "size": -1}],
        [{"name": "a", "size": True}],
        [{"name": "a", "source": "/etc/shadow"}],
        [{"name": "a", "serial": "a,b"}],
        [{"name": "a", "more": 1}],
        [{"name": "a"}] * 100,
    ],
)
def test_a_record_that_nestlab_did_not_write_is_none(rows: object) -> None:
    with pytest.raises(ValueError, match="disk"):
        made_disks(rows)


def test_three_hypervisors_share_the_disks_of_an_anchor() -> None:
    text = """\
lab: pvelab
segments: {wire: {cidr: 10.77.0.0/24}}
machines:
  pve1: &pve
    hypervisor: kvm
    disk: 32G
    disks: [20G, 20G]  # for ceph
    segments: [wire]
    machines: {vm1: {image: tiny, segments: [wire]}}
  pve2: *pve
  pve3: *pve
"""
    disks = (Disk("disk1", 20 * GIB, serial="disk1"), Disk("disk2", 20 * GIB, serial="disk2"))
    assert [machine.disks for machine in parse_text(text, environ={}).machines] == [disks] * 3


def test_a_machine_that_is_to_boot_by_network_and_says_no_image_is_told_of_none() -> None:
    with pytest.raises(Mistakes) as raised:
        machine("boot: network, segments: [wire]")
    (only,) = raised.value.mistakes
    assert "the kernel of its image, debian" in only.what
    assert "`image: none` for an empty disk" in only.hint
