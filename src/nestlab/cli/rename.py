"""`nestlab rename`: another name for a lab that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.cli import complete
from nestlab.cli.common import one_lab, print_json, site
from nestlab.cli.exit_status import MEND, answered, guarded, on_terminal, run, say, show
from nestlab.cli.options import Debug, Json, Yes

if TYPE_CHECKING:
    from nestlab.verbs.rename import FileChange

Lab = Annotated[str, typer.Argument(metavar="LAB", help="The lab, or its lab file.", autocompletion=complete.labs)]
New = Annotated[str, typer.Argument(metavar="NEW", help="What it is to be called.")]


@guarded
def rename(lab: Lab, new: New, yes: Yes = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Give a lab that is stopped another name. Machines, disks, addresses, MACs and ssh keys stay the same. In the lab
    file that it was made from, the line `lab:` is changed with it, which is shown before; on a terminal it asks.

    \b
    Examples:
      nestlab stop pair
      nestlab rename pair demo
      nestlab start demo
    """
    return run(_rename(one_lab([lab]), new, agreed=yes, as_json=as_json))


async def _rename(name: str, new: str, *, agreed: bool, as_json: bool) -> int | None:
    from nestlab.verbs.rename import renaming

    async with renaming(site(), name, new) as ready:
        change = ready.change
        if not as_json:
            show(f"lab {name} becomes {new}; its machines, disks, addresses and keys stay\n{_shown(change)}".rstrip())
        if not agreed and not as_json and on_terminal() and not answered(f"Rename lab {name} to {new}?"):
            say("nothing was changed")
            return MEND
        left = await ready.perform()
        directory = str(ready.target.root)
    if as_json:
        file = str(change.file) if change.file else None
        edited = change.edits and not left
        print_json({"lab": new, "was": name, "directory": directory, "file": file, "edited": edited, "left": left})
        return None
    if left and left != change.advice:
        say(left)
    show(f"{new}: renamed from {name}; `nestlab start {new}` starts it")
    return None


def _shown(change: FileChange) -> str:
    if change.edits:
        return f"{change.file}:{change.line}\n  - {change.old.rstrip()}\n  + {change.new.rstrip()}"
    return change.advice
