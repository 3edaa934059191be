"""Parsed values to the forwarded ports of machines, with what contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nestlab.lab.ports import MOST, Port
from nestlab.labfile.network import Complaint
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section


class Ports:
    """Of all machines of a lab file. `made`: nestlab's own engine makes the outermost machines, and no Proxmox VE."""

    def __init__(self, *, made: bool) -> None:
        self._made = made
        self._taken: dict[int, str] = {}

    def of(
        self, picked: tuple[Any, Node | None, str], path: str, *, own: bool
    ) -> tuple[tuple[Port, ...], list[Complaint]]:
        """The ports of a machine, and what is wrong with them. `own`: it says them itself, rather than `defaults`."""
        given, node, key = picked
        if given is None or node is None:
            return (), []
        if not self._made:
            what = "`ports` means nothing here: for a lab on a Proxmox VE nothing keeps a port of this computer open"
            hint = f"Leave it out; `nestlab forward {path} PORT` does it while it runs."
            return (), [(node, key, what, hint)] if own else []
        found: dict[int, Port] = {}
        wrong: list[Complaint] = []
        for at, port, local in _said(given):
            place = f"{key}.{port}"
            if port in found:
                wrong.append((at, place, f"port {port} is here twice", "Say it once."))
                continue
            if local is not None and local in self._taken:
                what = f"port {local} of 127.0.0.1 is said of {self._taken[local]} already"
                wrong.append((at, place, what, f"Take another one, or leave it out: `ports: [{port}]`."))
                continue
            found[port] = Port(port, local)
            if local is not None:
                self._taken[local] = path
        if len(found) > MOST:
            wrong.append((node, key, f"there are more than {MOST} ports", "Forward a SOCKS proxy by ssh -D instead."))
        return tuple(found.values()), wrong


def _said(given: Any) -> Iterator[tuple[Node, int, int | None]]:
    if isinstance(given, Section):
        for name, local in given.values.items():
            if name.isdecimal():  # what is none has been told
                yield given.keys[name], int(name), local
    else:
        for node, port in given:
            yield node, port, None
