"""Archives that machines send for `cp`: unpacked here, and passed on to another machine. Nothing is touched outside."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import tarfile
from pathlib import Path
from random import Random
from typing import Any, Literal

from fuzz import mutate
from fuzz.target import Broken
from nestlab.base.errors import LabError
from nestlab.hosts import archive
from nestlab.hosts.unpack import Unpacking

OUTSIDE = b"@OUTSIDE@"
"""Stands for a directory outside, which an archive may name; of the same length as what it is replaced by."""

KINDS = (
    *(
        tarfile.REGTYPE,
        tarfile.REGTYPE,
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.SYMTYPE,
    ),
    *(tarfile.LNKTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE),
    *(tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z", b"V", b"M", b"\xff"),
)
NAMES = (
    *(
        "src",
        "src/a",
        "src/b",
        "src/a/b",
        "src/d/",
        "src/d/e",
        "src/link",
        "src/link/x",
        "src/./a",
        "src//a",
        "./src/a",
    ),
    *(
        "a",
        "other/a",
        ".",
        "./",
        "..",
        "../x",
        "src/../../x",
        "src/../a",
        "/src/a",
        "src/a/../../../x",
        "src/.",
        "src/..",
    ),
    *(
        "@OUTSIDE@/victim",
        "@OUTSIDE@/new",
        "/@OUTSIDE@/victim",
        "src/" + "x" * 255,
        "src/" + "x" * 256,
        "src/" + "y/" * 120,
    ),
    *("src/\x1b[2J", "src/é", "src/\u202e", "src/\udcff", "src/a\nb", "src/ ", "src/-rf", "src/*", "src/nul\0b", ""),
)
TARGETS = ("copy", "copy", "there", "there/", "file", "new/", "there/deep", "link", "nowhere/x", ".")
TIMES = (0, 1, -1, 1.5, 2**31, 2**33, 2**62, -(2**62), 1e300, float("nan"), float("inf"))
MODES = (0o644, 0o755, 0, 0o7777, 0o4755, 0o2777, 0o1777, 0o100644, 2**21 - 1)

PAX = ("path", "linkpath", "size", "mtime", "uid", "uname", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major",
       "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.numblocks",
       "SCHILY.xattr.user.x", "hdrcharset")  # fmt: skip

BLOCK = 512

MOST = 64 << 20
"""Bytes that a file may have here: sparse ones may say that they have any number."""


class Fuzzed:
    """See `fuzz.target.Target`. A case is a line with the target and the name of the source, and an archive."""

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, self._before[1]))

    def close(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    # -- making

    def make(self, rng: Random) -> bytes:
        name = rng.choice(("src", "src", "src", ".", "x"))
        head = f"{rng.choice(TARGETS)} {name} {rng.randrange(100)}\n".encode()
        members = [self._member(rng) for _ in range(rng.choice((1, 2, 3, 5, 8)))]
        if rng.random() < 0.6:  # one odd member, at most, in what is as it must be
            members = _tree(rng)
            at = rng.randrange(len(members)) + 1
            members[at:at] = [self._member(rng) for _ in range(rng.choice((0, 1, 1)))]
        data = b"".join(members) + bytes(2 * BLOCK)
        deed = rng.random() if rng.random() < 0.7 else 1.0
        if deed < 0.25:
            data = self._headers(rng, data)
        elif deed < 0.4:
            data = mutate.octets(rng, data)
        elif deed < 0.45:
            data = data[: rng.randrange(len(data))]
        elif deed < 0.5:
            data += self._member(rng)
        return head + data

    def _member(self, rng: Random) -> bytes:
        member = tarfile.TarInfo(rng.choice(NAMES[:11] if rng.random() < 0.6 else NAMES))
        member.type = rng.choice(KINDS[:9] if rng.random() < 0.7 else KINDS)
        member.linkname = rng.choice((*NAMES, "@OUTSIDE@", "../../../..", "@OUTSIDE@/victim"))
        member.mode = rng.choice(MODES if rng.random() < 0.4 else MODES[:2])
        member.mtime = rng.choice(TIMES if rng.random() < 0.2 else TIMES[:2])
        member.uid = member.gid = rng.choice((0, 1000, 2**21, 2**40))
        content = rng.choice((b"", b"content\n", b"x" * 511, b"y" * 5000)) if member.isreg() else b""
        member.size = len(content)
        if rng.random() < 0.1:
            keys = rng.sample(PAX, rng.choice((1, 2, 3)))
            values = (*NAMES, "0", "-1", "1e400", "nan", str(2**70), "0,1,2", "0," * 3000, "x=y")
            member.pax_headers = {key: rng.choice(values).replace("\0", "") for key in keys}
        if rng.random() < 0.04:
            member.size = rng.choice((1, 2**33, 2**62, 2**70))
        form: Literal[1, 2] = (
            tarfile.PAX_FORMAT if member.pax_headers else rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        )
        try:
            head = member.tobuf(form, "utf-8", "surrogateescape")
        except (ValueError, OverflowError):
            member.mtime, member.size, member.uid, member.gid = 0, len(content), 0, 0
            head = member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        return head + content + bytes(-len(content) % BLOCK)

    def _headers(self, rng: Random, data: bytes) -> bytes:
        """Fields of headers changed, their checksums made right again."""
        found = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(max(1, len(found) // BLOCK - 2)) * BLOCK
            start, size = rng.choice(
                (
                    (0, 100),
                    (100, 8),
                    (108, 8),
                    (124, 12),
                    (136, 12),
                    (156, 1),
                    (157, 100),
                    (257, 8),
                    (345, 155),
                    (386, 96),
                    (482, 13),
                )
            )
            field = rng.choice(
                (
                    b"\x80" + b"\xff" * size,
                    b"\xff" * size,
                    b"7" * size,
                    b"0" * size,
                    bytes(size),
                    b"-1",
                    b" ",
                    b"9",
                    rng.randbytes(size),
                    b"../" * size,
                )
            )
            found[at + start : at + start + size] = field[:size].ljust(size, b"\0")
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = f"{sum(found[at : at + BLOCK]):06o}\0 ".encode()
        return bytes(found)

    # -- running

    def run(self, case: bytes, place: Path) -> str:
        head, _, data = case.partition(b"\n")
        words = [*head.decode(errors="replace").split(" "), "copy", "src", "0"]
        target, name = words[0], words[1]
        inside, outside = place / "in", place / "out"
        _furnish(inside, outside)
        data = data.replace(OUTSIDE, str(outside).encode()[-len(OUTSIDE) :].rjust(len(OUTSIDE), b"/"))
        before = _all(outside), set(place.parent.iterdir()), set(place.iterdir())
        try:
            word = _done(lambda: Unpacking(f"{inside}/{target}", name).run(io.BytesIO(data)))
            if word != "unpacked" and any(each.name.endswith(".new") for each in inside.rglob("*")):
                raise Broken("something half unpacked is left")
            _pass_on(data, name, place / "other", twice=words[2] == "0")
        finally:
            for folder, _, _ in os.walk(inside):
                Path(folder).chmod(0o700)
        (place / "other").exists() and subprocess.run(("rm", "-rf", place / "other"), check=True)
        if (_all(outside), set(place.parent.iterdir()), set(place.iterdir())) != before:
            raise Broken("something outside was touched")
        return word


def _tree(rng: Random) -> list[bytes]:
    """The members of a directory as tar writes it."""
    rows = [("src", tarfile.DIRTYPE, ""), ("src/a", tarfile.REGTYPE, "")]
    rows += rng.sample(
        [
            ("src/d", tarfile.DIRTYPE, ""),
            ("src/way", tarfile.SYMTYPE, "@OUTSIDE@"),
            ("src/up", tarfile.SYMTYPE, "../../out"),
            ("src/hard", tarfile.LNKTYPE, "src/a"),
            ("src/b", tarfile.REGTYPE, ""),
            ("src/way/in", tarfile.REGTYPE, ""),
            ("src/up/victim", tarfile.REGTYPE, ""),
        ],
        rng.choice((0, 1, 2, 4)),
    )
    found = []
    for name, kind, link in rows:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, link, 0o755
        member.size = 600 if kind == tarfile.REGTYPE else 0
        found.append(member.tobuf(tarfile.GNU_FORMAT) + bytes(2 * BLOCK if member.size else 0))
    return found


def _done(work: object) -> str:
    assert callable(work)
    try:
        work()
    except EOFError:
        return "no archive"
    except LabError:
        return "refused"
    return "unpacked"


def _furnish(inside: Path, outside: Path) -> None:
    for folder in (inside / "there/src/d", inside / "there/deep", outside / "folder"):
        folder.mkdir(parents=True)
    (inside / "file").write_text("a file")
    (inside / "there/src/a").write_text("old")
    (inside / "there/src/way").symlink_to(outside)
    (inside / "link").symlink_to(inside / "file")
    (outside / "victim").write_text("as it was")
    (outside / "folder/inner").write_text("as it was")


def _pass_on(data: bytes, name: str, folder: Path, *, twice: bool) -> None:
    """What `cp` between two machines sends to the second: only what stays in its place, as its own tar sees it."""
    into = _Sink()
    if _done(lambda: archive.relay(io.BytesIO(data), into, name)) != "unpacked":
        return
    with tarfile.open(fileobj=io.BytesIO(into.getvalue())) as sent:
        for member in sent:
            if member.name.startswith("/") or ".." in member.name.split("/") or member.mode & 0o6000:
                raise Broken("what is passed on leaves its place", repr(member.name))
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise Broken("what is passed on is no file, directory or link", repr(member.name))
    if twice:
        folder.mkdir()
        subprocess.run(("tar", "-xopf", "-", "-C", folder), input=into.getvalue(), capture_output=True, check=False)


class _Sink(io.BytesIO):
    """A machine that takes in so much and no more."""

    def write(self, data: Any) -> int:
        if self.tell() > MOST:
            raise LabError("The other machine is full.")
        return super().write(data)


def _all(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything there: its mode and time, and what is in it."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path)] = (about.st_mode, about.st_mtime_ns, data)
    return found
