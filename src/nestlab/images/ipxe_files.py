"""iPXE for UEFI: of this system, or unpacked from Debian. What a BIOS needs of it, QEMU's cards bring along."""

from __future__ import annotations

from pathlib import Path

from nestlab.base.events import Say
from nestlab.images.debian_files import DebianFiles

_NAME = "snponly.efi"
"""It uses the card by the firmware's own driver, as what loaded it did."""

_PLACES = tuple(Path("/usr/lib/ipxe") / name for name in (_NAME, f"x86_64-efi/{_NAME}"))
FILES = DebianFiles("ipxe", "iPXE for UEFI", ("ipxe",), (_NAME,), ("lib/ipxe",))


async def loader(cache: Path, say: Say) -> Path:
    """The file, from the cache or unpacked into it (2 MB to download). LabError as of `DebianFiles.get`."""
    system = next((path for path in _PLACES if path.is_file()), None)
    return system or await FILES.get(cache, say) / _NAME
