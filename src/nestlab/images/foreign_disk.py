"""What the headers of vmdk, vhdx and vdi images say, and whether qemu-img may be given them: a disk is one file.

As `labfile.disk_header` does for qcow2: such an image can name other files that QEMU opens in its stead. Offsets are
those of QEMU's block/vmdk.c, block/vhdx.h and block/vdi.c, and of the formats' published specifications.
"""

from __future__ import annotations

import re
import struct
import uuid
from pathlib import Path
from typing import BinaryIO

from nestlab.labfile.disk_header import LARGEST, Disk, Fault

_SECTOR = 512
_DESCRIPTION = 20 * _SECTOR
"""Bytes that QEMU reads of a description within a vmdk (DESC_SIZE)."""

_VMDK = struct.Struct("<4sIIQQQQIQQQ")
"""SparseExtentHeader: magic, version, flags, capacity (sectors), grain size, place and size of the description, grain
table entries, places of the redundant and the usual grain directory, and overhead."""
_REGION, _METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e"), b"metadata"
_PARAMETERS, _SIZE = (
    uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b"),
    uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8"),
)
_REGIONS_AT = (192 << 10, 256 << 10)
_ENTRIES = 2047
"""Entries of a region table, and of a metadata table, at most (MS-VHDX 2.2.3, 2.6.1)."""
_VDI = struct.Struct("<64sIIIII256sIIIIIIIQIIII16s16s16s16s")
"""VdiHeader: text, signature, version, header size, type, flags, description, places of the block map and of the data,
geometry (4), unused, bytes of the disk, block size, extra, blocks, blocks there, and four UUIDs: its own, of the last
snapshot, of the link, of the parent."""
_VDI_MAGIC, _DYNAMIC, _FIXED = 0xBEDA107F, 1, 2


def examine(path: Path, form: str) -> Disk | Fault:
    """The image, or why qemu-img is not given it. `form`: `vmdk`, `vhdx`, `vdi` or `iso`. OSError if it cannot be
    read."""
    name = path.name
    with path.open("rb") as file:
        try:
            found = {"vmdk": _vmdk, "vhdx": _vhdx, "vdi": _vdi, "iso": _iso}[form](file, name)
        except struct.error:
            return _none(name, form)
    if isinstance(found, Disk) and not 0 < found.size <= LARGEST:
        return f"{name} says that it has {found.size} bytes", "Use another image."
    return found


def _none(name: str, form: str) -> Fault:
    return f"{name} is no {form} image", "Say `format:` as it is."


def _vmdk(file: BinaryIO, name: str) -> Disk | Fault:
    start = file.read(_VMDK.size)
    if start.startswith(b"# Disk Desc"):
        hint = "If you trust who made it, make one file of it where all are: qemu-img convert -O qcow2 IT disk.qcow2"
        return f"{name} only describes a disk, which is in other files", hint
    magic, version, _, capacity, grain, place, *_ = _VMDK.unpack(start)
    if magic != b"KDMV":
        return _none(name, "vmdk")
    if not capacity or not grain or version not in (1, 2, 3):
        return f"{name} is a vmdk image whose disk is in other files, or none that QEMU reads", "Use another image."
    text = b""
    for at in {_SECTOR, min(place, 1 << 40) * _SECTOR}:  # where QEMU looks for it, and where the header says it is
        file.seek(at)
        text += file.read(_DESCRIPTION)
    if b"parentFileNameHint" in text or re.search(rb"parentCID\s*=\s*(?!\"?f{8})", text, re.IGNORECASE):
        return f"{name} is a layer over another disk (a snapshot)", "Export it whole: a snapshot alone boots nowhere."
    if (kind := re.search(rb'createType\s*=\s*"([^"]{0,40})"', text)) and kind[1] not in (
        b"monolithicSparse",
        b"streamOptimized",
    ):
        shown = kind[1].decode(errors="replace")
        return f"{name} is a vmdk image of type {shown!r}, whose disk is in other files", "Export it as one file."
    return Disk(capacity * _SECTOR)


def _vhdx(file: BinaryIO, name: str) -> Disk | Fault:
    if file.read(8) != b"vhdxfile":
        return _none(name, "vhdx")
    damaged = f"{name} is a damaged vhdx image", "Use another copy."
    place = None
    for at in _REGIONS_AT:
        file.seek(at)
        magic, _, count, _ = struct.unpack("<4sIII", file.read(16))
        if magic == b"regi" and count <= _ENTRIES:
            table = file.read(32 * count)
            for entry in range(count):
                kind, there, length, _ = struct.unpack_from("<16sQII", table, 32 * entry)
                place = there if uuid.UUID(bytes_le=kind) == _REGION and length else place
            break
    if place is None or place > 1 << 46:
        return damaged
    file.seek(place)
    magic, _, count = struct.unpack("<8sHH", file.read(12))
    if magic != _METADATA or count > _ENTRIES:
        return damaged
    file.seek(place + 32)
    table = file.read(32 * count)
    found: dict[uuid.UUID, int] = {}
    for entry in range(count):
        kind, offset, _, _ = struct.unpack_from("<16sIII", table, 32 * entry)
        found[uuid.UUID(bytes_le=kind)] = offset
    if _PARAMETERS not in found or _SIZE not in found:
        return damaged
    file.seek(place + found[_PARAMETERS])
    _, bits = struct.unpack("<II", file.read(8))
    if bits & 2:
        return f"{name} is a layer over another disk (a differencing disk)", "Export it whole."
    file.seek(place + found[_SIZE])
    return Disk(struct.unpack("<Q", file.read(8))[0])


def _vdi(file: BinaryIO, name: str) -> Disk | Fault:
    fields = _VDI.unpack(file.read(_VDI.size))
    if fields[1] != _VDI_MAGIC:
        return _none(name, "vdi")
    if fields[4] not in (_DYNAMIC, _FIXED) or any(fields[-2]) or any(fields[-1]):
        return f"{name} is a layer over another disk (a differencing disk)", "Clone it whole: VBoxManage clonemedium"
    return Disk(fields[14])


def _iso(file: BinaryIO, name: str) -> Disk | Fault:
    """ECMA-119: the first volume descriptor is sector 16; a bridge to UDF has it too."""
    file.seek(16 * 2048)
    if file.read(6)[1:6] not in (b"CD001", b"BEA01"):
        return f"{name} is no ISO image", "Say `format:` as it is."
    return Disk(file.seek(0, 2))
