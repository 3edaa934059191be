"""How long is waited: every wait in nestlab has a nominal time, and this says what that becomes. Pure.

A nominal time is generous for a machine at full speed: most are ten times and more what the work takes there. On a
slower one, less of that room is left, so it grows with the square root of the slowness that was measured
(`hosts.speed`): emulated, 20 times slower, a wait is four to five times as long. What the user says (`--patience 5`,
NESTLAB_PATIENCE, `patience:` in the lab file) multiplies all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from nestlab.base.errors import LabError

VARIABLE = "NESTLAB_PATIENCE"
OPTION = "--patience"

LEAST, MOST = 0.1, 1000.0
"""What `--patience` may be."""

SLOWEST = 100_000.0
"""Slowness beyond which a measurement is not believed."""

EMULATED, ACCELERATED = 20.0, 1.2
"""How much slower than its host a machine is, until that is measured: emulated, and under KVM."""

SLOWER = 100.0
"""How many times slower than what it is in a machine can be: emulated inside an emulated one it is up to 60 times."""

LONGER = f"If the machine is only slow or busy: {OPTION} 5 (or {VARIABLE}=5) waits five times as long."
"""The hint of every wait that was in vain."""

_asked: ContextVar[float | None] = ContextVar("patience_asked", default=None)
_of_lab: ContextVar[float] = ContextVar("patience_of_lab", default=1.0)
_here: ContextVar[float] = ContextVar("slowness_here", default=1.0)


def number(text: str, where: str) -> float:
    """What a user wrote, in `where`. LabError if it is no number from LEAST to MOST."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not LEAST <= value <= MOST:
        hint = f"Write a number from {LEAST:g} to {MOST:g}; 5 makes every wait five times as long."
        raise LabError(f"{where} is {text!r}, which is no such number.", hint=hint)
    return value


def settle(option: str | None, environ: Mapping[str, str]) -> None:
    """What all waits of this process are multiplied by: the option, else the environment; else the lab file's word
    (`of_lab`), else 1. LabError for what is no number."""
    if option is not None:
        _asked.set(number(option, OPTION))
    elif environ.get(VARIABLE):
        _asked.set(number(environ[VARIABLE], VARIABLE))


def of_lab(patience: float, slowness: float | None = None) -> None:
    """From now on, in this task and in those that it starts, a lab's own `patience:` counts where the user said nothing
    for this command; `slowness`: of the lab's own host, if it was measured."""
    _of_lab.set(patience)
    _here.set(slowness or 1.0)


def stretch() -> float:
    """What the user multiplies all waits by."""
    asked = _asked.get()
    return _of_lab.get() if asked is None else asked


def factor(slowness: float) -> float:
    """How much longer a wait is on a machine so many times slower than one at full speed."""
    return float(min(max(1.0, slowness), SLOWEST) ** 0.5)


def allowed(seconds: float, slowness: float | None = None) -> float:
    """What a nominal time becomes for what is so slow; None: for this machine, as it was measured."""
    return seconds * factor(_here.get() if slowness is None else slowness) * stretch()


def said(seconds: float) -> str:
    """A time as an error says it."""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def believed(slowness: float, outer: float) -> float:
    """How slow a machine counts as that was measured by its own programs: one that lies makes others wait no longer
    than a bound. `outer`: how slow what it is in is."""
    return min(slowness, SLOWER * max(1.0, outer))


def inside(slowness: float, accel: str) -> float:
    """How slow a machine presumably is, inside one that is so slow."""
    return slowness * (EMULATED if accel == "tcg" else ACCELERATED)
