"""`install:` of an image in a lab file: what it says, and what is a mistake before anything boots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nestlab import labfile
from nestlab.base.errors import Mistakes
from nestlab.images.image_files import key_of
from nestlab.lab import blueprint_file
from nestlab.lab.model import GIB, Image, Lab
from nestlab.labfile.render import render
from test_ready_labfile import settled

HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"


ISO = bytes(16 * 2048) + b"\1CD001" + bytes(2042)


def image(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> Image:
    """The image of a lab with one machine."""
    return lab(text, tmp_path, environ).machines[0].image


def lab(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> Lab:
    path = tmp_path / "lab.yaml"
    path.write_text(f"lab: x\nimages:\n  it:\n{text}machines:\n  m: {{image: it}}\n")
    return labfile.parse(path, environ=environ or {})


def test_an_image_is_installed_by_debians_installer_from_its_packages(tmp_path: Path) -> None:
    found = image("    install: {system: debian, release: bookworm, packages: [curl], disk: 12G}\n", tmp_path)
    assert found.install is not None
    assert found.install.family == "debian"
    assert found.install.iso is None
    assert found.install.disk == 12 * GIB
    assert found.install.answers.suite == "bookworm"
    assert found.install.answers.packages == ("curl",)
    assert found.name == "it"


def test_what_is_the_installers_own_is_passed_on_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pve.iso").write_bytes(ISO)
    text = """\
    install:
      system: proxmox
      iso: ./pve.iso
      password: ${HASH}
      extra: {disk-setup: {filesystem: xfs, lvm: {swapsize: 0}}}
