"""Takes the ELF kernel out of a bzImage: it starts sooner than one that unpacks itself. Pure, but for libzstd and
liblz4."""

from __future__ import annotations

import bz2
import ctypes
import ctypes.util
import lzma
import struct
import zlib

from nestlab.base.errors import LabError

# Offsets in a bzImage are from the kernel's Documentation/arch/x86/boot.rst.
_SETUP_SECTORS, _MAGIC, _PROTOCOL, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
_PAYLOAD_SINCE = 0x0208

_LZ4 = b"\x02\x21\x4c\x18"
"""The head of lz4's legacy frame, which kbuild makes (lz4, doc/lz4_Frame_format.md)."""
_LZ4_BLOCK = 8 << 20
"""Bytes that one of its blocks holds at most, unpacked."""

LARGEST = 512 << 20
"""Bytes of a kernel or module, unpacked: ten times those of Debian's."""


def vmlinux(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage."""
    kernel = unpack(*payload(image))
    if not kernel.startswith(b"\x7fELF"):
        raise LabError("The kernel of the image holds no ELF kernel.", hint="Name another kernel package.")
    return kernel


def payload(image: bytes) -> tuple[bytes, int]:
    """The compressed kernel of a bzImage, and its size when unpacked (kbuild appends it)."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS" or struct.unpack_from("<H", image, _PROTOCOL)[0] < _PAYLOAD_SINCE:
        raise LabError("The kernel of the image is no x86 bzImage.", hint="Name another kernel package.")
    sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * 512 + offset
    compressed = image[start : start + length]
    return compressed[:-4], struct.unpack("<I", compressed[-4:])[0]


def unpack(data: bytes, size: int) -> bytes:
    """Unpacks what its first bytes say it is: gzip, xz, lzma, bzip2, zstd or lz4. `size`: of the kernel, unpacked.
    ValueError if that is more than LARGEST bytes."""
    if data.startswith(b"\x1f\x8b"):
        unpacked = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, LARGEST + 1)
    elif data.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        unpacked = lzma.LZMADecompressor().decompress(data, LARGEST + 1)
    elif data.startswith(b"BZh"):
        try:
            unpacked = bz2.BZ2Decompressor().decompress(data, LARGEST + 1)
        except OSError as error:
            raise ValueError(str(error)) from error
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        unpacked = _unzstd(data, size)
    elif data.startswith(_LZ4):
        unpacked = _unlz4(data, size)
    else:
        return data
    if len(unpacked) > LARGEST:
        raise ValueError(f"a kernel or module is larger than {LARGEST} bytes")
    return unpacked


def _unpacker(name: str, package: str, size: int) -> ctypes.CDLL:
    """The system's library for what unpacks to `size` bytes. ValueError for too many, LabError where it is missing."""
    if size > LARGEST:
        raise ValueError(f"a kernel or module is larger than {LARGEST} bytes")
    try:
        return ctypes.CDLL(ctypes.util.find_library(name) or f"lib{name}.so.1")
    except OSError as error:
        raise LabError(f"lib{name}, which unpacks the kernel, is missing.", hint=f"Install {package}.") from error


def _unzstd(data: bytes, size: int) -> bytes:
    # dpkg and rpm link libzstd, so it is wherever mmdebstrap runs; the standard library has zstd from 3.14 on only.
    library = _unpacker("zstd", "libzstd1", size)
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    target = ctypes.create_string_buffer(size)
    written = library.ZSTD_decompress(target, size, data, len(data))
    if written != size:
        raise LabError("The kernel of the image cannot be unpacked.", hint="Name another kernel package.")
    return target.raw


def _unlz4(data: bytes, size: int) -> bytes:
    """Debian 12's kernels are packed so. apt links liblz4, so it is wherever mmdebstrap runs."""
    library = _unpacker("lz4", "liblz4-1", size)
    target = ctypes.create_string_buffer(_LZ4_BLOCK)
    found, at = bytearray(), len(_LZ4)
    while at + 4 <= len(data) and len(found) <= size:
        (length,) = struct.unpack_from("<I", data, at)
        block = data[at + 4 : at + 4 + length]
        written = library.LZ4_decompress_safe(block, target, len(block), _LZ4_BLOCK)
        if written < 0:
            break
        found += target.raw[:written]
        at += 4 + length
    if len(found) != size:
        raise LabError("The kernel of the image cannot be unpacked.", hint="Name another kernel package.")
    return bytes(found)
