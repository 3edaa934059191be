"""What is kept on a host that ssh reaches: files of images by their content, nestlab's own programs and QEMU.

All of it is below nestlab's directory there (0700). A lab marks the files that it uses in its own directory, so that
`images gc` knows which nobody uses; what is sent arrives beside its place and is put there by a rename, so that a kill
at any moment leaves whole files or what the next one overwrites.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nestlab
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.paint import human
from nestlab.base.typed import parsed
from nestlab.engines.qemu import sparse_copy
from nestlab.engines.ssh_host.survey import PYTHON, Survey, survey
from nestlab.home.content_digests import ContentDigests
from nestlab.home.paths import Place
from nestlab.hosts.host import called
from nestlab.hosts.ssh import SshHost
from nestlab.images import qemu_runtime
from nestlab.images.qemu_runtime import Runtime, Version
from nestlab.wire import shapes
from nestlab.wire.shapes import odd

ROOMS = ("base", "hosts", "lab", "network", "wire")
"""What of nestlab is sent: as much as `network.remote_switch` needs."""

START = """import sys
sys.path.insert(0, sys.argv.pop(1))
from nestlab.network.remote_switch import main
sys.exit(main(sys.argv[1:]))"""

HAVE = r"""
umask 077
mkdir -p -- "$1/labs/$2/uses" "$1/files/$3" && : > "$1/labs/$2/uses/$3" || exit 1
[ ! -f "$1/files/$3/$4" ] || echo there
"""
"""Arguments: the root, the lab, a digest, a name. Marks the file as used by the lab, and tells whether it is there."""

CLAIM = r"""
umask 077
lab=$1/labs/$2
mkdir -p -- "$lab/m" && printf '%s\n' "$3" > "$lab/whose.new" && mv -f -- "$lab/whose.new" "$lab/whose"
"""
"""Arguments: the root, the lab, what it says of whose it is."""

LEAVE = r"""
cd -- "$1/labs" 2>/dev/null || exit 0
case $2 in ''|*[!0-9a-f]*) exit 1 ;; esac
rm -rf -- "$2"
"""
"""Arguments: the root, the lab. Deletes its directory, whose machines are gone."""

TAKE_RUNTIME = r"""
umask 077
new=$1/runtime/$2.$3
mkdir -p -- "$new" || exit 1
if gzip -dc | tar -xf - -C "$new" && [ -e "$new/runtime.json" ] &&
  "$new/usr/lib64/ld-linux-x86-64.so.2" --version >/dev/null
then rm -rf -- "$1/runtime/$2" && mv -- "$new" "$1/runtime/$2"
else rm -rf -- "$new"; echo "nestlab's own QEMU does not run there, or did not arrive whole" >&2; exit 1
fi
"""
"""Arguments: the root, the digest, a token. Unpacks what stdin has."""

PACK_RUNTIME = 'cd "$1" && tar -cf - . | gzip -1'

_REPLY = shapes.record({}, what=shapes.text, hint=shapes.text, detail=shapes.text)

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

SHORT = 20
"""Hexadecimal digits of a file's digest."""


