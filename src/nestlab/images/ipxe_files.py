"""iPXE for UEFI: of this system, or unpacked from Debian. What a BIOS needs of it, QEMU's cards bring along."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.home.cache import making
from nestlab.images.mmdebstrap import disk_errors
from nestlab.images.qemu_runtime import SUITE, unpack

PACKAGES = ("ipxe",)

_NAME = "snponly.efi"
"""It uses the card by the firmware's own driver, as what loaded it did."""

_PLACES = tuple(Path("/usr/lib/ipxe") / name for name in (_NAME, f"x86_64-efi/{_NAME}"))
_WHAT = "iPXE for UEFI"
_LAYOUT = 1


async def loader(cache: Path, say: Say) -> Path:
    """The file, from the cache or unpacked into it (2 MB to download). LabError, which names the package, where that
    cannot be; several processes may call it."""
    system = next((path for path in _PLACES if path.is_file()), None)
    if system is not None:
        return system
    folder = cache / "ipxe" / digest()
    if not (folder / _NAME).is_file():
        try:
            with disk_errors(_WHAT, cache):
                async with making(folder, say, _WHAT) as partial:
                    if partial is not None:
                        await unpack(partial, PACKAGES, _WHAT, say)
                        _keep(partial)
        except LabError as error:
            hint = f"{error.hint} Or install the package ipxe."
            raise LabError(error.what, hint=hint, detail=error.detail) from error
    if not (folder / _NAME).is_file():
        raise LabError(f"{_WHAT} in {folder} cannot be read.", hint="Remove that folder, then repeat.")
    return folder / _NAME


def digest() -> str:
    """16 hex digits over what it is made of."""
    return hashlib.sha256(json.dumps([_LAYOUT, SUITE, PACKAGES]).encode()).hexdigest()[:16]


def _keep(folder: Path) -> None:
    """The file out of the package, and nothing else of it."""
    found = folder / "usr/lib/ipxe" / _NAME
    if not found.is_file():
        raise LabError(f"{_WHAT}: {_NAME} is not in Debian's package.", hint="Install the package ipxe instead.")
    found.replace(folder / _NAME)
    for rest in folder.iterdir():
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest)
        elif rest.name != _NAME:
            rest.unlink()
