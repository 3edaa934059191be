"""A machine that lies while files are copied from it, and files that change while they are copied to one."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.hosts import archive, copy, tar_members, unpack
from nestlab.hosts.local import LocalHost
from nestlab.hosts.unpack import Unpacking
from test_copy import Liar, member
from waiting import until

TOP = tarfile.DIRTYPE


def header(name: str = "x/f", size: int = 0, kind: bytes = b"0", mtime: bytes = b"0", **rest: bytes) -> bytes:
    """One header block, also of what tarfile would not write."""
    numbers = f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(512)
    fields: dict[int, bytes] = {
        0: name.encode(errors="surrogateescape")[:100], 100: b"0000755\0", 108: b"0000000\0", 116: b"0000000\0",
        124: numbers, 136: mtime.ljust(12, b"\0"), 156: kind, 257: b"ustar  \0",
    }  # fmt: skip
    for at, data in fields.items():
        block[at : at + len(data)] = data
    for place, data in rest.items():
        block[int(place[1:]) : int(place[1:]) + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: bytes, then: bytes) -> bytes:
    return header("pax", len(records), b"x") + padded(records) + then


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return str(length).encode() + body


DIR = header("x", kind=b"5")
END = bytes(1024)

BAD: dict[str, bytes] = {
    "a time that is no number": DIR + pax(record("mtime", "nan"), header()) + END,
    "a time without end": DIR + pax(record("mtime", "inf"), header()) + END,
    "a time in a million years": DIR + header(mtime=b"\x80" + (1 << 60).to_bytes(11, "big")) + END,
    "a time before all": DIR + header(mtime=b"\xff" + b"\x80" + bytes(10)) + END,
    "a name with NUL": DIR + pax(record("path", "x/a\0b"), header()) + END,
    "a link to NUL": DIR + pax(record("linkpath", "a\0b"), header(kind=b"2")) + END,
    "a name longer than the file system takes": DIR + pax(record("path", "x/" + "n" * 300), header()) + END,
    "a path longer than the system takes": DIR + pax(record("path", "x/" + "a/" * 150 + "n" * 250), header()) + END,
    "directories without end": DIR + pax(record("path", "x" + "/d" * 1000), header()) + END,
    "a file of less than nothing": DIR + header("x/f", p124=b"\xff" * 12) + END,
    "a size of 8 EiB": DIR + header(size=(1 << 63) - 1) + b"data",
    "a size beyond": DIR + header(size=1 << 70) + END,
    "a pax header of 1 GB": DIR + header("pax", 1 << 30, b"x") + bytes(1 << 20),
    "a long name of 1 GB": DIR + header("././@LongLink", 1 << 30, b"L") + b"n" * (1 << 20),
    "a thousand headers for one member": DIR + (header("././@LongLink", 3, b"L") + padded(b"x/a")) * 1500,
    "a pax record without end": DIR + header("pax", 20, b"x") + padded(b"99999999999 path=a\n") + header() + END,
    "a sparse map that is no map": DIR
    + pax(record("GNU.sparse.map", "a,b") + record("GNU.sparse.size", "9"), header()) + END,
    "a sparse map out of order": DIR
    + pax(record("GNU.sparse.map", "9,1,0,1") + record("GNU.sparse.size", "10"), header(size=2)) + END,
    "a sparse map beyond the file": DIR
    + pax(record("GNU.sparse.map", "100,10") + record("GNU.sparse.size", "10"), header(size=10)) + END,
    "a FIFO": DIR + header(kind=b"6") + END,
    "a device": DIR + header(kind=b"3") + END,
    "a block device": DIR + header(kind=b"4") + END,
    "a kind that nobody knows": DIR + header(kind=b"9") + END,
    "a hard link to nothing": DIR + header(kind=b"1", p157=b"x/none") + END,
    "a hard link to a directory": DIR + header(kind=b"1", p157=b"x") + END,
    "a link in the place of what is copied": header("x", kind=b"2", p157=b"/etc") + END,
    "half a header": DIR + header()[:300],
    "less than was said": DIR + header(size=5000) + b"data",
}  # fmt: skip
NOT_FOR_RELAY = ("longer than", "hard link to")
"""What only the file system refuses: that of the other machine."""


@pytest.mark.parametrize("case", BAD)
async def test_what_no_tar_writes_is_one_message_and_leaves_nothing_half_done(tmp_path: Path, case: str) -> None:
    (tmp_path / "archive").write_bytes(BAD[case])
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "x").mkdir()
    (tmp_path / "place" / "x" / "f").write_text("old")
    with pytest.raises(LabError) as caught:
        await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/place")
    assert one_line(caught.value.what) == caught.value.what
    assert caught.value.hint
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")) == [
        "archive", "place", "place/x", "place/x/f",
    ]  # fmt: skip
    assert (tmp_path / "place" / "x" / "f").read_text() == "old"


@pytest.mark.parametrize("case", [case for case in BAD if not any(word in case for word in NOT_FOR_RELAY)])
async def test_nothing_of_that_is_passed_on_to_another_machine(tmp_path: Path, case: str) -> None:
    (tmp_path / "archive").write_bytes(BAD[case])
    (tmp_path / "place").mkdir()
    with pytest.raises(LabError):
        await copy.between(Liar(tmp_path / "archive"), "x", LocalHost(), f"{tmp_path}/place/copy", kind="d")
    await until(lambda: list((tmp_path / "place").iterdir()) == [])  # the other machine's shell ends by itself


def test_a_link_that_a_copy_brought_is_not_followed_by_the_next(tmp_path: Path) -> None:
    secret = tmp_path / "home"
    secret.mkdir()
    (secret / "keys").write_text("mine")
    first = made(member("x", type=TOP, mode=0o755), member("x/d", type=tarfile.SYMTYPE, linkname=str(secret)),
                 member("x/keys", type=tarfile.SYMTYPE, linkname=f"{secret}/keys"))  # fmt: skip
    Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(first))
    again = made(member("x", type=TOP, mode=0o755), member("x/keys", size=4), data=b"evil")
    (tmp_path / "out").rename(tmp_path / "x")
    Unpacking(str(tmp_path), "x").run(io.BytesIO(again))
    assert (tmp_path / "x" / "keys").read_text() == "evil"
    assert not (tmp_path / "x" / "keys").is_symlink()
    below = made(member("x", type=TOP, mode=0o755), member("x/d", type=TOP, mode=0o777), member("x/d/keys", size=4),
                 data=b"evil")  # fmt: skip
    with pytest.raises(LabError, match="something else already"):
        Unpacking(str(tmp_path), "x").run(io.BytesIO(below))
    assert (secret / "keys").read_text() == "mine"
    assert secret.stat().st_mode & 0o777 != 0o777


def test_a_link_in_the_place_of_a_file_in_the_same_archive_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    link = member("x/f", type=tarfile.SYMTYPE, linkname=f"{tmp_path}/secret")
    whole = made(member("x", type=TOP, mode=0o755), link, member("x/f", size=4), data=b"evil")
    Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(whole))
    assert (tmp_path / "secret").read_text() == "mine"
    assert (tmp_path / "out" / "f").read_text() == "evil"
    hard = made(member("x", type=TOP, mode=0o755), link, member("x/g", type=tarfile.LNKTYPE, linkname="x/f"),
                member("x/g", size=4), data=b"evil")  # fmt: skip
    Unpacking(f"{tmp_path}/more", "x").run(io.BytesIO(hard))
    assert (tmp_path / "secret").read_text() == "mine"


async def test_no_machine_gets_a_link_where_the_next_copy_would_follow_it(tmp_path: Path) -> None:
    """Two machines: what comes from the first is put on the second as it is called."""
    (tmp_path / "archive").write_bytes(made(member("x", type=tarfile.SYMTYPE, linkname=f"{tmp_path}/victim")))
    with pytest.raises(LabError, match="leaves its place"):
        await copy.between(Liar(tmp_path / "archive"), "x", LocalHost(), f"{tmp_path}/copy")
    assert not os.path.lexists(tmp_path / "copy")


def made(*members: tarfile.TarInfo, data: bytes = b"") -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as out:
        for each in members:
            out.addfile(each, io.BytesIO(data.ljust(each.size, b"\0")))
    return whole.getvalue()


def test_what_is_odd_but_can_be_is_copied_as_it_is(tmp_path: Path) -> None:
    names = ["x/new\nline", "x/\udcff\udcfe", "x/\x1b[2J", "x/" + "n" * 255]
    files = [member(name, size=1, mtime=-86400.0) for name in names]
    Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(made(member("x", type=TOP, mode=0o755), *files, data=b"y")))
    assert sorted(os.listdir(tmp_path / "out")) == sorted(name[2:] for name in names)  # noqa: PTH208
    assert (tmp_path / "out" / "new\nline").stat().st_mtime == -86400


def test_an_odd_name_is_shown_harmless(tmp_path: Path) -> None:
    bad = member("x/\x1b]0;owned\x07\udcff\n", type=tarfile.FIFOTYPE)
    with pytest.raises(LabError) as caught:
        Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(made(member("x", type=TOP), bad)))
    assert "\\x1b]0;owned" in caught.value.what
    caught.value.what.encode()


def test_a_sparse_file_of_8_eib_takes_no_room_and_no_time(tmp_path: Path) -> None:
    size = (1 << 63) - 1
    claims = record("GNU.sparse.map", "0,4") + record("GNU.sparse.size", str(size))
    whole = DIR + pax(claims, header(size=4)) + padded(b"data") + END
    try:
        Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(whole))
    except LabError as error:
        assert "too large" in error.what  # noqa: PT017 - file systems differ
        assert os.listdir(tmp_path) == []  # noqa: PTH208
    else:
        assert (tmp_path / "out" / "f").stat().st_blocks < 64
    with pytest.raises(LabError, match="sparse file with holes of"):
        archive.relay(io.BytesIO(whole), io.BytesIO(), "x")


def test_the_holes_of_a_sparse_file_stay_holes_here_and_are_zeros_elsewhere(tmp_path: Path) -> None:
    claims = record("GNU.sparse.map", "4096,4,1000000,4") + record("GNU.sparse.size", "2000000")
    whole = DIR + pax(claims, header(size=8)) + padded(b"onetwo!!") + header("x/g", 3) + padded(b"end") + END
    Unpacking(f"{tmp_path}/out", "x").run(io.BytesIO(whole))
    content = bytearray(2000000)
    content[4096:4100], content[1000000:1000004] = b"onet", b"wo!!"
    assert (tmp_path / "out" / "f").read_bytes() == content
    assert (tmp_path / "out" / "g").read_bytes() == b"end"
    passed = io.BytesIO()
    archive.relay(io.BytesIO(whole), passed, "x")
    passed.seek(0)
    with tarfile.open(fileobj=passed) as found:
        file = found.extractfile("x/f")
        assert file is not None
        assert file.read() == content


class Endless:
    """An archive that goes on: `block` again and again, after `first`."""

    def __init__(self, first: bytes, block: bytes, most: int) -> None:
        self.data, self.block, self.most, self.given = first, block, most, 0

    def read(self, size: int) -> bytes:
        while len(self.data) < size and self.given < self.most:
            self.data += self.block * (1 + size // len(self.block))
        found, self.data = self.data[:size], self.data[size:]
        self.given += len(found)
        return found


def test_headers_that_never_end_are_given_up_soon(tmp_path: Path) -> None:
    for first, block in (
        (DIR + header("x/f", kind=b"S", p482=b"\x01"), b"1" * 504 + b"\x01" + b"1" * 7),
        (DIR, header("pax", 512, b"g") + padded(record("comment", "c" * 480))),
        (DIR + header("x/f", size=1 << 40, kind=b"5"), b"\x01" * 512),
    ):
        stream = Endless(first, block, 1 << 30)
        with pytest.raises(LabError):
            Unpacking(f"{tmp_path}/out", "x").run(stream)
        assert stream.given < 64 << 20


def test_a_million_members_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    entries = b"".join(header(f"x/{number % 10}") for number in range(2000))
    with tar_members.members(io.BytesIO(DIR + entries + END)) as found:
        for _ in found:
            held.append(len(found._archive.getmembers() if found._archive._loaded else found._archive.members))  # type: ignore[attr-defined]
    assert len(held) == 2001
    assert max(held) <= 1


def test_a_disk_that_is_almost_full_ends_a_copy_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FREE", 1 << 60)
    stream = Endless(DIR + header(size=1 << 40), bytes(1 << 20), 1 << 40)
    with pytest.raises(LabError, match="almost full"):
        Unpacking(f"{tmp_path}/out", "x").run(stream)
    assert stream.given <= unpack.LOOK + (2 << 20)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_what_is_in_the_way_is_seen_before_anything_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x" / "b").mkdir(parents=True)
    (tmp_path / "x" / "a").write_text("old")
    with pytest.raises(LabError, match="something else already"):
        Unpacking(str(tmp_path), "x").run(
            io.BytesIO(
                made(member("x", type=TOP, mode=0o755), member("x/a", size=3), member("x/b", size=3), data=b"new")
            )
        )
    assert (tmp_path / "x" / "a").read_text() == "old"


def test_a_target_that_is_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LabError):
        Unpacking(f"{tmp_path}/loop/below", "x").run(io.BytesIO(made(member("x", size=0))))


# -- to a machine: files that others may change


def swapped(monkeypatch: pytest.MonkeyPatch, path: Path, deed: Callable[[], object]) -> None:
    """Do something once, after `path` was looked at and before it is opened."""
    real, left = os.stat, [deed]

    def stat(name: Any, **rest: Any) -> os.stat_result:
        found = real(name, **rest)
        if name == path.name and rest.get("dir_fd") is not None and left:
            left.pop()()
        return found

    monkeypatch.setattr("os.stat", stat)


def test_a_file_that_becomes_a_link_while_it_is_copied_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_text("harmless")
    (tmp_path / "secret").write_text("secret")
    for kind in ("link", "fifo"):

        def swap(kind: str = kind) -> None:
            (tmp_path / "tree" / "f").unlink()
            if kind == "link":
                (tmp_path / "tree" / "f").symlink_to(tmp_path / "secret")
            else:
                os.mkfifo(tmp_path / "tree" / "f")

        with monkeypatch.context() as patch:
            swapped(patch, tmp_path / "tree" / "f", swap)
            sent = io.BytesIO()
            with pytest.raises(LabError, match="cannot be copied"):
                archive.pack(f"{tmp_path}/tree", "tree", sent)
            assert b"secret" not in sent.getvalue()
        (tmp_path / "tree" / "f").unlink()
        (tmp_path / "tree" / "f").write_text("harmless")


def test_a_directory_that_becomes_a_link_while_it_is_copied_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret").write_text("secret")

    def swap() -> None:
        (tmp_path / "tree" / "d").rmdir()
        (tmp_path / "tree" / "d").symlink_to(tmp_path / "home")

    swapped(monkeypatch, tmp_path / "tree" / "d", swap)
    sent = io.BytesIO()
    with pytest.raises(LabError, match="cannot be copied"):
        archive.pack(f"{tmp_path}/tree", "tree", sent)
    assert b"secret" not in sent.getvalue()


def test_hard_links_links_and_odd_names_are_packed_as_they_are(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "a").write_text("data")
    os.link(tree / "d" / "a", tree / "d" / "b")
    (tree / "l").symlink_to("/etc/passwd")
    (tree / ("n" * 200)).write_text("")
    with socket.socket(socket.AF_UNIX) as left:
        here = Path.cwd()
        os.chdir(tree)
        left.bind("s")
        os.chdir(here)
    sent = io.BytesIO()
    archive.pack(str(tree), "tree", sent)
    sent.seek(0)
    with tarfile.open(fileobj=sent) as found:
        kinds = {each.name: (each.type, each.linkname) for each in found}
    assert kinds == {
        "tree": (tarfile.DIRTYPE, ""),
        "tree/d": (tarfile.DIRTYPE, ""),
        "tree/d/a": (tarfile.REGTYPE, ""),
        "tree/d/b": (tarfile.LNKTYPE, "tree/d/a"),
        "tree/l": (tarfile.SYMTYPE, "/etc/passwd"),
        "tree/" + "n" * 200: (tarfile.REGTYPE, ""),
    }


# -- sizes that a machine tells


@pytest.mark.parametrize(
    "said", ["f", "f -1", "f x", "f 9999999999999999999999", "\x00", "d 1e9", "", "f 1\nf 2" * 1000, "²  ²"]
)
async def test_a_size_that_cannot_be_is_none(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Said(LocalHost):
        async def run(self, argv: Any, **rest: Any) -> Any:
            return await super().run(["printf", "%s", said.replace("\x00", "")], **rest)

    found = await copy.size_of(Said(), "x")
    assert found is None or (found[0] in ("d", "f") and 0 <= found[1] < 1 << 63)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_stream_of_bytes_is_a_crash(data: st.DataObject) -> None:
    """Archives with bytes changed here and there."""
    whole = bytearray(data.draw(st.sampled_from(list(BAD.values())))[:20000])
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    sent = bytes(whole)
    for start in range(0, len(sent) - 511, 512):  # what is changed is to be looked at
        if data.draw(st.booleans()):
            block = bytearray(sent[start : start + 512])
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % (sum(block) % 8**6)
            sent = sent[:start] + bytes(block) + sent[start + 512 :]
    with contextlib.suppress(LabError, EOFError):
        archive.relay(io.BytesIO(sent), io.BytesIO(), "x")
