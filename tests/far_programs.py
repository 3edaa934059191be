"""A program of this machine for one that lacks it: with its loader and libraries it runs on any Linux of this CPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

FOLDER = "/root/far"
"""Where it is put there."""


def pack(name: str, folder: Path) -> Path:
    """A directory with all that a program of this machine needs, and a script by its name that runs it."""
    program = shutil.which(name)
    assert program is not None, f"{name} is not installed"
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [Path(path) for path in re.findall(r"(/\S+) \(0x", told)]
    (loader,) = (path for path in libraries if path.name.startswith("ld-"))
    folder.mkdir()
    for path in libraries:
        shutil.copy(path, folder)
    shutil.copy(program, folder / f"{name}.real")
    run = f'#!/bin/sh\nexec {FOLDER}/{loader.name} --library-path {FOLDER} {FOLDER}/{name}.real "$@"\n'
    (folder / name).write_text(run)
    for each in folder.iterdir():
        each.chmod(0o755)
    return folder


def bring(name: str, machine: str, folder: Path, nestlab: Callable[..., object]) -> str:
    """Copies it into a machine by `nestlab cp`. Returns its path there."""
    nestlab("exec", machine, "--", "rm", "-rf", FOLDER)
    nestlab("cp", str(pack(name, folder)), f"{machine}:{FOLDER}")
    return f"{FOLDER}/{name}"
