"""Chooses the QEMU of this host: the system's if it is good enough, else nestlab's own, unpacked from Debian.

Its own is Debian trixie's, unpacked into the cache and started through its own dynamic loader, so that it runs on any
glibc distribution, without root and without being installed. All labs share it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.home.cache import making
from nestlab.images.mmdebstrap import disk_errors, mmdebstrap

Accel = Literal["kvm", "tcg"]
Version = tuple[int, int, int]

SUITE = "trixie"
PACKAGES = ("qemu-system-x86", "qemu-utils", "e2fsprogs")

GOOD_ENOUGH: Mapping[Accel, Version] = {"kvm": (7, 2, 0), "tcg": (10, 0, 0)}
"""The oldest QEMU that will do. 7.1 brought `-action panic=exit-failure`, 7.2 `-netdev stream`, on which segments are
(one that reconnects by itself is of 8.0). Under TCG, 7.2 panics Linux 6.12 (in __kmalloc, after a cmpxchg16b)."""

DISK_TOOL: Version = (4, 2, 0)
"""The oldest qemu-img whose overlays and conversions do: what it writes, every later QEMU reads."""

_DESCRIPTION = "runtime.json"
_LAYOUT = 1
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_UNWANTED = ("./dev", "./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./var", "./etc/apt")
_WHAT = "nestlab's QEMU runtime"


@frozen
class Tool:
    """A program ready to run: append arguments to `argv`, add `env` to the environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    version: Version


@frozen
class Runtime:
    """The programs that make and run machines. `own` tells nestlab's from the system's."""

    qemu: Tool
    qemu_img: Tool
    mke2fs: Tool
    own: bool


async def choose_qemu(accel: Accel, cache: Path, say: Say) -> Runtime:
    """The system's QEMU if it is good enough for this acceleration, else nestlab's own, unpacked if need be."""
    found = await system()
    if found is not None and found.qemu.version >= GOOD_ENOUGH[accel]:
        return found
    return await runtime(cache, say)


async def choose_qemu_img(cache: Path, say: Say) -> Tool:
    """The system's qemu-img, whatever QEMU runs the machines: it makes disks, and an old one makes them as well. Else
    that of nestlab's own QEMU, unpacked if need be."""
    program = shutil.which("qemu-img", path=_path())
    found = await _probe((program,), {}) if program else None
    return found if found is not None and found.version >= DISK_TOOL else (await runtime(cache, say)).qemu_img


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


async def system() -> Runtime | None:
    """The programs installed on this host, or None if one of them is missing or does not run."""
    programs = [shutil.which(name, path=_path()) for name in ("qemu-system-x86_64", "qemu-img", "mke2fs")]
    if None in programs:
        return None
    tools = await asyncio.gather(*(_probe((program,), {}) for program in programs if program))
    match [tool for tool in tools if tool is not None]:
        case [qemu, qemu_img, mke2fs]:
            return Runtime(qemu, qemu_img, mke2fs, own=False)
        case _:
            return None


def unpacked(cache: Path) -> bool:
    """Whether nestlab's own QEMU is in the cache."""
    return _load(cache / "runtime" / digest()) is not None


async def lacking(accel: Accel, cache: Path) -> bool:
    """Whether machines of this acceleration need nestlab's own QEMU, and it is not there yet."""
    if unpacked(cache):
        return False
    found = await system()
    return found is None or found.qemu.version < GOOD_ENOUGH[accel]


async def runtime(cache: Path, say: Say) -> Runtime:
    """nestlab's own QEMU, from the cache or unpacked into it (some 45 MB to download, 190 MB on disk).

    Raises LabError, and leaves nothing behind, if mmdebstrap, the network, the disk or the user's rights do not
    suffice. Several processes may call it: one unpacks, the others wait for it.
    """
    folder = cache / "runtime" / digest()
    found = _load(folder)
    if found is not None:
        return found
    with disk_errors(_WHAT, cache):
        async with making(folder, say, _WHAT) as partial:
            if partial is not None:
                await _unpack(partial, say)
    found = _load(folder)
    if found is None:
        raise LabError(f"{_WHAT} in {folder} cannot be read.", hint="Remove that folder, then repeat.")
    return found


