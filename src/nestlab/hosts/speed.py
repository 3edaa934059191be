"""How fast a host is, as a shell on it sees: measured in a tenth of a second, also while it is busy.

Slowness 1 is a machine that runs 400,000 turns of a shell loop in a second (measured: a CPU of 2023 with dash). A level
that QEMU emulates has about 20, also while its host is idle; a host whose CPUs others use has more than it would have
alone, which is the point.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.patience import SLOWEST

if TYPE_CHECKING:
    from nestlab.hosts.host import Host

REFERENCE = 400_000.0
"""Turns of the loop in a second at slowness 1."""

TURNS = 100
"""Turns that speed.sh makes between two looks at the clock."""

LIMIT = 60.0
"""Nominal seconds for the answer."""


@cache
def script() -> str:
    """What measures: POSIX sh."""
    from pathlib import Path  # its import takes a twentieth of `nestlab doctor`

    return Path(__file__).with_name("speed.sh").read_text(encoding="utf-8")


async def measure(host: Host) -> float:
    """How many times slower than at full speed a host is now. LabError when it cannot be asked."""
    said = (await host.run(("sh", "-c", script()), timeout=LIMIT)).text
    found = parse(said)
    if found is None:
        from nestlab.hosts.host import called

        where = called(host)
        raise LabError(f"The speed of {where} is not known: its shell said {said[:60]!r}.", hint="Is /proc there?")
    return found


def parse(said: str) -> float | None:
    """The slowness in what speed.sh printed; None for anything else."""
    words = said.split()
    if len(words) != 3 or words[0] != "speed" or not all(word.isascii() and word.isdigit() for word in words[1:]):
        return None
    rounds, ticks = (min(int(word[:12]), 10**9) for word in words[1:])
    if not ticks:
        return None
    return min(SLOWEST, REFERENCE * ticks / 100 / (TURNS * max(rounds, 1)))


def sentence(slowness: float) -> str:
    """For a person."""
    if slowness < 2:
        return "full speed"
    return (
        f"about {slowness:.0f} times slower than a machine at full speed; waits are {slowness**0.5:.1f} times as long"
    )
