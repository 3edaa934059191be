"""Which changes are still to do on a host, and what has to be recorded before. Reads only."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from nestlab.base.errors import LabError
from nestlab.doctor.change_record import Original, Record, Task, target
from nestlab.doctor.finding import Change, Reload, Run, SetParameter, Write
from nestlab.doctor.remedies import AS_ROOT
from nestlab.doctor.surgery.effects import FOLDER, OURS, Hands, View

GRUBBY = ("/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub2/grubenv", "/boot/loader/entries/*.conf")
"""The files that grubby edits: kept and restored like files that nestlab writes."""

VENDORS = ("kvm_intel", "kvm_amd")


async def look(hands: Hands, plan: Iterable[Change], record: Record | None) -> View:
    """At all that the changes and the record are about."""
    paths = [*OURS, *(change.path for change in plan if isinstance(change, Write)), *(record.files if record else ())]
    names = [*(f"{module}.nested" for module in VENDORS), *(record.parameters if record else ())]
    names += [f"{change.module}.{change.name}" for change in plan if isinstance(change, SetParameter)]
    names += [f"{change.module}.nested" for change in plan if isinstance(change, Reload)]
    return await hands.view(paths, names)


def check(view: View, plan: Iterable[Change]) -> None:
    """LabError for what makes the plan impossible."""
    if view.uid != 0:
        raise not_root()
    for change in plan:
        if isinstance(change, Reload) and not view.modprobe:
            raise LabError("There is no modprobe on this host.", hint="Install kmod (`apt-get install kmod`).")
        if isinstance(change, Write) and view.paths[change.path].kind not in ("file", "absent"):
            hint = "See what it is (ls -l), and move it out of the way."
            raise LabError(f"{change.path} is not a regular file.", hint=hint)
        folder = _nearest(change.path, view) if isinstance(change, Write) else ""
        if folder and not view.paths[folder].writable:
            hint = "Its file system is probably read-only: make it writable, or use --temporary, which leaves no file."
            raise LabError(f"{folder} cannot be written.", hint=hint)


def not_root() -> LabError:
    return LabError("Only root may change this.", hint=AS_ROOT)


def _nearest(path: str, view: View) -> str:
    """The innermost directory around a path that is there; "" for none but /."""
    while (path := posixpath.dirname(path)) != "/":
        if view.paths[path].kind != "absent":
            return path
    return ""


@dataclass
class Planning:
    """Goes through a plan: `todo` is what is left of it, `settled` what an interrupted run had done unmarked."""

    hands: Hands
    view: View
    old: Record | None
    todo: list[Change] = field(default_factory=list)
    settled: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        record = self.old or Record(self.view.boot_id)
        self._unfinished = record.unfinished
        self._files = dict(record.files)
        self._parameters = dict(record.parameters)
        self._modules = dict(record.modules)

    async def record(self, plan: Sequence[Change], *, nested: bool) -> Record:
        """The record to write before the changes of `todo`. `nested`: they are to change what `nested` is, if only
        after a reboot."""
        for wanted in plan:
            change = await self._fitted(wanted) if isinstance(wanted, Write) else wanted
            if await self._needed(change):
                self.todo.append(change)
            elif change in self._unfinished:
                self.settled.append(change)
        if nested and self.todo:
            for module in VENDORS:
                value = self.view.values[f"{module}.nested"]
                if value is not None:
                    self._modules.setdefault(module, value)
        record = self.old or Record(self.view.boot_id)
        targets = {target(change) for change in (*self.todo, *self.settled)}
        tasks = [task for task in record.tasks if target(task.change) not in targets]
        tasks += [Task(change, done=True) for change in self.settled] + [Task(change) for change in self.todo]
        return replace(
            record,
            made=self._made(record),
            files=self._files,
            parameters=self._parameters,
            modules=self._modules,
            tasks=tuple(tasks),
            undone=record.undone and not self.todo,
        )

    async def _needed(self, change: Change) -> bool:
        match change:
            case Write():
                return await self._write(change)
            case SetParameter(module, name, value, before):
                now = self.view.values[f"{module}.{name}"]
                if now != value:
                    self._parameters.setdefault(f"{module}.{name}", now or before)
                return now != value
            case Reload(module, _, before):
                now = self.view.values[f"{module}.nested"]
                if now is None or now == before:
                    self._modules.setdefault(module, before)
                return now is None or now == before
            case Run(argv):
                if argv[0] == "grubby":
                    await self._open()
                    return True
                done = self.old is not None and Task(change, done=True) in self.old.tasks and not self.old.undone
                return not done or any(isinstance(each, Write) for each in self.todo)

    async def _write(self, change: Write) -> bool:
        """Keep what a file was before nestlab; whether it has to be written. LabError if somebody was faster."""
        seen = self.view.paths[change.path]
        known = self._files.get(seen.real)
        content, now = encoded(change.content), await self.hands.read(seen)
        if now == content and change not in self._unfinished:
            return False
        shown = change.before is None or _same(change.before, now)
        if now != content and not shown and (known is None or now not in known.wrote):
            what = f"{change.path} was changed since the doctor looked at it; nothing was written."
            raise LabError(what, hint="Run the same command again: it shows the difference to what is there now.")
        if known is None:
            self._files[seen.real] = Original(now, seen.mode, seen.uid, seen.gid, (content,))
            return True
        foreign = now not in (*known.wrote, known.content)
        wrote = known.wrote if content in known.wrote else (*known.wrote, content)
        self._files[seen.real] = replace(known, wrote=wrote, mixed=known.mixed or foreign)
        return True

    async def _fitted(self, change: Write) -> Write:
        """The change with the newlines that the file ends with, of which facts may have lost some."""
        now = await self.hands.read(self.view.paths[change.path])
        if now is None or change.content is None or change.before is None or not _same(change.before, now):
            return change
        ending = len(now) - len(now.rstrip(b"\n")) - (len(change.before) - len(change.before.rstrip("\n")))
        content = change.content + "\n" * ending if ending > 0 else change.content
        return replace(change, content=content, before=change.before + "\n" * max(0, ending))

    async def _open(self) -> None:
        """Keep the files that grubby may edit, as they are."""
        paths = await self.hands.globbed(GRUBBY)
        view = await self.hands.view(paths, ())
        for path in paths:
            seen = view.paths[path]
            now = await self.hands.read(seen)
            first = self._files.get(seen.real) or Original(now, seen.mode, seen.uid, seen.gid)
            self._files[seen.real] = replace(first, open=True)

    def _made(self, record: Record) -> tuple[str, ...]:
        """The directories that nestlab made or is about to make."""
        folders = [posixpath.dirname(change.path) for change in self.todo if isinstance(change, Write)]
        ours = self.view.missing((FOLDER,))
        if self.old is None and self.view.paths[FOLDER].kind == "directory":
            ours = OURS  # an interrupted run had not got beyond making them
        return tuple(dict.fromkeys((*record.made, *ours, *self.view.missing(folders))))


def encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _same(before: str, now: bytes | None) -> bool:
    """The text that was shown, give or take newlines at its end, is what is there."""
    return now is not None and before.rstrip("\n") == now.decode(errors="replace").rstrip("\n")
