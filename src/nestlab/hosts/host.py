"""A host: something to run commands on, read and write files on, and forward sockets to.

The machine nestlab runs on is one (`LocalHost`); a hypervisor that runs is another (`SshHost`, over its parent).
Engines, proofs and the doctor see only this protocol, so they run unchanged at every level.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from nestlab.hosts.facts import Facts
from nestlab.wire.result import Result, Running

if TYPE_CHECKING:  # its import takes a twentieth of `nestlab doctor`
    from pathlib import Path

__all__ = ["Host", "Result", "Running", "called"]


def called(host: Host) -> str:
    """What messages call a host: by its place in the nest, or where it is reached if it is the lab's own."""
    return host.path or getattr(host, "address", "") or "this machine"


class Host(Protocol):
    """Errors: `LabError` for a command that fails under `check` (with the end of its stderr), `Unreachable`
    when the host itself does not answer. Every method may be called concurrently."""

    @property
    def path(self) -> str:
        """Where it is in the nest: "" for the lab's own host, `hv1` for a machine."""

    @property
    def level(self) -> int: ...

    slowness: float
    """How many times slower it is than a machine at full speed: measured (`hosts.speed`), presumed, or 1."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        """Run a command to its end. `timeout` in nominal seconds (`base.patience`): then the command is ended and
        Overdue raised. stdin is `input`, or nothing (closed)."""

    def lines(self, argv: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command and read the lines of its stdout as they come (without their newline); it is ended when the
        context is left. LabError after the last line if it failed."""

    def start(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Running]:
        """Start a command, to stream to and from it; it is ended when the context is left."""

    async def read(self, path: str) -> bytes:
        """The content of a file. LabError if it cannot be read."""

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Replace a file atomically (temporary file in the same directory, rename), made with `mode`;
        missing parent directories are made with 0700."""

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """`write` for several files (absolute path -> content and mode) in one go; each is replaced atomically."""

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        """Copy a local file there, streaming (never whole in memory), atomically; holes need not survive."""

    def unix(self, path: str) -> AbstractAsyncContextManager[str]:
        """A local path of a unix socket that leads to the socket `path` on that host while the context is open.
        (For the local host: that path itself.)"""

    async def facts(self) -> Facts:
        """Its facts, asked once and kept."""

    async def close(self) -> None: ...
