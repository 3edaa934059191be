"""Answers what machines of a segment ask to boot from it: ARP, DHCP, TFTP and HTTP, frame by frame. Pure but for the
files, which are given.

Who asks is not trusted: it is told an address only where the lab knows its card, names of files are looked up and
never made into paths here, and what is kept of everybody together is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Protocol

from nestlab.network import dhcp, http, packets, tftp
from nestlab.network.netboot_offer import Offer
from nestlab.network.packets import Datagram, Frame, TcpSegment
from nestlab.network.tcp import Connection, Reply

CONNECTIONS = 64
"""TCP connections, and TFTP transfers, at a time; the one that was silent longest gives way to another."""

NOWHERE = IPv4Address(0)


class Opened(Protocol):
    """A file that is served."""

    size: int

    def read(self, at: int, count: int) -> bytes: ...

    def close(self) -> None: ...


class Files(Protocol):
    """What is served, by name."""

    def open(self, name: str) -> Opened | None:
        """None: there is none of that name."""


@dataclass
class _Tcp:
    connection: Connection
    mac: bytes
    files: list[Opened]


@dataclass
class _Tftp:
    transfer: tftp.Transfer
    mac: bytes
    file: Opened
    heard: float


_Peer = tuple[IPv4Address, int]


class Responder:
    """`number`: where a TCP connection's numbers begin. `say`: a line for the log."""

    def __init__(self, offer: Offer, files: Files, number: Callable[[], int], say: Callable[[str], None]) -> None:
        self.offer = offer
        self.files = files
        self.number = number
        self.say = say
        self.tcp: dict[_Peer, _Tcp] = {}
        self.tftp: dict[_Peer, _Tftp] = {}

    @property
    def busy(self) -> bool:
        """Whether something may have to be sent again."""
        return bool(self.tcp or self.tftp)

    def take(self, data: bytes, now: float) -> list[bytes]:
        """The frames that answer a frame."""
        if data[:6] not in (self.offer.mac, packets.BROADCAST):
            return []
        frame = packets.frame_of(data)
        if frame is None:
            return []
        if frame.kind == packets.ARP:
            return self._arp(frame)
        if frame.kind != packets.IPV4:
            return []
        found = packets.ip_of(frame.data)
        if found is None:
            return []
        protocol, source, target, content = found
        if protocol == packets.UDP:
            datagram = packets.datagram_of(source, target, content)
            return self._udp(frame, datagram, now) if datagram is not None else []
        if protocol == packets.TCP and target == self.offer.address.ip and self._near(source):
            segment = packets.segment_of(source, target, content)
            return self._segment(frame, segment, now) if segment is not None else []
        return []

    def late(self, now: float) -> list[bytes]:
        """The frames that are sent because nothing came in time."""
        sent: list[bytes] = []
        for peer, each in list(self.tcp.items()):
            sent += self._segments(each.mac, each.connection.late(now))
            self._forget(peer)
        for peer, kept in list(self.tftp.items()):
            sent += self._blocks(peer, kept, kept.transfer.late(now))
        return sent

    def close(self) -> None:
        """Everything is given up."""
        for each in self.tcp.values():
            each.connection.closed = True
        for peer in list(self.tcp):
            self._forget(peer)
        for kept in self.tftp.values():
            kept.file.close()
        self.tftp.clear()

    def _near(self, source: IPv4Address) -> bool:
        network = self.offer.address.network
        edges = (network.network_address, network.broadcast_address, self.offer.address.ip)
        return source in network and source not in edges

    def _name(self, mac: bytes) -> str:
        lease = self.offer.leases.get(mac)
        return lease.name if lease is not None else mac.hex(":")

    def _arp(self, frame: Frame) -> list[bytes]:
        question = packets.question_of(frame.data)
        if question is None or question.target != self.offer.address.ip:
            return []
        answer = packets.arp_answer(question, self.offer.mac)
        return [packets.ethernet(frame.source, self.offer.mac, packets.ARP, answer)]

    def _ip(self, mac: bytes, data: bytes) -> bytes:
        return packets.ethernet(mac, self.offer.mac, packets.IPV4, data)

    # UDP

    def _udp(self, frame: Frame, datagram: Datagram, now: float) -> list[bytes]:
        if (datagram.target_port, datagram.source_port) == (dhcp.SERVER, dhcp.CLIENT):
            return self._dhcp(datagram)
        if datagram.target != self.offer.address.ip or not self._near(datagram.source):
            return []
        peer = (datagram.source, datagram.source_port)
        if datagram.target_port == tftp.PORT:
            return self._tftp(frame.source, peer, datagram.data, now)
        kept = self.tftp.get(peer)
        if kept is None or datagram.target_port != _transfer_port(peer):
            return []
        kept.heard = now
        return self._blocks(peer, kept, kept.transfer.take(datagram.data, now))

    def _dhcp(self, datagram: Datagram) -> list[bytes]:
        request = dhcp.request_of(datagram.data)
        lease = self.offer.leases.get(request.mac) if request is not None else None
        if request is None or lease is None:
            if request is not None and request.kind == dhcp.DISCOVER:
                self.say(f"DHCP {request.mac.hex(':')}: no card of the lab's, not answered")
            return []
        server, boots = self.offer.address.ip, self.offer.boot_of(request)
        answer = dhcp.Answer(lease.name, lease.address, server, boots, self.offer.mtu)
        kind = dhcp.answer_kind(request, answer)
        if kind is None:
            return []
        if kind == dhcp.NAK:
            self.say(f"DHCP {lease.name}: it asks for another address than {lease.address.ip}, refused")
        elif kind == dhcp.ACK:
            what = f"{request.client}, told to load {boots}" if boots else f"{request.client}, told to load nothing"
            self.say(f"DHCP {lease.name}: {lease.address.ip}, {what}")
        data = dhcp.reply(request, answer, kind)
        everybody = request.broadcast or kind == dhcp.NAK
        has = request.has if request.has != NOWHERE else lease.address.ip
        target = IPv4Address("255.255.255.255") if everybody else has
        mac = packets.BROADCAST if everybody else request.mac
        return [self._ip(mac, packets.udp(Datagram(server, target, dhcp.SERVER, dhcp.CLIENT, data)))]

    def _tftp(self, mac: bytes, peer: _Peer, data: bytes, now: float) -> list[bytes]:
        asked = tftp.request_of(data)
        if asked is None:
            return []
        if isinstance(asked, int):
            return self._datagrams(mac, peer, tftp.PORT, [tftp.error(asked, "only files are read here")])
        file = self.files.open(asked.name)
        said = f"TFTP {self._name(mac)}: {shown(asked.name)}"
        if file is None:
            self.say(f"{said}: there is no such file")
            return self._datagrams(mac, peer, tftp.PORT, [tftp.error(tftp.NOT_FOUND, "there is no such file")])
        self.say(f"{said}: {file.size} bytes")
        if peer in self.tftp:
            self.tftp.pop(peer).file.close()
        if len(self.tftp) >= CONNECTIONS:
            self.tftp.pop(min(self.tftp, key=lambda each: self.tftp[each].heard)).file.close()
        room = max(packets.UDP_BYTES, self.offer.mtu - packets.IP_BYTES - packets.UDP_BYTES - 4)
        kept = self.tftp[peer] = _Tftp(tftp.Transfer(file.read, file.size, asked, room), mac, file, now)
        return self._blocks(peer, kept, kept.transfer.begin(now))

    def _blocks(self, peer: _Peer, kept: _Tftp, blocks: list[bytes]) -> list[bytes]:
        if kept.transfer.done:
            self.tftp.pop(peer).file.close()
        return self._datagrams(kept.mac, peer, _transfer_port(peer), blocks)

    def _datagrams(self, mac: bytes, peer: _Peer, port: int, contents: Iterable[bytes]) -> list[bytes]:
        server = self.offer.address.ip
        return [self._ip(mac, packets.udp(Datagram(server, peer[0], port, peer[1], each))) for each in contents]

    # TCP

    def _segment(self, frame: Frame, segment: TcpSegment, now: float) -> list[bytes]:
        peer = (segment.source, segment.source_port)
        kept = self.tcp.get(peer)
        begins = segment.flags & (packets.SYN | packets.ACK | packets.RST) == packets.SYN
        if segment.target_port != http.PORT or (kept is None and not begins):
            return self._segments(frame.source, _refused(segment))
        if kept is not None and begins and segment.seq != kept.connection.first.seq:
            kept.connection.closed = True  # it is another one, of a client that began anew
            self._forget(peer)
            kept = None
        if kept is None:
            if len(self.tcp) >= CONNECTIONS:
                oldest = min(self.tcp, key=lambda each: self.tcp[each].connection.heard)
                self.tcp[oldest].connection.closed = True
                self._forget(oldest)
            kept = self._begun(frame.source, segment, now)
            self.tcp[peer] = kept
            return self._segments(frame.source, kept.connection.begin(now))
        sent = self._segments(frame.source, kept.connection.take(segment, now))
        self._forget(peer)
        return sent

    def _begun(self, mac: bytes, segment: TcpSegment, now: float) -> _Tcp:
        files: list[Opened] = []

        def ask(came: bytes) -> tuple[Reply, int] | None:
            asked = http.request_of(came)
            return None if asked is None else (self._http(mac, asked, files), asked.length)

        room = self.offer.mtu - packets.IP_BYTES - packets.TCP_BYTES
        return _Tcp(Connection(segment, self.number() & 0xFFFFFFFF, room, ask, now), mac, files)

    def _http(self, mac: bytes, asked: http.Asked, files: list[Opened]) -> Reply:
        file = self.files.open(asked.name) if asked.name else None
        answer = http.answer(asked, file.size if file is not None else None)
        size = f", {answer.size} bytes" if answer.size else ""
        self.say(f"HTTP {self._name(mac)}: {asked.method or '?'} {shown(asked.name or '?')}: {answer.status}{size}")
        for old in files:
            old.close()  # an answer begins when what came before it was sent
        files[:] = [file] if file is not None else []
        head, read = answer.head, file.read if file is not None else _nothing

        def content(at: int, count: int) -> bytes:
            if at < len(head):
                return head[at : at + count]
            return read(answer.start + at - len(head), count)

        return Reply(len(head) + answer.size, content, last=not asked.keep)

    def _forget(self, peer: _Peer) -> None:
        kept = self.tcp.get(peer)
        if kept is not None and kept.connection.closed:
            del self.tcp[peer]
            for file in kept.files:
                file.close()

    def _segments(self, mac: bytes, segments: Iterable[TcpSegment]) -> list[bytes]:
        return [self._ip(mac, packets.tcp(segment)) for segment in segments]


def _refused(segment: TcpSegment) -> list[TcpSegment]:
    """That there is no such connection (RFC 9293, 3.5.2)."""
    if segment.flags & packets.RST:
        return []
    length = len(segment.data) + bool(segment.flags & packets.SYN) + bool(segment.flags & packets.FIN)
    back = TcpSegment(segment.target, segment.source, segment.target_port, segment.source_port, 0, 0, packets.RST, 0)
    if segment.flags & packets.ACK:
        return [replace(back, seq=segment.ack)]
    return [replace(back, ack=segment.seq + length, flags=packets.RST | packets.ACK)]


def _transfer_port(peer: _Peer) -> int:
    """The port that a transfer comes from: another for each of a client's (RFC 1350, section 4)."""
    return 49152 + peer[1] % 16384


def _nothing(_at: int, _count: int) -> bytes:
    return b""


def shown(name: str) -> str:
    """A name that somebody else chose, in one line of the log."""
    return "".join(letter if " " < letter <= "~" else "?" for letter in name[:200])
