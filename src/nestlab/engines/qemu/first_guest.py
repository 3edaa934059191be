"""Makes and starts the first guest of a hypervisor that has just come up, in one session.

In an emulated machine a session with its shells costs more than a tenth of a second, so the shell that makes a guest's
directory stays, and starts the guest when its turn comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from nestlab.base.errors import LabError
from nestlab.engines.qemu import scripts
from nestlab.hosts.host import Host, Result, Running
from nestlab.wire import ssh
from nestlab.wire.result import lines_of

MOST = 1 << 20
"""Bytes that a hypervisor may say while a machine is made: its disks, and what its /dev/kvm seems to be."""


class Opening:
    """`path`: the machine. It is made by one command (`scripts.opening`), started by another, and closed."""

    def __init__(self, host: Host, path: str) -> None:
        self.path = path
        self._host = host
        self._held = contextlib.AsyncExitStack()
        self._shell: Running | None = None

    @property
    def waits(self) -> bool:
        """The machine was made, and can be started by the same shell."""
        return self._shell is not None and not self._shell.over

    async def make(self, argv: Sequence[str], parts: int, papers: bytes) -> tuple[list[str], Result | None]:
        """Run a command that prints so many parts. What they are; and how it ended if it did not print them all."""
        shell = await self._held.enter_async_context(self._host.start(argv))
        await shell.write(papers)
        said = b""
        cut = scripts.CUT.encode()
        async for chunk in shell.chunks():
            said += chunk
            if len(said) > MOST:
                what = f"{self._host.path} said more than it was asked while {self.path} was made."
                raise LabError(what, hint=f"Somebody changed programs of nestlab's in {self._host.path}.")
            if said.count(cut) == parts:
                self._shell = shell
                return scripts.apart(said.decode(errors="replace"))[:parts], None
        result = await shell.result()
        return [], Result(result.argv, result.status or 1, said, result.stderr)

    @contextlib.asynccontextmanager
    async def start(self, words: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """`scripts.START` with its arguments: the lines that it prints. It is ended when the context is left."""
        shell, self._shell = self._shell, None
        assert shell is not None
        text = scripts.started(words)
        if ssh.trace is not None:
            ssh.trace(f"{self._host.path}: {text}")
        async with self._held:
            await shell.write(text.encode())
            shell.close_input()
            yield lines_of(shell, f" on {self._host.path}")

    async def close(self) -> None:
        """End the shell, if it still waits."""
        self._shell = None
        await self._held.aclose()
