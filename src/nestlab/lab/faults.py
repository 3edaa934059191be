"""Faults that a user makes on purpose: power cuts, links that are off, bad links, wrong clocks. Pure, and light to
import.

What is kept is what the user wants: a fault holds until it is healed, also over restarts and over `up`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import elapsed

Kind = Literal["kill", "cut", "impair", "clock"]

LONGEST = 60.0
"""Seconds of the longest delay, and of the longest jitter."""
FARTHEST = 10 * 366 * 86400
"""Seconds that a clock may be set off by."""
RATES = 1000, 100_000_000_000
"""Bits per second that a link may be limited to."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(us|ms|s)")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")
_BITS = {"bit": 1, "kbit": 1000, "mbit": 1000**2, "gbit": 1000**3}
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(bit|kbit|mbit|gbit)")
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHIFT = re.compile(r"([+-])((?:[0-9]{1,9}[smhd])+)")


@frozen
class Impairment:
    """What happens to each frame on its way from one machine to another: `delay` and `jitter` (at most so much more or
    less) in seconds, `loss` a share of 1, `rate` in bits per second (0: no limit)."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: int = 0

    def __str__(self) -> str:
        more = f" ± {_time(self.jitter)}" if self.jitter else ""
        parts = [f"delay {_time(self.delay)}{more}"] if self.delay or self.jitter else []
        parts += [f"loss {100 * self.loss:g}%"] if self.loss else []
        parts += [f"rate {_rate(self.rate)}"] if self.rate else []
        return ", ".join(parts) or "nothing"


@frozen
class Fault:
    """`path`: the machine ("": `impair` of a whole segment). `since`: seconds since the epoch. `shift`: seconds that a
    clock is ahead of the one here."""

    kind: Kind
    path: str = ""
    segment: str = ""
    since: float = 0.0
    impairment: Impairment = Impairment()
    shift: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Of two faults with the same key, the later one holds."""
        return self.kind, self.path, self.segment

    @property
    def heal(self) -> str:
        """The command that takes it back."""
        return " ".join(word for word in ("nestlab heal", self.path, self.segment) if word)

    @property
    def what(self) -> str:
        """`hv1 is cut off wire`."""
        match self.kind:
            case "kill":
                return f"{self.path} was killed"
            case "cut":
                return f"{self.path} is cut off {self.segment}"
            case "impair":
                link = f"the link of {self.path} to {self.segment}" if self.path else f"segment {self.segment}"
                return f"{link} is impaired ({self.impairment})"
            case "clock":
                return f"the clock of {self.path} is {span(abs(self.shift))} {'ahead' if self.shift > 0 else 'behind'}"

    def said(self, now: float) -> str:
        """The whole sentence: since when, and what takes it back."""
        passed = elapsed(max(0.0, now - self.since))
        when = f"{passed} ago" if self.kind == "kill" else f"for {passed}"
        return f"{self.what} ({when}); `{self.heal}` takes it back"


Faults = tuple[Fault, ...]


def with_fault(faults: Faults, fault: Fault) -> Faults:
    """With one more; one of the same key is replaced."""
    return (*(each for each in faults if each.key != fault.key), fault)


def without(faults: Faults, gone: Iterable[Fault]) -> Faults:
    keys = {each.key for each in gone}
    return tuple(each for each in faults if each.key not in keys)


def cut_off(faults: Iterable[Fault], path: str) -> frozenset[str]:
    """The segments that a machine is cut off."""
    return frozenset(each.segment for each in faults if each.kind == "cut" and each.path == path)


def killed(faults: Iterable[Fault]) -> frozenset[str]:
    return frozenset(each.path for each in faults if each.kind == "kill")


def lines(faults: Sequence[Fault], now: float) -> list[str]:
    """A sentence for each, machines in order."""
    return [each.said(now) for each in sorted(faults, key=lambda each: (each.path.split("/"), each.key))]


def impairment(delay: str, jitter: str, loss: str, rate: str) -> Impairment:
    """From the words of a command line, "" for what was not said. LabError for what is none, or does nothing."""
    found = Impairment(
        _seconds(delay, "--delay"), _seconds(jitter, "--jitter"), _share(loss), _bits(rate) if rate else 0
    )
    if found == Impairment():
        raise LabError(
            "Nothing is said that would impair it.", hint="Such as --delay 40ms, --jitter 5ms, --loss 1%, --rate 10mbit"
        )
    if found.jitter > found.delay:
        what = f"The jitter is greater than the delay: no frame arrives before it was sent ({found})."
        raise LabError(what, hint="Give a --delay of at least the --jitter.")
    return found


def shift(text: str) -> int:
    """`+1h`, `-1d12h`: seconds ahead. LabError for what is none."""
    found = _SHIFT.fullmatch(text)
    if found is None:
        what = f"{text} does not say how far a clock is to be off."
        raise LabError(what, hint="Such as +1h, -30m, +1d12h, +90s. `nestlab heal MACHINE` sets it right.")
    total = sum(int(number) * _SPANS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", found[2]))
    if not 0 < total <= FARTHEST:
        raise LabError(f"A clock can be off by 1 s to 10 years, not by {text}.", hint="`nestlab heal` sets it right.")
    return total if found[1] == "+" else -total


def span(seconds: int) -> str:
    """`1d12h`."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def _seconds(text: str, option: str) -> float:
    if not text:
        return 0.0
    found = _TIME.fullmatch(text.lower())
    value = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not 0 <= value <= LONGEST:
        raise LabError(f"{option} {text} is no time of at most {LONGEST:.0f} s.", hint=f"Such as {option} 40ms")
    return value


def _share(text: str) -> float:
    if not text:
        return 0.0
    found = _SHARE.fullmatch(text)
    value = float(found[1]) / 100 if found else -1.0
    if not 0 <= value <= 1:
        raise LabError(f"--loss {text} is no share of all frames.", hint="Such as --loss 1% or --loss 100%")
    return value


def _bits(text: str) -> int:
    found = _RATE.fullmatch(text.lower())
    value = round(float(found[1]) * _BITS[found[2]]) if found else 0
    if not RATES[0] <= value <= RATES[1]:
        raise LabError(f"--rate {text} is no rate from 1kbit to 100gbit.", hint="Such as --rate 10mbit")
    return value


def _time(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def _rate(bits: int) -> str:
    unit = next(unit for unit in ("gbit", "mbit", "kbit", "bit") if bits >= _BITS[unit])
    return f"{bits / _BITS[unit]:g}{unit}"
