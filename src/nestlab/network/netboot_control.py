"""Starts, looks after and ends what serves machines that boot from a segment. For the lab's own host only."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nestlab.base import files, patience
from nestlab.base.errors import LabError
from nestlab.base.locks import held
from nestlab.network.netboot import log_name, offer_name, pid_name
from nestlab.network.netboot_offer import Offer, from_json, to_json
from nestlab.network.switch import ALREADY
from nestlab.network.switch_control import PATIENCE, SOURCE, Runner

_TRIES = 5
_SUFFIX = ".netboot.json"


async def ensure(directory: Path, lab: str, offer: Offer, host: Runner) -> None:
    """What serves the offer's segment runs when this returns, and takes the offer over within seconds if it ran
    before. The segment's switch must run. LabError where it does not start."""
    await asyncio.to_thread(
        files.replace, directory / offer_name(offer.segment), to_json(offer).encode(), 0o600, synced=False
    )
    # Without site, as the switch.
    argv = [sys.executable, "-S", "-P", "-m", "nestlab.network.netboot", f"nestlab-netboot:{lab}", str(directory)]
    for _ in range(_TRIES):
        if serves(directory, offer.segment):
            return
        done = await host.run(
            [*argv, offer.segment], env={"PYTHONPATH": SOURCE}, check=False, timeout=patience.allowed(PATIENCE * 3)
        )
        if done.status == ALREADY:  # one that another nestlab started just now, or that is about to end
            await asyncio.sleep(0.05)
            continue
        if done.status:
            raise LabError(
                f"Nothing can be served on segment {offer.segment} of lab {lab} (status {done.status}).",
                hint=f"Look at {directory}: it must belong to you, and its disk must not be full.",
                detail=done.stderr.decode(errors="replace").strip()[-2000:],
            )
        return


def withdraw(directory: Path, segment: str) -> None:
    """Nothing is to be served on a segment: what does ends within seconds."""
    (directory / offer_name(segment)).unlink(missing_ok=True)


def observe(directory: Path) -> dict[str, str]:
    """By segment that is served there: the digest of what is offered."""
    found: dict[str, str] = {}
    for file in sorted(directory.glob(f"*{_SUFFIX}")):
        segment = file.name.removesuffix(_SUFFIX)
        try:
            offer = from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if serves(directory, segment):
            found[segment] = offer.digest
    return found


def serves(directory: Path, segment: str) -> bool:
    """Whether a process serves a segment: it holds the lock of its pid file."""
    return held(directory / pid_name(segment))


def log_of(directory: Path, segment: str) -> Path:
    """What was asked for there, by whom, and what was given."""
    return directory / log_name(segment)
