"""Builds an image: mmdebstrap with our hooks, then the kernel and the initramfs from what they left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import io
import lzma
import os
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path

from nestlab import guest
from nestlab.base import holes
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.home.cache import making
from nestlab.images import archives, debian, initramfs, package_cache, tiny
from nestlab.images.boot_disk import boot_disk
from nestlab.images.image_cache import DESCRIPTION, BuiltImage, Part, describe, folder_of, load
from nestlab.images.kernel import unpack, vmlinux
from nestlab.images.mmdebstrap import disk_errors, mmdebstrap
from nestlab.images.recipes import Recipe

_BLOCK = 1 << 16
_LARGEST = 2 << 30
"""Bytes of what is read into memory: all of a kernel with the drivers of all hardware is a quarter of that."""
_FIRST_DESCRIPTOR = 100
_DAMAGED = (tarfile.TarError, KeyError, ValueError, EOFError, RecursionError, zlib.error, lzma.LZMAError, struct.error)
_PARTS = {"kernel": "vmlinux", "bzimage": "bzImage", "initrd": "initrd", "boot": "boot.iso"}
_PARTS |= {"root": "root.img", "agent": "agent"}


async def make(recipe: Recipe, cache: Path, say: Say) -> BuiltImage:
    """Builds the image of a recipe, unless another process just did."""
    what = _title(recipe)
    folder = folder_of(recipe.digest, cache)
    with disk_errors(what, cache):
        async with making(folder, say, f"the image {recipe.name}") as partial:
            if partial is not None:
                await _fill(partial, recipe, cache, say)
    image = load(folder)
    if image is None:
        raise LabError(f"{what} in {folder} cannot be read.", hint="Remove that folder, then repeat.")
    return image


async def _fill(partial: Path, recipe: Recipe, cache: Path, say: Say) -> None:
    say(f"building the image {recipe.called or recipe.name}")
    kept = package_cache.folder(cache)
    overlay, boot, debs = partial / "overlay.tar", partial / "boot.tar", partial / "debs.tar"
    overlay.write_bytes(overlay_tar(recipe))
    overlay.chmod(0o644)  # for the root of a user namespace, which has no way to it but a descriptor
    with contextlib.ExitStack() as stack:
        descriptors = debian.Descriptors(
            root=_outlet(stack, partial / "root.img"),
            boot=_outlet(stack, boot),
            packages=_outlet(stack, debs),
            overlay=_inlet(stack, overlay),
            kept=_inlet(stack, kept),
        )
        if recipe.base == "disk":
            os.ftruncate(descriptors.root, recipe.size)
        more = {debian.ARCHIVES: await archives.told(recipe.archives, cache, say)} if recipe.archives else {}
        await mmdebstrap(
            debian.arguments(recipe, descriptors),
            what=_title(recipe),
            folder=partial,
            say=say,
            descriptors=astuple(descriptors),
            variables={**debian.environment(recipe, descriptors), **more},
            apart=True,
            blamed=functools.partial(archives.blamed, recipe.archives),
        )
    say("making the kernel and the initramfs")
    await asyncio.to_thread(_assemble, partial, recipe)
    package_cache.keep(debs, cache)
    for path in (overlay, boot, debs):
        path.unlink()


def _title(recipe: Recipe) -> str:
    return f"The image {recipe.called or recipe.name}" + (f" ({recipe.said})" if recipe.said else "")


def _outlet(stack: contextlib.ExitStack, path: Path) -> int:
    """A descriptor of a new file that hooks may open again, as /proc/self/fd/N, until the stack ends."""
    with path.open("wb") as file:
        descriptor = _high(stack, file.fileno())
    # The root of a user namespace is a stranger to this file; the lack of a path keeps other strangers out.
    os.fchmod(descriptor, 0o666)
    stack.callback(os.fchmod, descriptor, 0o600)
    return descriptor


def _inlet(stack: contextlib.ExitStack, path: Path) -> int:
    """A descriptor of a file or folder that hooks may read, as /proc/self/fd/N, until the stack ends."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _high(stack, opened)
    finally:
        os.close(opened)


def _high(stack: contextlib.ExitStack, descriptor: int) -> int:
    # Above all that mmdebstrap opens: it uses descriptors in shell redirections, where dash takes one digit only.
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
    stack.callback(os.close, high)
    return high


def overlay_tar(recipe: Recipe) -> bytes:
    """A tar of what is added to the chroot: nestlab's guest files and links, the recipe's files and its script."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in guest.tree(recipe.base).items():
            _add(tar, path, data, 0o755 if data.startswith(b"#!") else 0o644)
        for path, target in guest.links(recipe.base).items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for file in recipe.files:
            _add(tar, file.path.lstrip("/"), file.data, file.mode)
        if recipe.script:
            _add(tar, debian.SCRIPT, recipe.script.encode(), 0o700)
    return buffer.getvalue()


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a sparse image, over its blocks of 64 KiB that hold more than zeros, each after its
    offset (8 bytes, big-endian): the same for every sparse and every full copy, without hashing gigabytes of holes.
    """
    total = hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix != ".img":
            return hashlib.file_digest(file, "sha256").hexdigest()
        zeros = bytes(_BLOCK)
        for offset in _data_blocks(file.fileno(), path.stat().st_size):
            block = os.pread(file.fileno(), _BLOCK, offset)
            if block != zeros[: len(block)]:
                total.update(offset.to_bytes(8, "big") + block)
    return total.hexdigest()


