"""Ends what somebody began with a lab who is gone, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nestlab.home import snapshots as kept
from nestlab.home.directories import LabHome

if TYPE_CHECKING:
    from nestlab.verbs.session import Session

Say = Callable[[str], None]


async def before(place: LabHome, say: Say) -> Callable[[Session], Awaitable[None]]:
    """End it as far as that is done before the lab is opened; what does the rest, once the world was seen. For who has
    the lab's lock."""
    found = None
    if (place.root / kept.WORK).exists():
        from nestlab.verbs import snapshot_recovery  # few were interrupted

        found = await snapshot_recovery.before(place, say)

    async def rest(session: Session) -> None:
        if found is not None:
            from nestlab.verbs import snapshot_recovery

            await snapshot_recovery.after(session, found, say)
        if session.moves.passages:
            from nestlab.verbs import migrations

            await migrations.resolve(session, say)

    return rest
