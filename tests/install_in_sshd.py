"""Installs inside a "hypervisor" that is an sshd on this machine, with a stand-in of a QEMU.

As a program, for tests that kill it: `python install_in_sshd.py SSHD PORT ISO ROOT MADE`; it prints what is said
meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import installer_qemu
from nestlab.answers import Answers
from nestlab.base.events import Say
from nestlab.home.directories import Home
from nestlab.hosts.ssh import SshHost
from nestlab.images.firmware_files import Pack
from nestlab.images.qemu_runtime import Tool, choose_qemu_img
from nestlab.install.inside import Inside
from nestlab.install.installation import Job, Means, install
from nestlab.lab.model import MIB
from nestlab.wire import ssh

HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"
WHERE = "lab.yaml:3: image web"
SIZE = 64 * MIB
QEMU = Tool((sys.executable, "-I", installer_qemu.__file__), {}, (10, 0, 0))

Connect = Callable[[], Awaitable[ssh.Connection]]


def hypervisor(connect: Connect, root: Path) -> Inside:
    async def connected(_: float) -> ssh.Connection:
        return await connect()

    return Inside(SshHost("hv1", connected), "pair:hv1", QEMU, root=str(root))


def job(iso: Path, **more: int) -> Job:
    answers = Answers(user="ubuntu", password=HASH)
    return Job(WHERE, "ubuntu", answers, iso=iso, disk=more.get("disk", SIZE), memory=more.get("memory", MIB))


async def install_in(inside: Inside | None, wanted: Job, made: Path, say: Say = lambda _: None) -> Path:
    """The disk; `made` is a new folder for it. None: this machine by itself."""
    cache = Home.of(os.environ, Path.home()).cache

    async def no_firmware(_: Say) -> Pack:
        raise AssertionError("a BIOS needs none")

    means = Means(QEMU, await choose_qemu_img(cache, lambda _: None), "kvm", 1.0, no_firmware)
    made.mkdir()
    disk = made / "disk.qcow2"
    try:
        await install(wanted, disk, cache, means, say, inside)
    finally:
        if inside is not None:
            await inside.host.close()
    return disk


async def main(folder: str, port: str, iso: str, root: str, made: str) -> None:
    public = Path(folder, "host.pub").read_text()

    async def connect() -> ssh.Connection:
        key = Path(folder, "id_ed25519")
        user = os.environ["TEST_USER"]
        return await ssh.connect("127.0.0.1", int(port), user=user, key=key, host_key=public, where="hv1")

    said: Say = lambda text: print(text, flush=True)  # noqa: E731
    await install_in(hypervisor(connect, Path(root)), job(Path(iso)), Path(made), said)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
