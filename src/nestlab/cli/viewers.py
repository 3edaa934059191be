"""VNC viewers of a desktop: which there is, and how each is told an address, and a password that nobody sees."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nestlab.base import temporary
from nestlab.base.errors import LabError
from nestlab.base.files import replace

VIEWERS = ("remote-viewer", "vncviewer", "gvncviewer")
"""In this order. gvncviewer asks for the password itself."""


def viewer(environ: Mapping[str, str] = os.environ) -> str | None:
    """The program of the first viewer there is, where there is a desktop to show it."""
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return None
    return next((found for name in VIEWERS if (found := shutil.which(name, path=environ.get("PATH")))), None)


async def show(program: str, port: int, password: str, title: str) -> None:
    """Run a viewer until it is closed. LabError when it does not start, or fails."""
    with temporary.folder() as folder:
        argv, env = command(program, port, password, title, Path(folder))
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env={**os.environ, **env}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            raise LabError(f"{program} does not start: {error.strerror}.", hint="Try another viewer.") from error
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    if status != 0:
        raise LabError(f"{program} ended with status {status}.", hint="Its own words stand above.")


def command(program: str, port: int, password: str, title: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and what is added to the environment. The password is in neither's words: in a file of this
    user's alone (virt-viewer), or in a variable (TigerVNC)."""
    name = Path(program).name
    if name == "remote-viewer":
        file = folder / "screen.vv"
        lines = [
            "[virt-viewer]",
            "type=vnc",
            "host=127.0.0.1",
            f"port={port}",
            f"password={password}",
            f"title={title}",
        ]
        replace(file, ("\n".join([*lines, "delete-this-file=1"]) + "\n").encode(), 0o600, synced=False)
        return [program, str(file)], {}
    if name == "vncviewer":
        return [program, f"127.0.0.1::{port}"], {"VNC_PASSWORD": password}
    return [program, f"127.0.0.1::{port}"], {}
