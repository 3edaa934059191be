"""What works with a lab's switch on a host that ssh reaches: this file runs there, with as much of nestlab as it needs.

    python3 -I -S -c "…" VERB DIR LAB [REQUEST]

It reads a request (JSON; from stdin where there is no argument), does it with DIR as on the lab's own host, and prints
one line of JSON: what it found, or an error. `capture` prints a capture file instead, until the card is gone or nobody
reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.hosts.local import LocalHost
from nestlab.lab.faults import Impairment
from nestlab.network import netboot_control, netboot_offer, pcap, switch_capture, switch_control

FAILED = 1
"""The status for what became an error; its line says which."""


async def do(verb: str, directory: Path, lab: str, asked: Mapping[str, Any]) -> Any:
    """What there is to answer, as JSON has it. LabError as of `switch_control`, KeyError for an unknown verb."""
    patience.of_lab(float(asked.get("patience", 1)))
    if verb == "ensure":
        await switch_control.ensure(directory, lab, asked["segments"], LocalHost(), asked["vlans"])
        return None
    if verb == "remove":
        for segment in asked["segments"]:
            netboot_control.withdraw(directory, segment)
        return await switch_control.remove(directory, asked["segments"])
    if verb == "serve":
        return await netboot_control.ensure(directory, lab, netboot_offer.from_json(asked["offer"]), LocalHost())
    if verb == "withdraw":
        return netboot_control.withdraw(directory, asked["segment"])
    if verb == "served":
        return netboot_control.observe(directory)
    if verb == "stop":
        return await switch_control.stop(directory)
    if verb == "observe":
        return sorted(await switch_control.observe(directory))
    if verb == "impair":
        rules = {
            name: {mac: Impairment(*each) for mac, each in cards.items()} for name, cards in asked["rules"].items()
        }
        return await switch_control.impair(directory, rules)
    raise KeyError(verb)


async def capture(directory: Path, asked: Mapping[str, Any]) -> None:
    """Write what passes a card to stdout."""
    out = sys.stdout.buffer
    async with switch_capture.capture(directory, asked["segment"], asked["pid"], asked["mac"]) as source:
        out.write(pcap.HEADER)
        out.flush()
        async for frame in source.frames():
            out.write(pcap.record(time.time(), frame))
            out.flush()


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    verb, directory, lab, *rest = argv
    asked = json.loads(rest[0] if rest else sys.stdin.buffer.read() or b"{}")
    try:
        if verb == "capture":
            asyncio.run(capture(Path(directory), asked))
            return 0
        told: dict[str, Any] = {"value": asyncio.run(do(verb, Path(directory), lab, asked))}
    except BrokenPipeError:
        return 0
    except LabError as error:
        told = {"what": error.what, "hint": error.hint, "detail": error.detail}
        if verb == "capture":
            sys.stderr.write(f"{error.what}\n")
            return FAILED
    except OSError as error:
        told = {"what": f"{directory} cannot be worked in: {error.strerror or error}.", "hint": "Make room there."}
    sys.stdout.write(json.dumps(told) + "\n")
    return FAILED if "what" in told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
