"""Real machines find their disks by serial number on every bus, at level 1 and 2; disks, memory and CPUs come, grow and
go while they run; and firmware boots what the lab file says, in its order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from command_line import Cli
from media import disk, iso
from waiting import wait_until

pytestmark = pytest.mark.guest

LAB = """\
lab: disks
machines:
  store:
    hypervisor: kvm
    memory: {memory}
    disks: {disks}
    machines:
      db: {{image: tiny, cpus: {cpus}, disks: {inner}}}
"""
BEFORE = (
    "{data: 2G, fast: {size: 1G, bus: nvme}, flash: {size: 1G, bus: scsi, ssd: true},"
    " old: {size: 1G, bus: sata, serial: WD-0815}, oldest: {size: 1G, bus: ide}}"
)
AFTER = (
    "{data: 3G, flash: {size: 2G, bus: scsi, ssd: true}, old: {size: 1G, bus: sata, serial: WD-0815},"
    " oldest: {size: 1G, bus: ide}, more: 1G, extra: {size: 1G, bus: scsi}}"
)
BY = "/dev/disk/by-id"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        found = Cli(Path(folder) / "home")
        try:
            yield found
        finally:
            found("down", "disks", "--yes", status=None)


def write(cli: Cli, disks: str, inner: str, memory: str = "1280M", cpus: int = 1) -> str:
    file = cli.home.parent / "disks.yaml"
    file.write_text(LAB.format(disks=disks, inner=inner, memory=memory, cpus=cpus))
    return str(file)


def sizes(cli: Cli, path: str) -> dict[str, int]:
    """By name in /dev/disk/by-id: gibibytes."""
    ask = f"cd {BY}; for each in *; do d=$(readlink $each); read -r s </sys/block/${{d##*/}}/size; echo $each $s; done"
    rows = [line.split() for line in cli("exec", path, "--", "sh", "-c", ask).text.splitlines()]
    own = ("virtio-root", "virtio-nestlab-id")
    return {name: int(size) >> 21 for name, size in rows if name not in own and int(size) >> 21}


def test_disks_are_found_by_serial_number_on_every_bus_and_level(cli: Cli) -> None:
    cli("up", write(cli, BEFORE, "[1G, {size: 1G, bus: nvme}]"))
    assert sizes(cli, "store") == {
        "virtio-data": 2,
        "nvme-QEMU_NVMe_Ctrl_fast": 1,
        "scsi-0QEMU_QEMU_HARDDISK_flash": 1,
        "ata-QEMU_HARDDISK_WD-0815": 1,
        "ata-QEMU_HARDDISK_oldest": 1,
    }
    assert sizes(cli, "store/db") == {"virtio-disk1": 1, "nvme-QEMU_NVMe_Ctrl_disk2": 1}
    turns = "cat /sys/block/$(basename $(readlink -f $1))/queue/rotational"
    flash, old = (
        cli("exec", "store", "--", "sh", "-c", turns, "turns", f"{BY}/{name}").text.strip()
        for name in ("scsi-0QEMU_QEMU_HARDDISK_flash", "ata-QEMU_HARDDISK_WD-0815")
    )
    assert (flash, old) == ("0", "1")
    assert "nothing to do" in cli("plan", "disks")


def test_cpus_come_and_go_while_a_machine_runs_on_kvm(cli: Cli) -> None:
    def now() -> tuple[int, str]:
        """CPUs of the guest, and its boot."""
        boot = cli("exec", "store/db", "--", "cat", "/proc/sys/kernel/random/boot_id").text
        return int(cli("exec", "store/db", "--", "grep", "-c", "^processor", "/proc/cpuinfo").text), boot

    inner = "[1G, {size: 1G, bus: nvme}]"
    count, boot = now()
    assert count == 1
    for cpus in (3, 1):
        file = write(cli, BEFORE, inner, cpus=cpus)
        assert "live: cpus" in cli("plan", file)
        cli("up", file)
        assert now() == (cpus, boot)
        assert "nothing to do" in cli("plan", "disks")
    # A disk on ide reaches no memory above 4 GiB.
    assert "restart: memory 1280M -> 1536M" in cli("plan", write(cli, BEFORE, inner, "1536M"))


def test_disks_come_grow_and_go_while_the_machines_run(cli: Cli) -> None:
    cli(
        "exec",
        "store",
        "--",
        "sh",
        "-c",
        f"mke2fs -q {BY}/virtio-data && echo kept | dd of={BY}/virtio-data bs=1 count=5 2>&1",
    )
    cli("exec", "store/db", "--", "sh", "-c", f"echo kept >{BY}/virtio-disk1")
    up = cli("exec", "store", "--", "cat", "/proc/sys/kernel/random/boot_id")
    file = write(cli, AFTER, "[2G, {size: 1G, bus: nvme}, 1G]")
    refused = cli("up", file, status=2)
    assert "disk fast is no longer wanted: it is deleted with" in refused
    assert "--replace" in refused
    assert "nothing was changed" in refused
    cli("up", file, "--replace")
    assert sizes(cli, "store") == {
        "virtio-data": 3,
        "virtio-more": 1,
        "scsi-0QEMU_QEMU_HARDDISK_flash": 2,
        "scsi-0QEMU_QEMU_HARDDISK_extra": 1,
        "ata-QEMU_HARDDISK_WD-0815": 1,
        "ata-QEMU_HARDDISK_oldest": 1,
    }
    assert sizes(cli, "store/db") == {"virtio-disk1": 2, "nvme-QEMU_NVMe_Ctrl_disk2": 1, "virtio-disk3": 1}
    assert cli("exec", "store", "--", "cat", "/proc/sys/kernel/random/boot_id").text == up.text
    assert cli("exec", "store", "--", "head", "-c", "5", f"{BY}/virtio-data").text == "kept\n"
    assert "nothing to do" in cli("plan", "disks")


def test_what_is_on_a_disk_is_there_after_a_restart(cli: Cli) -> None:
    cli("exec", "store/db", "--", "sync")
    cli("restart", "store/db")
    assert cli("exec", "store/db", "--", "head", "-c", "5", f"{BY}/virtio-disk1").text == "kept\n"
    assert sizes(cli, "store/db") == {"virtio-disk1": 2, "nvme-QEMU_NVMe_Ctrl_disk2": 1, "virtio-disk3": 1}


FIRMWARE = """\
lab: media
machines:
  empty: {{image: none, disk: 1G, cdroms: {folder}/a.iso}}
  filled: {{image: none, cdroms: {folder}/a.iso, disks: {{os: {{file: {folder}/b.raw, bus: sata}}}}}}
  cd-first:
    image: none
    boot: [cdrom, disk]
    cdroms: {folder}/a.iso
    disks: {{os: {{file: {folder}/b.raw, bus: scsi}}}}
