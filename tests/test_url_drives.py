"""Disks and CD-ROMs that are downloaded: what a lab file says of them, what is planned, and what is there at last."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from blueprints import draft, guest
from command_line import Cli
from disk_headers import qcow2
from nestlab.base.errors import LabError, Mistake, Mistakes
from nestlab.engines.qemu import launch
from nestlab.home.directories import Home
from nestlab.images import pins
from nestlab.images.image_files import ImageFiles, key_of
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import images_of
from nestlab.lab.disks import Disk
from nestlab.lab.model import GIB, MIB, Image, Machine
from nestlab.labfile import parse_text, render
from nestlab.plan.planner import plan
from nestlab.plan.steps import Observed
from test_ready_labfile import settled
from url_server import serving

DIGITS = "ab" * 32
AT = "https://example.org"


def machine(inside: str) -> Machine:
    (found,) = parse_text(f"lab: x\nmachines:\n  m: {{{inside}}}\n", environ={}).machines
    return found


def mistakes(inside: str) -> list[Mistake]:
    with pytest.raises(Mistakes) as raised:
        machine(inside)
    return list(raised.value.mistakes)


def test_a_disk_is_a_layer_over_what_is_downloaded() -> None:
    [disk] = machine(f"disks: {{data: {{url: {AT}/a.qcow2.xz, sha256: {DIGITS}, bus: sata, size: 2G}}}}").disks
    image = Image(url=f"{AT}/a.qcow2.xz", checksum=f"sha256:{DIGITS}", format="qcow2", compression="xz")
    assert disk == Disk("data", 2 * GIB, bus="sata", serial="data", image=image)


def test_what_is_downloaded_for_a_drive_is_an_iso_whatever_its_name() -> None:
    [named, bare] = machine(
        f"image: none, cdroms: [{{url: {AT}/a.iso, sha256: {DIGITS}}}, {{url: {AT}/b, sha256: {DIGITS}}}]"
    ).cdroms
    assert isinstance(named, Image)
    assert isinstance(bare, Image)
    assert (named.format, bare.format) == ("iso", "iso")
    [alone] = machine(f"image: none, cdroms: {{url: {AT}/a.iso, sha256: {DIGITS}}}").cdroms
    assert alone == named


@pytest.mark.parametrize(
    ("inside", "what"),
    [
        (f"disks: {{a: {{url: {AT}/a.raw}}}}", "it has no checksum"),
        (f"disks: {{a: {{url: {AT}/a.iso, sha256: {DIGITS}}}}}", "it is a CD-ROM, and no disk"),
        (f"disks: {{a: {{url: {AT}/a, sha256: {DIGITS}}}}}", "the name of a does not tell what it is"),
        (f"disks: {{a: {{url: {AT}/a.raw, sha256: {DIGITS}, file: ./a.raw}}}}", "`file` and `url` exclude each other"),
        (f"disks: {{a: {{size: 1G, sha256: {DIGITS}}}}}", "`sha256` means nothing without `url`"),
        (f"disks: {{a: {{url: 'ftp://a/a.raw', sha256: {DIGITS}}}}}", ""),
        ("disks: {a: {bus: sata}}", "it says neither `size`, `file` nor `url`"),
        (f"image: none, disk: 1G, cdroms: [{{url: {AT}/a.iso}}], boot: disk", "it has no checksum"),
        (f"image: none, cdroms: [{{url: {AT}/a.qcow2, sha256: {DIGITS}}}], disk: 1G, boot: disk", "it is no ISO image"),
        (f"image: none, disk: 1G, boot: disk, cdroms: [{{sha256: {DIGITS}}}]", "it does not say its `url`"),
        (f"disks: {{a: {{url: {AT}/a.raw, sha256: {DIGITS}, signed_by: ./k}}}}", "means nothing without `sums`"),
    ],
)
def test_a_mistake_is_found_at_its_place(inside: str, what: str) -> None:
    found = mistakes(inside)
    assert any(what in each.what for each in found), [each.what for each in found]
    assert all(each.line == 3 for each in found)


def test_an_own_file_that_qemu_cannot_be_given_is_told_how_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "a.vmdk").write_bytes(b"x")
    said = mistakes(f"disks: {{a: {{file: {tmp_path}/a.vmdk, format: vmdk}}}}")
    assert any("qemu-img convert -f vmdk" in each.hint for each in said)


TEXT = f"""\
lab: x
machines:
  m:
    image: none
    disk: 1G
    disks: {{data: {{url: {AT}/a.vmdk.gz, sums: {AT}/SHA256SUMS, max_size: 2G}}}}
    cdroms: [{{url: {AT}/b.iso, sha512: {"cd" * 64}}}]
