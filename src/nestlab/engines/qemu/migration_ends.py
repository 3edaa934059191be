"""The ends of a migration: it is done, it failed, or somebody who is gone began it. Pure.

At no moment do two run, and the original goes last. The target's QEMU runs nothing before we let it go, and we do that
only once the source said that all was loaded there; that is written down first. So whoever comes later finds by the two
QEMUs, and by what is written down, where the machine is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

from nestlab.base.errors import LabError
from nestlab.engines.qemu.migration_requests import (
    TICK,
    Act,
    Ask,
    Await,
    Journey,
    Keep,
    Look,
    Request,
    Side,
    ask,
    node_of,
    tolerant,
)
from nestlab.lab.moved_machines import Phase

OVER = ("completed", "failed", "cancelled", "none", "")
"""States of a migration that does nothing any more."""

TURNS = 60
"""Looks after which a source that is still at work counts as one that cannot be asked: root there decides what it says,
and the rest of the lab does not wait for it."""

MANY = 64
"""Jobs that are ended at one look."""

LOADED = ("running", "paused")
"""Run states of a target that has loaded all."""


def resume(journey: Journey, phase: Phase, *, live: bool) -> Generator[Request, Any, None]:
    """Go on with what somebody began who is gone, as far as it is written down."""
    match phase:
        case "failed":
            yield from dispose("target")
        case "moved" if live:
            yield from settle(journey)
        case "moved":
            yield from dispose("source")
        case "begun" if live:
            yield from recover(journey)
        case "begun":
            yield from recover_cold()


def recover_cold(*, ran: bool = False) -> Generator[Request, Any, None]:
    """Until all is at the target, the machine is where it was."""
    yield Keep("failed")
    yield from dispose("target")
    if ran:
        yield Act("start", "source")


def recover(journey: Journey) -> Generator[Request, Any, Literal["moved", "stayed", "unknown"]]:
    """End a migration that somebody began, by what the two QEMUs are. `unknown`: one of them cannot be asked, and it
    has to be asked again."""
    source = yield Look("source")
    if source not in ("absent", "unseen"):
        source = yield from _calm(journey)
    target = yield Look("target")
    if source == "unseen":
        return "unknown"
    if source in ("absent", "postmigrate") and target in LOADED:
        yield from let_go(journey)
        yield from settle(journey)
        return "moved"
    if source == "absent" and target == "unseen":
        return "unknown"
    if source == "postmigrate":
        if target == "unseen":
            return "unknown"
        # The target died after it had loaded all, and before it was let go: the source has the whole machine.
        yield from ask("source", "cont")
    yield Keep("failed")
    yield from dispose("target")
    return "stayed"


def dispose(side: Side) -> Generator[Request, Any, bool]:
    """Delete what is left at a side. False where that cannot be done now: it stays written down."""
    try:
        yield Act("end", side)
    except LabError:
        return False
    yield Keep(None)
    return True


def let_go(journey: Journey) -> Generator[Request, Any, None]:
    """The source has given all, and the target has loaded it: it goes on there."""
    yield Keep("moved", quick=True)
    commands: list[tuple[str, Mapping[str, Any]]] = [("nbd-server-stop", {})] if journey.disks else []
    commands += [("cont", {})] if journey.runs else []
    if commands:
        yield from _each("target", commands)


def settle(journey: Journey) -> Generator[Request, Any, None]:
    """It is at the target: let it go if that was not done, say to all networks where it is, delete the original."""
    yield Keep("moved")
    if journey.runs:
        if (yield Look("target")) == "paused":
            yield from tolerant("target", "nbd-server-stop")
            yield from ask("target", "cont")
        yield from tolerant("target", "announce-self", initial=50, max=550, rounds=5, step=100)
    yield from dispose("source")


def _each(side: Side, commands: Sequence[tuple[str, Mapping[str, Any]]]) -> Generator[Request, Any, None]:
    """All of them, sent at once; what one of them says is left to who looks after."""
    try:
        yield Ask(side, tuple(commands))
    except LabError:
        return


def _calm(journey: Journey) -> Generator[Request, Any, str]:
    """The source's run state, once no migration and no mirror of ours is at work there; `unseen` where that is not soon
    so."""
    try:
        if (yield from ask("source", "query-migrate")).get("status", "") not in OVER:
            yield from ask("source", "migrate_cancel")
        turns = 0
        while (yield from ask("source", "query-migrate")).get("status", "") not in OVER:
            yield Await(TICK)
            if (turns := turns + 1) > TURNS:
                return "unseen"
        while jobs := [job["device"] for job in (yield from ask("source", "query-block-jobs")) if _ours(job)]:
            for job in jobs[:MANY]:
                yield from tolerant("source", "block-job-cancel", device=job, force=True)
            yield Await(TICK)
            if (turns := turns + 1) > TURNS:
                return "unseen"
        for disk in journey.disks:
            yield from tolerant("source", "blockdev-del", node_name=node_of(disk))
    except LabError:
        return str((yield Look("source")))
    return str((yield Look("source")))


def _ours(job: Mapping[str, Any]) -> bool:
    return str(job["device"]).startswith("moves-")
