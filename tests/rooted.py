"""Hypervisors whose root has put programs of its own in front of the system's: a real sshd on this machine, at level 1,
and at level 2 through a first one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nestlab.hosts.host import Running
from nestlab.hosts.ssh import SshHost
from nestlab.wire import ssh
from sshd import PROGRAM, USER, Sshd

needs_sshd = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")

HANGS = "exec sleep 100000"

Hypervisors = Callable[[str], SshHost]
"""A hypervisor by its name, whose programs are first those in a directory of that name."""


class Rooted(SshHost):
    """A hypervisor whose programs are first those of a directory."""

    programs = ""

    @asynccontextmanager
    async def start(self, argv: Sequence[str]) -> AsyncIterator[Running]:
        path = f"PATH={self.programs}:{os.environ['PATH']}"
        async with super().start(("env", path, *argv)) as running:
            yield running

    async def run(self, argv: Sequence[str], **how: Any) -> Any:
        return await super().run(("env", f"PATH={self.programs}:{os.environ['PATH']}", *argv), **how)


@asynccontextmanager
async def rooted(server: Sshd, level: int, folder: Path) -> AsyncIterator[Hypervisors]:
    """Hypervisors at a level, whose directories of programs are in `folder`."""
    made: list[SshHost] = []
    outer = await server.connect() if level == 2 else None

    def hypervisor(name: str) -> SshHost:
        path = name if outer is None else f"outer/{name}"

        async def connect(_: float) -> ssh.Connection:
            return await ssh.connect(
                "127.0.0.1",
                server.port,
                user=USER,
                key=server.key,
                host_key=server.host.public,
                tunnel=outer,
                where=path,
            )

        host = Rooted(path, connect)
        host.programs = str(folder / name)
        made.append(host)
        return host

    try:
        yield hypervisor
    finally:
        for each in made:
            await each.close()
        if outer is not None:
            await outer.close()


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
