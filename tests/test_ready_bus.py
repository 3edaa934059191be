"""The bus of a machine's own disk: QEMU's words for each on each board, and where it cannot be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

import boot_sector
from nestlab.base.errors import Mistakes
from nestlab.engines.qemu.disk_devices import own
from nestlab.lab.disks import BUSES
from nestlab.labfile import parse_text, render
from test_ready_labfile import settled

SAID = "drive=d0,serial=root"


@pytest.mark.parametrize(
    ("board", "bus", "devices"),
    [
        ("q35", "virtio", [f"virtio-blk-pci,{SAID}"]),
        ("q35", "nvme", [f"nvme,{SAID}"]),
        ("q35", "scsi", ["virtio-scsi-pci,id=own", f"scsi-hd,bus=own.0,{SAID}"]),
        ("q35", "sata", [f"ide-hd,bus=ide.0,{SAID}"]),
        ("q35", "ide", ["piix3-ide,id=own", f"ide-hd,bus=own.0,{SAID}"]),
        ("pc", "sata", ["ich9-ahci,id=own", f"ide-hd,bus=own.0,{SAID}"]),
        ("pc", "ide", [f"ide-hd,bus=ide.0,{SAID}"]),
    ],
)
def test_qemu_is_told_of_it(board: str, bus: str, devices: list[str]) -> None:
    assert own(board, bus, SAID) == devices  # type: ignore[arg-type]


@pytest.mark.parametrize("bus", BUSES)
def test_a_disk_of_the_users_may_be_on_each(bus: str, tmp_path: Path) -> None:
    disk = boot_sector.disk(tmp_path / "a.raw")
    lab = parse_text(f"lab: x\nmachines: {{m: {{image: {{file: {disk}}}, bus: {bus}}}}}", environ={})
    assert lab.machines[0].bus == bus
    assert parse_text(render(lab), environ={}) == lab
    plain = parse_text(f"lab: x\nmachines: {{m: {{image: {{file: {disk}}}}}}}", environ={})
    assert (settled(lab).specs[0].digest == settled(plain).specs[0].digest) == (bus == "virtio")


@pytest.mark.parametrize(
    ("head", "image", "bus", "why"),
    [
        ("", "debian", "sata", "debian looks for it on virtio"),
        ("on: pve://pve1\n", "debian", "sata", "debian looks for it on virtio"),
        ("on: pve://pve1\n", "FILE", "nvme", "a Proxmox VE has no nvme disks"),
    ],
)
def test_where_it_cannot_be_chosen_it_is_a_mistake(head: str, image: str, bus: str, why: str, tmp_path: Path) -> None:
    disk = boot_sector.disk(tmp_path / "a.raw")
    said = image if image != "FILE" else f"{{file: {disk}}}"
    with pytest.raises(Mistakes) as caught:
        parse_text(f"lab: x\n{head}machines: {{m: {{image: {said}, bus: {bus}}}}}", environ={})
    assert why in caught.value.mistakes[0].what
    passed = parse_text(f"lab: x\n{head}defaults: {{bus: {bus}}}\nmachines: {{m: {{image: {said}}}}}", environ={})
    assert passed.machines[0].bus == "virtio"


@pytest.mark.parametrize("bus", ["virtio", "scsi", "sata", "ide"])
def test_on_a_proxmox_ve_it_may_be_on_each_that_there_is(bus: str, tmp_path: Path) -> None:
    disk = boot_sector.disk(tmp_path / "a.raw")
    text = f"lab: x\non: pve://pve1\nmachines: {{m: {{image: {{file: {disk}}}, bus: {bus}}}}}"
    assert parse_text(text, environ={}).machines[0].bus == bus


def test_its_own_disk_counts_where_a_proxmox_ve_has_few_slots(tmp_path: Path) -> None:
    disk = boot_sector.disk(tmp_path / "a.raw")
    disks = ", ".join(f"d{number}: {{size: 1G, bus: sata}}" for number in range(6))
    text = f"machines: {{m: {{image: {{file: {disk}}}, bus: sata, disks: {{{disks}}}}}}}"
    assert len(parse_text(f"lab: x\n{text}", environ={}).machines[0].disks) == 6
    with pytest.raises(Mistakes, match="6 disks are on sata, which takes 5 beside its own"):
        parse_text(f"lab: x\non: pve://pve1\n{text}", environ={})
