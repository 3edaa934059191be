"""A disk that QEMU is given, made of what was downloaded: unpacked, looked at, converted where its format asks for it.

The format is the one that was said and never guessed, and the header is looked at before any program of QEMU's is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.paint import human
from nestlab.base.printable import one_line
from nestlab.home.cache import working
from nestlab.hosts.tar_members import members
from nestlab.images import confined, foreign_disk, unpack
from nestlab.images.downloads import name_of
from nestlab.images.qemu_runtime import choose_qemu_img
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import MAX_SIZE, Format, Image
from nestlab.labfile import disk_header
from nestlab.labfile.disk_header import Disk
from nestlab.labfile.url_image import CONVERTED

_MEMBERS = 1000
"""Members of an OVA at most."""

_MEMORY = 4 << 30
"""Bytes of address space for qemu-img."""

_TABLES = 1 << 30
"""Bytes that a file may have beside what is on the disk: tables of a qcow2."""


async def make(image: Image, data: Path, folder: Path, cache: Path, say: Say) -> tuple[Format, int]:
    """Make the disk of an image in `folder` from what was downloaded (`data`). Its format, and bytes that a guest sees
    of it (0 of a container template). LabError where it is not what it is said to be, or too large."""
    form, most, title = image.format or "raw", image.max_size or MAX_SIZE, title_of(image)
    source = folder / f"source.{form}"
    if form == "tar":
        await _template(image.compression or "", data, source, most, title, say)
        source.unlink()
        await asyncio.to_thread(_same, data, folder / name_of(form))
        return form, 0
    if image.compression:
        await _unpack(image.compression, data, source, most, title, say)
    else:
        await asyncio.to_thread(_same, data, source)
    if form == "ova":
        say("taking its disk out of the archive")
        inner = folder / "source.vmdk"
        await asyncio.to_thread(_take_out, source, inner, most, title)
        source.unlink()
        form, source = "vmdk", inner
    size = _examined(source, form, most, title)
    if form in ("qcow2", "raw", "iso"):
        source.rename(folder / name_of(form))
        return form, size
    say(f"converting it from {form} to qcow2")
    target = folder / name_of("qcow2")
    await _convert(form, source, target, most, title, cache, say)
    source.unlink()
    target.chmod(0o600)
    return "qcow2", _examined(target, "qcow2", most, title)


def _same(data: Path, source: Path) -> None:
    os.link(data, source)


def _examined(path: Path, form: Format, most: int, title: str) -> int:
    """Bytes that a guest sees. LabError where QEMU may not be given it."""
    found = Disk(0) if form in CONVERTED else disk_header.examine(str(path), form)
    if isinstance(found, Disk) and form not in ("qcow2", "raw"):
        found = foreign_disk.examine(path, form)
    if not isinstance(found, Disk):
        what, hint = (each.replace(str(path), title).replace(path.name, title) for each in found)
        raise LabError(f"Image {title}: {what}.", hint=hint)
    if not found.size:
        raise LabError(f"Image {title} is empty.", hint="Nothing could boot from it; name another one.")
    if found.size > most:
        what = f"Image {title} is a disk of {human(found.size)}, and may have {human(most)}."
        raise LabError(what, hint="If that is right, say `max_size:` of the image.")
    return found.size


async def _unpack(compression: str, data: Path, source: Path, most: int, title: str, say: Say) -> None:
    say("unpacking it")
    words = (sys.executable, "-I", "-S", str(Path(unpack.__file__)), compression, str(data), str(source), str(most))
    async with _confined(words, source.parent, unpack.MEMORY, most + _TABLES, {}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async for line in process.stdout:
            say(f"unpacking it, {human(int(line))} so far")
        said = one_line((await process.stderr.read(4000)).decode(errors="replace").strip())
        status = await process.wait()
    match status:
        case 0:
            return
        case unpack.TOO_LARGE:
            what = f"Image {title} has more than {human(most)} when it is unpacked."
            raise LabError(what, hint="If that is right, say `max_size:` of the image.")
        case unpack.NO_ROOM:
            hint = "Make room (`nestlab images gc` removes images nobody uses), then run the same command again."
            raise LabError(f"Image {title} cannot be unpacked: the disk of {source.parent.parent} is full.", hint=hint)
        case unpack.NO_PROGRAM:
            hint = "Install the package zstd (apt install zstd), then run the same command again."
            raise LabError(f"Image {title} cannot be unpacked: there is no zstd here.", hint=hint)
    what = f"Image {title} cannot be unpacked as {compression}."
    raise LabError(what, hint="Say `compression:` as it is; what was downloaded is what was wanted.", detail=said[:500])


async def _template(compression: str, data: Path, source: Path, most: int, title: str, say: Say) -> None:
    """Looks at a container template, which stays packed: it is the packed files of a system, from its root."""
    await _unpack(compression, data, source, most, title, say)
    say("looking at what is in it")
    roots, tops = await asyncio.to_thread(_tops, source, title)
    if not roots:
        has = f"It has {', '.join(sorted(tops)[:5])}." if tops else "It is empty."
        what = f"Image {title} is no container template: there is no system in it, with etc, and usr or bin. {has}"
        raise LabError(what, hint="Take one of a distribution's, such as those of `pveam available`.")


def _tops(archive: Path, title: str) -> tuple[bool, set[str]]:
    """Whether an archive has the files of a system at its root, and what is there."""
    tops: set[str] = set()
    with archive.open("rb") as stream:
        try:
            with members(stream) as found:
                for member in found:
                    tops.add(one_line(member.name.removeprefix("./").partition("/")[0])[:100])
                    if "etc" in tops and tops & {"usr", "bin"}:
                        return True, tops
                    if len(tops) > _MEMBERS:
                        return False, tops
        except EOFError:
            raise LabError(
                f"Image {title} is no container template, which is a tar archive.", hint="Say `format:` as it is."
            ) from None
    return False, tops - {"", "."}


def _take_out(archive: Path, target: Path, most: int, title: str) -> None:
    """The one vmdk of an OVA (DMTF DSP0243: a tar archive). The name that it has there is not used."""
    hint = "Unpack it (tar), convert the disk that you mean (qemu-img convert -f vmdk), and say `file:`."
    disks = []
    with archive.open("rb") as stream:
        try:
            with members(stream) as found:
                for number, member in enumerate(found):
                    if number >= _MEMBERS:
                        raise LabError(f"Image {title} has more than {_MEMBERS} files in it.", hint=hint)
                    if not member.isreg() or not member.name.lower().endswith(".vmdk"):
                        continue
                    disks.append(one_line(member.name))
                    if len(disks) > 1:
                        raise LabError(f"Image {title} has several disks: {', '.join(disks)}.", hint=hint)
                    if member.size > most or member.issparse():
                        raise LabError(f"Image {title} has a disk of {human(member.size)}.", hint="Say `max_size:`.")
                    with target.open("xb") as file:
                        for _, piece in found.content(member):
                            file.write(piece)
        except EOFError:
            raise LabError(
                f"Image {title} is no ova, which is a tar archive.", hint="Say `format:` as it is."
            ) from None
    if not disks:
        raise LabError(f"Image {title} has no vmdk in it.", hint=hint)


async def _convert(form: str, source: Path, target: Path, most: int, title: str, cache: Path, say: Say) -> None:
    tool = await choose_qemu_img(cache, say)
    # `backing: null`: whatever the header says, no other file is opened below it.
    given = {"driver": form, "backing": None, "file": {"driver": "file", "filename": str(source)}}
    words = [*tool.argv, "convert", "-q", "-W", "-O", "qcow2", f"json:{json.dumps(given)}", str(target)]
    async with _confined(words, target.parent, _MEMORY, most + _TABLES, tool.env) as process:
        output, error = await process.communicate()
    if process.returncode == 0:
        return
    said = (error or output).decode(errors="replace").strip()
    if "No space left" in said or "File too large" in said:
        hint = "Make room (`nestlab images gc` removes images nobody uses), then run the same command again."
        raise LabError(f"Image {title} cannot be converted: the disk of {cache} is full.", hint=hint)
    what = f"Image {title} cannot be converted from {form}."
    raise LabError(what, hint="It is what was wanted, by its checksum: use another image of it.", detail=said[-500:])


@contextlib.asynccontextmanager
async def _confined(
    words: Sequence[str], folder: Path, memory: int, most: int, env: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that reads what is from elsewhere and writes into `folder`: within bounds, and ended with this one."""
    argv = (sys.executable, "-I", "-S", str(Path(confined.__file__)), str(memory), str(most), *words)
    with working(folder) as descriptor:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **env},
            pass_fds=(descriptor,),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
