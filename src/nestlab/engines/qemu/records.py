"""What stands in the files `making`, `made` and `boot` of a machine's directory, as typed values. Pure.

Inside a hypervisor its root can write anything there, so a record is accepted only as what nestlab writes: a path right
below the host that was asked, in the directory that has the path's own name, and values of their types.
"""

from __future__ import annotations

import json
import re
from dataclasses import field
from typing import Any, Literal

from nestlab.base.frozen import frozen
from nestlab.home.paths import short_id
from nestlab.lab.console_pattern import compiled
from nestlab.lab.disks import MadeDisk, made_disks
from nestlab.lab.model import directly_in, plain
from nestlab.lab.readiness import LONGEST_STILL, Ready
from nestlab.plan.room import NO_ROOM, Room
from nestlab.plan.steps import NO_PLUGS, Plugs

LONGEST = 1 << 14
"""Letters of the longest record: nestlab's own have some hundred."""

_DIGEST = re.compile(r"[0-9A-Za-z]{1,64}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@frozen
class Made:
    """What a machine was made from. None: the record does not tell, or not as nestlab writes it."""

    path: str
    digest: str | None = None
    names: str | None = None
    root: str | None = None
    disk: int | None = None
    disks: tuple[MadeDisk, ...] = ()


@frozen
class Started:
    """What a machine was started with. `tells`: its console says when it is up; `asked`: only asking it does, by what
    `ready` names; `plugs`: the disks that it still takes while it runs; `room`: what it can become."""

    port: int | None = None
    user: str = "root"
    accel: Literal["kvm", "tcg", "container"] | None = None
    tells: bool = False
    asked: bool = False
    ready: Ready = field(default_factory=Ready)
    plugs: Plugs = NO_PLUGS
    room: Room = NO_ROOM


def owner(line: str, parent: str, folder: str) -> str | None:
    """The machine that a directory `folder` on `parent` is of; None where the record names none that it can be of."""
    return _path(_object(line), parent, folder)


def made(line: str, parent: str, folder: str) -> Made | None:
    """The record of a machine that was made in a directory `folder` on `parent`; None where it is no such record."""
    data = _object(line)
    path = _path(data, parent, folder)
    if path is None:
        return None
    digest, names, root = (_digest(data.get(name)) for name in ("digest", "names", "root"))
    return Made(path, digest, names, root, _number(data.get("disk"), 1 << 62), _disks(data.get("disks", [])))


def started(line: str) -> Started:
    """The record of a machine's start; what is no value of its kind is as if it were not there."""
    data = _object(line)
    user, accel = data.get("user"), data.get("accel")
    return Started(
        _number(data.get("port"), 65535) or None,
        user if isinstance(user, str) and _USER.fullmatch(user) else "root",
        accel if accel in ("kvm", "tcg", "container") else None,
        data.get("tells") is True,
        data.get("asked") is True,
        _ready(data.get("ready")),
        _plugs(data.get("plugs")),
        _room(data.get("room")),
    )


def _ready(value: object) -> Ready:
    if not isinstance(value, dict):
        return Ready()
    by, port, pattern = value.get("by"), _number(value.get("port"), 65535), value.get("pattern")
    if by == "port" and port:
        return Ready("port", port=port)
    if by == "console" and isinstance(pattern, str):
        try:
            compiled(pattern)
        except ValueError:
            return Ready("none")
        return Ready("console", pattern=pattern)
    if by == "screen" and (still := _number(value.get("still"), LONGEST_STILL)):
        return Ready("screen", still=still)
    return Ready("agent") if by == "agent" else Ready("none")


def of_plugs(plugs: Plugs) -> list[int]:
    """What stands in the record of a start."""
    return [plugs.pci, int(plugs.scsi), int(plugs.out)]


def with_plugs(line: str, plugs: Plugs) -> bytes:
    """The record of a start, with what the machine takes now."""
    return json.dumps(_object(line) | {"plugs": of_plugs(plugs)}, separators=(",", ":")).encode() + b"\n"


def of_room(room: Room) -> list[int]:
    """What stands in the record of a start."""
    return [room.memory, room.more, room.cores, room.cpus, int(room.plugged), *room.asked]


def with_room(line: str, room: Room) -> bytes:
    """The record of a start, with what the machine can become now."""
    return json.dumps(_object(line) | {"room": of_room(room)}, separators=(",", ":")).encode() + b"\n"


def line_of(made: Made) -> bytes:
    """The record of what a machine was made from."""
    known = {name: value for name, value in plain(made).items() if value is not None}
    return json.dumps(known, separators=(",", ":")).encode() + b"\n"


def _plugs(value: object) -> Plugs:
    if not isinstance(value, list) or len(value) != 3 or any(_number(each, 255) is None for each in value):
        return NO_PLUGS
    return Plugs(value[0], value[1] == 1, value[2] == 1)


def _room(value: object) -> Room:
    if not isinstance(value, list) or len(value) != 7 or any(_number(each, 1 << 50) is None for each in value):
        return NO_ROOM
    memory, more, cores, cpus, plugged, *asked = value
    return Room(memory, more, cores, cpus, plugged == 1, (asked[0], asked[1]))


def _disks(rows: object) -> tuple[MadeDisk, ...]:
    try:
        return made_disks(rows)
    except ValueError:
        return ()


def _path(data: dict[str, Any], parent: str, folder: str) -> str | None:
    path = data.get("path")
    fits = isinstance(path, str) and directly_in(path, parent) and short_id(path) == folder
    return path if fits else None


def _digest(value: object) -> str | None:
    return value if isinstance(value, str) and _DIGEST.fullmatch(value) else None


def _number(value: object, most: int) -> int | None:
    return value if type(value) is int and 0 <= value <= most else None


def _object(line: str) -> dict[str, Any]:
    if len(line) > LONGEST:
        return {}
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
