"""Protocol of a Proxmox VE API, however it is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nestlab.base.events import Say

Value = str | int | float | bool | Sequence[str | int] | None
Params = Mapping[str, Value]
"""Parameters by their names in the API. None is left out, True and False are 1 and 0, a list is an array."""


Progress = Callable[[int, int], None]
"""Is told how many bytes are sent, of how many."""


class Api(Protocol):
    """One cluster, asked through one of its nodes. Paths are those of the API without quoting, such as
    `/nodes/pve1/tasks/UPID:…/status`; what comes back is `data` of the answer.

    Errors: `errors.PveError` and what is derived from it when PVE refuses; `Unreachable` when it does not answer: then
    something other than a `get` may have been done or not, and whoever asked must look. Every method may be called
    concurrently."""

    @property
    def where(self) -> str:
        """The PVE, for people: `pve.example.org:8006`."""

    async def get(self, path: str, params: Params | None = None) -> Any: ...

    async def create(self, path: str, params: Params | None = None) -> Any:
        """HTTP's POST. The answer of most is a UPID: follow it with `task`."""

    async def set(self, path: str, params: Params | None = None) -> Any:
        """HTTP's PUT."""

    async def delete(self, path: str, params: Params | None = None) -> Any: ...

    async def task(self, upid: str, say: Say | None = None, *, timeout: float | None = None) -> list[str]:
        """Follow a task to its end. Its warnings, if it ended well with some. A `PveError` with the end of its log when
        it failed; LabError when it did not end within `timeout` seconds (it goes on; nothing ends it)."""

    async def upload(
        self, node: str, storage: str, content: str, source: Path, name: str, progress: Progress | None = None
    ) -> None:
        """Put a local file on a storage as `name`; content is `iso`, `import` or `vztmpl`. PVE compares the SHA-256
        before it keeps the file. A file of that name is replaced."""

    async def close(self) -> None: ...
