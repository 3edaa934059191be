"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from nestlab.cli import complete

WORDS_HELP = "A lab file or the name of a lab (may be left out), then machines (none: all)."

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE|LAB|MACHINE", help=WORDS_HELP, autocompletion=complete.labs_and_machines),
]
LabWord = Annotated[
    list[str] | None,
    typer.Argument(metavar="LAB", help="The lab; may be left out.", autocompletion=complete.labs),
]
MachineWord = Annotated[
    str, typer.Argument(metavar="MACHINE", help="Such as hv1/web, or LAB:hv1/web.", autocompletion=complete.machines)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one event a line for runs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show every command that is run, on stderr.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Put a value over the lab file's: machines.hv1.memory=4G",
        autocompletion=complete.set_keys,
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Fail at once if another nestlab is at work on the lab.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
