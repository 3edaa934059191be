"""What a signature of a failure is."""

from __future__ import annotations

from enum import IntEnum

from nestlab.base.frozen import frozen


class Rank(IntEnum):
    """The distance of a message from the root cause: a log is explained by its lowest rank first."""

    CAUSE = 0
    """Names what is to be mended: a full disk, a lock of the firmware, a missing package."""
    REFUSAL = 1
    """Somebody declines because of something below him: QEMU without /dev/kvm, a node without quorum."""
    GENERAL = 2
    """An error that every program may print for many reasons (no memory, refused, timed out): told as the cause only
    where nothing that is more specific stands in the same log."""
    SYMPTOM = 3
    """Follows from what other lines say: a panic, a task that failed, a time-out."""
    NOTE = 4
    """No failure by itself, but worth knowing where something else fails."""


class Sure(IntEnum):
    """How sure it is that a message means what its signature says."""

    CERTAIN = 0
    """The program prints it for this and nothing else."""
    LIKELY = 1
    """It has rarer causes, too."""
    POSSIBLE = 2
    """It has many causes; this is a frequent one."""


_SURE = {Rank.CAUSE: Sure.CERTAIN, Rank.REFUSAL: Sure.LIKELY, Rank.NOTE: Sure.CERTAIN}


@frozen
class Signature:
    """One message that programs print when something is wrong, and what it means for nested machines.

    `pattern` is a regular expression searched in single lines, whatever the case of letters. `cause` and `do` may name
    its groups (`{module}`). Groups that `do` names match only what is harmless in a shell. `see` says where that is
    documented. `example` is a line as it is really printed.

    `told`: how sure, where it is not what the rank has (certain for a cause, likely for a refusal). `below`: the cure
    is the level below, so what is known of that one is told, too. `unless`: words (small letters) none of which
    may follow in the same log: with them it went on and is well.
    """

    name: str
    pattern: str
    cause: str
    do: str
    see: str
    example: str
    rank: Rank = Rank.REFUSAL
    told: Sure | None = None
    below: bool = False
    unless: tuple[str, ...] = ()

    @property
    def sure(self) -> Sure:
        """How sure it is that the message means this."""
        return self.told if self.told is not None else _SURE.get(self.rank, Sure.POSSIBLE)
