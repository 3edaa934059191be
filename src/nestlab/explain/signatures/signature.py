"""What a signature of a failure is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Rank(IntEnum):
    """How near to the root a message stands: a log is explained by its lowest rank first."""

    CAUSE = 0
    """Names what is to be mended: a full disk, a lock of the firmware, a missing package."""
    REFUSAL = 1
    """Somebody declines because of something below him: QEMU without /dev/kvm, a node without quorum."""
    SYMPTOM = 2
    """Follows from what other lines say: a panic, a task that failed, a time-out."""
    NOTE = 3
    """No failure by itself, but worth knowing where something else fails."""


@dataclass(frozen=True)
class Signature:
    """One message that programs print when something is wrong, and what it means for nested machines.

    `pattern` is a regular expression searched in single lines, whatever the case of letters. `cause` and `do` may name
    its groups (`{module}`). Groups that `do` names match only what is harmless in a shell. `see` says where that is
    documented. `example` is a line as it is really printed.
    """

    name: str
    pattern: str
    cause: str
    do: str
    see: str
    example: str
    rank: Rank = Rank.REFUSAL
