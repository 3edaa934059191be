"""Single effects on a host: write a file, run a command, look. All of them through `host.Host`."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from nestlab.base.errors import Busy, LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.doctor import reload_scripts
from nestlab.doctor.change_record import Newer, Record
from nestlab.doctor.remedies import RECORD
from nestlab.hosts.host import Host

FOLDER = posixpath.dirname(RECORD)
OURS = (posixpath.dirname(FOLDER), FOLDER)
"""Directories that are nestlab's by name, the outer one first."""

QUICK, SLOW = 120.0, 900.0


@frozen
class Seen:
    """A path on the host. `kind`: file, directory, absent, other; `real`: where it is, links followed."""

    kind: str
    mode: int
    uid: int
    gid: int
    writable: bool
    real: str


@frozen
class View:
    """A look at the host. `values`: `kvm_amd.nested` -> its value, None where there is no such parameter."""

    uid: int
    gid: int
    modprobe: bool
    boot_id: str
    paths: Mapping[str, Seen]
    values: Mapping[str, str | None]

    def missing(self, folders: Iterable[str]) -> tuple[str, ...]:
        """The directories that have to be made for these, the outer ones first."""
        wanted = dict.fromkeys(each for folder in folders for each in ancestors(folder))
        return tuple(each for each in wanted if self.paths[each].kind == "absent")


