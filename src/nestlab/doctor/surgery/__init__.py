"""Changes a host as remedies say (`make_changes`), and takes it back (`undo_changes`), all through `host.Host`.

What was there is recorded on the host before the first change; each change is marked when it is done. So a run that
was interrupted anywhere is finished by the next `fix`, or taken back by `undo`. `todo` says what is still to do, and
`effects` are the single things done to a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nestlab.base.events import Say
from nestlab.doctor.change_record import Record
from nestlab.doctor.finding import Remedy
from nestlab.doctor.surgery.effects import Hands
from nestlab.doctor.surgery.make_changes import Making
from nestlab.doctor.surgery.outcome import Outcome
from nestlab.doctor.surgery.undo_changes import Undoing
from nestlab.hosts.host import Host

__all__ = ["Outcome", "Say", "Surgeon", "fix", "pending", "undo"]


async def fix(host: Host, remedies: Iterable[Remedy], say: Say) -> Outcome:
    """Do what the remedies say (refused ones excepted), after what an interrupted run left undone. Busy, and nothing
    done, while another doctor changes the host."""
    return await Surgeon(host, say).fix(remedies)


async def undo(host: Host, say: Say) -> Outcome:
    """Restore what was there before the first fix, files to the byte, and the running values. Busy as `fix`."""
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
        async with self.hands.alone():
            return await Making(self.hands).fix(remedies)

    async def undo(self) -> Outcome:
        """See the function `undo`."""
        async with self.hands.alone():
            return await Undoing(self.hands).undo()