"""


def shows(cli: Cli, name: str, word: str) -> bool:
    """Whether the console of a machine of `media` has a word."""
    return word in cli("logs", f"media:{name}", status=None)


def test_firmware_boots_what_the_lab_file_says_in_its_order() -> None:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        cli = Cli(Path(folder) / "home")
        (Path(folder) / "a.iso").write_bytes(iso("from-cd"))
        (Path(folder) / "b.raw").write_bytes(disk("from-disk"))
        file = Path(folder) / "media.yaml"
        file.write_text(FIRMWARE.format(folder=folder))
        before = (Path(folder) / "b.raw").read_bytes()
        try:
            cli("up", str(file), "--no-verify", status=None)
            for name, word in (("empty", "from-cd"), ("filled", "from-disk"), ("cd-first", "from-cd")):
                wait_until(partial(shows, cli, name, word))
            assert (Path(folder) / "b.raw").read_bytes() == before
        finally:
            cli("down", "media", "--yes", status=None)


def test_a_disk_over_a_file_of_the_users_has_what_is_in_it_and_leaves_it_as_it_is() -> None:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        cli = Cli(Path(folder) / "home")
        raw = Path(folder) / "b.raw"
        raw.write_bytes(b"given\n".ljust(1 << 20, b"\0"))
        file = Path(folder) / "lab.yaml"
        file.write_text(f"lab: given\nmachines: {{m: {{image: tiny, disks: {{a: {{file: {raw}, size: 2M}}}}}}}}\n")
        try:
            cli("up", str(file), "--no-verify")
            at = f"{BY}/virtio-a"
            look = f"head -c 6 {at}; echo mine >{at}; sync; head -c 5 {at}"
            assert cli("exec", "m", "--", "sh", "-c", look).text == "given\nmine\n"
            assert raw.read_bytes().startswith(b"given\n")
        finally:
            cli("down", "given", "--yes", status=None)
