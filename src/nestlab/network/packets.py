"""Packets of Ethernet, ARP, IPv4, UDP and TCP, as far as a machine needs them to boot from a network. Pure.

Whatever comes is somebody else's: what is not a whole packet of these is None, and nobody answers it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from nestlab.base.frozen import frozen

BROADCAST = b"\xff" * 6
ARP, IPV4 = 0x0806, 0x0800
TCP, UDP = 6, 17

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_ETHERNET = struct.Struct(">6s6sH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_IP = struct.Struct(">BBHHHBBH4s4s")
_UDP = struct.Struct(">HHHH")
_TCP = struct.Struct(">HHIIBBHHH")

IP_BYTES, UDP_BYTES, TCP_BYTES = _IP.size, _UDP.size, _TCP.size


@frozen
class Frame:
    """What an Ethernet frame without a tag holds."""

    target: bytes
    source: bytes
    kind: int
    data: bytes


@frozen
class Arp:
    """A question for the MAC address of `target`."""

    mac: bytes
    sender: IPv4Address
    target: IPv4Address


@frozen
class Datagram:
    """A UDP datagram, and where it is from and to."""

    source: IPv4Address
    target: IPv4Address
    source_port: int
    target_port: int
    data: bytes


@frozen
class TcpSegment:
    """A TCP segment (RFC 9293). `mss`, `scale`: of its options, where it is a SYN that has them."""

    source: IPv4Address
    target: IPv4Address
    source_port: int
    target_port: int
    seq: int
    ack: int
    flags: int
    window: int
    data: bytes = b""
    mss: int | None = None
    scale: int | None = None


def frame_of(data: bytes) -> Frame | None:
    """An Ethernet frame."""
    if len(data) < _ETHERNET.size:
        return None
    target, source, kind = _ETHERNET.unpack_from(data)
    return None if source[0] & 1 else Frame(target, source, kind, data[_ETHERNET.size :])


def ethernet(target: bytes, source: bytes, kind: int, data: bytes) -> bytes:
    """The bytes of a frame, filled up to the least that Ethernet has."""
    return (_ETHERNET.pack(target, source, kind) + data).ljust(60, b"\0")


def question_of(data: bytes) -> Arp | None:
    """What an ARP packet (RFC 826) asks."""
    if len(data) < _ARP.size:
        return None
    kind, protocol, longs, shorts, does, mac, sender, _, target = _ARP.unpack_from(data)
    if (kind, protocol, longs, shorts, does) != (1, IPV4, 6, 4, 1):
        return None
    return Arp(mac, IPv4Address(sender), IPv4Address(target))


def arp_answer(question: Arp, mac: bytes) -> bytes:
    """That the address asked for is at `mac`."""
    return _ARP.pack(1, IPV4, 6, 4, 2, mac, question.target.packed, question.mac, question.sender.packed)


def ip_of(data: bytes) -> tuple[int, IPv4Address, IPv4Address, bytes] | None:
    """Protocol, source, target and content of a whole IPv4 packet. Fragments are none: what is sent for these
    protocols here fits a packet."""
    if len(data) < IP_BYTES:
        return None
    first, _, length, _, fragment, _, protocol, _, source, target = _IP.unpack_from(data)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < IP_BYTES or not header <= length <= len(data):
        return None
    if fragment & 0x3FFF or checksum(data[:header]):
        return None
    return protocol, IPv4Address(source), IPv4Address(target), data[header:length]


def ip(protocol: int, source: IPv4Address, target: IPv4Address, data: bytes, number: int = 0) -> bytes:
    """The bytes of an IPv4 packet, which is not to be cut into fragments."""
    said = (0x45, 0, IP_BYTES + len(data), number & 0xFFFF, 0x4000, 64, protocol)
    head = _IP.pack(*said, 0, source.packed, target.packed)
    return _IP.pack(*said, checksum(head), source.packed, target.packed) + data


def datagram_of(source: IPv4Address, target: IPv4Address, data: bytes) -> Datagram | None:
    """A UDP datagram in an IPv4 packet."""
    if len(data) < UDP_BYTES:
        return None
    source_port, target_port, length, said = _UDP.unpack_from(data)
    if not UDP_BYTES <= length <= len(data) or not source_port:
        return None
    data = data[:length]
    if said and checksum(_pseudo(UDP, source, target, length) + data):
        return None
    return Datagram(source, target, source_port, target_port, data[UDP_BYTES:])


def udp(datagram: Datagram) -> bytes:
    """The bytes of an IPv4 packet with it."""
    length = UDP_BYTES + len(datagram.data)
    head = _UDP.pack(datagram.source_port, datagram.target_port, length, 0)
    total = checksum(_pseudo(UDP, datagram.source, datagram.target, length) + head + datagram.data) or 0xFFFF
    head = _UDP.pack(datagram.source_port, datagram.target_port, length, total)
    return ip(UDP, datagram.source, datagram.target, head + datagram.data)


def segment_of(source: IPv4Address, target: IPv4Address, data: bytes) -> TcpSegment | None:
    """A TCP segment in an IPv4 packet."""
    if len(data) < TCP_BYTES or checksum(_pseudo(TCP, source, target, len(data)) + data):
        return None
    source_port, target_port, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(data)
    header = (offset >> 4) * 4
    if not TCP_BYTES <= header <= len(data) or not source_port:
        return None
    mss, scale = _options(data[TCP_BYTES:header]) if flags & SYN else (None, None)
    return TcpSegment(
        source, target, source_port, target_port, seq, ack, flags, window, data[header:], mss=mss, scale=scale
    )


def _options(data: bytes) -> tuple[int | None, int | None]:
    """The largest segment and the scale of windows (RFC 7323) that options say."""
    mss = scale = None
    at = 0
    while at < len(data) and data[at]:
        if data[at] == 1:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            break
        if data[at] == 2 and length == 4:
            mss = int.from_bytes(data[at + 2 : at + 4])
        elif data[at] == 3 and length == 3:
            scale = min(data[at + 2], 14)
        at += length
    return mss, scale


def tcp(segment: TcpSegment) -> bytes:
    """The bytes of an IPv4 packet with it."""
    options = b""
    if segment.mss is not None:
        options += struct.pack(">BBH", 2, 4, segment.mss)
    if segment.scale is not None:
        options += struct.pack(">BBBB", 1, 3, 3, segment.scale)
    said = (segment.source_port, segment.target_port, segment.seq & 0xFFFFFFFF, segment.ack & 0xFFFFFFFF)
    said += ((TCP_BYTES + len(options)) // 4 << 4, segment.flags, segment.window)  # type: ignore[assignment]
    rest = options + segment.data
    pseudo = _pseudo(TCP, segment.source, segment.target, TCP_BYTES + len(rest))
    total = checksum(pseudo + _TCP.pack(*said, 0, 0) + rest)
    return ip(TCP, segment.source, segment.target, _TCP.pack(*said, total, 0) + rest)


def _pseudo(protocol: int, source: IPv4Address, target: IPv4Address, length: int) -> bytes:
    return source.packed + target.packed + struct.pack(">BBH", 0, protocol, length)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over what has a right one in it."""
    if len(data) % 2:
        data += b"\0"
    # 2**16 is 1 modulo 65535: the sum of 16-bit words is the remainder of all of it as one number.
    rest = int.from_bytes(data) % 0xFFFF
    return 0xFFFF - rest if rest or not any(data) else 0
