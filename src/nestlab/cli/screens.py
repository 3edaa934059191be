"""Screens and keys of machines: screenshot, type, keys."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.cli import complete
from nestlab.cli.common import lab_named, meant, print_json, site
from nestlab.cli.exit_status import guarded, out, run, say, untouched
from nestlab.cli.machines import the_one
from nestlab.cli.options import Debug, Json, MachineWord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nestlab.base.keyboard import Chord
    from nestlab.base.picture import Picture
    from nestlab.home.targets import Which

Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="The PNG; - is stdout. Unless said: hv1-web.png.")
]
AsText = Annotated[bool, typer.Option("--text", help="Print the text on the screen, where it is one of characters.")]
Enter = Annotated[bool, typer.Option("--enter", "-e", help="Press Enter after it.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="ASCII, as on a US keyboard.")]
Keys = Annotated[
    list[str],
    typer.Argument(metavar="KEY", help="Such as ctrl-alt-f2, ret, esc, f12, down.", autocompletion=complete.keys),
]


@guarded
def screenshot(
    machine: MachineWord, output: Output = "", text: AsText = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Take a picture of a machine's screen, as a PNG, or print the text on it. It needs a screen: `display: true` in
    the lab file, or a boot loader of its own.

    \b
    Examples:
      nestlab screenshot hv1/web                 writes hv1-web.png
      nestlab screenshot hv1 -o - | display
      nestlab screenshot hv1 --text              what firmware, boot loader or a text console shows
    """
    return run(_screenshot(meant([machine]), output, text=text, as_json=as_json))


async def _screenshot(found: Which, output: str, *, text: bool, as_json: bool) -> None:
    from nestlab.explain import screen
    from nestlab.verbs import screens
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        picture = await screens.picture(session, path)
    if text and not as_json:
        lines = screen.text(picture)
        if not lines:
            what = f"The screen of {path} shows no text that can be read: it is a picture, empty, or in another font."
            raise LabError(what, hint=f"See it: nestlab screenshot {path}")
        out("\n".join(lines))
        return
    if output == "-" and not as_json:
        untouched(picture.png)
        return
    file = None if text or output == "-" else _written(picture, output, path)
    if as_json:
        shown = {"machine": path, "file": file and str(file), "width": picture.width, "height": picture.height}
        print_json({**shown, "text": list(screen.text(picture)), "end": screen.end(picture) or None})
    elif file is not None:
        out(str(file))


def _written(picture: Picture, output: str, path: str) -> Path:
    """Where the PNG was written, for this user alone: over what is there only where that was named."""
    if output:
        files.replace(Path(output), picture.png, 0o600, synced=False)
        return Path(output)
    name = path.replace("/", "-")
    names = (Path(f"{name}.{number}.png" if number > 1 else f"{name}.png") for number in count(1))
    return next(file for file in names if files.create(file, picture.png, 0o600))


@guarded
def type_text(
    machine: MachineWord, text: Text, enter: Enter = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Type a text on a machine's keyboard, as on a US layout. A text that cannot be typed whole is refused before
    anything is typed. A text that begins with - stands after --.

    \b
    Examples:
      nestlab type hv1 root --enter
      nestlab type hv1/web -- '-v'
    """
    from nestlab.base import keyboard

    return run(_press(meant([machine]), keyboard.typed(text + "\n" * enter), as_json=as_json))


@guarded
def press_keys(machine: MachineWord, keys: Keys, as_json: Json = False, debug: Debug = False) -> int | None:
    """Press keys of a machine's keyboard, one after another; those joined with - together. Names are QEMU's.

    \b
    Examples:
      nestlab keys hv1 ctrl-alt-f2
      nestlab keys hv1/web esc down down ret
    """
    from nestlab.base import keyboard

    return run(_press(meant([machine]), keyboard.chords(keys), as_json=as_json))


async def _press(found: Which, keys: Sequence[Chord], *, as_json: bool) -> None:
    from nestlab.verbs import screens
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        await screens.press(session, path, keys)
    if as_json:
        print_json({"machine": path, "pressed": ["-".join(chord) for chord in keys]})
    else:
        say(f"{len(keys)} key{'s' * (len(keys) != 1)} pressed on {path}")


@guarded
def view(machine: MachineWord, as_json: Json = False, debug: Debug = False) -> int | None:
    """Show a machine's screen in a VNC viewer (remote-viewer, vncviewer or gvncviewer) until that is closed. Where
    there is none, print what to type into one, until Ctrl-C. The way there is a port of 127.0.0.1 and a password for
    once.

    \b
    Examples:
      nestlab view hv1/web
    """
    return run(_view(meant([machine]), as_json=as_json))


async def _view(found: Which, *, as_json: bool) -> None:
    import asyncio
    import contextlib
    import sys

    from nestlab.cli import viewers
    from nestlab.verbs import screens
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        async with screens.viewed(session, path) as (port, seen):
            viewer = None if as_json else viewers.viewer()
            if viewer is not None:
                await viewers.show(viewer, port, seen.password, path)
                return
            if as_json:
                data = {"machine": path, "address": "127.0.0.1", "port": port, "password": seen.password}
                print_json({**data, "seconds": seen.seconds}, indent=None)
            else:
                out(f"vncviewer 127.0.0.1::{port}")
                say(f"password: {seen.password} (it lets in for {seen.seconds} s; again: nestlab view {path})")
                say("Ctrl-C ends it")
            sys.stdout.flush()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
