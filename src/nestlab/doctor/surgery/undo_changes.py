"""Undoes what was changed on a host, as the record there says: files to the byte, modules, running values."""

from __future__ import annotations

from nestlab.base.errors import Unreachable
from nestlab.doctor.change_record import Original
from nestlab.doctor.remedies import RECORD
from nestlab.doctor.surgery.effects import OURS, Hands, View
from nestlab.doctor.surgery.outcome import Outcome, cut_off, gone
from nestlab.doctor.surgery.todo import look, not_root


class Undoing:
    """One run on one host."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

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
            raise cut_off(error) from error
        return Outcome(tuple(self.hands.done), tuple(held.values()), tuple(left.values()))

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
            raise gone(module, result)
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
