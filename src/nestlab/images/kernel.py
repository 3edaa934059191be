"""Takes the ELF kernel out of a bzImage: it starts sooner than one that unpacks itself. Pure, but for libzstd."""

from __future__ import annotations

import bz2
import ctypes
import ctypes.util
import gzip
import lzma
import struct

from nestlab.base.errors import LabError

# Offsets in a bzImage are from the kernel's Documentation/arch/x86/boot.rst.
_SETUP_SECTORS, _MAGIC, _PROTOCOL, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
_PAYLOAD_SINCE = 0x0208


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
    """Unpacks what its first bytes say it is: gzip, xz, lzma, bzip2 or zstd. `size` is needed for zstd alone."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"BZh"):
        return bz2.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(data, size)
    return data


def _unzstd(data: bytes, size: int) -> bytes:
    # dpkg and rpm link libzstd, so it is wherever mmdebstrap runs; the standard library has zstd from 3.14 on only.
    try:
        library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    except OSError as error:
        raise LabError("libzstd, which unpacks the kernel, is missing.", hint="Install libzstd1.") from error
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    target = ctypes.create_string_buffer(size)
    written = library.ZSTD_decompress(target, size, data, len(data))
    if written != size:
        raise LabError("The kernel of the image cannot be unpacked.", hint="Name another kernel package.")
    return target.raw
