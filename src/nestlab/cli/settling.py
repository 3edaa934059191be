"""What `up`, `start` and their like end with: ports that are kept and faults on purpose are as the user wants them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nestlab.cli.exit_status import say
from nestlab.lab import faults as sayings
from nestlab.lab import moved_machines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nestlab.verbs.ports import Settled
    from nestlab.verbs.session import Session


async def settle(session: Session) -> Settled:
    """The ports that are kept open lead to their machines again, and others no longer; faults hold again. Whoever calls
    it ends with `check`: of a port that is another's."""
    from nestlab.verbs import ports

    if session.faults:
        from nestlab.verbs import faults

        await faults.settle(session)
    settled = await ports.settle(session)
    for each in settled.opened:
        say(f"127.0.0.1:{each.local} leads to {each.path}:{each.port}")
    for each in settled.closed:
        say(f"127.0.0.1:{each.local} no longer leads to {each.path}:{each.port}")
    return settled


def left_down(session: Session, machines: Sequence[str]) -> frozenset[str]:
    """See `verbs.faults`."""
    if not session.faults:
        return frozenset()
    from nestlab.verbs import faults

    return faults.left_down(session, machines)


def notes(session: Session) -> tuple[str, ...]:
    """The faults that `up` does not take back, and the machines that it leaves where they were moved to."""
    now = time.time()
    passages = (each.said for each in session.moves.passages)
    parked = _parked(session)
    return (*sayings.lines(session.faults, now), *moved_machines.lines(session.moves.aways, now), *passages, *parked)


def _parked(session: Session) -> tuple[str, ...]:
    from nestlab.home import snapshots
    from nestlab.lab.snapshots import PARKED

    if PARKED not in snapshots.names(session.place):
        return ()
    name = session.place.name
    return (f"lab {name} was parked; `nestlab unpark {name}` puts it back to that moment",)
