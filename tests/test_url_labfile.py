"""Images that are downloaded, in a lab file: what must be there is said, or it is a mistake with its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nestlab.base.errors import Mistake, Mistakes
from nestlab.lab import checksums
from nestlab.lab.blueprint import definition
from nestlab.lab.model import GIB, Image, Lab, Machine
from nestlab.lab.urls import name_in, shown_url
from nestlab.labfile import parse_text
from nestlab.labfile.render import render

DIGITS = "0123456789abcdef" * 4
URL = "https://vendor.example/disk.qcow2"
ARMOR = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


def lab_of(image: str, folder: Path) -> Lab:
    return parse_text(f"lab: l\nmachines: {{m: {{image: {{{image}}}}}}}\n", environ={}, directory=folder)


def image_of(image: str, folder: Path) -> Image:
    return lab_of(image, folder).machines[0].image


def mistake(image: str, folder: Path) -> Mistake:
    with pytest.raises(Mistakes) as error:
        lab_of(image, folder)
    assert len(error.value.mistakes) == 1, error.value
    assert error.value.mistakes[0].line == 2
    return error.value.mistakes[0]


def test_a_url_with_its_checksum_is_an_image(tmp_path: Path) -> None:
    found = image_of(f"url: {URL}, sha256: {DIGITS.upper()}, user: admin", tmp_path)
    assert found == Image(url=URL, checksum=f"sha256:{DIGITS}", format="qcow2", user="admin")
    assert found.foreign


@pytest.mark.parametrize(
    ("name", "form", "compression"),
    [
        ("a.qcow2", "qcow2", None),
        ("a.raw.xz", "raw", "xz"),
        ("A.VMDK.GZ", "vmdk", "gz"),
        ("a.vhdx.zst?version=3", "vhdx", "zst"),
        ("a.vdi.bz2", "vdi", "bz2"),
        ("a.ova", "ova", None),
        ("a.iso", "iso", None),
        ("a.tar.bz2.raw.xz", "raw", "xz"),
    ],
)
def test_the_name_tells_what_it_is(tmp_path: Path, name: str, form: str, compression: str | None) -> None:
    found = image_of(f'url: "https://vendor.example/{name}", sha256: {DIGITS}', tmp_path)
    assert (found.format, found.compression) == (form, compression)


def test_what_is_said_goes_over_the_name(tmp_path: Path) -> None:
    said = f"url: {URL}.xz, sha512: {DIGITS * 2}, format: raw, compression: none, max_size: 200G"
    found = image_of(said, tmp_path)
    assert (found.format, found.compression, found.max_size) == ("raw", None, 200 * GIB)


@pytest.mark.parametrize(("ending", "packed"), [(".tar.zst", "zst"), (".tar.xz", "xz"), (".tgz", "gz")])
def test_a_container_template_is_one_by_its_name_or_by_what_is_said(tmp_path: Path, ending: str, packed: str) -> None:
    for said in (f"url: https://a.example/d{ending}", f"url: https://a.example/d, format: tar, compression: {packed}"):
        text = f"lab: x\non: pve://h\nmachines: {{m: {{container: true, image: {{{said}, sha256: {DIGITS}}}}}}}\n"
        lab = parse_text(text, environ={})
        [machine] = lab.machines
        assert machine.container
        assert (machine.image.format, machine.image.compression, machine.image.template) == ("tar", packed, True)
        assert parse_text(render(lab), environ={}) == lab


TEMPLATE = f"url: https://a.example/d.tar.zst, sha256: {DIGITS}"
MISPLACED = [
    (f"on: pve://h\nmachines: {{m: {{image: {{{TEMPLATE}}}}}}}", "d.tar.zst is a container template, and no disk"),
    (f"machines: {{m: {{image: {{{TEMPLATE}}}}}}}", "d.tar.zst is a container template, and no disk"),
    (f"machines: {{m: {{disks: {{d: {{{TEMPLATE}}}}}}}}}", "it is a container template, and no disk"),
    (f"machines: {{m: {{cdroms: [{{{TEMPLATE}}}]}}}}", "it is a container template, and no ISO image"),
    (
        f"machines: {{m: {{hypervisor: kvm, machines: {{c: {{container: true, image: {{{TEMPLATE}}}}}}}}}}}",
        "a container inside a hypervisor cannot be made from the image d.tar.zst",
    ),
]


@pytest.mark.parametrize(("machines", "what"), MISPLACED)
def test_a_container_template_goes_into_nothing_else(machines: str, what: str) -> None:
    with pytest.raises(Mistakes) as error:
        parse_text(f"lab: x\n{machines}\n", environ={})
    assert what in str(error.value)


MISTAKES = [
    (f"url: {URL}", "it has no checksum", "sha256sum FILE"),
    (f"url: {URL}, sha256: 12ab", "expected 64 hex digits", ""),
    (f"url: {URL}, sha256: {DIGITS}, sha512: {DIGITS * 2}", "`sha256` and `sha512` exclude each other", "Keep one"),
    (f"url: {URL}, file: ./x.qcow2, sha256: {DIGITS}", "`file` and `url` exclude each other", "Keep one"),
    (f"url: {URL}, sha256: {DIGITS}, packages: [curl]", "`packages` does not go into a disk that is downloaded", ""),
    (f"url: https://a:b@vendor.example/d.raw, sha256: {DIGITS}", "it has a user or a password in it", ".netrc"),
    (f'url: "https://vendor.example/d.raw#x", sha256: {DIGITS}', "a `#` in it", ""),
    (f"url: ftp://vendor.example/d.raw, sha256: {DIGITS}", "expected a URL (http or https)", ""),
    (f"url: https://vendor.example/d.img, sha256: {DIGITS}", "does not tell what it is", "format: qcow2"),
    (f"url: https://vendor.example/d.tar, sha256: {DIGITS}", "is an archive, and no disk", "file:"),
    (f"url: https://vendor.example/d.tar.xz, sha256: {DIGITS}", "is a container template, and no disk", "container"),
    (f"url: https://vendor.example/d, sha256: {DIGITS}, format: tar", "is not packed as one", "`compression:`"),
    ("file: ./disk.qcow2, format: tar", "`format: tar` is for what is downloaded", "Leave it out"),
    (f"url: {URL}, sha256: {DIGITS}, signed_by: ./k", "`signed_by` means nothing without `sums`", ""),
    (f"url: {URL}, sums: http://vendor.example/SUMS", "can change it", "https"),
    (f"url: {URL}, sums: https://vendor.example/SUMS, signed_by: ./none", "there is no file", ""),
    (f"url: {URL}, sums: https://vendor.example/SUMS, signed_by: ./notes", "has no OpenPGP key", "--export"),
    (f"url: {URL}, sums: ./none", "there is no file", ""),
    (f"url: {URL}, sums: ./notes", "it does not name disk.qcow2", "It names no file."),
    (f"url: {URL}, sha256: {DIGITS}, max_size: 1K", "too little", ""),
    (f"from: debian, sha256: {DIGITS}", "`sha256` means nothing with `from`", "`url`"),
    ("from: debian, user: admin", "`user` means nothing with `from`", ""),
    ("file: ./disk.qcow2, compression: xz", "`compression` means nothing with `file`", "`url`"),
]


@pytest.mark.parametrize(("image", "what", "hint"), MISTAKES, ids=[each[0][:60] for each in MISTAKES])
def test_a_mistake_is_said_with_its_place_and_the_way_out(tmp_path: Path, image: str, what: str, hint: str) -> None:
    (tmp_path / "notes").write_text("nothing\n")
    (tmp_path / "disk.qcow2").write_bytes(b"x")
    with pytest.raises(Mistakes) as error:
        lab_of(image, tmp_path)
    found = [each for each in error.value.mistakes if what in each.what]
    assert len(found) == 1, error.value
    assert hint in found[0].hint
    assert found[0].line == 2


def test_an_own_vmdk_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "d.vmdk").write_bytes(bytes(512))
    found = mistake("file: ./d.vmdk, format: vmdk", tmp_path)
    assert "qemu-img convert -f vmdk -O qcow2" in found.hint


def test_a_password_in_a_url_is_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as error:
        lab_of(f"url: https://me:hunter2@vendor.example/d.raw, sha256: {DIGITS}", tmp_path)
    assert "hunter2" not in error.value.mistakes[0].what + error.value.mistakes[0].hint
    assert shown_url("https://me:hunter2@vendor.example/d.raw?token=1") == "https://vendor.example/d.raw?…"
    assert name_in("https://vendor.example/a%20b.iso?token=1") == "a b.iso"


def test_a_checksum_file_here_is_read_with_the_lab_file(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{DIGITS} *disk.qcow2\n")
    assert image_of(f"url: {URL}, sums: ./SHA256SUMS", tmp_path).checksum == f"sha256:{DIGITS}"


def test_one_elsewhere_is_left_for_later(tmp_path: Path) -> None:
    (tmp_path / "k.asc").write_text(ARMOR)
    sums = "https://vendor.example/SHA256SUMS"
    found = image_of(f"url: {URL}, sums: {sums}, signed_by: ./k.asc", tmp_path)
    assert (found.checksum, found.sums, found.signed_by) == (None, sums, str(tmp_path / "k.asc"))


@pytest.mark.parametrize(
    "image",
    [
        f"url: {URL}, sha256: {DIGITS}",
        f"url: {URL}.xz, sha512: {DIGITS * 2}, user: admin, max_size: 200G",
        f"url: {URL}, sums: https://vendor.example/SUMS, signed_by: ./k.asc, format: vmdk",
    ],
)
def test_it_is_written_back_as_it_was_read(tmp_path: Path, image: str) -> None:
    (tmp_path / "k.asc").write_text(ARMOR)
    lab = lab_of(image, tmp_path)
    assert parse_text(render(lab), environ={}).machines == lab.machines


def test_another_place_of_the_same_image_is_no_change_of_a_machine() -> None:
    one = Image(url=URL, checksum=f"sha256:{DIGITS}", format="raw")
    two = Image(url="https://mirror.example/x", checksum=f"sha256:{DIGITS}", format="raw", sums="https://m.example/S")
    digests = {definition(Machine("m", image=each), (), "", "key") for each in (one, two)}
    assert len(digests) == 1


def test_a_checksum_file_is_read_in_each_way_of_writing() -> None:
    strong = hashlib.sha512(b"x").hexdigest()
    text = f"# x\n{'a' * 64}  ./a.iso\n{'B' * 64} *b.iso\nSHA512 (c.iso) = {strong}\n{'d' * 32}  d.iso\n"
    assert checksums.find(text, "a.iso") == f"sha256:{'a' * 64}"
    assert checksums.find(text, "b.iso") == f"sha256:{'b' * 64}"
    assert checksums.find(text, "c.iso") == f"sha512:{strong}"
    for name, said in (("d.iso", "weak"), ("e.iso", "does not name e.iso")):
        with pytest.raises(checksums.Lacking, match=said):
            checksums.find(text, name)
    with pytest.raises(checksums.Lacking, match="2 different"):
        checksums.find(f"{'a' * 64}  x/a.iso\n{'b' * 64}  y/a.iso\n", "a.iso")


def test_the_stronger_of_two_checksums_counts() -> None:
    strong = "c" * 128
    assert checksums.find(f"{'a' * 64}  a\n{strong}  a\n", "a") == f"sha512:{strong}"
