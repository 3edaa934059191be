"""An installed image in the cache: made once, whole or not at all, however many labs want it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.qemu.accel import choose
from nestlab.home.cache import making
from nestlab.hosts.local import LocalHost
from nestlab.images import downloads, fetch, firmware_files, installed
from nestlab.images.mmdebstrap import disk_errors
from nestlab.images.qemu_runtime import choose_qemu, choose_qemu_img
from nestlab.install.command import NAME
from nestlab.install.installation import Job, Means, install
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import Image

if TYPE_CHECKING:
    from nestlab.install.inside import Inside


def job_of(image: Image) -> Job:
    """The installation that an image needs."""
    wanted = image.install
    assert wanted is not None
    said = f"{image.said}: " if image.said else ""
    return Job(
        where=f"{said}image {title_of(image)}",
        family=wanted.family,
        answers=wanted.answers,
        iso=Path(wanted.iso) if wanted.iso else None,
        mirror=wanted.mirror,
        disk=wanted.disk,
        memory=wanted.memory,
        cpus=wanted.cpus,
        internet=wanted.internet,
        firmware=wanted.firmware,
    )


async def make(key: str, image: Image, cache: Path, say: Say, inside: Inside | None = None) -> None:
    """Installs an image, unless the cache has it, or another process just made it. `inside`: the hypervisor that its
    installer runs in; else it runs on this machine. The image is the same.

    LabError if the installation fails, or the ISO is not what it was when the lab file was read; then nothing is left.
    """
    wanted = image.install
    assert wanted is not None
    folder = installed.folder_of(key, cache)
    title = f"The image {title_of(image)}"
    with disk_errors(title, cache):
        async with making(folder, say, f"the image {title_of(image)}") as half:
            if half is None:
                return
            if installed.key_of(wanted) != key:
                raise LabError(f"{wanted.iso} changed meanwhile.", hint="Run the same command again.")
            job = job_of(image)
            if wanted.source is not None:
                job = replace(job, iso=await _download(wanted.source, cache, say))
            means = await (_means_here(job, cache, say) if inside is None else means_inside(job, inside, cache, say))
            await install(job, half / installed.DISK, cache, means, say, inside)
            text = installed.describe(wanted, image.name or "", inside.title if inside else "")
            await asyncio.to_thread((half / installed.DESCRIPTION).write_text, text)


async def _means_here(job: Job, cache: Path, say: Say) -> Means:
    host = LocalHost()
    chosen = choose(await host.facts(), job.machine(), NAME, "this machine")
    runtime = await choose_qemu(chosen.accel, cache, say)
    firmware = partial(firmware_files.pack, cache)
    return Means(runtime.qemu, runtime.qemu_img, chosen.accel, host.slowness, firmware)


async def means_inside(job: Job, inside: Inside, cache: Path, say: Say) -> Means:
    """LabError where the installer's machine could not run under KVM there, or would not reach what it is to reach."""
    host = inside.host
    anew = "Leave --in out: what is installed on this machine serves every level."
    chosen = choose(await host.facts(), job.machine(), f"{host.path}/{NAME}", host.path)
    if chosen.accel != "kvm":
        what = f"{job.where}: its installer would be emulated inside {inside.title}, for hours: {chosen.why}."
        raise LabError(what, hint=anew)
    if job.internet and not inside.internet:
        what = f"{job.where}: its installer is to reach the internet, and {inside.title} does not."
        raise LabError(what, hint=f"Say `internet: true` of that hypervisor, too. {anew}")
    firmware = partial(firmware_files.pack, cache)
    return Means(inside.qemu, await choose_qemu_img(cache, say), chosen.accel, host.slowness, firmware)


async def _download(source: Image, cache: Path, say: Say) -> Path:
    """The ISO that is downloaded, or is in the cache."""
    await fetch.get(source, cache, say)
    found = downloads.load(downloads.key_of(source), cache)
    if found is None:
        raise LabError(f"{title_of(source)} was removed from nestlab's cache meanwhile.", hint="Repeat the command.")
    return found[1]
