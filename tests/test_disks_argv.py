"""Disks, CD-ROMs and the order of booting on QEMU's command line, in golden files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.engines.qemu import disk_devices, launch
from nestlab.engines.qemu.argv import Kernel, Launch, argv, plugs
from nestlab.home.paths import Place
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.disks import BUSES, Disk
from nestlab.lab.model import GIB, MIB, Image, Link, Machine
from nestlab.plan.steps import NO_PLUGS, Plugs

PLACE = Place("/labs/x")
ALL = tuple(
    Disk(f"{bus}{number}", GIB, bus=bus, ssd=bus in ("scsi", "sata"), serial=f"{bus}-{number}")
    for bus in BUSES
    for number in (1, 2)
)


EMPTY = ImageFiles("e", {})
BOOTS = ImageFiles("k", {"kernel": Path("/k"), "initrd": Path("/i"), "root": Path("/r")})


def started(machine: Machine, path: str = "m", *, files: tuple[str, ...] = (), kernel: bool = True) -> Launch:
    nics = tuple(Nic(link.segment, "52:54:00:00:00:01") for link in machine.links)
    spec = Spec(path, machine, nics, "10.100.1.0/24", "k", (), "digest", files=files)
    booted = Kernel("/cache/k/vmlinux", "/cache/k/initrd") if kernel else None
    drives = launch.drives_of(spec, PLACE.of(path), BOOTS if kernel else EMPTY, ()) if machine.disk else ()
    cdroms = tuple(f"/isos/{each}.iso" for each in machine.cdroms)
    return Launch(
        "x", spec, PLACE.of(path), "kvm", 20022, "52:54:00:00:00:02", kernel=booted, drives=drives, cdroms=cdroms
    )


OWN = Machine("m", image=Image(base="debian"), memory=512 * MIB, disk=4 * GIB, disks=ALL)
NONE = Machine(
    "m",
    image=Image(base="none"),
    memory=GIB,
    disk=20 * GIB,
    disks=(Disk("data", GIB, bus="sata", serial="data"),),
    links=(Link("wire"),),
    cdroms=("a", "b"),
)
CASES = {
    "every-bus": started(OWN),
    "every-bus-level-2-kvm": started(OWN, "hv/m"),
    "no-image": started(NONE, kernel=False),
    "no-image-boots-by-network-first": started(replace(NONE, boot=("network", "disk")), kernel=False),
    "own-disk-with-a-disk-first": started(
        replace(OWN, image=Image(file="/own.qcow2", format="qcow2"), boot=("disk",), disks=ALL[:3]), kernel=False
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_the_golden_one(name: str) -> None:
    assert_golden(f"argv/disks-{name}.txt", "\n".join(argv(CASES[name])))


def test_a_machine_that_says_nothing_of_disks_has_the_command_line_that_it_had() -> None:
    plain = started(replace(OWN, disks=()))
    assert not [word for word in argv(plain) if "bootindex" in word or disk_devices.PORT in word or "blockdev" in word]


def test_a_machine_takes_as_many_disks_as_it_has_free_ports() -> None:
    assert plugs(started(replace(OWN, disks=()))) == Plugs(1, scsi=False, out=True)
    assert plugs(started(OWN)) == Plugs(1 + disk_devices.SPARE, scsi=True, out=True)
    assert plugs(started(OWN, "hv/m")).pci > 1
    assert plugs(started(replace(NONE, disks=()), kernel=False)) == Plugs(0, scsi=False, out=True)
    assert plugs(started(NONE, "hv/m", kernel=False)) == NO_PLUGS


def test_disks_on_pci_leave_less_room_for_cargo() -> None:
    files = {f"r{number}": f"/dev/vd{number}" for number in range(40)}
    few = launch.drives_of(started(OWN).spec, PLACE.of("m"), EMPTY, [(EMPTY, files)])
    assert len([drive for drive in few if drive.readonly]) == launch.MOST_CARGO - 4


def test_the_script_makes_what_is_not_there_whole_and_grows_the_rest() -> None:
    made = started(OWN).spec.disks[:1]
    over = made[0].__class__("over", 0, "file-" + "0" * 40)
    script = launch.disks_script(["qemu-img"], PLACE.of("m"), [(made[0], None), (over, ("/f.raw", "raw"))], ["own"])
    own, first, second = script.splitlines()
    assert own == "own || exit 1"
    assert "resize" in first
    assert "create -q -f qcow2" in first
    assert ".new" in first
    assert "-b /f.raw -F raw" in second
    assert "resize" not in second


def test_on_pc_the_disk_of_its_image_and_others_on_ide_have_places_of_their_own() -> None:
    disks = tuple(Disk(f"d{number}", GIB, bus="ide", serial=f"d{number}") for number in range(3))
    machine = Machine("m", image=Image(file="/own.qcow2", format="qcow2"), disk=GIB, bus="ide", disks=disks)
    said = argv(started(machine, "hv/m", kernel=False))
    assert sum(word.startswith("ide-hd,bus=ide.0") for word in said) == 1, "its own is the first of the first channel"
    places = [json.loads(word) for word in said if word.startswith('{"driver":"ide-hd"')]
    assert [(place["bus"], place["unit"]) for place in places] == [("ide.0", 1), ("ide.1", 0), ("ide.1", 1)]
    on_q35 = argv(started(machine, kernel=False))
    places = [json.loads(word) for word in on_q35 if word.startswith('{"driver":"ide-hd"')]
    assert [(place["bus"], place["unit"]) for place in places] == [("pata.0", 0), ("pata.0", 1), ("pata.1", 0)]
