"""Images that are downloaded, as a lab file says them. Nothing is asked of anybody: what is there is told by `up`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nestlab.base import regular
from nestlab.lab import checksums
from nestlab.lab.model import TEMPLATE_ENDINGS, Compression, Format, Image
from nestlab.lab.urls import fault_of, is_loopback, is_url, name_in
from nestlab.labfile.network import Complaint
from nestlab.labfile.read import Section

CONVERTED: tuple[Format, ...] = ("vmdk", "vhdx", "vdi", "ova")
"""Formats that no machine is given: a qcow2 is made of them."""

KEYS_LIMIT = 1 << 20
"""Bytes of a file with keys."""

_ENDINGS: dict[str, Format] = {
    ".qcow2": "qcow2",
    ".raw": "raw",
    ".iso": "iso",
    ".vmdk": "vmdk",
    ".vhdx": "vhdx",
    ".vdi": "vdi",
    ".ova": "ova",
}
PACKED_TEMPLATES: tuple[Compression, ...] = ("zst", "gz", "xz")
"""How container templates are packed (PVE::Storage, VZTMPL_EXT_RE_1)."""

_PACKED: dict[str, Compression] = {".xz": "xz", ".zst": "zst", ".gz": "gz", ".bz2": "bz2"}

_ADDED = ("packages", "files", "script", "mirror", "suite", "kernel", "version", "pve_mirror")
_OWN = ("format", "user", "cloud_init")
_PROOF = ("sha256", "sha512", "sums", "signed_by", "compression", "max_size")

HOW = (
    "Say `sha256:` or `sha512:` as whoever publishes it does, or `sums:` with the URL of their checksum file and"
    " `signed_by:` with their key. Of a copy that you trust: sha256sum FILE"
)


def out_of_place(section: Section, source: str) -> Iterator[Complaint]:
    """Keys of an image that mean nothing beside its source: `from`, `file` or `url`."""
    for name in _ADDED if source != "from" else ():
        if name in section.at:
            hint = "Leave it out, or start from an image of nestlab's (`from`)."
            whose = "a disk of yours" if source == "file" else "a disk that is downloaded"
            yield section.keys[name], f"{section.key}.{name}", f"`{name}` does not go into {whose}", hint
    for name in (*(_OWN if source == "from" else ()), *(_PROOF if source != "url" else ())):
        if name in section.at:
            whose = "disks of your own (`file`, `url`)" if name in _OWN else "what is downloaded (`url`)"
            what = f"`{name}` means nothing with `{source}`"
            yield section.keys[name], f"{section.key}.{name}", what, f"Leave it out: it is for {whose}."
    if source == "file":
        yield from unconverted(section)


def unconverted(section: Section) -> Iterator[Complaint]:
    """The mistake of a file that QEMU cannot be given."""
    if section.values.get("format") == "tar":
        hint = f"Leave it out: the name of a container template ends in {', '.join(TEMPLATE_ENDINGS)}."
        yield section.at["format"], f"{section.key}.format", "`format: tar` is for what is downloaded (`url`)", hint
    if (form := section.values.get("format")) in CONVERTED:
        hint = f"Convert it: qemu-img convert -f {'vmdk' if form == 'ova' else form} -O qcow2 OLD disk.qcow2"
        what = f"a {form} is converted only where it is downloaded (`url`)"
        yield section.at["format"], f"{section.key}.format", what, hint


def downloaded(section: Section, usual: Format | None = None) -> tuple[Image | None, list[Complaint]]:
    """The image of a section that says `url` (None: something is wrong with it), and all that is wrong. `usual`: what
    it is where neither that nor its name says it."""
    if any(name in section.at and name not in section.values for name in ("url", *_PROOF, *_OWN)):
        return None, []  # that is said already
    given = section.values
    wrong = [*_of_url(section), *_of_sums(section), *_of_key(section)]
    form, compression, complaint = _format(section, usual)
    wrong += [complaint] if complaint else []
    checksum = next((f"{name}:{given[name].lower()}" for name in ("sha256", "sha512") if name in given), None)
    sums, signed_by = given.get("sums"), given.get("signed_by")
    if checksum is None and sums is not None and not wrong and not is_url(sums):
        found = _listed(section, sums)
        if not isinstance(found, str):
            wrong.append(found)
        elif signed_by is None:
            checksum, sums = found, None
    if wrong:
        return None, wrong
    image = Image(
        format=form,
        user=given.get("user", "root"),
        cloud_init=given.get("cloud_init"),
        url=given["url"],
        checksum=checksum,
        sums=sums,
        signed_by=signed_by,
        compression=compression,
        max_size=given.get("max_size"),
    )
    return image, []


def of_drive(section: Section, *, medium: bool) -> tuple[Image | None, list[Complaint]]:
    """The same of a section about a disk, or about what is in a CD-ROM drive (`medium`), which is one."""
    image, wrong = downloaded(section, "iso" if medium else None)
    if image is not None and (image.template or (image.format == "iso") != medium):
        what = "it is no ISO image" if medium else "it is a CD-ROM, and no disk"
        hint = "Disks belong under `disks`." if medium else "It belongs under `cdroms`."
        if image.template:
            what, hint = f"it is a container template, and no {'ISO image' if medium else 'disk'}", "Name another."
        return None, [(section.at.get("format", section.at["url"]), f"{section.key}.url", what, hint)]
    return image, wrong


def without_url(section: Section) -> Iterator[Complaint]:
    """Keys that mean nothing where nothing is downloaded."""
    for name in _PROOF:
        if name in section.at:
            what = f"`{name}` means nothing without `url`"
            yield section.keys[name], f"{section.key}.{name}", what, "Leave it out: it is for what is downloaded."


def _of_url(section: Section) -> Iterator[Complaint]:
    at, key = section.at["url"], f"{section.key}.url"
    if fault := fault_of(section.values["url"]):
        yield at, key, *fault
        return
    said = [name for name in ("sha256", "sha512", "sums") if name in section.values]
    if not said:
        yield at, key, "nothing says what must be there: it has no checksum", HOW
    if len(said) > 1:
        what = f"`{said[0]}` and `{said[1]}` exclude each other"
        yield section.at[said[1]], f"{section.key}.{said[1]}", what, "Keep one of them."


def _of_sums(section: Section) -> Iterator[Complaint]:
    sums = section.values.get("sums")
    if sums is None or not is_url(sums):
        return
    at, key = section.at["sums"], f"{section.key}.sums"
    if fault := fault_of(sums):
        yield at, key, *fault
    elif sums.startswith("http://") and not is_loopback(sums) and "signed_by" not in section.at:
        what = "whoever is between here and there can change it, as nothing signs it"
        yield at, key, what, "Name it by https, or say `signed_by:` with the key that signs it."


def _of_key(section: Section) -> Iterator[Complaint]:
    if "signed_by" not in section.values:
        return
    path, at, key = section.values["signed_by"], section.at["signed_by"], f"{section.key}.signed_by"
    if "sums" not in section.at:
        what = "`signed_by` means nothing without `sums`"
        yield section.keys["signed_by"], key, what, "Say `sums:` with the file that is signed, or leave it out."
        return
    try:
        data = regular.read(Path(path), KEYS_LIMIT)
    except FileNotFoundError:
        yield at, key, f"there is no file {path}", "Paths are relative to the lab file that names them."
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        yield at, key, f"{path} cannot be read: {reason}", "Name a file with OpenPGP keys."
        return
    armored = b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in data
    # RFC 9580: a public key packet comes first, whose tag is 6 in either way of writing it.
    if not armored and (not data or data[0] not in (0x98, 0x99, 0x9A, 0xC6)):
        yield at, key, f"{path} has no OpenPGP key", "Export it: gpg --export --armor FINGERPRINT"


def _listed(section: Section, path: str) -> str | Complaint:
    """What a checksum file on this computer says."""
    at, key = section.at["sums"], f"{section.key}.sums"
    try:
        text = regular.read(Path(path), checksums.LIMIT).decode(errors="replace")
    except FileNotFoundError:
        return at, key, f"there is no file {path}", "Paths are relative to the lab file that names them."
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return at, key, f"{path} cannot be read: {reason}", "Name a file as sha256sum writes it."
    try:
        return checksums.find(text, name_in(section.values["url"]))
    except checksums.Lacking as error:
        return at, key, *error.args


def _format(section: Section, usual: Format | None) -> tuple[Format | None, Compression | None, Complaint | None]:
    """What is at the URL and how it is packed, as said or by its name."""
    given, at = section.values, section.at["url"]
    form: Format | None = given.get("format")
    packed: Compression | None = given.get("compression")
    name = name_in(given["url"]).lower()
    if packed is None:
        packed = next((each for ending, each in _PACKED.items() if name.endswith(ending)), "none")
    compression = None if packed == "none" else packed
    key = f"{section.key}.url"
    if form is None and "format" not in section.at and name.endswith((*TEMPLATE_ENDINGS, ".tgz")):
        form, compression = "tar", compression or "gz"
    if form == "tar" and compression not in PACKED_TEMPLATES:
        hint = "Proxmox VE takes those that are packed as zst, gz or xz: say `compression:` as it is."
        return None, None, (at, key, f"{name} is a container template that is not packed as one", hint)
    if form is not None or "format" in section.at:
        return form, compression, None
    if name.endswith((".tar", ".zip", ".7z")):
        what = f"{name} is an archive, and no disk"
        hint = "Download it, and say `file:` with the disk that is in it. A container template ends in .tar.zst or so."
        return None, None, (at, key, what, hint)
    bare = next((name.removesuffix(ending) for ending in _PACKED if name.endswith(ending)), name)
    found = next((each for ending, each in _ENDINGS.items() if bare.endswith(ending)), usual)
    if found is None:
        what = f"the name of {name} does not tell what it is"
        hint = "Say `format: qcow2`, `raw`, `iso`, `vmdk`, `vhdx`, `vdi` or `ova`: whoever publishes it knows."
        return None, None, (at, key, what, hint)
    return found, compression, None
