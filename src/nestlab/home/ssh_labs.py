"""Labs on hosts that ssh reaches: how a lab's directory is called there, and which hosts the user agreed to.

The name is random, and made before anything is made there: labs of two users, or of two computers, never meet in one
account of a host, whatever they are called.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.typed import parsed
from nestlab.home.directories import LabHome

NAME = "ssh-host.json"
"""In a lab's directory."""

HOSTS = "ssh-hosts"
"""Below nestlab's state directory: an address on each line, that a lab file named and the user agreed to."""

_ID = re.compile(r"[0-9a-f]{12}")


def new() -> str:
    """A name that no other lab has."""
    return secrets.token_hex(6)


def load(place: LabHome) -> str:
    """The name of a lab's directory; "" where nothing was made yet. LabError for a record that cannot be read."""
    path = place.root / NAME
    try:
        name = str(parsed(path.read_text(encoding="utf-8"))["directory"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "It says which directory of the host is the lab's. What is there must be ended and removed by hand."
        raise LabError(f"{path} cannot be read: {error}.", hint=hint) from error
    if not _ID.fullmatch(name):
        raise LabError(f"{path} names no directory of a lab.", hint="Somebody changed it.")
    return name


def keep(place: LabHome, name: str) -> None:
    """Keep it. LabError if that cannot be written."""
    if load(place) != name:
        files.replace(place.root / NAME, json.dumps({"directory": name}).encode(), 0o600)


def agreed(state: Path, address: str) -> bool:
    """Whether the user agreed to a host."""
    return address in _hosts(state)


def agree(state: Path, address: str) -> None:
    """Keep that the user agreed to it. LabError if that cannot be written."""
    kept = dict.fromkeys([*_hosts(state), address])
    files.replace(state / HOSTS, "".join(f"{each}\n" for each in kept).encode(), 0o600)


def _hosts(state: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return (state / HOSTS).read_text(encoding="utf-8").splitlines()
    return []
