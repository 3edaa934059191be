"""A CD-ROM and a disk whose firmware code says a word on the serial port and stops: what booted is read there."""

from __future__ import annotations

from struct import pack

SECTOR = 2048


def code(word: str) -> bytes:
    """16-bit code for any address: each letter to COM1, then nothing more."""
    said = b"".join(
        b"\xb0" + bytes([letter]) + b"\xee" for letter in f"{word}\n".encode()
    )  # mov al, letter; out dx, al
    return b"\xba\xf8\x03" + said + b"\xf4\xeb\xfd"  # mov dx, 0x3f8; …; hlt; jmp back


def disk(word: str) -> bytes:
    """A disk with a boot sector."""
    return (code(word).ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


def iso(word: str) -> bytes:
    """ECMA-119 with an El Torito boot record: descriptors at 16, 17 and 18, the catalog at 19, the code at 20."""
    primary = b"\x01CD001\x01".ljust(SECTOR, b"\0")
    record = (b"\x00CD001\x01" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + (19).to_bytes(4, "little")).ljust(
        SECTOR, b"\0"
    )
    end = b"\xffCD001\x01".ljust(SECTOR, b"\0")
    head = bytearray(b"\x01\x00\x00\x00".ljust(30, b"\0") + b"\x55\xaa")
    total = sum(int.from_bytes(head[at : at + 2], "little") for at in range(0, 32, 2))
    head[28:30] = (-total & 0xFFFF).to_bytes(2, "little")
    entry = b"\x88\x00\x00\x00\x00\x00" + (4).to_bytes(2, "little") + (20).to_bytes(4, "little")
    catalog = (bytes(head) + entry).ljust(SECTOR, b"\0")
    return bytes(16 * SECTOR) + primary + record + end + catalog + code(word).ljust(SECTOR, b"\0")


def unsigned(word: str) -> bytes:
    """A disk of one FAT12 file system that UEFI boots: its loader has no signature."""
    size, cluster, fat = 4096, 2, 6  # sectors
    # Behind jump and name: bytes a sector, sectors a cluster, reserved, FATs, entries of the root, sectors, medium,
    # sectors a FAT, and a geometry.
    head = b"\xeb\x3c\x90nestlab " + pack("<HBHBHHBHHHII", 512, cluster, 1, 1, 16, size, 0xF8, fat, 32, 2, 0, 0)
    boot = (head + b"\x80\0\x29" + b"\1\2\3\4" + b"UNSIGNED   " + b"FAT12   ").ljust(510, b"\0") + b"\x55\xaa"
    chains = b"\xf8\xff\xff\xff\xff\xff\xff\x0f\x00".ljust(fat * 512, b"\0")  # clusters 2, 3 and 4, each an end
    loader = _portable_executable(word)
    root, efi, folder = (
        b"".join(each).ljust(room, b"\0")
        for each, room in (
            ([_entry(b"EFI", 2)], 512),
            ([_entry(b".", 2), _entry(b"..", 0), _entry(b"BOOT", 3)], cluster * 512),
            ([_entry(b".", 3), _entry(b"..", 2), _entry(b"BOOTX64 EFI", 4, len(loader))], cluster * 512),
        )
    )
    return (boot + chains + root + efi + folder + loader).ljust(size * 512, b"\0")


def _entry(name: bytes, cluster: int, size: int = 0) -> bytes:
    """An entry of a directory: a folder where there is no size."""
    return name.ljust(11) + bytes([0x20 if size else 0x10]) + bytes(14) + pack("<HI", cluster, size)


def _portable_executable(word: str) -> bytes:
    """An application of UEFI: one section of code, for any address. It says a word on the serial port and stops."""
    # In 64-bit mode the same code but for the first instruction, which is of 32 bits there.
    text = (b"\x66" + code(word)).ljust(512, b"\0")
    coff = b"PE\0\0" + pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 0xF0, 0x22)
    optional = pack("<HBBIIIII", 0x20B, 0, 0, 512, 0, 0, 0x1000, 0x1000) + pack("<QII", 0, 0x1000, 0x200)
    optional += pack("<HHHHHHIIII", 0, 0, 0, 0, 0, 0, 0, 0x2000, 0x200, 0) + pack("<HH", 10, 0)
    optional += pack("<QQQQII", 0, 0, 0, 0, 0, 16) + bytes(16 * 8)
    section = b".text\0\0\0" + pack("<IIIIIIHHI", 512, 0x1000, 512, 512, 0, 0, 0, 0, 0x60000020)
    return (b"MZ".ljust(60, b"\0") + pack("<I", 64) + coff + optional + section).ljust(512, b"\0") + text
