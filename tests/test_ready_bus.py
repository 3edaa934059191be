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
    ("head", "image", "why"),
    [
        ("", "debian", "debian looks for it on virtio"),
        ("on: pve://pve1\n", "FILE", "a machine's disk is on virtio-scsi there"),
    ],
)
def test_where_it_cannot_be_chosen_it_is_a_mistake(head: str, image: str, why: str, tmp_path: Path) -> None:
    disk = boot_sector.disk(tmp_path / "a.raw")
    said = image if image != "FILE" else f"{{file: {disk}}}"
    with pytest.raises(Mistakes) as caught:
        parse_text(f"lab: x\n{head}machines: {{m: {{image: {said}, bus: sata}}}}", environ={})
    assert why in caught.value.mistakes[0].what
    passed = parse_text(f"lab: x\n{head}defaults: {{bus: sata}}\nmachines: {{m: {{image: {said}}}}}", environ={})
    assert passed.machines[0].bus == "virtio"
