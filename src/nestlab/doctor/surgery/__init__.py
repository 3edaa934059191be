"""Changes a host as remedies say, and takes it back. All effects go through `host.Host`.

What was there is recorded on the host before the first change; each change is marked when it is done. So a run that
was interrupted anywhere is finished by the next `fix`, or taken back by `undo`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.doctor.change_record import Original, Record, merged
from nestlab.doctor.finding import Change, Reload, Remedy, Run, SetParameter, Write
from nestlab.doctor.reload_scripts import Reloaded
from nestlab.doctor.remedies import RECORD
from nestlab.doctor.surgery.effects import OURS, Hands, View
from nestlab.doctor.surgery.todo import Planning, check, encoded, look, not_root
from nestlab.hosts.host import Host

__all__ = ["Outcome", "Say", "Surgeon", "fix", "pending", "undo"]


@dataclass(frozen=True)
class Outcome:
    """The changes that were made, in sentences. `staged`: what takes effect only after a reboot; `left`: what was not
    touched because somebody else changed it, and what to do."""

    changed: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Nothing was to do."""
        return not (self.changed or self.staged or self.left)


async def fix(host: Host, remedies: Iterable[Remedy], say: Say) -> Outcome:
    """Do what the remedies say (refused ones excepted), after what an interrupted run left undone."""
    return await Surgeon(host, say).fix(remedies)


async def undo(host: Host, say: Say) -> Outcome:
    """Restore what was there before the first fix, files to the byte, and the running values."""
    return await Surgeon(host, say).undo()


async def pending(host: Host) -> Record | None:
    """The record of changes that can be undone or are unfinished; None if there is none, or this user may not read
    it."""
    return (await Hands(host, lambda _: None).record())[1]


class Surgeon:
    """One operation on one host. `root` and `env` as in `Hands`."""

    def __init__(self, host: Host, say: Say, root: str = "", env: Mapping[str, str] | None = None) -> None:
        self.hands = Hands(host, say, root, env)

    async def fix(self, remedies: Iterable[Remedy]) -> Outcome:
        """See the function `fix`."""
        found = [remedy for remedy in remedies if not remedy.refused]
        staged = tuple(remedy.staged for remedy in found if remedy.staged)
        try:
            _, old = await self.hands.record()
            plan = merged(old.unfinished if old else (), (change for remedy in found for change in remedy.changes))
            if plan:
                view = await look(self.hands, plan, old)
                check(view, plan)
                planning = Planning(self.hands, view, old)
                nested = any(remedy.check == "nested" for remedy in found)
                record = await planning.record(plan, nested=nested)
                if planning.todo or planning.settled:
                    await self.hands.save(record)
                    await self._perform(record, planning.todo, view)
        except Unreachable as error:
            raise _cut_off(error) from error
        return Outcome(tuple(self.hands.done), staged)

    async def undo(self) -> Outcome:
        """See the function `undo`."""
        try:
            uid, record = await self.hands.record()
            if uid != 0:
                raise not_root()
            if record is None:
                await self.hands.forget(OURS)
                return Outcome()
            view = await look(self.hands, (), record)
            left = {path: why for path in record.files if (why := await self._restore(path, record.files[path], view))}
            if not record.undone or len(left) < len(record.files):
                for argv in record.commands:
                    if argv[0] != "grubby":  # its files are restored themselves
                        await self.hands.run(argv)
            held = {name: why for name in record.modules if (why := await self._back(name, record.modules[name], view))}
            for name, value in record.parameters.items():
                await self._set_back(name, value)
            if left or held:
                if (rest := record.left(left, held)) != record:
                    await self.hands.save(rest)
            else:
                await self.hands.forget(record.made)
        except Unreachable as error:
            raise _cut_off(error) from error
        return Outcome(tuple(self.hands.done), tuple(held.values()), tuple(left.values()))

    # -- changes

    async def _perform(self, record: Record, todo: Sequence[Change], view: View) -> None:
        """Do the changes in order, each marked when it is done. A module that cannot be reloaded is told at the end."""
        failed: LabError | None = None
        for change in todo:
            if isinstance(change, Reload):
                result = await self.hands.reload(change.module, change.options, change.before)
                error = _verdict(change, result, any(isinstance(each, Write) for each in todo))
                failed = failed or error
                if error is None:
                    self.hands.did(f"{change.module} was loaded again, with nested={result.value}.")
                elif result.state in ("lost", "late"):
                    continue  # it stays to be done
                else:
                    record = record.without(change)
            else:
                record = await self._simple(change, record, view)
            record = record.with_done(change)
            await self.hands.save(record)
        if failed is not None:
            if not (record.tasks or record.files or record.parameters):
                await self.hands.forget(record.made)
            raise failed

    async def _simple(self, change: Write | SetParameter | Run, record: Record, view: View) -> Record:
        """Do a change that works or raises; the record with what became known by it."""
        match change:
            case Write():
                await self._write(change, view)
            case SetParameter(module, name, value, _):
                await self.hands.set(f"{module}.{name}", value)
                self.hands.did(f"Set {module}'s {name} to {value}.")
            case Run(argv):
                await self.hands.run(argv)
                if argv[0] == "grubby":
                    return await self._closed(record)
        return record

    async def _write(self, change: Write, view: View) -> None:
        for folder in view.missing([posixpath.dirname(change.path)]):
            await self.hands.make(folder)
        seen = view.paths[change.path]
        there = seen.kind == "file"
        owner = (seen.uid, seen.gid) if there else (view.uid, view.gid)
        mode = seen.mode if there else change.mode
        await self.hands.place(seen.real, encoded(change.content), mode, owner, view)
        self.hands.did(f"{'Removed' if change.content is None else 'Wrote'} {change.path}.")

    async def _closed(self, record: Record) -> Record:
        """grubby is done: what its files hold now is what nestlab wrote."""
        view = await self.hands.view([path for path, each in record.files.items() if each.open], ())
        files = dict(record.files)
        for path, original in record.files.items():
            if original.open:
                now = await self.hands.read(view.paths[path])
                files[path] = replace(original, open=False, wrote=(*original.wrote, now))
        return replace(record, files=files)

    # -- the way back

    async def _restore(self, path: str, original: Original, view: View) -> str:
        """Put a file back; "" when it is so, else why it was left."""
        seen = view.paths[path]
        if seen.kind not in ("file", "absent"):
            return f"{path} is no longer a regular file and was left; what was there is kept in {RECORD}."
        now = await self.hands.read(seen)
        same = now is None or (seen.mode, seen.uid, seen.gid) == (original.mode, original.uid, original.gid)
        if now == original.content and same:
            return ""
        if original.open or (now in (*original.wrote, original.content) and not original.mixed):
            await self.hands.place(path, original.content, original.mode, (original.uid, original.gid), view)
            self.hands.did(f"{'Removed' if original.content is None else 'Restored'} {path}.")
            return ""
        lines = sorted(original.added() & set((now or b"").split(b"\n")))
        if not lines:
            return ""  # taken back by hand
        shown = "; ".join(f"`{line.decode(errors='replace').strip()}`" for line in lines)
        return (
            f"{path} was changed by somebody else after nestlab wrote it, and was left as it is."
            f" Take out or set back by hand what nestlab wrote ({shown}), then undo again."
        )

    async def _back(self, module: str, value: str, view: View) -> str:
        """Give a module its old `nested`; "" when it has it, else what has to be done."""
        now = view.values[f"{module}.nested"]
        if now == value:
            return ""
        result = await self.hands.reload(module, [f"nested={value}"] if value else [], now or value)
        if result.state in ("lost", "late"):
            raise _gone(module, result)
        if result.value == value:
            self.hands.did(f"{module} was loaded again, with nested={value}.")
            return ""
        keeps = f"and keeps nested={result.value or now}"
        if result.state in ("busy", "kept"):
            return f"{module} is in use {keeps}: stop what uses it, or reboot, and run --undo again."
        return f"{module} could not be loaded again with its old setting {keeps}: run --undo again to try once more."

    async def _set_back(self, name: str, value: str) -> None:
        now = (await self.hands.view((), (name,))).values[name]
        if now not in (value, None):
            await self.hands.set(name, value)
            module, _, own = name.partition(".")
            self.hands.did(f"Set {module}'s {own} back to {value}.")


