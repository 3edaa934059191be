"""A node of a FakePve with a shell: pvesh and pvesm as nestlab types them over ssh, answered by the same stand-in."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.forms import Upload
from nestlab.testing.fake_pve.refusals import Refusal
from nestlab.wire.result import Result

METHODS = {"get": "GET", "create": "POST", "set": "PUT", "delete": "DELETE"}


class Node:
    """See `wire.pve.pvesh.Runs`. Who types is root, as over ssh."""

    def __init__(self, fake: FakePve, name: str) -> None:
        self.fake, self.path = fake, name
        self.files: dict[str, bytes] = {}

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        status, out, err = await asyncio.to_thread(self.typed, list(argv))
        return Result(tuple(argv), status, out.encode(), err.encode())

    def typed(self, argv: list[str]) -> tuple[int, str, str]:
        match argv:
            case ["pvesh", verb, path, "--output-format", "json", *rest]:
                return self.asked(METHODS[verb], path, options(rest))
            case ["pvesm", "path", volume]:
                return 0, f"/var/lib/vz/{volume.partition(':')[2]}\n", ""
            case ["sha256sum", "--", place]:
                return 0, f"{hashlib.sha256(self.files[place]).hexdigest()}  {place}\n", ""
            case ["rm", "-f", "--", place]:
                self.files.pop(place, None)
                return 0, "", ""
        raise AssertionError(argv)

    def asked(self, method: str, path: str, params: dict[str, object]) -> tuple[int, str, str]:
        try:
            answer = self.fake.ask(method, path, "root@pam", params)
        except Refusal as refusal:
            lines = [f"{name}: {text}" for name, text in (refusal.errors or {}).items()]
            code = f"{refusal.status} " if refusal.status != 500 else ""
            return 255, "", "\n".join([f"{code}{refusal.message}", *lines])
        return 0, json.dumps(answer), ""

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        """A file that is written to where a storage keeps such files is on it."""
        self.files[path] = data = source.read_bytes()
        content, _, name = path.removeprefix("/var/lib/vz/").rpartition("/")
        given = {"content": content, "filename": name}
        place = f"/nodes/{self.path}/storage/local/upload"
        await asyncio.to_thread(self.fake.ask, "POST", place, "root@pam", given, Upload(name, data))


def options(words: Sequence[str]) -> dict[str, object]:
    """Options as pvesh takes them: `--name=value`, or `--name ''`; one that is repeated is a list."""
    found: dict[str, list[str]] = {}
    left = list(words)
    while left:
        name, is_, value = left.pop(0).removeprefix("--").partition("=")
        found.setdefault(name, []).append(value if is_ else left.pop(0))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
