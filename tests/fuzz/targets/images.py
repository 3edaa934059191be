"""Downloaded images and checksum files: headers of vmdk, vhdx, vdi, qcow2 and ISO images, and what vendors publish."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from fuzz import mutate
from fuzz.target import Broken
from nestlab.base.errors import LabError
from nestlab.images import foreign_disk
from nestlab.lab import checksums
from nestlab.labfile import disk_header
from nestlab.labfile.disk_header import LARGEST, Disk

_DESCRIPTION = b'# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\n'
_PARAMETERS = foreign_disk._PARAMETERS.bytes_le
_SIZE = foreign_disk._SIZE.bytes_le
_REGION = foreign_disk._REGION.bytes_le

Parts = tuple[tuple[int, bytes], ...]
"""What is at which place of a file; the rest is zeros."""


def _vmdk() -> Parts:
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 2048, 128, 1, 20, 512, 0, 21, 128)
    return (0, head), (512, _DESCRIPTION)


def _vhdx() -> Parts:
    region = struct.pack("<4sIII", b"regi", 0, 1, 0) + struct.pack("<16sQII", _REGION, 327680, 4096, 1)
    table = struct.pack("<8sHH20s", b"metadata", 0, 2, b"")
    table += struct.pack("<16sIIII", _PARAMETERS, 256, 8, 4, 0) + struct.pack("<16sIIII", _SIZE, 264, 8, 6, 0)
    return (
        (0, b"vhdxfile"),
        (192 << 10, region),
        (327680, table),
        (327680 + 256, struct.pack("<IIQ", 1 << 20, 0, 1 << 30)),
    )


def _vdi() -> Parts:
    rest = (1, 0, b"", *(0,) * 7, 1 << 30, 1 << 20, 0, 1024, 0, b"u" * 16, b"", b"", b"")
    return ((0, struct.pack("<64sIIIII256sIIIIIIIQIIII16s16s16s16s", b"<<< VDI", 0xBEDA107F, 0x10001, 0x190, *rest)),)


def _qcow2() -> Parts:
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 30, 0, 2, 0x30000, 0x10000, 1, 0, 0)
    return ((0, head + struct.pack(">QQQII", 0, 0, 0, 4, 104)),)


def _iso() -> Parts:
    return ((32768, b"\x01CD001\x01"),)


_FORMS = {"vmdk": _vmdk, "vhdx": _vhdx, "vdi": _vdi, "qcow2": _qcow2, "iso": _iso}
_SUMS = b"%s  disk.raw\n%s *./other.iso\nSHA512 (disk.raw) = %s\n# a line\n" % (b"a" * 64, b"b" * 64, b"c" * 128)


class Fuzzed:
    """A case: the name of a form, a line break, and the parts; of `sums` the text."""

    def make(self, rng: Random) -> bytes:
        form = rng.choice([*_FORMS, "sums"])
        if form == "sums":
            return b"sums\n" + mutate.octets(rng, _SUMS)
        parts = [(at, mutate.octets(rng, part) if rng.random() < 0.8 else part) for at, part in _FORMS[form]()]
        return form.encode() + b"\n" + b"".join(struct.pack("<II", at, len(part)) + part for at, part in parts)

    def run(self, case: bytes, place: Path) -> str:
        name, _, rest = case.partition(b"\n")
        form = name.decode(errors="replace")
        if form == "sums":
            try:
                found = checksums.find(rest.decode(errors="replace"), "disk.raw")
            except checksums.Lacking as error:
                raise LabError(*error.args[:1], hint=error.args[1]) from error
            return found.partition(":")[0]
        if form not in _FORMS:
            return "no form"
        path = place / "disk"
        with path.open("wb") as file:
            while len(rest) >= 8:
                at, size = struct.unpack_from("<II", rest)
                file.seek(at % (1 << 24))
                file.write(rest[8 : 8 + size])
                rest = rest[8 + size :]
        told = disk_header.examine(str(path), "qcow2") if form == "qcow2" else foreign_disk.examine(path, form)
        if not isinstance(told, Disk):
            raise LabError(f"{told[0]}.", hint=told[1])
        if not 0 < told.size <= LARGEST:
            raise Broken("a disk has a size that none has", str(told.size))
        return form

    def close(self) -> None:
        """Nothing is held."""
