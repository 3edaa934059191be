"""Hypervisors that nestlab does not work in: what their machines are given, refused and explained, by one file each."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import boot_sector
from nestlab import kinds
from nestlab.base.errors import Mistake, Mistakes
from nestlab.kinds import Foreign
from nestlab.kinds.foreign import Wish
from nestlab.lab.model import GIB, Machine, format_size
from nestlab.labfile import parse_text, render
from nestlab.labfile.fields import MACHINE
from nestlab.verbs.foreign_notes import of_machine
from test_ready_labfile import settled

ROOT = Path(__file__).parents[1]
room = importlib.import_module("nestlab.kinds.foreign")
NAMED = [name for name in sorted(kinds.foreign()) if name != "other"]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return boot_sector.disk(tmp_path / "disk.raw")


def machine(text: str) -> Machine:
    return parse_text(f"lab: x\nsegments: {{wire: {{}}}}\nmachines: {{m: {text}}}", environ={}).machines[0]


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(Mistakes) as caught:
        machine(text)
    return list(caught.value.mistakes)


@pytest.mark.parametrize("name", NAMED)
def test_a_machine_gets_what_its_hypervisor_can_use(name: str, disk: Path) -> None:
    made = kinds.foreign()[name]
    text = f"{{hypervisor: {name}, image: {{file: {disk}}}, segments: [wire]}}"
    lab = parse_text(f"lab: x\nsegments: {{wire: {{}}}}\nmachines: {{m: {text}}}", environ={})
    found = lab.machines[0]
    assert found.foreign
    assert (found.cpus, found.memory) == (made.cpus, made.usual_memory)
    assert found.card == made.card == found.links[0].card
    has = {key: getattr(found, key, None) or getattr(found.hardware, key, None) for key in made.keys}
    assert has == {key: wish.value for key, wish in made.keys.items()}
    assert parse_text(render(lab), environ={}) == lab
    assert settled(lab).specs[0].nics[0].card == made.card


@pytest.mark.parametrize("name", NAMED)
def test_every_recipe_is_whole(name: str) -> None:
    made = kinds.foreign()[name]
    assert made.name == name
    assert made.source
    assert made.look
    assert set(made.keys) <= set(MACHINE.by_name), "it names keys that no machine has"
    assert (made.card == "virtio") == (not made.card_why)
    assert made.usual_memory >= made.memory


@pytest.mark.parametrize("name", NAMED)
def test_less_than_it_takes_is_refused_with_its_place(name: str, disk: Path) -> None:
    made = kinds.foreign()[name]
    text = f"{{hypervisor: {name}, image: {{file: {disk}}}, memory: 512M, cpus: 1, disk: 2M}}"
    found = {each.key.rpartition(".")[2]: each for each in mistakes(text)}
    assert f"takes at least {format_size(made.memory)} of memory" in found["memory"].what
    assert f"takes at least {made.cpus} CPUs" in found["cpus"].what
    assert f"takes at least {format_size(made.disk)} of disk" in found["disk"].what
    assert all(each.line == 3 for each in found.values())


def test_what_the_lab_file_says_counts_before_the_recipe(disk: Path) -> None:
    said = f"image: {{file: {disk}}}, board: pc, memory: 16G, cpus: 4, segments: {{wire: {{card: rtl8139}}}}"
    found = machine(f"{{hypervisor: esxi, {said}}}")
    assert (found.hardware.board, found.memory, found.cpus, found.links[0].card) == ("pc", 16 * GIB, 4, "rtl8139")


def test_its_medium_installs_on_an_empty_disk_that_is_large_enough(tmp_path: Path) -> None:
    medium = tmp_path / "installer.iso"
    medium.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(2041))
    assert machine(f"{{hypervisor: esxi, image: {{file: {medium}}}}}").disk == 32 * GIB


def test_the_plan_explains_each_choice_and_says_what_is_not_seen(disk: Path) -> None:
    lab = parse_text(f"lab: x\nmachines: {{m: {{hypervisor: esxi, image: {{file: {disk}}}}}}}", environ={})
    spec, made = settled(lab).specs[0], kinds.foreign()["esxi"]
    first, *rest = of_machine(spec, made, "N", None)
    assert "m is VMware ESXi: board q35 (" in first
    assert "bus sata (ESXi has no virtio driver)" in first
    assert "card vmxnet3 (ESXi 7 and later have no driver for virtio or e1000)" in first
    assert any("does not look inside m" in each and "HV Support" in each for each in rest)
    assert any("ignore_msrs=N" in each and "nestlab doctor --fix ignore-msrs" in each for each in rest)
    assert not any("ignore_msrs" in each for each in of_machine(spec, made, "Y", None))


def test_intel_and_amd_differ_for_hyper_v(disk: Path) -> None:
    lab = parse_text(f"lab: x\nmachines: {{m: {{hypervisor: hyper-v, image: {{file: {disk}}}}}}}", environ={})
    spec, made = settled(lab).specs[0], kinds.foreign()["hyper-v"]
    amd, intel = (" ".join(of_machine(spec, made, "Y", vendor)) for vendor in ("amd", "intel"))
    assert "Windows Server 2022 and Windows 11 or later" in amd
    assert "+hv-evmcs" not in amd
    assert "+hv-evmcs" in intel


@pytest.mark.parametrize("word", ["incus", "xen"])
def test_one_that_nestlab_does_not_make_yet_is_told_so(word: str) -> None:
    [found] = mistakes(f"{{hypervisor: {word}}}")
    assert "nestlab makes none yet" in found.hint
    assert "hypervisor: other" in found.hint


def test_another_name_of_a_kind_is_told_which_it_is() -> None:
    [found] = mistakes("{hypervisor: proxmox}")
    assert found.hint == "It is called `pve`."


def test_adding_one_is_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smartos.py").write_text(
        "from nestlab.kinds.foreign.recipe import Foreign\n"
        "FOREIGN = Foreign('smartos', 'SmartOS', '`vmadm list` works', 'its manual', 2, 2 << 30, 3 << 30)\n"
    )
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    room.foreign.cache_clear()
    try:
        assert "smartos" in kinds.names()
        assert kinds.is_foreign("smartos")
        assert kinds.foreign()["smartos"].memory == 2 * GIB
    finally:
        sys.modules.pop(f"{room.__name__}.smartos", None)
        room.foreign.cache_clear()


def test_the_page_has_a_row_of_each() -> None:
    page = (ROOT / "docs" / "foreign-hypervisors.md").read_text()
    for name in NAMED:
        assert row(kinds.foreign()[name]) in page, row(kinds.foreign()[name])


def row(made: Foreign) -> str:
    keys = "; ".join(f"`{key}: {_word(wish)}`" for key, wish in made.keys.items()) or "-"
    look = made.look.replace("|", r"\|")
    least = f"{made.cpus} CPUs, {format_size(made.memory)}, disk {format_size(made.disk)}"
    return f"| `{made.name}` | {made.title} | {least} | {keys} | `{made.card}` | {look} |"


def _word(wish: Wish) -> str:
    return wish.value if isinstance(wish.value, str) else str(wish.value).lower()
