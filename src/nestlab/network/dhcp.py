"""DHCP (RFC 2131) for machines that are known by their MAC addresses, and for what boots from a network. Pure.

Every machine gets the address that the lab says, and nobody else gets one. What a machine is told to boot depends on
what asks (RFC 4578, RFC 3004): a BIOS, a UEFI, the HTTP boot of a UEFI, or iPXE.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal

from nestlab.base.frozen import frozen

SERVER, CLIENT = 67, 68

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)

LEASE = 86400
"""Seconds; a machine has its address for good, and a client asks again after half of it."""

_HEAD = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s")
_COOKIE = b"\x63\x82\x53\x63"
_LEAST = 300
"""Bytes of the shortest answer that old clients take (RFC 1542, section 2.1)."""

_SERVER_ADDRESS = 54
_NO_PROXY = b"\xb0\x01\x01"
"""In option 175: iPXE does not wait for a proxy's answers (no-pxedhcp)."""

Client = Literal["bios", "uefi", "http", "ipxe", "system"]
"""What asks: a PXE ROM, a UEFI, its HTTP boot, iPXE with a script, or an operating system, which boots no more."""

_UEFI, _HTTP = (7, 9), 16
"""Option 93 of UEFI on x86-64: by PXE (7, and 9, which the registry swapped), by HTTP."""


@frozen
class Request:
    """What a client asks."""

    kind: int
    number: int
    seconds: int
    broadcast: bool
    has: IPv4Address
    mac: bytes
    options: Mapping[int, bytes]

    @property
    def client(self) -> Client:
        """By what is said of it."""
        if self.options.get(77, b"").lstrip(b"\x04") == b"iPXE":
            return "ipxe"
        vendor = self.options.get(60, b"")
        arch = self.options.get(93, b"")
        kind = int.from_bytes(arch[:2]) if len(arch) >= 2 else 0
        if vendor.startswith(b"HTTPClient"):
            return "http" if kind == _HTTP else "system"
        if not vendor.startswith(b"PXEClient"):
            return "system"
        return "uefi" if kind in _UEFI else "bios"

    @property
    def uefi(self) -> bool:
        """Whether it was started by a UEFI."""
        arch = self.options.get(93, b"")
        return len(arch) >= 2 and int.from_bytes(arch[:2]) in (*_UEFI, _HTTP)


@frozen
class Answer:
    """What a client is told. `boots`: the name of a file, or a URL; "": nothing."""

    name: str
    address: IPv4Interface
    server: IPv4Address
    boots: str = ""
    mtu: int = 1500


def request_of(data: bytes) -> Request | None:
    """A request of an Ethernet card; None for what is none."""
    if len(data) < _HEAD.size + 4 or data[_HEAD.size : _HEAD.size + 4] != _COOKIE:
        return None
    does, kind, length, _, number, seconds, flags, has, _, _, _, mac, _, _ = _HEAD.unpack_from(data)
    if (does, kind, length) != (1, 1, 6):
        return None
    options = _options(data[_HEAD.size + 4 :])
    asked = options.get(53, b"")
    if len(asked) != 1:
        return None
    return Request(asked[0], number, seconds, bool(flags & 0x8000), IPv4Address(has), mac[:6], options)


def _options(data: bytes) -> dict[int, bytes]:
    """Options by number; what is there twice is one, in two parts (RFC 3396)."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 256
        if at + 2 + length > len(data):
            break
        found[data[at]] = found.get(data[at], b"") + data[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def answer_kind(request: Request, answer: Answer) -> int | None:
    """OFFER, ACK or NAK, as the request is to be answered; None: not at all. A request of another server's offer is
    none of ours, and one of another address than the lab's is refused."""
    if request.kind == DISCOVER:
        return OFFER
    if request.kind == INFORM:
        return ACK
    if request.kind != REQUEST:
        return None
    server = request.options.get(_SERVER_ADDRESS)
    if server is not None and server != answer.server.packed:
        return None
    wanted = request.options.get(50) or request.has.packed
    return ACK if wanted == answer.address.ip.packed else NAK


def reply(request: Request, answer: Answer, kind: int) -> bytes:
    """The bytes of an answer."""
    options = [(53, bytes([kind])), (_SERVER_ADDRESS, answer.server.packed)]
    mine = IPv4Address(0) if kind == NAK or request.kind == INFORM else answer.address.ip
    boots = "" if kind == NAK else answer.boots
    if kind != NAK:
        network = answer.address.network
        if request.kind != INFORM:
            options += [(51, struct.pack(">I", LEASE))]
        options += [(1, network.netmask.packed), (28, network.broadcast_address.packed)]
        options += [(12, answer.name.encode())]
        if answer.mtu != 1500:
            options += [(26, struct.pack(">H", answer.mtu))]
    if boots:
        options += [(66, str(answer.server).encode()), (67, boots.encode())]
    if boots and request.client == "http":
        options += [(60, b"HTTPClient")]
    if boots and request.client == "ipxe":
        options += [(175, _NO_PROXY)]
    server = answer.server if boots else IPv4Address(0)
    file = boots.encode() if len(boots) < 128 else b""
    flags = 0x8000 if request.broadcast or kind == NAK else 0
    has = IPv4Address(0) if kind == NAK else request.has
    zero = bytes(4)
    head = (2, 1, 6, 0, request.number, 0, flags, has.packed, mine.packed, server.packed, zero)
    said = b"".join(bytes([number, len(value)]) + value for number, value in options)
    return (_HEAD.pack(*head, request.mac, b"", file) + _COOKIE + said + b"\xff").ljust(_LEAST, b"\0")
