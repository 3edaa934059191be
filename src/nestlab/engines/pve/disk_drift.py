"""Disks of a machine that somebody detached by hand, on a Proxmox VE: what is remembered of them, and how one is put
back. Pure.

A disk that is detached is kept: it stands in the configuration as `unusedN` until somebody deletes it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nestlab.base.errors import LabError
from nestlab.engines.pve.hardware import DRIVE, IDENTITY, volume_of

_UNUSED = re.compile(r"unused\d+")


def is_disk(key: str) -> bool:
    """Whether an option is a disk that a machine was made with. Its identity disk is not: that is made again."""
    return DRIVE.fullmatch(key) is not None and key != IDENTITY


def names_volume(drive: str) -> bool:
    """Whether the value of a drive begins with its volume, as a whole one does."""
    return "=" not in drive.split(",")[0].removeprefix("file=")


def options_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What is remembered of the disks in a configuration, and of which boots, as `key=value`: all but the volume and
    its size, which other tools may change."""
    disks = {key: str(value) for key, value in sorted(config.items()) if is_disk(key) and "serial=" in str(value)}
    lines = [f"{key}={_settings(value)}" for key, value in disks.items()]
    return (*lines, f"boot={config['boot']}") if disks and config.get("boot") else tuple(lines)


def kept(options: Iterable[str]) -> tuple[str, ...]:
    """Those of the options that `options_of` tells."""
    return tuple(line for line in options if is_disk(key := line.partition("=")[0]) or key == "boot")


def put_back(where: str, key: str, wanted: str, config: Mapping[str, Any]) -> str:
    """The value of a drive that is as it was again. `where`: the machine. LabError where its volume is gone, or where
    several are unused and it could be any of them: a wrong one is never attached."""
    unused = [str(config[each]) for each in sorted(config) if _UNUSED.fullmatch(each)]
    if len(unused) == 1:
        return f"{volume_of(unused[0])},{wanted}"
    if not unused and config.get(key):
        return f"{volume_of(config[key])},{wanted}"
    if unused:
        what = f"{where}: its disk {key} ({wanted}) was detached, and it may be any of {', '.join(unused)}."
        raise LabError(what, hint=f"Attach the right one as {key} with {wanted} in Proxmox VE, then try again.")
    what = f"{where}: its disk {key} ({wanted}) was detached and deleted."
    raise LabError(what, hint="`nestlab recreate` makes the machine anew, with an empty disk.")


def _settings(drive: str) -> str:
    return ",".join(part for part in drive.split(",")[1:] if not part.startswith("size="))