"""


def test_it_is_written_back_as_it_was_read_and_kept_as_it_was_settled() -> None:
    lab = parse_text(TEXT, environ={})
    assert parse_text(render(lab), environ={}) == lab
    made = settled(lab)
    assert blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(made)) == made


def test_another_place_of_the_same_is_no_change_of_a_machine() -> None:
    here, there = (settled(parse_text(text, environ={})) for text in (TEXT, TEXT.replace("b.iso", "mirror/b.iso")))
    assert here.specs[0].digest == there.specs[0].digest
    other = settled(parse_text(TEXT.replace("cd" * 64, "ce" * 64), environ={}))
    assert here.specs[0].digest != other.specs[0].digest


def test_a_plan_downloads_each_before_the_machine_is_made() -> None:
    made = settled(parse_text(TEXT, environ={}))
    steps = plan(made, Observed(), "running").steps
    pulls = [step.id for step in steps if step.verb == "pull"]
    [create] = [step for step in steps if step.verb == "create"]
    assert len(pulls) == 2
    assert set(pulls) <= set(create.needs)


def test_a_disk_that_is_smaller_than_what_was_downloaded_is_refused() -> None:
    image = Image(url=f"{AT}/a.raw", checksum=f"sha256:{DIGITS}", format="raw")
    base = draft("x", guest("m"))["m"]
    machine = replace(base.machine, disks=(Disk("data", MIB, image=image),))
    spec = replace(base, machine=machine, files=(key_of(image),))
    with pytest.raises(LabError, match="disk data of m is to have 1M, and what it is a layer over has"):
        launch.holds(spec, key_of(image), ImageFiles(key_of(image), {}, size=2 * MIB))
    launch.holds(spec, key_of(image), ImageFiles(key_of(image), {}, size=MIB))


def test_what_a_checksum_file_says_of_them_is_read_once_and_kept(tmp_path: Path) -> None:
    body = qcow2(GIB)
    with serving() as served:
        url = served.put("/a.qcow2", body)
        digits = hashlib.sha256(body).hexdigest()
        sums = served.put("/SUMS", f"{digits}  a.qcow2\n{digits}  b.iso\n".encode())
        media = f"[{{url: {served.url}/b.iso, sums: {sums}}}]"
        text = f"lab: x\nmachines: {{m: {{disks: {{data: {{url: {url}, sums: {sums}}}}}, cdroms: {media}}}}}\n"
        lab, home = parse_text(text, environ={}), Home(tmp_path, tmp_path)
        assert [image.checksum for image in images_of(lab)[1:]] == [None, None]
        found = asyncio.run(pins.settled(lab, home, lambda _: None))
        assert [image.checksum for image in images_of(found)[1:]] == [f"sha256:{digits}"] * 2
        served.things.clear()
        assert pins.known(lab, home) == found


def test_pull_downloads_them_and_what_differs_is_never_there(tmp_path: Path) -> None:
    body = qcow2(GIB)
    with serving() as served:
        url, digits = served.put("/a.qcow2", body), hashlib.sha256(body).hexdigest()
        cli = Cli(tmp_path, {"NESTLAB_CACHE": str(tmp_path / "cache")})
        text = "lab: x\nmachines: {{m: {{image: tiny, disks: {{data: {{url: {url}, sha256: {digits}}}}}}}}}\n"
        said = cli("images", "pull", cli.file(text.format(url=url, digits=DIGITS)), status=2)
        assert "checksum" in said
        assert "a.qcow2" not in cli("images", "ls")
        assert "downloaded" in cli("images", "pull", cli.file(text.format(url=url, digits=digits)))
        served.things.clear()
        assert "was there already" in cli("images", "pull", cli.file(text.format(url=url, digits=digits)))
        cli("images", "rm", "a.qcow2")