@dataclass
class Uploads:
    """Of one lab on one host. `lab`: its directory's name there, 12 hex digits. `cache`: nestlab's, here. `keep` writes
    down, here, how that directory is called."""

    host: SshHost
    name: str
    lab: str
    digests: ContentDigests
    cache: Path
    keep: Callable[[], None]
    _found: Survey | None = None
    _sent: dict[tuple[str, str], str] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> Survey:
        """What the host has, asked once. LabError as of `survey`."""
        if self._found is None:
            self._found = await survey(self.host, qemu_runtime.digest(), self.lab)
        return self._found

    @property
    def found(self) -> Survey:
        """What `look` found, after it."""
        assert self._found is not None
        return self._found

    @property
    def place(self) -> Place:
        """The lab's directory there, after `look`."""
        return Place(f"{self.found.root}/labs/{self.lab}")

    async def claim(self) -> None:
        """The lab's directory is there when this returns, and its name is kept here."""
        await asyncio.to_thread(self.keep)
        said = f"lab {self.name}, made from {_here()}"
        await self.host.run(("sh", "-c", CLAIM, "claim", self.found.root, self.lab, said))

    async def leave(self) -> None:
        """Delete the lab's directory there. LabError where that cannot be."""
        found = await self.look()
        await self.host.run(("sh", "-c", LEAVE, "leave", found.root, self.lab))

    def needs(self) -> None:
        """LabError where something is to be installed there first."""
        if not self.found.python:
            where, need = called(self.host), ".".join(map(str, PYTHON))
            has = f"has Python {self.found.too_old}" if self.found.too_old else "has no Python"
            what = f"{where} {has}: nestlab's switch between machines needs {need} or newer there."
            raise LabError(what, hint="Install it there, as root: apt-get install python3, or dnf install python3.12")

    async def file(self, source: Path, say: Say) -> str:
        """The path there of a file with this content, which is sent if it is not there. LabError where that fails."""
        digest = (await self.digests.of(source))[:SHORT]
        name = source.name if _PLAIN.fullmatch(source.name) else "file"
        async with self._turn:
            known = self._sent.get((digest, name))
            if known is None:
                known = self._sent[digest, name] = await self._bring(source, digest, name, say)
            return known

    async def _bring(self, source: Path, digest: str, name: str, say: Say) -> str:
        root = self.found.root
        target = f"{root}/files/{digest}/{name}"
        if "there" in (await self.host.run(("sh", "-c", HAVE, "have", root, self.lab, digest, name))).text:
            return target
        size = await asyncio.to_thread(lambda: source.stat().st_blocks * 512)
        say(f"sending {source.name}, {human(size)}, to {called(self.host)}, where it is kept")
        self.needs()
        await sparse_copy.copy(source, self.host, target, python=self.found.python, token=self.lab)
        return target

    def software_tpm(self) -> tuple[str, ...]:
        """The command of the swtpm that is installed there. LabError where none is."""
        if not self.found.swtpm:
            what = f"{called(self.host)} has no swtpm, which a machine with `tpm: true` needs there."
            raise LabError(what, hint="Install it there, as root: apt-get install swtpm (dnf install swtpm).")
        return (self.found.swtpm,)

    # nestlab's own QEMU

    async def runtime(self, say: Say) -> Runtime:
        """nestlab's own QEMU there, unpacked here and sent if need be. LabError as of `qemu_runtime.runtime`."""
        here = await qemu_runtime.runtime(self.cache, say)
        folder = f"{self.found.root}/runtime/{qemu_runtime.digest()}"
        async with self._turn:
            if not self.found.runtime:
                say(f"sending nestlab's own QEMU to {called(self.host)}, where it is kept")
                await self._send_runtime()
                self._found = None
                await self.look()
        return qemu_runtime.moved(here, Path(folder))

    async def _send_runtime(self) -> None:
        from nestlab.hosts.local import LocalHost

        digest = qemu_runtime.digest()
        take = ("sh", "-c", TAKE_RUNTIME, "take", self.found.root, digest, self.lab)
        pack = ("sh", "-c", PACK_RUNTIME, "pack", str(self.cache / "runtime" / digest))
        silence = patience.allowed(sparse_copy.SILENCE, self.host.slowness)
        async with asyncio.timeout(None) as late, LocalHost().start(pack) as packing, self.host.start(take) as taking:
            async for piece in packing.chunks():
                late.reschedule(asyncio.get_running_loop().time() + silence)
                await taking.write(piece)
                if taking.over:
                    break
            late.reschedule(asyncio.get_running_loop().time() + sparse_copy.SYNCED * silence)
            taken = await taking.result()
        if taken.status:
            said = taken.stderr.decode(errors="replace").strip()
            hint = "Make room there." if "No space" in said else "Or install QEMU 10 there: qemu-system-x86"
            raise LabError(f"nestlab's own QEMU cannot be kept on {called(self.host)}.", hint=hint, detail=said[-500:])

    def good(self, wanted: Version) -> bool:
        """Whether the QEMU installed there is new enough."""
        return self.found.qemu is not None and self.found.qemu.version >= wanted

    # nestlab's own programs

    async def program(self, verb: str) -> tuple[str, ...]:
        """The command that does something with the lab's switch there (`network.remote_switch`); its programs are sent
        if they are not there."""
        self.needs()
        data, digest = _programs()
        target = f"{self.found.root}/lib/{digest}.zip"
        async with self._turn:
            if ("", digest) not in self._sent:
                if (await self.host.run(("test", "-f", target), check=False)).status != 0:
                    await self.host.write(target, data)
                self._sent["", digest] = target
        return (self.found.python, "-I", "-S", "-c", START, target, verb, self.place.switch, self.name)

    async def ask(self, verb: str, **asked: Any) -> Any:
        """What `network.remote_switch` answers. LabError as it says, Odd for what is no answer."""
        data = json.dumps({**asked, "patience": patience.stretch()}).encode()
        result = await self.host.run(await self.program(verb), input=data, check=False, timeout=60)
        return _answered(result.stdout, result.stderr, called(self.host), verb)


def _answered(stdout: bytes, stderr: bytes, where: str, verb: str) -> Any:
    try:
        told = parsed(stdout.strip() or b"null")
    except ValueError as error:
        raise odd(where, verb, str(error)) from error
    if not isinstance(told, Mapping):
        detail = stderr.decode(errors="replace").strip()[-1000:]
        raise LabError(f"nestlab's program on {where} did not {verb}.", hint="What it said follows.", detail=detail)
    if "what" in told:
        failed = shapes.read(told, _REPLY, where, verb)
        raise LabError(f"{where}: {failed['what']}", hint=failed.get("hint", ""), detail=failed.get("detail", ""))
    return told.get("value")


@cache
def _programs() -> tuple[bytes, str]:
    """An archive of as much of nestlab as the switch needs, the same for the same files, and 16 hex digits of it."""
    top = Path(nestlab.__file__).parent
    files = [top / "__init__.py", *(file for room in ROOMS for file in sorted((top / room).glob("*.py")))]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            about = zipfile.ZipInfo(f"nestlab/{file.relative_to(top)}", (1980, 1, 1, 0, 0, 0))
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, file.read_bytes())
    data = made.getvalue()
    return data, hashlib.sha256(data).hexdigest()[:16]


def _here() -> str:
    """This computer, for people there."""
    import getpass
    import platform

    return f"{getpass.getuser()}@{platform.node()}"
