"""What an installer starts from: kernel and initramfs of its ISO, which stays in the drive, or Debian's netboot."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nestlab.answers import Answered, Family
from nestlab.answers.proxmox import CAPABLE
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.home.cache import making
from nestlab.images.mmdebstrap import disk_errors, mmdebstrap
from nestlab.install.iso9660 import Damaged, File, Iso, is_iso

KERNELS: Mapping[Family, tuple[tuple[str, str], ...]] = {
    "debian": (("/install.amd/vmlinuz", "/install.amd/initrd.gz"),),
    "ubuntu": (("/casper/vmlinuz", "/casper/initrd"), ("/casper/vmlinuz", "/casper/initrd.gz")),
    "redhat": (("/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img"),),
    "proxmox": (("/boot/linux26", "/boot/initrd.img"),),
}
"""Where the ISOs of a family have their kernel and initramfs. Started from there, an installer is told what to do by
words of ours: no menu of its boot loader waits for a key, and its console is a serial one."""

TITLES: Mapping[Family, str] = {
    "debian": "Debian's installer",
    "ubuntu": "Ubuntu's installer",
    "redhat": "Fedora's or Red Hat's installer",
    "proxmox": "Proxmox's installer",
}
NETBOOT: Mapping[str, str] = {"bookworm": "12", "trixie": "13"}
"""Releases of Debian whose netboot installer is a package (`debian-installer-13-netboot-amd64`)."""

_LAYOUT = 1
_LARGEST = 512 << 20
"""Bytes of a kernel or an initramfs; the largest known have some 150 MB."""


@frozen
class Medium:
    """`mirror`: where the packages of Debian's netboot come from, as mmdebstrap found it; None for an ISO."""

    kernel: Path
    initrd: Path
    iso: Path | None = None
    mirror: str | None = None


