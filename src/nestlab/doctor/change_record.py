"""The record of a host before nestlab changed it, and which changes are done. Pure; JSON round trip.

It is on the host before the first change is made, so that whoever comes after an interruption can go on or go back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, field, replace
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.doctor.finding import Change, Reload, Run, SetParameter, Write

VERSION = 1


class Newer(ValueError):
    """A newer nestlab wrote it."""


@frozen
class Original:
    """A file before nestlab's first change of it (`content` None: it was not there). `wrote`: all that nestlab may have
    put there since. `mixed`: somebody else changed it between two changes of nestlab's. `open`: a command of
    nestlab's is changing it, so whatever it holds is nestlab's."""

    content: bytes | None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    wrote: tuple[bytes | None, ...] = ()
    mixed: bool = False
    open: bool = False

    def added(self) -> frozenset[bytes]:
        """Lines that nestlab put there."""
        before = set((self.content or b"").split(b"\n"))
        lines = {line for text in self.wrote for line in (text or b"").split(b"\n")}
        return frozenset(line for line in lines - before if line.strip())


@frozen
class Task:
    change: Change
    done: bool = False


@frozen
class Record:
    """`boot_id`: of the boot in which the first change was made. `made`: directories that nestlab made.
    `files`: path (links followed) -> what was there. `parameters`: `kvm.ignore_msrs` -> its value before; `modules`:
    vendor module -> its `nested` before.
    `undone`: all was taken back but these files, which somebody else has changed, and these modules, in use."""

    boot_id: str = ""
    made: tuple[str, ...] = ()
    files: Mapping[str, Original] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    undone: bool = False

    @property
    def unfinished(self) -> tuple[Change, ...]:
        """Changes that were begun or planned, and not done: an earlier run was interrupted."""
        return tuple(task.change for task in self.tasks if not task.done)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Commands that carry changed files to where they count."""
        return tuple(task.change.argv for task in self.tasks if isinstance(task.change, Run))

    def with_done(self, change: Change) -> Record:
        return replace(self, tasks=tuple(Task(each.change, each.done or each.change == change) for each in self.tasks))

    def left(self, paths: Collection[str], modules: Collection[str] = ()) -> Record:
        """The rest of the record once everything but these files and modules is undone."""
        files = {path: original for path, original in self.files.items() if path in paths}
        tasks = tuple(Task(each.change, True) for each in self.tasks if isinstance(each.change, Run))
        kept = {module: value for module, value in self.modules.items() if module in modules}
        return Record(self.boot_id, self.made, files, modules=kept, tasks=tasks, undone=True)

    def without(self, change: Change) -> Record:
        """The record without a task that cannot be done."""
        return replace(self, tasks=tuple(each for each in self.tasks if each.change != change))

    def to_json(self) -> str:
        data = asdict(replace(self, files={}, tasks=()))
        data["version"] = VERSION
        data["files"] = {path: _encoded(original) for path, original in self.files.items()}
        data["tasks"] = [
            {"kind": type(each.change).__name__, "change": asdict(each.change), "done": each.done}
            for each in self.tasks
        ]
        return json.dumps(data, indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Record:
        """ValueError when it is not a record of this version; Newer for one of a newer version."""
        try:
            data = parsed(text)
            if data["version"] > VERSION:
                raise Newer(f"its version is {data['version']}, and this nestlab knows up to {VERSION}")
            if data["version"] != VERSION:
                raise ValueError(f"its version is {data['version']}, not {VERSION}")
            return Record(
                boot_id=str(data["boot_id"]),
                made=tuple(map(str, data["made"])),
                files={str(path): _original(each) for path, each in data["files"].items()},
                parameters={str(name): str(value) for name, value in data["parameters"].items()},
                modules={str(name): str(value) for name, value in data["modules"].items()},
                tasks=tuple(Task(_change(each["kind"], each["change"]), bool(each["done"])) for each in data["tasks"]),
                undone=bool(data["undone"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks or misuses {error}") from error


def merged(old: Iterable[Change], new: Iterable[Change]) -> tuple[Change, ...]:
    """Merges changes that an earlier run left undone with those wanted now, each target once.

    A file is written where it was first to be, with its last content; everything else is done when it was last to be.
    A module that was to be loaded for the sake of a file is not when that file is now to be another."""
    fresh = _once(new)
    contents = {target(each): each.content for each in fresh if isinstance(each, Write)}
    left = tuple(old)
    stale = any(isinstance(each, Write) and contents.get(target(each), each.content) != each.content for each in left)
    known = {target(each) for each in fresh}
    kept = [
        each
        for each in left
        if target(each) not in known and not (stale and isinstance(each, Reload) and not each.options)
    ]
    return (*kept, *fresh)


def _once(changes: Iterable[Change]) -> tuple[Change, ...]:
    found: dict[tuple[str, ...], Change] = {}
    for change in changes:
        first = found.get(target(change))
        if isinstance(first, Write) and isinstance(change, Write):
            found[target(change)] = replace(change, before=first.before)
        else:
            found.pop(target(change), None)
            found[target(change)] = change
    return tuple(found.values())


def target(change: Change) -> tuple[str, ...]:
    """The target of a change: a file or a module."""
    match change:
        case Write(path=path):
            return ("file", path)
        case SetParameter(module=module, name=name):
            return ("parameter", module, name)
        case Reload(module=module):
            return ("module", module)
        case Run(argv=argv):
            return ("run", *argv)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _encoded(original: Original) -> dict[str, Any]:
    return {**original.__dict__, "content": _text(original.content), "wrote": [_text(each) for each in original.wrote]}


def _original(data: Mapping[str, Any]) -> Original:
    return Original(
        content=_bytes(data["content"]),
        mode=int(data["mode"]),
        uid=int(data["uid"]),
        gid=int(data["gid"]),
        wrote=tuple(map(_bytes, data["wrote"])),
        mixed=bool(data["mixed"]),
        open=bool(data["open"]),
    )


def _change(kind: str, data: Mapping[str, Any]) -> Change:
    match kind:
        case "Write":
            return Write(data["path"], data["content"], data["before"], int(data["mode"]))
        case "SetParameter":
            return SetParameter(data["module"], data["name"], data["value"], data["before"])
        case "Reload":
            return Reload(data["module"], tuple(data["options"]), data["before"])
        case "Run":
            return Run(tuple(data["argv"]))
    raise ValueError(f"it has a change of kind {kind!r}")
