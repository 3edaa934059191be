"""A Proxmox VE through `pvesh` on one of its nodes: the same API as root@pam, without TLS, tokens or limits of tokens.

pvesh waits for the end of a task that it begins and writes its log to stdout; the UPID is the last line. It starts anew
for each request, which takes about a second.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.base.typed import parsed
from nestlab.wire.pve import copied, encode, tasks
from nestlab.wire.pve.answers import answered
from nestlab.wire.pve.api import Params, Progress
from nestlab.wire.pve.copied import Copies
from nestlab.wire.pve.errors import PveError, refusal
from nestlab.wire.pve.multipart import ENDINGS
from nestlab.wire.pve.retries import Patience, repeatable
from nestlab.wire.result import Result

AT_ONCE = 3
"""pvesh at one time: each is a Perl with all of PVE loaded (130 MiB)."""

VERBS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}

_SECRET = re.compile(r"password|cipassword|secret", re.IGNORECASE)
_USAGE = re.compile(r"^pvesh (?:get|create|set|delete) .*", re.MULTILINE)
_WRONG = re.compile(r"([A-Za-z0-9_.-]+): (.+)")


Runs = Copies
"""The part of `host.Host` that is needed."""


class Pvesh:
    """See `api.Api`. The host is a node, where nestlab is root."""

    def __init__(self, host: Runs, where: str = "", *, patience: Patience | None = None) -> None:
        self._host = host
        self._where = where or host.path or "this node"
        self._patience = patience or Patience()
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def host(self) -> Runs:
        """The node."""
        return self._host

    @property
    def where(self) -> str:
        return self._where

    async def get(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("GET", path, params)

    async def create(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("POST", path, params)

    async def set(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("PUT", path, params)

    async def delete(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("DELETE", path, params)

    async def task(self, upid: str, say: Say | None = None, *, timeout: float | None = None) -> list[str]:
        return await tasks.follow(self, upid, say, timeout=timeout)

    async def upload(
        self, node: str, storage: str, content: str, source: Path, name: str, progress: Progress | None = None
    ) -> None:
        """See `api.Api.upload`: here the file is copied to where the storage keeps such files, which must be a
        directory (pvesh has no uploads). `node` must be this one, or the storage shared."""
        if content not in ENDINGS or not name.endswith(ENDINGS[content]) or "/" in name:
            raise LabError(f"{name!r} is no name for an upload of {content!r}.", hint=f"It takes {ENDINGS}.")
        volume = f"{storage}:{content}/{name}"
        found = await self._run(["pvesm", "path", volume])
        place = found.text.strip()
        if found.status != 0 or not place.startswith("/"):
            raise self._refused("upload", f"pvesm path {volume}", found)
        await copied.put(self._host, source, place, volume, progress)

    async def close(self) -> None:
        """There is nothing to close: the host is its owner's."""

    async def _ask(self, method: str, path: str, params: Params | None) -> Any:
        tried = 0
        while True:
            try:
                return await self._once(method, path, params)
            except PveError as error:
                tried += 1
                if tried >= self._patience.tries or not repeatable(error, method):
                    raise
            await asyncio.sleep(self._patience.pause(tried))

    async def _once(self, method: str, path: str, params: Params | None) -> Any:
        argv = ["pvesh", VERBS[method], path, "--output-format", "json"]
        for name, value in encode.pairs(params):
            if _SECRET.fullmatch(name):
                what = f"{name} would be seen by every user of {self.where}, in the list of its processes."
                raise LabError(what, hint="Reach this Proxmox VE over HTTPS (pve://) for that, or use ssh keys.")
            argv += [f"--{name}={value}"] if value else [f"--{name}", ""]  # Getopt::Long takes no `--name=`
        result = await self._run(argv, timeout=120 if method == "GET" else None)
        if result.status != 0:
            raise self._refused(method, f"{method} {path}", result)
        return answered(_data(result.stdout), self.where, method, path)

    async def _run(self, argv: Sequence[str], timeout: float | None = None) -> Result:
        async with self._slots:
            return await self._host.run(argv, check=False, timeout=timeout)

    def _refused(self, method: str, request: str, result: Result) -> LabError:
        said = result.stderr.decode(errors="replace").strip()
        if result.status == 127 or "pvesh: not found" in said:
            what = f"{self.where} has no `{result.argv[0]}`: it is no Proxmox VE node."
            return LabError(what, hint="Name a node of the cluster, or use its API: pve://HOST.")
        if "ipcc_send_rec" in said:
            what = f"`{shlex.join(result.argv[:3])}` failed on {self.where}: {said.splitlines()[0]}"
            return Unreachable(
                what, hint="Be root there, and see whether pve-cluster runs: systemctl status pve-cluster"
            )
        status, message, wrong = _said(said)
        return refusal(self.where, request, status, message, parameters=wrong)


def _data(stdout: bytes) -> Any:
    """What was answered: all of it is JSON, or the last line after a task's log; nothing is null."""
    text = stdout.decode(errors="replace").strip()
    for part in (text, text.rpartition("\n")[2]):
        try:
            return parsed(part)
        except ValueError:
            if part.startswith("UPID:"):
                return part.strip()
    return text or None


def _said(stderr: str) -> tuple[int, str, dict[str, str]]:
    """Status, message and parameters from what pvesh writes: `400 Parameter verification failed.` and a line each."""
    text = _USAGE.sub("", stderr).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    status = 0
    for at, line in enumerate(lines):
        if found := re.match(r"([45]\d\d) (.+)", line):
            status, lines[at] = int(found[1]), found[2]
    if re.search(r"^no '\w+' handler", text, re.IGNORECASE):
        status = 501
    wrong = {}
    if status == 400:
        wrong = {found[1]: found[2] for line in lines if (found := _WRONG.fullmatch(line))}
        lines = [line for line in lines if not _WRONG.fullmatch(line)]
    return status, "\n".join(lines), wrong
