"""`nestlab init`: a lab file to begin with, from one of the examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.cli import complete
from nestlab.cli.common import home, paint, print_json, site
from nestlab.cli.exit_status import guarded, out, run, say
from nestlab.cli.options import Debug, Json

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The lab's name, an example's or another; left out: the example's.",
        autocompletion=complete.examples,
    ),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="EXAMPLE",
        help="Which example; without, that of the name, or it asks.",
        autocompletion=complete.examples,
    ),
]
Listed = Annotated[bool, typer.Option("--list", help="List the examples with what each needs, and write nothing.")]


@guarded
def init(
    name: Name = "", source: From = "", listed: Listed = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Write a lab file to begin with, from an example: NAME.yaml here. The list says what each example needs, whether
    that fits here, and how long bringing it up takes (after the first time, as it took here). A file that is there is
    never overwritten.

    \b
    Examples:
      nestlab init --list
      nestlab init pair                          pair.yaml, the example of that name
      nestlab init web --from pair               web.yaml, with lab: web
      nestlab init                               asks which
    """
    return run(_init(name, source, listed=listed, as_json=as_json))


async def _init(name: str, source: str, *, listed: bool, as_json: bool) -> None:
    from nestlab.verbs import examples

    known = examples.names()
    source = source or (name if name in known else "")
    if source and source not in known:
        raise LabError(f"There is no example {source}.", hint=f"Examples: {', '.join(known)}.")
    if listed or not source:
        host = site().host()
        try:
            found = await examples.described(host, home())
        finally:
            await host.close()
        if listed and as_json:
            print_json({"examples": [each.data() for each in found]})
            return
        if listed:
            out(examples.table(found, paint()))
            return
        source = _asked(examples.table(found, paint(sys.stderr)), known)
    path, lab = examples.write(source, name, Path.cwd())
    if as_json:
        print_json({"file": str(path), "lab": lab, "example": source})
        return
    out(f"{path.name}: lab {lab}, from the example {source}")
    out(f"next:\n  nestlab plan {path.name}\n  nestlab up {path.name}")


def _asked(table: str, known: list[str]) -> str:
    """The example that the person at the terminal chooses. LabError where nobody can be asked."""
    say(table)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise LabError(
            "It is not said which example to begin with.", hint=f"--from {known[0]}, or another of the list."
        )
    chosen: str = typer.prompt("Which example", default=known[0], err=True)
    if chosen not in known:
        raise LabError(f"There is no example {chosen}.", hint=f"Examples: {', '.join(known)}.")
    return chosen