def _data_blocks(descriptor: int, size: int) -> Iterator[int]:
    offset = 0
    for start, end in holes.written(descriptor, size):
        first, offset = max(start // _BLOCK * _BLOCK, offset), -(-end // _BLOCK) * _BLOCK
        yield from range(first, offset, _BLOCK)


def _assemble(partial: Path, recipe: Recipe) -> None:
    """Kernel, initramfs and description, from what the build left: a script of the lab's may have had its way with
    that. LabError where it is not what an image is made of."""
    try:
        root, boot = partial / "root.img", partial / "boot.tar"
        if root.stat().st_size != recipe.size or boot.stat().st_size > _LARGEST:
            raise ValueError("sizes are wrong")
        with tarfile.open(boot, "r:") as tar:
            version = _unpack(tar, partial, recipe)
    except (
        tarfile.TarError,
        KeyError,
        ValueError,
        EOFError,
        RecursionError,
        zlib.error,
        lzma.LZMAError,
        struct.error,
    ) as error:
        raise LabError(
            f"{_title(recipe)} cannot be made: what its build left is not what an image is made of ({error}).",
            hint="Correct its `script`: kernel, modules and busybox must stay in their places.",
        ) from error
    boot_disk(partial / "vmlinux", partial / "initrd", partial / "boot.iso")
    if recipe.base == "initramfs":
        (partial / "root.img").unlink()
    parts = {role: _part(partial / name) for role, name in _PARTS.items() if (partial / name).exists()}
    image = BuiltImage(recipe.name, recipe.digest, partial, version, recipe.cmdline, parts)
    (partial / DESCRIPTION).write_text(describe(image, recipe))


def _unpack(tar: tarfile.TarFile, partial: Path, recipe: Recipe) -> str:
    """The kernel and the initramfs out of the tar; the kernel's version."""
    members = {member.name.removeprefix("./"): member for member in tar}
    names = sorted(name for name in members if name.startswith("boot/vmlinuz-"))
    if not names:
        where = f" ({recipe.said})" if recipe.said else ""
        what = f"package {recipe.kernel}" if recipe.kernel else f"image {recipe.name}"
        raise LabError(f"The {what}{where} brought no kernel.", hint="Name another `kernel:`.")
    version = names[-1].removeprefix("boot/vmlinuz-")
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,99}", version):
        raise ValueError("the kernel's version is none")
    packed = _read(tar, members, names[-1])
    (partial / "bzImage").write_bytes(packed)
    (partial / "vmlinux").write_bytes(vmlinux(packed))
    entries = [*_modules(tar, members, version, recipe), *_userland(tar, members, recipe)]
    (partial / "initrd").write_bytes(initramfs.cpio(entries))
    if recipe.agent:
        (partial / "agent").write_bytes(initramfs.cpio(tiny.agent(_programs(tar, members, "agent"))))
    return version


def _modules(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], version: str, recipe: Recipe
) -> Iterator[initramfs.Entry]:
    folder = f"usr/lib/modules/{version}/"
    order = initramfs.module_order(_read(tar, members, folder + "modules.dep").decode(), recipe.modules)
    names = []
    for path in order:
        name = initramfs.module_name(path) + ".ko"
        names.append(name)
        yield initramfs.file(f"lib/modules/{name}", unpack(_read(tar, members, folder + path), 0))
    yield initramfs.file("lib/modules/order", "".join(f"{name}\n" for name in names).encode())


def _userland(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], recipe: Recipe
) -> Iterator[initramfs.Entry]:
    yield from (initramfs.directory(name) for name in ("bin", "dev", "proc", "sys", "run", "root"))
    yield initramfs.character_device("dev/console", 5, 1)
    yield initramfs.file("bin/busybox", _read(tar, members, "usr/bin/busybox"), 0o755)
    yield initramfs.file("init", guest.init(recipe.base), 0o755)
    if recipe.base == "initramfs":
        programs = _programs(tar, members, "programs")
        yield from tiny.userland(programs)
        # The later entry of a path counts: what the user puts there is what is there.
        yield from (initramfs.file(tiny.place_of(file.path), file.data, file.mode) for file in recipe.files)


def _programs(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], what: str) -> dict[str, tuple[bytes, int]]:
    """Programs with the libraries they need, as the hook listed them: content and mode by path. Those of `agent` are
    loaded over the others."""
    listed, others = ({*_listed(tar, members, each)} for each in (what, "programs"))
    wanted = sorted(listed - others if what != "programs" else listed)
    return {name: (_read(tar, members, name), members[name].mode) for name in wanted}


def _listed(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], what: str) -> list[str]:
    name = debian.LISTS[what]
    return _read(tar, members, name).decode().split() if name in members else []


def _read(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    """A file in the tar, by its own name or as another name of one before it."""
    member = members[name]
    if member.islnk():
        member = members[member.linkname.removeprefix("./")]
    content = tar.extractfile(member) if member.isreg() and member.size <= _LARGEST else None
    if content is None:
        raise ValueError(f"{name} is no file")
    return content.read()


def _part(path: Path) -> Part:
    return Part(path.name, path.stat().st_size, checksum(path))


def _add(tar: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
