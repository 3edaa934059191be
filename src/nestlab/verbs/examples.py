"""The examples that nestlab brings along, as lab files to begin with."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.files import create
from nestlab.base.frozen import frozen
from nestlab.base.paint import PLAIN, Paint, Style, columns, elapsed, human
from nestlab.home import step_times
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host
from nestlab.images.image_files import keys_of
from nestlab.lab import addresses
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, images_of, settle
from nestlab.lab.model import LAB_NAME_LIMIT, NAME
from nestlab.plan import planner
from nestlab.plan.capacity import overhead
from nestlab.plan.steps import Observed

FOLDER = "examples"
_SCHEMA = "# yaml-language-server:"


@frozen
class Example:
    """`memory`: bytes that its outermost machines take of the host's. `seconds`: what bringing it up takes here once
    it was done before; None: not known yet. `fits`: whether the host has that memory free now; None: it runs on a
    Proxmox VE."""

    name: str
    about: str
    machines: int
    levels: int
    memory: int
    seconds: float | None
    fits: bool | None

    def data(self) -> dict[str, Any]:
        return asdict(self)


def names() -> list[str]:
    """The examples that there are."""
    found = (files("nestlab.labfile") / FOLDER).iterdir()
    return sorted(each.name.removesuffix(".yaml") for each in found if each.name.endswith(".yaml"))


def text_of(name: str) -> str:
    """The lab file of an example."""
    return (files("nestlab.labfile") / FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


async def described(host: Host, home: Home) -> list[Example]:
    """All examples, with what each needs of this host."""
    facts = await host.facts()
    times = step_times.load(home)
    return [_described(name, facts, times) for name in names()]


def _described(name: str, facts: Facts, times: step_times.Times) -> Example:
    from nestlab.labfile import parse

    lab = parse(Path(str(files("nestlab.labfile") / FOLDER / f"{name}.yaml")), environ={})
    leases = addresses.lease(lab, Leases(), ())
    blueprint = settle(lab, leases, keys_of([*images_of(lab), PROBE]))
    memory = sum(spec.machine.memory + overhead(spec, facts) for spec in blueprint.children(""))
    levels = max(spec.level for spec in blueprint.specs)
    fits = None if lab.on else memory <= facts.memory_available
    about, seconds = _about(text_of(name)), _seconds(blueprint, times)
    return Example(name, about, len(blueprint.specs), levels, memory, seconds, fits)


def _about(text: str) -> str:
    """The first sentence of its first comment."""
    lines = [line for line in text.splitlines() if not line.startswith(_SCHEMA)]
    comments = itertools.dropwhile(lambda line: line == "#", lines)
    words = " ".join(line.removeprefix("# ") for line in itertools.takewhile(lambda line: line[:2] == "# ", comments))
    return words.partition(". ")[0].removesuffix(".")


def _seconds(blueprint: Blueprint, times: step_times.Times) -> float | None:
    """By what its steps took here, images built: the longest way through the plan."""
    todo = planner.plan(blueprint, Observed(images=frozenset(blueprint.images)), "running")
    return step_times.longest(todo, step_times.usual(times, todo, blueprint))


def table(examples: Sequence[Example], paint: Paint = PLAIN) -> str:
    """The examples for a person."""
    head = ["EXAMPLE", "MACHINES", "LEVELS", "MEMORY", "FITS HERE", "TIME", "WHAT IT IS"]
    cells, styles = [head], list[list[Style | None]]([["dim"] * len(head)])
    for each in examples:
        fits = {True: "yes", False: "no", None: "on a PVE"}[each.fits]
        time = f"about {elapsed(max(1.0, each.seconds))}" if each.seconds is not None else "not known yet"
        cells.append([each.name, str(each.machines), str(each.levels), human(each.memory), fits, time, each.about])
        styles.append(["bold", None, None, None, "red" if each.fits is False else None, None, "dim"])
    return "\n".join(columns(cells, styles, paint))


def write(example: str, name: str, folder: Path) -> tuple[Path, str]:
    """Write a lab file from an example: `NAME.yaml` in a folder; its path, and the lab's name. LabError for what is no
    name of a lab, and where such a file is already: it stays as it is."""
    lab = name or example
    if not NAME.fullmatch(lab) or len(lab) > LAB_NAME_LIMIT:
        hint = f"A lab's name has at most {LAB_NAME_LIMIT} of a-z, 0-9 and -, and starts with a letter."
        raise LabError(f"{lab!r} is not the name of a lab.", hint=hint)
    path = folder / f"{lab}.yaml"
    text = renamed(text_of(example), lab, str(files("nestlab.labfile") / "lab.schema.json"))
    os.umask(umask := os.umask(0o077))
    if os.path.lexists(path) or not create(path, text.encode(), 0o666 & ~umask):
        raise LabError(f"{path.name} is there already, and stays as it is.", hint="Give another name.")
    return path, lab


def renamed(text: str, lab: str, schema: str) -> str:
    """The text of an example as lab `lab`, with the schema where it is installed."""
    text = re.sub(r"(?m)^lab: \S+", f"lab: {lab}", text)
    return re.sub(rf"(?m)^{re.escape(_SCHEMA)}.*$", f"{_SCHEMA} $schema={schema}", text)