"""
    found = image(text, tmp_path, {"HASH": HASH})
    assert found.install is not None
    assert found.install.answers.password == HASH
    assert json.loads(found.install.answers.extra) == {"disk-setup": {"filesystem": "xfs", "lvm": {"swapsize": 0}}}
    lines = '    install: {system: debian, extra: "d-i a/b boolean true\\nd-i c/d string e"}\n'
    found = image(lines, tmp_path)
    assert found.install is not None
    assert found.install.answers.extra == "d-i a/b boolean true\nd-i c/d string e"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{disk: 8G}", "`system` is missing"),
        ("{system: windows}", "expected debian, ubuntu, redhat or proxmox"),
        ("{system: ubuntu}", "`system: ubuntu` needs the installer's ISO"),
        ("{system: debian, iso: ./a.iso, release: trixie}", "`release` means nothing with `iso`"),
        ("{system: debian, iso: ./none.iso}", "there is no file"),
        ("{system: debian, iso: ./page.iso}", "page.iso is no ISO"),
        ("{system: debian, filesystem: zfs}", "filesystem: Debian's installer makes no zfs"),
        ("{system: debian, extra: nonsense}", "extra: line 1 is none of a preseed"),
        ("{system: debian, extra: [1]}", "expected a mapping, or lines of text"),
        ("{system: debian, locale: klingon}", "expected a locale such as en_US.UTF-8"),
        ("{system: debian, password: secret}", "expected the hash of a password"),
        ("{system: proxmox, iso: ./a.iso}", "password: Proxmox's installer wants a password of root's"),
        ("{system: ubuntu, iso: ./a.iso, extra: {autoinstall: {}}}", "`autoinstall` stands around its keys"),
        ("{system: debian, preseed: x}", "did you mean `extra`"),
    ],
)
def test_what_its_installer_would_refuse_is_a_mistake_with_its_place(said: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.iso").write_bytes(ISO)
    (tmp_path / "page.iso").write_text("<!DOCTYPE html>" + " " * 40000)
    with pytest.raises(Mistakes) as error:
        image(f"    install: {said}\n", tmp_path)
    text = "\n".join(f"{each.line}: {each.what} {each.hint}" for each in error.value.mistakes)
    assert words.lower() in text.lower(), text
    assert text.startswith("4: ")


def test_what_nestlab_would_add_to_its_own_images_means_nothing_beside_it(tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as error:
        image("    install: {system: debian}\n    from: debian\n    packages: [curl]\n", tmp_path)
    said = [each.what for each in error.value.mistakes]
    assert said == ["`from` means nothing with `install`", "`packages` means nothing with `install`"]


def test_a_lab_with_it_is_written_and_read_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "pve.iso").write_bytes(ISO)
    for text in (
        "    install: {system: debian, extra: 'd-i a/b string ${x}$$', commands: ['echo $$HOME'], internet: true}\n",
        "    install: {system: proxmox, iso: ./pve.iso, password: '${HASH}', extra: {first-boot: {source: x}}}\n",
    ):
        wanted = lab(text, tmp_path, {"HASH": HASH, "x": "y"})
        again = tmp_path / "again.yaml"
        again.write_text(render(wanted))
        assert labfile.parse(again, environ={}) == wanted


def test_its_key_is_over_all_that_is_installed_and_over_its_iso(tmp_path: Path) -> None:
    iso = tmp_path / "a.iso"
    iso.write_bytes(ISO)
    one = image("    install: {system: redhat, iso: ./a.iso}\n", tmp_path)
    assert key_of(one) == key_of(image("    install: {system: redhat, iso: ./a.iso, memory: 4G}\n", tmp_path))
    assert key_of(one) != key_of(image("    install: {system: redhat, iso: ./a.iso, packages: [vim]}\n", tmp_path))
    before = key_of(one)
    iso.write_bytes(ISO + b"another")
    assert key_of(one) != before


def test_an_installers_iso_may_be_downloaded(tmp_path: Path) -> None:
    url = "https://example.org/pve.iso"
    text = f"    install: {{system: redhat, iso: {{url: '{url}', sha256: {'a' * 64}}}}}\n"
    found = image(text, tmp_path)
    assert found.install is not None
    assert found.install.source is not None
    assert (found.install.source.url, found.install.source.format) == (url, "iso")
    again = tmp_path / "again.yaml"
    wanted = lab(text, tmp_path)
    again.write_text(render(wanted))
    assert labfile.parse(again, environ={}) == wanted
    moved = text.replace("example.org", "mirror.example.org")
    assert key_of(image(moved, tmp_path)) == key_of(found)  # its content is the same
    assert key_of(image(text.replace("a" * 64, "b" * 64), tmp_path)) != key_of(found)


@pytest.mark.parametrize(
    ("iso", "words"),
    [
        ("{url: 'https://example.org/a.iso', sums: 'https://example.org/SUMS'}", "its checksum is not said"),
        ("{url: 'https://example.org/a.qcow2', sha256: " + "a" * 64 + "}", "it is no ISO by its name"),
        ("{from: debian}", "what is said is no download"),
        ("{url: 'https://example.org/a.iso'}", ""),
    ],
)
def test_what_cannot_be_installed_from_is_a_mistake_with_its_place(iso: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as error:
        image(f"    install: {{system: redhat, iso: {iso}}}\n", tmp_path)
    text = "\n".join(f"{each.line}: {each.what} {each.hint}" for each in error.value.mistakes)
    assert words in text, text
    assert text.startswith("4: ")


def test_machines_have_the_firmware_that_their_image_was_installed_under(tmp_path: Path) -> None:
    text = "    install: {system: debian, firmware: uefi}\n"
    assert lab(text, tmp_path).machines[0].hardware.firmware == "uefi"
    path = tmp_path / "lab.yaml"
    path.write_text(path.read_text().replace("{image: it}", "{image: it, firmware: bios}"))
    with pytest.raises(Mistakes, match="its image was installed under uefi, and does not start under bios"):
        labfile.parse(path, environ={})
    path.write_text(path.read_text().replace("firmware: bios", "firmware: secure"))
    assert labfile.parse(path, environ={}).machines[0].hardware.firmware == "secure"


def test_a_lab_with_an_installed_image_is_kept_and_read_again(tmp_path: Path) -> None:
    install = f"{{system: redhat, iso: {{url: 'https://a.example/a.iso', sha256: {'ab' * 32}}}, packages: [vim]}}"
    for said in ("{system: debian, commands: [ls]}", install):
        made = settled(lab(f"    install: {said}\n", tmp_path))
        assert blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(made)) == made