class Hands:
    """`root`: where the host's root directory is (for tests); `env`: for all commands. `done`: what `did` was told."""

    def __init__(self, host: Host, say: Say, root: str = "", env: Mapping[str, str] | None = None) -> None:
        self.host = host
        self.say = say
        self.root = root
        self.env = env
        self.done: list[str] = []

    def at(self, path: str) -> str:
        """Where a path of the host is: the one place that knows of `root`."""
        return self.root + path

    def did(self, what: str) -> None:
        self.done.append(what)
        self.say(what)

    async def sh(self, script: str, *words: str) -> str:
        """Run a script with these as $1 and so on; what it says."""
        argv = ["sh", "-c", reload_scripts.PATH + script, "sh", *words]
        return (await self.host.run(argv, env=self.env, timeout=QUICK)).text

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No other doctor changes the host meanwhile. Busy where one does."""
        argv = ["sh", "-c", reload_scripts.PATH + reload_scripts.ALONE, "sh", self.at("/etc")]
        async with self.host.start(argv) as holding:
            said = b""
            async for chunk in holding.chunks():
                said += chunk
                if b"\n" in said:
                    break
            if said.startswith(b"busy"):
                hint = "Wait until it is done, then run the same command again."
                raise Busy("Another `nestlab doctor` is changing this host.", hint=hint)
            yield

    # -- looking

    async def record(self) -> tuple[int, Record | None]:
        """The user's id there, and the record. LabError when it cannot be understood."""
        uid, _, rest = (await self.sh(reload_scripts.READ, self.at(RECORD))).partition("\n")
        there, _, text = rest.partition("\n")
        if not there:
            return int(uid), None
        try:
            return int(uid), Record.from_json(text)
        except Newer as error:
            hint = "Use that nestlab, or a newer one, for --fix and --undo there; nothing was changed."
            raise LabError(f"A newer nestlab changed this host ({RECORD}): {error}.", hint=hint) from error
        except ValueError as error:
            what = f"The doctor's record {RECORD} cannot be understood: {error}."
            hint = "It holds what was there before nestlab changed it (base64); restore that by hand, then remove it."
            raise LabError(what, hint=hint) from error

    async def view(self, paths: Iterable[str], names: Iterable[str]) -> View:
        """These paths with all directories around them, and these parameters, in one look."""
        around = dict.fromkeys(paths)
        for path in tuple(around):
            around.update(dict.fromkeys(ancestors(posixpath.dirname(path))))
        chosen = tuple(dict.fromkeys(names))
        words = [f"f:{self.at(path)}" for path in around]
        words += [f"v:{self.at(parameter(name))}" for name in chosen]
        text = await self.sh(reload_scripts.LOOK, self.root, self.at(FOLDER), *words)
        head, boot, *lines = text.split("\n")
        uid, gid, modprobe = head.split()
        seen = {}
        for path, line in zip(around, lines, strict=False):
            kind, mode, owner, group, may, real = line.split(" ", 5)
            seen[path] = Seen(kind, int(mode, 8), int(owner), int(group), may == "yes", real[len(self.root) :])
        said = [line[2:].strip() if line.startswith("v ") else None for line in lines[len(around) :]]
        return View(int(uid), int(gid), modprobe == "yes", boot, seen, dict(zip(chosen, said, strict=False)))

    async def read(self, seen: Seen) -> bytes | None:
        """The content of a file; None if there is none."""
        return await self.host.read(self.at(seen.real)) if seen.kind == "file" else None

    async def globbed(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The files that match patterns of a shell."""
        words = " ".join(f'"$1"{pattern}' for pattern in patterns)
        listed = await self.sh(f'for each in {words}; do [ -f "$each" ] && echo "$each"; done; :', self.root)
        return tuple(line[len(self.root) :] for line in listed.splitlines())

    # -- effects

    async def save(self, record: Record) -> None:
        await self.host.write(self.at(RECORD), record.to_json().encode(), mode=0o600)

    async def forget(self, made: Sequence[str]) -> None:
        """Remove the record, and these directories (the outer ones first) as far as they are empty."""
        await self.sh(reload_scripts.REMOVE, self.at(FOLDER), *(self.at(each) for each in reversed(made)))

    async def make(self, folder: str) -> None:
        await self.sh('mkdir -p -m 755 -- "$1"', self.at(folder))

    async def place(self, path: str, content: bytes | None, mode: int, owner: tuple[int, int], view: View) -> None:
        """Make a file be so (None: not be), and clean up what an interrupted write left beside it."""
        at = self.at(path)
        if content is None:
            await self.sh('rm -f -- "$1" "$1".????????.new', at)
            return
        await self.host.write(at, content, mode=mode)
        names = f"{owner[0]}:{owner[1]}" if owner != (view.uid, view.gid) else ""
        belongs = '[ -z "$2" ] || { chown "$2" "$1" && chmod "$3" "$1"; }'
        await self.sh(f'rm -f -- "$1".????????.new; {belongs}', at, names, f"{mode:o}")

    async def set(self, name: str, value: str) -> None:
        """Give `module.parameter` a value through sysfs."""
        path = parameter(name)
        argv = ["sh", "-c", reload_scripts.SET, "sh", self.at(path), value]
        result = await self.host.run(argv, env=self.env, check=False, timeout=QUICK)
        if result.status != 0:
            hint = "See who may write it (ls -l), and whether it is mounted read-only."
            detail = result.stderr.decode(errors="replace").strip()
            raise LabError(f"{path} cannot be set to {value}.", hint=hint, detail=detail)

    async def run(self, argv: Sequence[str]) -> None:
        script = f'{reload_scripts.PATH}exec "$@"'
        result = await self.host.run(["sh", "-c", script, "sh", *argv], env=self.env, check=False, timeout=SLOW)
        line = " ".join(argv)
        if result.status != 0:
            detail = (result.stderr or result.stdout).decode(errors="replace")[-2000:].strip()
            hint = "Mend what it says and run the same command again, or take everything back with --undo."
            raise LabError(f"`{line}` failed (status {result.status}).", hint=hint, detail=detail)
        self.did(f"Ran `{line}`.")

    async def reload(self, module: str, options: Sequence[str], before: str) -> reload_scripts.Reloaded:
        """Load a module again; it goes on by itself when the host or nestlab is lost."""
        token = os.urandom(4).hex()
        words = [self.at(FOLDER), self.root, module, before, token, *options]
        return reload_scripts.parsed(await self.sh(reload_scripts.START, reload_scripts.RELOAD, *words))


def parameter(name: str) -> str:
    """The file of `module.parameter`."""
    module, _, own = name.partition(".")
    return f"/sys/module/{module}/parameters/{own}"


def ancestors(folder: str) -> list[str]:
    """The directory and those around it, the outermost first, without /."""
    parts = folder.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
