"""Images on this machine, which labs need them, and building them ahead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.events import Began, Ended, Event
from nestlab.home.directories import Home
from nestlab.images import firmware_files, inventory, ipxe_files
from nestlab.images.image_cache import DESCRIPTION, folder_of
from nestlab.images.image_files import key_of
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.labfile import parse_text
from test_ready_labfile import settled


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state", tmp_path / "cache")


def built(home: Home, name: str, digest: str, called: str = "") -> None:
    """An image as a build leaves it, with one small file."""
    folder = folder_of(digest, home.cache)
    folder.mkdir(parents=True)
    (folder / "vmlinux").write_bytes(b"x" * 5000)
    part = {"file": "vmlinux", "size": 5000, "sha256": "0" * 64}
    value = {"name": name, "digest": digest, "kernel_version": "6.12", "cmdline": [], "parts": {"kernel": part}}
    value |= {"recipe": {"called": called}} if called else {}
    (folder / DESCRIPTION).write_text(json.dumps(value))


def needed(home: Home, lab: str, *keys: str) -> None:
    blueprint_file.save(home.lab(lab).blueprint, Blueprint(lab, images={key: Image("tiny") for key in keys}))


def test_images_are_listed_with_the_labs_that_need_them(home: Home) -> None:
    built(home, "tiny", "ab" * 32)
    built(home, "kvm", "cd" * 32)
    needed(home, "pair", "ab" * 32)
    needed(home, "other", "ab" * 32)
    shown = {each.name: each.used for each in inventory.shelved(home)}
    assert shown == {"kvm": (), "tiny": ("other", "pair")}


def test_collecting_keeps_what_a_lab_needs(home: Home) -> None:
    built(home, "tiny", "ab" * 32)
    built(home, "kvm", "cd" * 32)
    needed(home, "pair", "ab" * 32)
    assert inventory.collect(home) > 0
    assert [each.name for each in inventory.shelved(home)] == ["tiny"]


def test_an_image_with_additions_is_shown_as_unused_by_the_name_of_its_user(home: Home) -> None:
    built(home, "debian", "ab" * 32, called="shop")
    built(home, "debian", "cd" * 32)
    assert [each.what for each in inventory.unused(home)] == ["image shop abababababab", "image debian cdcdcdcdcdcd"]


def test_what_a_lab_of_another_home_needs_is_kept_while_that_is_there(home: Home, tmp_path: Path) -> None:
    built(home, "tiny", "ab" * 32)
    other = Home(tmp_path / "other", home.cache)
    needed(other, "pair", "ab" * 32)
    other.join()
    other.join()
    assert [each.used for each in inventory.shelved(home)] == [(f"pair (in {other.state})",)]
    assert inventory.collect(home) == 0
    with pytest.raises(LabError, match=r"is under disks of pair \(in "):
        inventory.chosen(home, ["tiny"])
    shutil.rmtree(other.state)
    home.join()
    assert home.joined() == [home]
    assert inventory.collect(home) > 0


SEALED = """
lab: sealed
segments: {wire: {netboot: {image: tiny}}}
machines:
  one: {image: tiny, tpm: true}
  two: {image: none, disk: 1G, boot: [network], firmware: uefi, segments: [wire]}
"""


def test_firmware_and_ipxe_are_kept_while_a_lab_has_machines_that_start_with_them(home: Home) -> None:
    files = (firmware_files.FILES, ipxe_files.FILES)
    mine = [home.cache / each.place / each.digest for each in files]
    older = [home.cache / each.place / "0123456789abcdef" for each in files]
    for folder in (*mine, *older):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 5000)
    (home.cache / "ipxe" / ".dead.partial").mkdir()
    (home.cache / "ipxe" / ".dead.lock").touch()
    blueprint_file.save(home.lab("sealed").blueprint, settled(parse_text(SEALED, environ={})))
    assert inventory.collect(home) > 0
    assert all(folder.exists() for folder in mine)
    assert not any(folder.exists() for folder in older)
    assert not (home.cache / "ipxe" / ".dead.partial").exists()
    home.lab("sealed").blueprint.unlink()
    assert [each.what.rpartition(",")[0] for each in inventory.unused(home)] == [each.what for each in files]
    assert inventory.collect(home) > 0
    assert not any(folder.exists() for folder in mine)


def test_nothing_is_collected_while_a_lab_cannot_be_read(home: Home) -> None:
    built(home, "tiny", "ab" * 32)
    home.lab("pair").blueprint.write_text("torn")
    with pytest.raises(LabError, match="cannot be read"):
        inventory.collect(home)
    assert folder_of("ab" * 32, home.cache).exists()


def test_an_image_is_chosen_by_name_or_digest_and_not_while_it_is_needed(home: Home) -> None:
    built(home, "tiny", "ab" * 32)
    built(home, "tiny", "cd" * 32)
    needed(home, "pair", "ab" * 32)
    assert [each.digest for each in inventory.chosen(home, ["cdcd"])] == ["cd" * 32]
    with pytest.raises(LabError, match="is under disks of pair"):
        inventory.chosen(home, ["tiny"])
    with pytest.raises(LabError, match="No image is called kvn"):
        inventory.chosen(home, ["kvn"])
    inventory.remove(home, inventory.chosen(home, ["cdcd"])[0])
    assert len(inventory.shelved(home)) == 1


def test_what_to_build_is_named_or_taken_from_a_lab_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("lab: one\nmachines: {a: {image: tiny}, b: {image: tiny}}\n")
    assert list(inventory.to_build([str(file)], {}).values()) == [Image(base="tiny")]
    assert [image.base for image in inventory.to_build([], {}).values()] == ["kvm", "debian", "tiny"]
    with pytest.raises(LabError, match="There is no image kvn"):
        inventory.to_build(["kvn"], {})


async def test_what_is_built_already_is_told_as_done(home: Home) -> None:
    tiny = Image(base="tiny")
    built(home, "tiny", key_of(tiny))
    events: list[Event] = []
    await inventory.build(home, {key_of(tiny): tiny}, events.append)
    assert isinstance(events[0], Began)
    assert isinstance(events[-1], Ended)
    assert events[-1].ok