def moved(runtime: Runtime, folder: Path) -> Runtime:
    """nestlab's own QEMU, of which there is a copy in another folder, perhaps of another host."""
    tools = {"qemu": runtime.qemu, "qemu_img": runtime.qemu_img, "mke2fs": runtime.mke2fs}
    return Runtime(
        **{name: Tool(argv, env, tools[name].version) for name, (argv, env) in _commands(folder).items()}, own=True
    )


def digest() -> str:
    """16 hex digits over what the runtime is made of."""
    text = json.dumps([_LAYOUT, SUITE, PACKAGES, _UNWANTED])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_version(text: str) -> Version | None:
    """The numbers in `QEMU emulator version 10.0.13 (…)`, `qemu-img version 7.2.22 (…)` or `mke2fs 1.47.2 (…)`."""
    match = re.search(r"\b(?:version |mke2fs )(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


async def _unpack(partial: Path, say: Say) -> None:
    say("downloading nestlab's own QEMU, some 45 MB")
    await unpack(partial, PACKAGES, _WHAT, say)
    tools = {name: tool.version for name, tool in (await _probed(partial)).items()}
    (partial / _DESCRIPTION).write_text(json.dumps({"versions": tools}, indent=2) + "\n")


async def unpack(partial: Path, packages: Sequence[str], what: str, say: Say) -> None:
    """The files of Debian packages, with all that these depend on. `what`: they are called in errors."""
    archive = partial / "packages.tar"
    words = [
        "--variant=extract",
        f"--include={','.join(packages)}",
        '--aptopt=Acquire::Languages "none"',
        "--format=tar",
        SUITE,
        str(archive),
    ]
    await mmdebstrap(words, what=what, folder=partial, say=say)
    say("unpacking it")
    await _untar(archive, partial, what)
    archive.unlink()


async def _untar(archive: Path, folder: Path, what: str) -> None:
    words = ["tar", "-xf", str(archive), "-C", str(folder), "--no-same-owner", *(f"--exclude={x}" for x in _UNWANTED)]
    status, text = await _run((*words,), {})
    if status != 0:
        full = "No space left" in text
        hint = "Make room, then repeat." if full else "Correct what tar names, then repeat."
        raise LabError(f"{what} cannot be unpacked into {folder.parent}.", hint=hint, detail=text[-500:])


async def _probed(folder: Path) -> dict[str, Tool]:
    tools: dict[str, Tool] = {}
    for name, (argv, env) in _commands(folder).items():
        tool = await _probe(argv, env)
        if tool is None:
            raise LabError(
                f"{_WHAT} does not run on this host ({name} fails).",
                hint="It needs x86-64 Linux; install your distribution's QEMU (10.0 or newer) instead.",
            )
        tools[name] = tool
    return tools


def _load(folder: Path) -> Runtime | None:
    try:
        versions = parsed((folder / _DESCRIPTION).read_text())["versions"]
        tools = {
            name: Tool(argv, env, (versions[name][0], versions[name][1], versions[name][2]))
            for name, (argv, env) in _commands(folder).items()
        }
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return Runtime(**tools, own=True)


def _commands(folder: Path) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Command lines that use nothing of the host but its kernel: loader, libraries, modules and firmware are ours."""
    usr = folder / "usr"
    loader = (str(usr / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(folder / _LIBRARIES))
    env = {"QEMU_MODULE_DIR": str(folder / _LIBRARIES / "qemu")}
    firmware = [("-L", str(usr / place)) for place in ("share/qemu", "share/seabios", "lib/ipxe/qemu")]
    qemu = (*loader, str(usr / "bin/qemu-system-x86_64"), *(word for pair in firmware for word in pair))
    return {
        "qemu": (qemu, env),
        "qemu_img": ((*loader, str(usr / "bin/qemu-img")), env),
        "mke2fs": ((*loader, str(usr / "sbin/mke2fs")), {}),
    }


async def _probe(argv: tuple[str, ...], env: Mapping[str, str]) -> Tool | None:
    flag = "-V" if argv[-1].endswith("mke2fs") else "--version"
    status, text = await _run((*argv, flag), env)
    version = parse_version(text) if status == 0 else None
    return Tool(argv, env, version) if version else None


async def _run(argv: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **env},
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")
