"""Every bus and every card, found by a Linux guest at level 1 and, the same machine, at level 2."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from media import iso

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: buses
segments: {one: , two: , three: , four: }
machines:
  here: &all
    image: {from: debian, kernel: generic}
    tpm: true
    disks:
      v: 1G
      s: {size: 1G, bus: scsi}
      a: {size: 1G, bus: sata}
      n: {size: 1G, bus: nvme}
      i: {size: 1G, bus: ide}
    cdroms: ./word.iso
    segments:
      one: {card: virtio}
      two: {card: e1000e}
      three: {card: vmxnet3}
      four: {card: rtl8139}
  hv:
    hypervisor: kvm
    segments: [one, two, three, four]
    machines:
      deep: *all
"""
DISKS = {
    "virtio-v",
    "scsi-0QEMU_QEMU_HARDDISK_s",
    "ata-QEMU_HARDDISK_a",
    "nvme-QEMU_NVMe_Ctrl_n",
    "ata-QEMU_HARDDISK_i",
}
DRIVERS = {"virtio_net", "e1000e", "vmxnet3", "8139cp"}
BOTH = pytest.mark.parametrize("machine", ["here", "hv/deep"])


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        made = Cli(Path(folder))
        (made.home / "word.iso").write_bytes(iso("from-cd"))
        made("up", made.file(LAB), "--no-verify")
        yield made
        made("down", "buses", "--yes", status=None)


def said(cli: Cli, machine: str, command: str) -> str:
    return cli.plain("exec", machine, "--", "sh", "-c", command).strip()


@BOTH
def test_each_disk_is_found_by_its_serial_number_and_keeps_what_is_written(cli: Cli, machine: str) -> None:
    assert set(said(cli, machine, "ls /dev/disk/by-id").split()) >= DISKS
    for name in sorted(DISKS):
        at = f"/dev/disk/by-id/{name}"
        assert said(cli, machine, f"echo {name} >{at}; sync; head -c {len(name)} {at}") == name


@BOTH
def test_a_cd_is_readable(cli: Cli, machine: str) -> None:
    assert said(cli, machine, "dd if=/dev/sr0 bs=1 skip=32769 count=5 2>/dev/null") == "CD001"


@BOTH
def test_each_card_has_its_driver(cli: Cli, machine: str) -> None:
    drivers = said(cli, machine, "for each in /sys/class/net/*/device/driver; do basename $(readlink -f $each); done")
    assert set(drivers.split()) >= DRIVERS


def test_each_card_carries_between_level_one_and_two(cli: Cli) -> None:
    addresses = [each for each in cli.machines("buses")["here"]["addresses"] if "." in each]
    assert len(addresses) == 4
    for address in addresses:
        cli("exec", "hv/deep", "--", "ping", "-c", "3", address)


@BOTH
def test_its_tpm_is_there(cli: Cli, machine: str) -> None:
    assert said(cli, machine, "cat /sys/class/tpm/tpm0/tpm_version_major") == "2"
