"""Commands that only read: status, ls, validate, schema. `status` imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError, Mistakes
from nestlab.base.frozen import frozen
from nestlab.cli import complete, light_status
from nestlab.cli.common import here, home, meant, paint, print_json
from nestlab.cli.exit_status import guarded, out, show
from nestlab.cli.options import Debug, Json, Sets, Words

if TYPE_CHECKING:
    pass


Deep = Annotated[
    bool, typer.Option("--deep", help="On a Proxmox VE: ask inside its hypervisors too, which takes more requests.")
]


@guarded
def status(words: Words = None, deep: Deep = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Show the machines of a lab, or some of them, as a tree: state, level, acceleration, addresses, uptime, memory; on
    a Proxmox VE also node and VMID. Without a lab: of all labs (with --json a list, `labs`).

    \b
    Examples:
      nestlab status                             all labs
      nestlab status pair
      nestlab status pair --json
    """
    light_status.status(words, as_json=as_json, deep=deep)
    return None


@frozen
class _Known:
    """A lab as listed. `running` counts machines at every level; None: those of a lab elsewhere are not asked."""

    lab: str
    machines: int
    running: int | None
    file: str
    directory: str
    error: str = ""
    ports: tuple[int, ...] = ()
    """Of 127.0.0.1 that lead to its machines for good."""


@guarded
def ls(as_json: Json = False, debug: Debug = False) -> int | None:
    """List the labs on this machine."""
    found = [_known(name) for name in home().labs()]
    if as_json:
        print_json({"labs": [asdict(each) for each in found]})
        return None
    if not found:
        out("no labs; `nestlab up FILE` makes one")
        return None
    from nestlab.base.paint import Style, columns

    forwarded = ["PORTS"] if any(each.ports for each in found) else []
    cells = [["LAB", "MACHINES", "RUNNING", *forwarded, "FILE"]]
    styles: list[list[Style | None]] = [["dim"] * len(cells[0])]
    for each in found:
        cells.append(
            [
                each.lab,
                str(each.machines),
                "-" if each.running is None else str(each.running),
                *([" ".join(map(str, each.ports)) or "-"] if forwarded else []),
                each.error or each.file or "-",
            ]
        )
        styles.append(
            ["bold", None, "green" if each.running else None, *[None for _ in forwarded], "red" if each.error else None]
        )
    show("\n".join(columns(cells, styles, paint())))
    return None


def _known(name: str) -> _Known:
    from nestlab.home import labs
    from nestlab.home import ports as kept_ports
    from nestlab.lab import blueprint_file
    from nestlab.lab.places import is_here

    try:
        place = home().existing(name)
        if place is None:
            raise LabError("it was just removed")
        blueprint = blueprint_file.load(place.blueprint, name)
        far = blueprint is not None and not is_here(blueprint.on)
        machines = {} if far else light_status.look(place, blueprint, deep=False).machines
    except LabError as error:
        return _Known(name, 0, 0, "", "", error.what)
    source = labs.load(place)
    running = None if far else sum(seen.state == "running" for seen in machines.values())
    count = len(blueprint.specs) if blueprint else len(machines)
    ports = tuple(each.local for each in kept_ports.load(place))
    return _Known(name, count, running, str(source.file) if source else "", str(place.root), ports=ports)


Checked = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE|LAB",
        help="A lab file or the name of a lab; left out: as for the other verbs.",
        autocompletion=complete.labs_and_files,
    ),
]


@guarded
def validate(words: Checked = None, sets: Sets = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Check a lab file, and show every mistake with its place. Exit status 2 if there is one."""
    from nestlab.lab.blueprint import images_of
    from nestlab.labfile import check
    from nestlab.show import taken
    from nestlab.verbs import unknown_packages

    file, known = _lab_file(words)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lab, notes = check(file, environ=os.environ, sets=[*known, *(sets or [])], memory=memory)
        unknown_packages.check(images_of(lab), home().cache)
    except Mistakes as mistakes:
        if not as_json:
            raise
        print_json({"ok": False, "mistakes": [asdict(mistake) for mistake in mistakes.mistakes]})
        return 2
    count = sum(1 for _ in lab.walk())
    if as_json:
        counts = {"machines": count, "segments": len(lab.segments)}
        told = {"ok": True, "lab": lab.name, **counts, "notes": [asdict(note) for note in notes]}
        print_json({**told, "taken": taken.data(lab.taken)})
        return None
    from nestlab.show.machine_table import counted

    show(f"{file}: ok: lab {lab.name}, {counted(count, 'machine')}, {counted(len(lab.segments), 'segment')}")
    for note in (*map(str, notes), *taken.lines(lab.taken)):
        show(f"note: {note}")
    return None


def _lab_file(words: list[str] | None) -> tuple[Path, tuple[str, ...]]:
    """The lab file that is meant, and what is put over it: that of a lab, where one is named."""
    from nestlab.home import labs
    from nestlab.home.targets import no_such_lab

    found = meant(words)
    if found.machines:
        raise no_such_lab(found.machines[0], home().labs())
    if found.file is not None:
        # As a person would write it: messages name it.
        return found.file.relative_to(here()) if found.file.is_relative_to(here()) else found.file, ()
    known = labs.load(labs.existing(home(), found.lab))
    if known is None:
        what = f"Which lab file lab {found.lab} was made from is not known."
        raise LabError(what, hint="Name the file: nestlab validate FILE")
    return known.file, known.sets


@guarded
def schema(debug: Debug = False) -> int | None:
    """Print the JSON Schema of lab files, for editors."""
    from importlib.resources import files

    out((files("nestlab") / "labfile" / "lab.schema.json").read_text(encoding="utf-8"), end="")
    return None
