"""Repositories beside Debian's: their keys, which are what was wanted or nothing is installed, and what apt is told."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nestlab.base import files, regular
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.home import cache as folders
from nestlab.images.recipes import Archive
from nestlab.lab.urls import is_url, shown_url
from nestlab.wire.download import download

KEYS_LIMIT = 1 << 16
"""Bytes of a keyring: it is handed on in a variable of the environment, which has room for twice that."""

_HERE = "copy:"
"""How apt spells a path of this computer, from which it copies packages, whatever it was given."""


async def told(archives: Sequence[Archive], cache: Path, say: Say) -> str:
    """The text of a file for apt (sources.list(5), deb822) with the keys in it. LabError where a keyring cannot be
    had or is not the one that was wanted, and where a repository on this computer cannot be read."""
    parts = []
    for archive in archives:
        if archive.uri.startswith(_HERE):
            readable(Path(archive.uri.removeprefix(_HERE)), archive)
        keys = armored(await _keys(archive, cache, say))
        signed_by = "\n".join(f" {line}" if line else " ." for line in keys.splitlines())
        parts.append(
            f"Types: deb\nURIs: {archive.uri}\nSuites: {archive.suite}\nComponents: {archive.component}\n"
            f"Architectures: amd64\nSigned-By:\n{signed_by}\n"
        )
    return "\n".join(parts)


def readable(folder: Path, archive: Archive) -> None:
    """LabError unless a folder holds that suite, and another user, as whom packages are installed, may read it."""
    release = folder / "dists" / archive.suite
    if not any((release / name).is_file() for name in ("InRelease", "Release")):
        raise LabError(
            f"{folder} is no repository with the suite {archive.suite}: it has no dists/{archive.suite}/InRelease.",
            hint="Correct `pve_mirror` (its `url`, its `suite`), or make the repository there.",
        )
    for each in (release, *release.parents):
        if not each.stat().st_mode & stat.S_IXOTH:
            what = f"The repository {folder} is not for everybody: only its owner may enter {each}."
            hint = f"Packages are installed by another user of this computer: chmod o+x {each}"
            raise LabError(what, hint=f"{hint} (its files: chmod -R o+rX {folder}).")


def blamed(archives: Sequence[Archive], lines: Sequence[str]) -> tuple[str, str] | None:
    """What is wrong with a repository, by what a build that failed printed, and what to do; None: it is not that."""
    text = "\n".join(lines)
    for archive in archives:
        uri, name = archive.uri.rstrip("/"), archive.uri.removeprefix(_HERE)
        own = "\n".join(line for line in lines if uri in line)
        if _UNSIGNED.search(text if uri in "\n".join(line for line in lines if _COMPLAINT.search(line)) else ""):
            reason = f"the repository {name} is not signed by a key in {archive.keyring}"
            hint = (
                "Name the keys of whoever signed it (`pve_mirror: {url: …, keyring: ./FILE.gpg}`): nothing is installed"
            )
            return reason, f"{hint} from a repository that nobody known has signed."
        if re.search(r"does not have a Release file|Failed to fetch|Cannot initiate|Could not", own):
            reason = f"the repository {name} cannot be read (suite {archive.suite})"
            return reason, "Look whether this machine reaches it, or name another (`pve_mirror:`), then repeat."
        if re.search(r"Unable to locate package proxmox-ve|Package '?proxmox-ve'? has no installation cand", text):
            reason = f"the repository {name} has no package proxmox-ve in {archive.suite} {archive.component}"
            return reason, "Correct `suite` and `component` of `pve_mirror`, or name another repository."
    return None


_COMPLAINT = re.compile(r"^(E|W|Err)[: ]")
_UNSIGNED = re.compile(r"NO_PUBKEY|is not signed|unknown-key|EXPKEYSIG|BADSIG|Missing key|not signed by")


def checksum_of(archive_keys: str) -> str:
    """`sha256:…` of a keyring on this computer. LabError where it cannot be read."""
    return "sha256:" + hashlib.sha256(_read(archive_keys)).hexdigest()


def armored(keys: bytes) -> str:
    """OpenPGP keys as text (RFC 4880, section 6.2); as they are, if they are that already."""
    if keys.lstrip().startswith(b"-----BEGIN PGP"):
        return keys.decode("ascii", "replace").strip() + "\n"
    text = base64.b64encode(keys).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    check = base64.b64encode(_crc24(keys).to_bytes(3, "big")).decode()
    begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
    return "\n".join([begin, "", *lines, f"={check}", end, ""])


def _crc24(data: bytes) -> int:
    total = 0xB704CE
    for byte in data:
        total ^= byte << 16
        for _ in range(8):
            total <<= 1
            if total & 0x1000000:
                total ^= 0x1864CFB
    return total


async def _keys(archive: Archive, cache: Path, say: Say) -> bytes:
    algorithm, _, wanted = archive.checksum.partition(":")
    kept = cache / "keyrings" / archive.checksum.replace(":", "-")
    if is_url(archive.keyring):
        if kept.is_file():
            keys = _read(str(kept))
            if hashlib.new(algorithm, keys).hexdigest() == wanted:
                return keys
        say(f"downloading the keys {shown_url(archive.keyring)}")
        return await _downloaded(archive, kept)
    keys = _read(archive.keyring)
    found = hashlib.new(algorithm, keys).hexdigest()
    if found != wanted:
        raise LabError(
            f"The keyring {archive.keyring} is not the one that the lab file says: its checksum differs.",
            hint="Compare it with what is published; correct `keyring` or `sha256` of `pve_mirror`.",
            detail=f"wanted {algorithm} {wanted}\nfound  {algorithm} {found} ({len(keys)} bytes)",
        )
    return keys


async def _downloaded(archive: Archive, kept: Path) -> bytes:
    folders.private(kept.parent)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=folders.PREFIX) as place:
        try:
            found = await download(archive.keyring, Path(place), archive.checksum, KEYS_LIMIT, lambda *_: None)
        except LabError as error:
            hint = "With `pve_mirror: {keyring: ./FILE.gpg}` the lab file names a copy that you have."
            raise LabError(
                f"The keys of Proxmox VE's packages: {error.what}", hint=hint, detail=error.detail
            ) from error
        keys = found.read_bytes()
    files.replace(kept, keys, 0o600)
    return keys


def _read(path: str) -> bytes:
    try:
        return regular.read(Path(path), KEYS_LIMIT)
    except OSError as error:
        raise LabError(
            f"The keyring {path} cannot be read: {error.strerror or os.strerror(error.errno or 0)}.",
            hint="Correct `keyring` of `pve_mirror`: a file with the OpenPGP keys that sign the repository.",
        ) from None
