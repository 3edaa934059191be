"""What is seen of a machine's disks, and how a machine of nestlab's own image finds them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from nestlab.engines.qemu import records
from nestlab.engines.qemu.observed import parse
from nestlab.guest import disks
from nestlab.home.paths import short_id
from nestlab.lab.disks import Disk
from nestlab.lab.model import GIB, plain
from nestlab.plan.steps import NO_PLUGS, Plugs

DATA = Disk("data", GIB, serial="data").made()
FOLDER = short_id("web")


def seen(made: dict[str, object], *lines: str) -> tuple[str, ...]:
    """The names of the disks that a machine is seen to have."""
    record = {"path": "web", "digest": "d", "names": "n", "root": "r", "disk": 0} | made
    text = "\n".join(["U 10.0", f"M {FOLDER}", f"S {json.dumps(record)}", *lines])
    (only,) = parse(text, now=0).machines
    return tuple(disk.name for disk in only.seen.disks)


def test_a_disk_is_there_when_it_was_made_and_its_file_is() -> None:
    made = {"disks": plain((DATA,))}
    assert seen(made, f"D {DATA.id}.qcow2") == ("data",)
    assert seen(made) == ()
    assert seen({}, f"D {DATA.id}.qcow2") == ()


@pytest.mark.parametrize("disks", [7, [{"name": "a b"}], [{"name": "data", "bus": "x"}], {"name": "data"}])
def test_what_nestlab_did_not_write_of_disks_counts_as_none(disks: object) -> None:
    assert seen({"disks": disks}, f"D {DATA.id}.qcow2") == ()


def test_what_a_running_machine_takes_is_read_as_it_was_written() -> None:
    plugs = Plugs(5, scsi=True, out=True)
    line = records.with_plugs('{"port":20022,"accel":"kvm"}', plugs).decode()
    assert (records.started(line).plugs, records.started(line).port) == (plugs, 20022)
    for odd in ("7", "[1,2]", '["a",1,1]', "[-1,0,0]", "[9999,1,1]"):
        assert records.started(f'{{"plugs":{odd}}}').plugs == NO_PLUGS


def test_the_record_without_a_disk_is_the_record_with_all_else() -> None:
    line = json.dumps({"path": "web", "digest": "d", "root": "r", "disk": 7, "disks": plain((DATA,))})
    made = records.made(line, "", FOLDER)
    assert made is not None
    assert records.made(records.line_of(made).decode(), "", FOLDER) == made


def test_disks_get_the_names_that_udev_gives_them(tmp_path: Path) -> None:
    block, by = tmp_path / "sys/block", tmp_path / "dev/disk/by-id"

    def there(name: str, **files: bytes) -> None:
        for path, data in files.items():
            file = block / name / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    there("vda", serial=b"data", vda1__partition=b"1\n")
    there("nvme0n1", device__serial=b"fast      \n")
    there("sda", device__vpd_pg80=b"\0\x80\0\x05flash", device__vendor=b"QEMU    \n")
    there("sdb", device__vpd_pg80=b"\0\x80\0\x14WD-0815             ", device__vendor=b"ATA     \n")
    there("sr0", size=b"0")
    (tmp_path / "dev").mkdir()
    for name in ("vda", "vda1", "nvme0n1", "sda", "sdb"):
        (tmp_path / "dev" / name).write_bytes(b"")
    by.mkdir(parents=True)
    (by / "virtio-gone").symlink_to("../../vdz")
    buses = [("virtio", "data"), ("nvme", "fast"), ("scsi", "flash"), ("sata", "WD-0815")]
    text = disks.script(buses, cdroms=True)  # type: ignore[arg-type]
    text = text.replace("/sys/", f"{tmp_path}/sys/").replace("/dev/disk", f"{tmp_path}/dev/disk")
    subprocess.run(["sh", "-c", text], check=True, timeout=60)
    assert {link.name: link.readlink().name for link in by.iterdir()} == {
        "virtio-data": "vda",
        "virtio-data-part1": "vda1",
        "nvme-QEMU_NVMe_Ctrl_fast": "nvme0n1",
        "scsi-0QEMU_QEMU_HARDDISK_flash": "sda",
        "ata-QEMU_HARDDISK_WD-0815": "sdb",
    }


def test_a_disk_that_does_not_come_is_said(tmp_path: Path) -> None:
    text = disks.script([("virtio", "lost")]).replace("-lt 100", "-lt 2")
    text = text.replace("/sys/", f"{tmp_path}/sys/").replace("/dev/disk", f"{tmp_path}/disk")
    ended = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "disks.sh: these are not there: lost\n")


def test_only_the_drivers_of_the_buses_that_are_used_are_loaded() -> None:
    assert "for module in virtio_blk; do" in disks.script([("virtio", "a")])
    assert "for module in ahci sd_mod; do" in disks.script([("sata", "a")])
    assert "for module in ahci ata_piix sr_mod; do" in disks.script([], cdroms=True)
