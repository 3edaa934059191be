"""UEFI firmware (OVMF) and a software TPM (swtpm): this system's, or unpacked from Debian's packages.

They are fetched only when a machine needs them, and carried into hypervisors from here, so that no image has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.home.cache import making
from nestlab.images.mmdebstrap import disk_errors
from nestlab.images.qemu_runtime import SUITE, unpack
from nestlab.lab.hardware import Firmware

PACKAGES = ("ovmf", "swtpm")

_LAYOUT = 1
_WHAT = "nestlab's firmware and software TPM"
_OVMF = Path("/usr/share/OVMF")
"""Where Debian and Ubuntu have OVMF's files."""

_NAMES: Mapping[Firmware, tuple[str, str]] = {
    "uefi": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    "secure": ("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"),
}
"""Code and variables. Those of `secure` have Secure Boot on, with Microsoft's keys, which have signed what Windows and
Linux distributions start with."""

_OWN = ("libswtpm_libtpms.so.0", "libtpms.so.0")
"""The libraries of swtpm that no hypervisor of nestlab's has; of the others it has all."""

_LIBRARIES = (*_OWN, "libc.so.6", "libseccomp.so.2", "libcrypto.so.3", "libz.so.1", "libzstd.so.1")


@frozen
class Ovmf:
    """Files of a UEFI: its code, and what a new machine's variables are copied from."""

    code: Path
    variables: Path


@frozen
class Pack:
    """nestlab's own, unpacked: all files are in one folder."""

    folder: Path

    def ovmf(self, firmware: Firmware) -> Ovmf:
        return Ovmf(*(self.folder / name for name in _NAMES[firmware]))

    @property
    def swtpm(self) -> tuple[str, ...]:
        """Its command on this host, with the dynamic loader and libraries that it was built for."""
        folder = str(self.folder)
        return (f"{folder}/ld-linux-x86-64.so.2", "--library-path", folder, f"{folder}/swtpm")

    @property
    def carried(self) -> tuple[Path, ...]:
        """What a hypervisor of nestlab's needs to run swtpm, beside what it has: the program first."""
        return tuple(self.folder / name for name in ("swtpm", *_OWN))


def system_ovmf(firmware: Firmware, folder: Path = _OVMF) -> Ovmf | None:
    """This system's, where all of it is there."""
    found = Ovmf(*(folder / name for name in _NAMES[firmware]))
    return found if found.code.is_file() and found.variables.is_file() else None


def system_swtpm() -> tuple[str, ...] | None:
    """This system's, where it is installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    program = shutil.which("swtpm", path=path)
    return (program,) if program else None


async def pack(cache: Path, say: Say) -> Pack:
    """nestlab's own, from the cache or unpacked into it (some 50 MB to download, 30 MB on disk). LabError, which names
    the packages, where that cannot be; several processes may call it."""
    folder = cache / "firmware" / digest()
    if not _whole(folder):
        try:
            with disk_errors(_WHAT, cache):
                async with making(folder, say, _WHAT) as partial:
                    if partial is not None:
                        await unpack(partial, PACKAGES, _WHAT, say)
                        _keep(partial)
        except LabError as error:
            hint = f"{error.hint} Or install the packages ovmf and swtpm."
            raise LabError(error.what, hint=hint, detail=error.detail) from error
    if not _whole(folder):
        raise LabError(f"{_WHAT} in {folder} cannot be read.", hint="Remove that folder, then repeat.")
    return Pack(folder)


def digest() -> str:
    """16 hex digits over what the pack is made of."""
    text = json.dumps([_LAYOUT, SUITE, PACKAGES, _names()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names() -> Sequence[str]:
    files = (name for pair in _NAMES.values() for name in pair)
    return sorted({*files, "swtpm", "ld-linux-x86-64.so.2", *_LIBRARIES})


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _names())


def _keep(folder: Path) -> None:
    """The files of a pack out of the packages, and nothing else of these. LabError where one is not in them."""
    usr = folder / "usr"
    libraries = usr / "lib/x86_64-linux-gnu"
    places = (usr / "share/OVMF", usr / "bin", libraries, libraries / "swtpm")
    for name in _names():
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            raise LabError(f"{_WHAT}: {name} is in none of Debian's packages.", hint="Install ovmf and swtpm instead.")
        shutil.copyfile(found, folder / name)
        (folder / name).chmod(0o755)
    for rest in folder.iterdir():
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest)
        elif rest.name not in _names():
            rest.unlink()
