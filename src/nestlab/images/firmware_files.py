"""UEFI firmware (OVMF) and a software TPM (swtpm): this system's, or unpacked from Debian's packages.

They are fetched only when a machine needs them, and carried into hypervisors from here, so that no image has them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.images.debian_files import DebianFiles
from nestlab.lab.hardware import Firmware

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

FILES = DebianFiles(
    "firmware",
    "nestlab's firmware and software TPM",
    ("ovmf", "swtpm"),
    tuple(sorted({*(name for pair in _NAMES.values() for name in pair), "swtpm", "ld-linux-x86-64.so.2", *_LIBRARIES})),
    ("share/OVMF", "bin", "lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu/swtpm"),
)


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
    """nestlab's own, from the cache or unpacked into it (some 50 MB to download, 30 MB on disk). LabError as of
    `DebianFiles.get`."""
    return Pack(await FILES.get(cache, say))
