"""Which requests are retried, how often, and after which pause."""

from __future__ import annotations

import random

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.wire.pve.errors import NodeUnreachable, PveError, is_lock_timeout


class Unsent(Unreachable):
    """No connection: nothing was sent, so nothing can have been done."""


class Lost(Unreachable):
    """The connection was lost before the answer: what was asked may have been done."""


@frozen
class Patience:
    """At most `tries` times, with pauses that double from `first` to `most` seconds (half of each is chance, so that
    many who wait for the same lock do not come back together)."""

    tries: int = 6
    first: float = 0.5
    most: float = 8.0
    away: float = 60.0
    """Nominal seconds, however many tries that are, in which one who has answered before may take no connections: its
    daemons are restarted, by an upgrade or a renewed certificate."""

    def pause(self, tried: int) -> float:
        """Seconds after so many tries."""
        whole = min(self.most, self.first * 2.0 ** min(tried - 1, 60))
        return float(whole * (0.5 + random.random() / 2))


def repeatable(error: LabError, method: str) -> bool:
    """Whether a request that ended so may be sent again.

    Reading: whenever nobody answered, or a lock was not free in time. Everything else: only when it certainly was not
    begun. 595 means that the node asked could not connect to the one concerned; 596 and 597 that it lost it later."""
    reads = method == "GET"
    if isinstance(error, Unsent):
        return True
    if isinstance(error, Lost):
        return reads
    if not isinstance(error, PveError):
        return False
    if isinstance(error, NodeUnreachable):
        return reads or error.status == 595
    if is_lock_timeout(error.message):
        return True
    return reads and (error.status in (502, 503, 504) or "got timeout" in error.message)
