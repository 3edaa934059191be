"""Makes the changes that remedies say on a host, each marked in the record there when it is done."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nestlab.base.errors import LabError, Unreachable
from nestlab.doctor.change_record import Record, merged
from nestlab.doctor.finding import Change, Reload, Remedy, Run, SetParameter, Write
from nestlab.doctor.reload_scripts import Reloaded
from nestlab.doctor.surgery.effects import Hands, View
from nestlab.doctor.surgery.outcome import Outcome, cut_off, gone
from nestlab.doctor.surgery.todo import Planning, check, encoded, look


class Making:
    """One run on one host."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

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
            raise cut_off(error) from error
        return Outcome(tuple(self.hands.done), staged)

    async def _perform(self, record: Record, todo: Sequence[Change], view: View) -> None:
        """Make the changes in order, each marked when it is done. LabError, after the last, for a module that could
        not be reloaded."""
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


def _verdict(change: Reload, result: Reloaded, written: bool) -> LabError | None:
    """The error for a reload that did not do what it should; None when it did."""
    module = change.module
    if result.state in ("lost", "late"):
        return gone(module, result)
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
