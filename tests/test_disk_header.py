"""An own disk image is one file: what would make QEMU open another is refused before anything is made."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_headers import extension, qcow2
from nestlab.base.errors import LabError
from nestlab.images.image_files import Cache, key_of
from nestlab.lab.model import Format, Image
from nestlab.labfile.disk_header import Disk, examine
from nestlab.labfile.parse import parse_text

DATA_FILE, ENCRYPTION, BELOW_IS = 0x44415441, 0x0537BE77, 0xE2792ACA

HOSTILE = [
    ("qcow2", qcow2(below=b"/etc/shadow"), "is a layer over another file, /etc/shadow"),
    ("qcow2", qcow2(below=b"/etc/shadow", version=2), "is a layer over another file"),
    ("qcow2", qcow2(below=b"base", extensions=extension(BELOW_IS, b"raw")), "is a layer over another file, base"),
    ("qcow2", qcow2(below=b'json:{"driver":"file","filename":"/etc/shadow"}'), "is a layer over another file"),
    ("qcow2", qcow2(below=b"nbd:unix:/run/x"), "is a layer over another file, nbd:unix:/run/x"),
    ("qcow2", qcow2(below=b"fat:rw:/root"), "is a layer over another file"),
    ("qcow2", qcow2(below=b"\x1b]0;x\x07"), r"\x1b]0;x\x07"),
    ("qcow2", qcow2(features=4, extensions=extension(DATA_FILE, b"/etc/shadow")), "its data in another file"),
    ("qcow2", qcow2(features=4), "its data in another file"),
    ("qcow2", qcow2(extensions=extension(0x1234, b"abc") + extension(DATA_FILE, b"/x")), "its data in another file"),
    ("qcow2", qcow2(version=2, extensions=extension(DATA_FILE, b"/x")), "its data in another file"),
    ("qcow2", qcow2(encrypted=1), "is encrypted"),
    ("qcow2", qcow2(encrypted=2, extensions=extension(ENCRYPTION, bytes(16))), "is encrypted"),
    ("qcow2", qcow2(features=2), "is damaged"),
    ("qcow2", qcow2(l1=1 << 31), "is damaged"),
    ("qcow2", qcow2(refcounts=1 << 31), "is damaged"),
    ("qcow2", qcow2(snapshots=1 << 31), "is damaged"),
    ("qcow2", qcow2(features=1 << 40), "that QEMU reads"),
    ("qcow2", qcow2(version=9), "that QEMU reads"),
    ("qcow2", qcow2(version=1), "that QEMU reads"),
    ("qcow2", qcow2(bits=63), "that QEMU reads"),
    ("qcow2", qcow2(0), "that QEMU reads"),
    ("qcow2", qcow2(1 << 62), "says that it has"),
    ("qcow2", b"QFI\xfb", "is not a qcow2 image"),
    ("qcow2", b"hello", "is not a qcow2 image"),
    ("raw", qcow2(), "begins as a qcow2 image does"),
    ("iso", qcow2(below=b"/etc/shadow"), "begins as a qcow2 image does"),
    ("raw", b'# Disk DescriptorFile\nRW 8 FLAT "/etc/shadow" 0\n', "begins as a vmdk image does"),
    ("raw", b"KDMV\1\0\0\0", "begins as a vmdk image does"),
    ("raw", b"vhdxfile", "begins as a vhdx image does"),
    ("raw", b"conectix", "begins as a vpc image does"),
    ("raw", b"QED\0", "begins as a qed image does"),
    ("raw", b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "as a vdi image"),
]


@pytest.mark.parametrize(("form", "content", "told"), HOSTILE)
def test_an_image_that_names_another_file_is_a_mistake_in_the_lab_file(
    form: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "d.bin").write_bytes(content.ljust(4096, b"\0"))
    text = f"lab: x\nmachines: {{m: {{image: {{file: d.bin, format: {form}}}}}}}"
    with pytest.raises(LabError) as caught:
        parse_text(text, environ={}, directory=tmp_path)
    said = str(caught.value)
    assert told in said
    assert "1 mistake in the lab file" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(("form", "content", "told"), HOSTILE)
async def test_one_that_became_such_after_the_lab_was_read_is_refused_before_it_is_used(
    form: Format, content: bytes, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.bin"
    file.write_bytes(content.ljust(4096, b"\0"))
    image = Image(file=str(file), format=form)
    with pytest.raises(LabError) as caught:
        await Cache(tmp_path).artifacts(key_of(image), image)
    assert told in str(caught.value)


def test_what_a_guest_wrote_on_a_raw_disk_is_not_believed_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "d.img").write_bytes(qcow2(below=b"/etc/shadow").ljust(4096, b"\0"))
    with pytest.raises(LabError, match="is a layer over another file"):
        parse_text("lab: x\nmachines: {m: {image: {file: d.img}}}", environ={}, directory=tmp_path)


def test_a_name_that_is_a_protocol_is_the_name_of_a_file(tmp_path: Path) -> None:
    for name in ('json:{"driver":"null-co"}', "nbd:localhost:1", "fat:rw:/root", "ssh://h/x"):
        text = f"lab: x\nmachines: {{m: {{image: {{file: '{name}', format: raw}}}}}}"
        with pytest.raises(LabError, match="there is no file /"):
            parse_text(text, environ={}, directory=tmp_path)


@pytest.mark.parametrize(
    "content",
    [qcow2(), qcow2(version=2), qcow2(features=0b11000), qcow2(features=1), qcow2(bits=21), qcow2(bits=9)],
)
def test_a_whole_image_is_taken_with_its_size(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "d.qcow2"
    file.write_bytes(content)
    assert examine(str(file), "qcow2") == Disk(1 << 30)


@given(st.binary(max_size=300), st.booleans())
def test_no_header_is_anything_but_taken_or_refused_in_words(noise: bytes, magic: bool) -> None:
    file = Path(os.environ.get("TMPDIR", "/tmp"), f"nestlab-header-{os.getpid()}")
    try:
        file.write_bytes((b"QFI\xfb\0\0\0\3" if magic else b"") + noise)
        for form in ("qcow2", "raw", "iso"):
            found = examine(str(file), form)
            assert isinstance(found, Disk) or all(found)
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.guest
@pytest.mark.parametrize("options", ["", "extended_l2=on,cluster_size=128k", "compat=0.10", "cluster_size=2M"])
def test_what_qemu_makes_itself_is_taken(options: str, tmp_path: Path) -> None:
    argv, env = asyncio.run(_qemu_img())
    file = tmp_path / "d.qcow2"
    more = ["-o", options] if options else []
    subprocess.run([*argv, "create", "-q", "-f", "qcow2", *more, str(file), "3G"], check=True, env=env)
    assert examine(str(file), "qcow2") == Disk(3 << 30)


@pytest.mark.guest
def test_what_qemu_makes_over_another_file_or_with_one_is_refused(tmp_path: Path) -> None:
    argv, env = asyncio.run(_qemu_img())
    secret, over, data = tmp_path / "secret", tmp_path / "over.qcow2", tmp_path / "data.qcow2"
    secret.write_bytes(b"s" * 4096)
    make = [*argv, "create", "-q", "-f", "qcow2"]
    subprocess.run([*make, "-b", str(secret), "-F", "raw", str(over)], check=True, env=env)
    outside = f"data_file={tmp_path / 'raw'},data_file_raw=on"
    subprocess.run([*make, "-o", outside, str(data), "1M"], check=True, env=env)
    assert "layer over" in examine(str(over), "qcow2")[0]  # type: ignore[index]
    assert "in another file" in examine(str(data), "qcow2")[0]  # type: ignore[index]


async def _qemu_img() -> tuple[tuple[str, ...], dict[str, str]]:
    from nestlab.home.directories import Home
    from nestlab.images.qemu_runtime import choose_qemu_img

    tool = await choose_qemu_img(Home.of(os.environ, Path.home()).cache, lambda _: None)
    return tool.argv, {**os.environ, **tool.env}
