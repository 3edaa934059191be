"""What all commands share, without typer: the directories, the lab that is meant, colours and JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.base.printable import to_json
from nestlab.cli.exit_status import out, paint
from nestlab.home.directories import Home
from nestlab.home.targets import Which, which

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint
    from nestlab.verbs.site import Site

__all__ = ["home", "lab_named", "made", "meant", "one_lab", "paint", "print_json", "site"]


def home() -> Home:
    """The state and cache directories of this user."""
    return Home.of(os.environ, Path.home())


def site() -> Site:
    """This machine, with the engines that nestlab has."""
    from nestlab.cli.exit_status import answered, on_terminal
    from nestlab.verbs import local

    return local.site(home(), consent=answered if on_terminal() else None)


def meant(words: Sequence[str] | None) -> Which:
    """The lab and the machines that the words of a command mean."""
    from nestlab.cli import complete

    return which(words or (), home().labs(), here(), complete.paths)


def here() -> Path:
    """The current directory; where it was deleted, one that has no files."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("/nonexistent")


def lab_named(found: Which) -> str:
    """The name of a lab that is there: that of the lab file, where a file is meant. LabError when it was never made."""
    if found.file is None:
        return found.lab
    from nestlab.home import labs

    name = labs.lab_of(home(), found.file)
    if name is None:
        from nestlab.labfile import parse

        name = parse(found.file, environ=os.environ).name
    if name not in home().labs():
        raise LabError(f"Lab {name} is not there.", hint=f"`nestlab up {found.file}` makes it.")
    own_lab(name, found.file, "Name the lab to mean it all the same.")
    return name


def own_lab(name: str, file: Path, hint: str) -> None:
    """LabError where the lab of this name is there and was made from another lab file, which is still there, too: two
    labs of one name."""
    from nestlab.home import labs

    place = home().existing(name) if name in home().labs() else None
    made_from = labs.load(place) if place else None
    if made_from is None or made_from.file.resolve() == file.resolve() or not made_from.file.exists():
        return
    raise LabError(f"Lab {name} was made from {made_from.file}, and {file} is another file.", hint=hint)


def one_lab(words: Sequence[str] | None) -> str:
    """The lab that is meant by words which name no machines."""
    found = meant(words)
    if found.machines:
        from nestlab.home.targets import no_such_lab

        raise no_such_lab((words or [""])[0], home().labs())
    return lab_named(found)


def made(name: str) -> Blueprint:
    """The blueprint of a lab that is there, as it was made."""
    from nestlab.home import labs
    from nestlab.lab import blueprint_file
    from nestlab.lab.blueprint import Blueprint

    return blueprint_file.load(labs.existing(home(), name).blueprint, name) or Blueprint(name)


def print_json(document: Any, *, indent: int | None = 1) -> None:
    """A JSON document on stdout."""
    out(to_json(document, indent=indent))
