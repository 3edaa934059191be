"""One segment of the switch: its ports, the addresses that it learned, and where frames go.

Imports little: see `nestlab.network.switch`.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from nestlab.network.switch_ports import Loop, Port, Sort
from nestlab.network.switch_vlans import Vlans

if TYPE_CHECKING:
    from nestlab.network.switch_impair import Impaired

AGE = 300.0
"""Seconds after which a MAC address that sent nothing is forgotten (IEEE 802.1D's default)."""
MACS = 16384
"""Addresses that a segment learns; frames to any more go to all its ports."""
FLOWS = 4096


def socket_name(segment: str, port: str = "") -> str:
    """The file name of a segment's socket; none is that of the control socket (names never end in `-`). `port`: what
    comes by it, `20` for a VLAN or `trunk`."""
    name = "switch-" if segment == "switch" else segment
    return f"{name}.{port}.sock" if port else f"{name}.sock"


class Segment:
    """One isolated network. `table`: MAC address -> its port and when it was last seen to send (monotonic seconds).

    What becomes of a frame is decided in `route` alone, once per flow. Every change of `table` or of the ports
    forgets the flows, so they never disagree with it.
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.ports: dict[int, Port] = {}
        self.table: dict[bytes, tuple[Port, float]] = {}
        self.mirrors: dict[Port, Port] = {}
        self.opened = 0
        self.vlans: Vlans | None = None
        self.impaired: Impaired | None = None
        self.listeners: dict[str, socket.socket] = {}
        self.listen("", 0, trunk=False)

    def listen(self, word: str, vlan: int, *, trunk: bool) -> None:
        """Take ports of one kind, by a socket of their own."""
        if word not in self.listeners:
            listener = self.listeners[word] = listen(socket_name(self.name, word))
            self.loop.watch(listener.fileno(), lambda _events: self.accept(listener, vlan, trunk=trunk))

    def accept(self, listener: socket.socket, vlan: int, *, trunk: bool) -> None:
        sock = self.loop.accept(listener)
        if sock is not None:
            self.opened += 1
            port = self.ports[self.opened] = Port(self.loop, sock, self.opened, self.route, self.leave)
            port.vlan, port.trunk = vlan, trunk
            port.sort = self.sorter()
            self.changed()

    def tag(self, numbers: list[int]) -> None:
        """From now on the segment has VLANs, these among them."""
        if self.vlans is None:
            self.vlans = Vlans(self)
            self.table.clear()
            self.resort()
        self.listen("trunk", 0, trunk=True)
        for number in numbers:
            self.listen(str(number), number, trunk=False)

    def sorter(self) -> Sort | None:
        """What reads frames one by one, where they are not passed on as they come."""
        if self.vlans is not None:
            return self.vlans.sort
        return self.impaired.sort if self.impaired is not None else None

    def resort(self) -> None:
        for port in self.ports.values():
            port.sort = self.sorter()
        self.changed()

    def impair(self, rules: object) -> None:
        """From now on these rules impair its frames (see `switch_impair`), and no others; what waits is sent."""
        from nestlab.network import switch_impair

        bad = switch_impair.impaired(self, rules)
        if self.impaired is not None:
            self.impaired.release(everything=True)
        self.impaired = bad
        self.resort()

    def leave(self, port: Port) -> None:
        if self.impaired is not None:
            self.impaired.left(port)
        del self.ports[port.number]
        self.mirrors.pop(port, None)
        for mirror in [mirror for mirror, watched in self.mirrors.items() if watched is port]:
            mirror.close()  # there is nothing to capture any more
        for mac in [mac for mac, place in self.table.items() if place[0] is port]:
            del self.table[mac]
        port.flows.clear()
        self.changed()

    def changed(self) -> None:
        for port in self.ports.values():
            port.others = None
            port.flows.clear()
        if self.vlans is not None:
            self.vlans.flows.clear()

    def route(self, port: Port, key: bytes) -> tuple[Port, ...]:
        """The ports for a frame that came in by `port`: one, all others (unknown or group address), or none."""
        target, source = key[:6], key[6:]
        if not source[0] & 1:
            self.learn(port, source, time.monotonic())
        if port.others is None:
            others = (other for other in self.ports.values() if other not in self.mirrors)
            port.others = tuple(other for other in others if other is not port)
        targets = port.others
        place = self.table.get(target)
        if place is not None:
            targets = () if place[0] is port else place[0].alone
        if self.mirrors:
            watching = [mirror for mirror, watched in self.mirrors.items() if watched is port or watched in targets]
            targets = (*targets, *watching)
        if len(port.flows) >= FLOWS:
            port.flows.clear()
        port.flows[key] = targets
        return targets

    def learn(self, port: Port, mac: bytes, now: float) -> None:
        place = self.table.get(mac)
        if place is None and len(self.table) >= MACS:
            return
        self.table[mac] = (port, now)
        if place is None or place[0] is not port:
            self.changed()

    def age(self, now: float) -> None:
        """Forget who was silent for `AGE`. Flows are forgotten too, so that whoever still sends is seen again."""
        for mac in [mac for mac, place in self.table.items() if now - place[1] > AGE]:
            del self.table[mac]
        self.changed()

    def mirror(self, port: Port, watched: Port) -> None:
        """From now on `port` gets a copy of every frame to or from `watched`, and no others."""
        self.mirrors[port] = watched
        self.changed()

    def close(self) -> None:
        for word, listener in self.listeners.items():
            unlink(socket_name(self.name, word))
            self.loop.forget(listener.fileno())
            listener.close()
        for port in list(self.ports.values()):
            port.close()

    def status(self) -> dict[str, Any]:
        macs: dict[int, list[str]] = {number: [] for number in self.ports}
        for mac, (port, _) in self.table.items():
            macs[port.number].append(mac[:6].hex(":"))
        kinds = {number: {"vlan": port.vlan, "trunk": port.trunk} for number, port in self.ports.items()}
        ports = [{**port.status(), **kinds[number], "macs": macs[number]} for number, port in self.ports.items()]
        rules = self.impaired.status() if self.impaired is not None else {}
        return {"ports": ports, "opened": self.opened, "rules": rules}


def unlink(name: str) -> None:
    try:
        os.unlink(name)  # noqa: PTH108
    except FileNotFoundError:
        return


def listen(name: str) -> socket.socket:
    """A listening socket in the working directory: DIR may be longer than a socket's path may be."""
    unlink(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    mask = os.umask(0o177)
    try:
        listener.bind(name)
    finally:
        os.umask(mask)
    listener.listen(128)
    return listener
