"""What QEMU is started with is a pure function of a settled machine, kept in golden files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.engines.qemu import launch as launching
from nestlab.engines.qemu.argv import Drive, Kernel, Launch, argv
from nestlab.engines.qemu.cargo import serial_of
from nestlab.home.paths import Place
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Nic, Spec, mac_of
from nestlab.lab.model import GIB, MIB, Image, Machine

WIRE = Nic("wire", "52:54:00:aa:bb:01", 1400, ("10.77.0.11/24", "fd77::11/64"), bridge=True)
HYPERVISOR = Spec(
    "hv1",
    Machine("hv1", hypervisor="kvm", image=Image(base="kvm"), cpus=2, memory=4 * GIB, disk=32 * GIB),
    (WIRE,),
    "10.100.1.0/24",
    "k1",
    ("t1",),
    "digest",
)
GUEST = Spec(
    "hv1/web",
    Machine("web", image=Image(base="tiny"), memory=128 * MIB, internet=True, cmdline="quiet"),
    (replace(WIRE, mac="52:54:00:aa:bb:02", bridge=False),),
    "10.100.2.0/24",
    "t1",
    (),
    "digest",
)
PLACE = Place("/labs/pair")
BOOTED = Kernel("/cache/k1/vmlinux", "/cache/k1/initrd", ("quiet",))
DISK = Drive(PLACE.of("hv1").disk, "qcow2", "root")
OUTER = Launch(
    "pair",
    HYPERVISOR,
    PLACE.of("hv1"),
    "tcg",
    20022,
    mac_of("pair", "hv1", ""),
    kernel=BOOTED,
    drives=(DISK,),
    switch="/labs/pair/switch",
)
INNER = Launch(
    "pair",
    GUEST,
    PLACE.of("hv1/web"),
    "kvm",
    20023,
    mac_of("pair", "hv1/web", ""),
    kernel=Kernel("/dev/vdc", "/dev/vdd"),
)

CASES = {
    "level-1-emulated": OUTER,
    "level-1-kvm": replace(OUTER, accel="kvm"),
    "level-1-kvm-qemu-7.2": replace(OUTER, accel="kvm", version=(7, 2, 0)),
    "level-1-qemu-8.2": replace(OUTER, version=(8, 2, 2)),
    "level-2-kvm": INNER,
    "level-2-emulated": replace(INNER, accel="tcg"),
    "level-2-hypervisor": replace(
        INNER, spec=replace(HYPERVISOR, path="hv1/hv2"), management_mac=mac_of("pair", "hv1/hv2", "")
    ),
    "level-1-vlan": replace(OUTER, spec=replace(HYPERVISOR, nics=(replace(WIRE, bridge=False, vlan=20),))),
    "level-1-trunk": replace(OUTER, spec=replace(HYPERVISOR, nics=(replace(WIRE, trunk=True),))),
    "level-2-trunk": replace(INNER, spec=replace(GUEST, nics=(replace(WIRE, trunk=True),))),
    "own-disk": replace(OUTER, kernel=None, cdroms=("/labs/pair/m/1/seed.iso",)),
    "own-runtime": replace(OUTER, qemu=("/cache/runtime/ld.so", "--library-path", "/cache/lib", "/cache/qemu")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_the_golden_one(name: str) -> None:
    assert_golden(f"argv/{name}.txt", "\n".join(argv(CASES[name])))


def test_a_comma_in_a_path_is_not_an_option() -> None:
    place = Place("/labs/a,b")
    line = argv(replace(OUTER, paths=place.of("hv1")))
    assert any("/labs/a,,b/m/" in word for word in line)


def test_only_a_machine_with_internet_gets_out() -> None:
    assert any("restrict=on" in word for word in argv(OUTER))
    assert any("restrict=off" in word for word in argv(INNER))


def test_ssh_is_only_forwarded_from_loopback() -> None:
    forwards = [word for word in argv(OUTER) if "hostfwd" in word]
    assert len(forwards) == 1
    assert "hostfwd=tcp:127.0.0.1:20022-" in forwards[0]


def test_no_secret_is_on_the_command_line() -> None:
    assert not [word for word in argv(OUTER) if "PRIVATE" in word or "ssh-ed25519" in word]


def test_a_hypervisor_carries_the_images_of_what_runs_inside_it_as_read_only_disks() -> None:
    tiny = ImageFiles("t1", {"kernel": Path("/c/t/vmlinux"), "initrd": Path("/c/t/initrd")})
    own = ImageFiles("k1", {"kernel": Path("k"), "initrd": Path("i"), "root": Path("r")}, size=GIB)
    files = {"kernel": "/c/t/vmlinux", "initrd": "/c/t/initrd"}
    drives = launching.drives_of(HYPERVISOR, PLACE.of("hv1"), own, [(tiny, files)])
    assert [drive.serial for drive in drives] == [
        "root",
        "nestlab-id",
        serial_of("t1", "kernel"),
        serial_of("t1", "initrd"),
    ]
    assert [drive.readonly for drive in drives] == [False, True, True, True]
    assert all(len(drive.serial) <= 20 for drive in drives)


def test_a_disk_is_never_smaller_than_its_image() -> None:
    own = ImageFiles("k1", {"root": Path("r")}, size=64 * GIB)
    assert launching.disk_size(HYPERVISOR, own) == 64 * GIB
    assert launching.disk_size(HYPERVISOR, replace(own, size=GIB)) == 32 * GIB