def _verdict(change: Reload, result: Reloaded, written: bool) -> LabError | None:
    """The error for a reload that did not do what it should; None when it did."""
    module = change.module
    if result.state in ("lost", "late"):
        return _gone(module, result)
    if result.state == "bare":
        what = f"{module} does not load with what modprobe.d says, and was loaded without: nested={result.value}."
        hint = "Mend what modprobe complains of before the next reboot, or there is no KVM then; and run this again."
        return LabError(what, hint=hint, detail=result.said)
    if result.state == "busy":
        what = f"{module} came into use meanwhile and was not loaded again."
    elif result.state == "kept":
        what = f"{module} could not be unloaded, and is as it was."
    elif result.value == change.before:
        what = f"{module} was loaded again, but not with the new setting: nested={result.value}."
        hint = f"Something sets it otherwise (modprobe -c | grep {module}): mend that, and run the same command again."
        return LabError(what, hint=hint, detail=result.said)
    else:
        return None
    rest = "The option is written: reboot to finish, or stop" if written else "Stop"
    return LabError(what, hint=f"{rest} what uses it and run the same command again.", detail=result.said)


def _gone(module: str, result: Reloaded) -> LabError:
    if result.state == "late":
        what = f"Loading {module} again has not ended yet; it goes on by itself."
        return LabError(what, hint="Look at the host in a minute, and run the same command again.")
    hint = f"Load it by hand (modprobe {module}), or take everything back with --undo; the kernel's messages say why."
    return LabError(f"{module} could not be loaded again: there is no KVM now.", hint=hint, detail=result.said)


def _cut_off(error: Unreachable) -> Unreachable:
    hint = "What was begun is recorded there: run the same command again to finish, or --undo to take it back."
    return Unreachable(error.what, hint=hint, detail=error.detail)