async def netboot(suite: str, cache: Path, say: Say) -> Medium:
    """Debian's netboot installer from its package, whose signature apt checks; kept in the cache."""
    folder = cache / "netboot" / hashlib.sha256(f"{_LAYOUT} {suite}".encode()).hexdigest()[:16]
    what = f"Debian's installer ({suite})"
    with disk_errors(what, cache):
        async with making(folder, say, what) as partial:
            if partial is not None:
                await _fetch(suite, what, partial, say)
    try:
        mirror = str(parsed((folder / "netboot.json").read_text())["mirror"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LabError(f"{what} in {folder} cannot be read.", hint="Remove that folder, then repeat.") from None
    return Medium(folder / "linux", folder / "initrd.gz", mirror=mirror)


async def _fetch(suite: str, what: str, partial: Path, say: Say) -> None:
    say(f"downloading {what}, some 90 MB")
    archive = partial / "packages.tar"
    package = f"debian-installer-{NETBOOT[suite]}-netboot-amd64"
    words = ["--variant=extract", f"--include={package}", '--aptopt=Acquire::Languages "none"', "--format=tar"]
    await mmdebstrap([*words, suite, str(archive)], what=what, folder=partial, say=say)
    mirror = await asyncio.to_thread(_unpack, archive, partial, what)
    archive.unlink()
    (partial / "netboot.json").write_text(json.dumps({"mirror": mirror}) + "\n")


def _unpack(archive: Path, folder: Path, what: str) -> str:
    """Takes the kernel and the initramfs out; returns the mirror that all came from."""
    mirror = ""
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            for name in ("linux", "initrd.gz"):
                if member.name.endswith(f"/text/debian-installer/amd64/{name}"):
                    with (folder / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
            if re.fullmatch(r"\./etc/apt/sources\.list(\.d/[^/]+\.list)?", member.name) and not mirror:
                found = re.search(r"^deb (?:\[[^\]]*\] )?(https?://\S+) ", content.read(65536).decode(), re.M)
                mirror = found[1].rstrip("/") if found else ""
    if not mirror or not all((folder / name).exists() for name in ("linux", "initrd.gz")):
        hint = "Name an ISO of Debian's instead (`iso:`), and a mirror (`mirror:`)."
        raise LabError(f"{what} cannot be made: its package does not hold what it should.", hint=hint)
    return mirror


def open_iso(iso: Path, family: Family, folder: Path, where: str) -> Medium:
    """The kernel and the initramfs of an ISO, written to `folder`. LabError, which `where` begins, if it is no ISO, or
    none of that family's installer, or its installer takes no answers."""
    with _opened(iso, where) as found:
        pairs = ([(path, found.find(path)) for path in pair] for pair in KERNELS[family])
        files = next((pair for pair in pairs if all(each for _, each in pair)), None)
        if files is None:
            looked = ", ".join(pair[0] for pair in KERNELS[family])
            hint = f"Name an ISO of it, or say in `system` whose installer this is ({', '.join(KERNELS)})."
            raise LabError(f"{where}: {iso.name} is no ISO of {TITLES[family]}: there is no {looked} in it.", hint=hint)
        if family == "proxmox" and found.find(CAPABLE) is None:
            hint = "Proxmox VE 8.2 is the first whose installer takes answers; name the ISO of a later one."
            raise LabError(f"{where}: {iso.name} cannot be answered: there is no {CAPABLE} in it.", hint=hint)
        for (path, at), name in zip(files, ("linux", "initrd"), strict=True):
            assert at is not None
            _extract(found, at, path, folder / name, where)
    return Medium(folder / "linux", folder / "initrd", iso)


async def prepared(medium: Medium, given: Answered, folder: Path, where: str) -> Medium:
    """The medium with the files that its installer looks for beside its own, on a copy of the ISO whose boot records
    and volume date stay (the installer finds its medium by them): what Proxmox's own assistant does."""
    if medium.iso is None or not given.medium:
        return medium
    program = shutil.which("xorriso")
    if program is None:
        raise LabError(
            f"{where}: xorriso, which puts a file on the installer's ISO, is not installed.",
            hint="Install it: sudo apt install xorriso (dnf, zypper and pacman know it by that name too).",
        )
    copy = folder / "prepared.iso"
    await asyncio.to_thread(shutil.copyfile, medium.iso, copy)
    copy.chmod(0o600)
    said = await _xorriso(program, ["-dev", str(copy), "-report_system_area", "cmd"], where)
    date = re.search(r"^-volume_date uuid '(\d{16})'", said, re.M)
    words = ["-boot_image", "any", "keep", *(["-volume_date", "uuid", date[1]] if date else []), "-dev", str(copy)]
    for path, text in given.medium.items():
        file = folder / Path(path).name
        file.touch(mode=0o600)
        file.write_text(text)
        words += ["-map", str(file), path]
    await _xorriso(program, words, where)
    return Medium(medium.kernel, medium.initrd, copy, medium.mirror)


async def _xorriso(program: str, words: list[str], where: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        "-abort_on",
        "FAILURE",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        text = err.decode(errors="replace")
        hint = "Make room, then repeat." if "No space left" in text else "Is it a whole ISO? Download it again."
        raise LabError(f"{where}: xorriso cannot write to a copy of the ISO.", hint=hint, detail=text[-1000:])
    return out.decode(errors="replace")


@contextlib.contextmanager
def _opened(iso: Path, where: str) -> Iterator[Iso]:
    """A reader of an ISO 9660 file system."""
    try:
        file = iso.open("rb")
    except OSError as error:
        raise LabError(f"{where}: {iso} cannot be read: {error.strerror}.", hint="Correct its path.") from None
    with file:
        try:
            if not is_iso(file):
                hint = "An installer's ISO has an ISO 9660 file system; download it again, or name another file."
                raise LabError(f"{where}: {iso.name} is no ISO.", hint=hint)
            yield Iso(file)
        except Damaged as error:
            hint = "Download it again, or name another file."
            raise LabError(f"{where}: {iso.name} is damaged: {error}.", hint=hint) from None


def _extract(iso: Iso, found: File, path: str, to: Path, where: str) -> None:
    if found.size > _LARGEST:
        raise LabError(f"{where}: {path} on the ISO is larger than any kernel.", hint="Name another ISO.")
    with to.open("wb") as file:
        iso.copy(found, file)
