"""Snapshots as text and JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nestlab.base.paint import elapsed, human
from nestlab.base.printable import brief, one_line
from nestlab.lab.snapshots import Kept, Manifest


def told(made: Manifest, seconds: float) -> str:
    """What was saved, in how long, and for how long each machine stood still."""
    size = sum(file.size for each in made.machines for file in each.files)
    what, count = "memory and disks" if made.memory else "disks", _machines(len(made.machines))
    lines = [f"{made.lab}: saved as {made.name}: {what} of {count}, {human(size)}, in {seconds:.1f} s"]
    for each in made.machines:
        if each.was == "running":
            lines.append(f"  {each.path} stood still for {each.pause:.2f} s")
    if made.inner:
        lines.append(f"  inside them were paused as well: {', '.join(made.inner)}")
    if made.stopped:
        lines.append(f"  were stopped for it: {', '.join(made.stopped)}")
    if made.memory:
        lines.append("  what was saved was loaded once, as a test")
    return "\n".join(map(brief, lines))


def data(made: Manifest) -> dict[str, Any]:
    """For --json."""
    return {
        "lab": made.lab,
        "snapshot": made.name,
        "parent": made.parent or None,
        "taken": made.taken,
        "memory": made.memory,
        "bytes": sum(file.size for each in made.machines for file in each.files),
        "machines": [
            {"path": each.path, "was": each.was, "memory": bool(each.memory), "pause": each.pause}
            for each in made.machines
        ],
        "inner": list(made.inner),
        "stopped": list(made.stopped),
    }


def announced(manifest: Manifest, lab: str, ends: Sequence[str], loses: Sequence[str], *, memory: bool) -> str:
    """What restoring it means."""
    how = "its machines go on where they were" if memory else "its machines are off, with their disks as they were"
    lines = [f"lab {lab} is put back to {manifest.name}: {how}"]
    if ends:
        lines.append(f"  end now, as by a power cut: {', '.join(ends)}")
    if loses:
        lines.append(f"  are not in it, and go with their disks: {', '.join(loses)}")
    return "\n".join(map(brief, lines))


def restored(manifest: Manifest, lab: str, seconds: float, loaded: float, left: Sequence[str], *, memory: bool) -> str:
    if not memory:
        return f"{lab}: put back to {manifest.name}, off; `nestlab start {lab}` boots it"
    lines = [f"{lab}: goes on from {manifest.name}, {seconds:.1f} s after that was begun (loaded after {loaded:.1f} s)"]
    if left:
        lines.append(
            f"  still paused, for what they are in did not answer: {', '.join(left)}; the next command lets them go on"
        )
    return "\n".join(map(brief, lines))


def renewed(path: str, clock: int | None, random: str, went_on: bool | None, why: str) -> str:
    """What was renewed of a machine, in a line."""
    if why:
        return brief(f"  {path}: nothing was renewed: {one_line(why)}")
    went = {True: "went on where it was", False: "did NOT go on where it was: it seems to be booted", None: "goes on"}[
        went_on
    ]
    set_right = "clock set" if clock is not None and abs(clock) <= 2 else "clock not set"
    stirred = {"reseeded": "random numbers renewed", "seeded": "random numbers renewed within a minute"}
    return brief(f"  {path}: {went}; {set_right}, {stirred.get(random, 'random numbers not renewed')}")


def tree(rows: Iterable[tuple[int, Kept]], now: float) -> str:
    """A snapshot a line, children below their parents."""
    named = [(f"{'  ' * depth}{each.name}{' *' if each.current else ''}", each) for depth, each in rows]
    width = max((len(name) for name, _ in named), default=0)
    return "\n".join(brief(f"{name:<{width}}  {_line(each, now)}") for name, each in named)


def _line(each: Kept, now: float) -> str:
    if each.manifest is None:
        return f"cannot be used: {one_line(each.why)}"
    what = "memory and disks" if each.manifest.memory else "disks"
    age = elapsed(now - each.manifest.taken)
    line = f"{age:>7} ago  {human(each.size):>5}  {what} of {_machines(len(each.manifest.machines))}"
    if each.loads.loads:
        line += f"; loaded {each.loads.loads} times, {each.loads.failures} failed"
    return line


def row(each: Kept) -> dict[str, Any]:
    """For --json."""
    known = data(each.manifest) if each.manifest is not None else {"snapshot": each.name}
    return {**known, "bytes": each.size, "current": each.current, "loads": plain_loads(each), "why": each.why or None}


def plain_loads(each: Kept) -> dict[str, int]:
    return {"loads": each.loads.loads, "failures": each.loads.failures}


def _machines(count: int) -> str:
    return f"{count} machine{'s' * (count != 1)}"
