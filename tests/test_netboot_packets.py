"""What netbooting speaks, packet by packet: DHCP, TFTP, TCP and HTTP, told what a client would say and what a hostile
one might."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.network import dhcp, http, packets, tftp
from nestlab.network.packets import ACK, FIN, RST, SYN, Datagram, TcpSegment
from nestlab.network.tcp import Connection, Reply

ME, YOU = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.11")
MAC = bytes.fromhex("525400000011")
HEAD = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s")


def ask(kind: int, *options: tuple[int, bytes], mac: bytes = MAC, has: str = "0.0.0.0") -> bytes:
    """A DHCP request."""
    said = b"".join(bytes([number, len(value)]) + value for number, value in ((53, bytes([kind])), *options))
    head = HEAD.pack(1, 1, 6, 0, 7, 0, 0x8000, IPv4Address(has).packed, bytes(4), bytes(4), bytes(4), mac, b"", b"")
    return head + b"\x63\x82\x53\x63" + said + b"\xff"


def told(data: bytes) -> tuple[tuple[bytes, bytes, bytes], dict[int, bytes]]:
    """(address, server, file) and options of an answer."""
    head = HEAD.unpack_from(data)
    options, at = {}, HEAD.size + 4
    while data[at] != 255:
        options[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return (head[8], head[9], head[13].rstrip(b"\0")), options


BIOS = (60, b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")
UEFI = (60, b"PXEClient:Arch:00007:UNDI:003000"), (93, b"\0\7")
BY_HTTP = (60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, b"\0\x10")
IPXE = (77, b"iPXE"), *BIOS


@pytest.mark.parametrize(
    ("options", "client"),
    [(BIOS, "bios"), (UEFI, "uefi"), (BY_HTTP, "http"), (IPXE, "ipxe"), ((), "system"), (((60, b"udhcp"),), "system")],
)
def test_what_asks_is_known_by_what_it_says_of_itself(
    options: tuple[tuple[int, bytes], ...], client: dhcp.Client
) -> None:
    request = dhcp.request_of(ask(dhcp.DISCOVER, *options))
    assert request is not None
    assert request.client == client
    assert request.uefi == (client in ("uefi", "http"))


def test_an_offer_has_the_address_of_the_lab_the_name_and_what_is_booted() -> None:
    answer = dhcp.Answer("web", IPv4Interface("10.77.0.11/24"), ME, "pxelinux.0", mtu=9000)
    request = dhcp.request_of(ask(dhcp.DISCOVER, *BIOS))
    assert request is not None
    (address, server, file), options = told(dhcp.reply(request, answer, dhcp.OFFER))
    assert (address, server, file) == (YOU.packed, ME.packed, b"pxelinux.0")
    assert options[53] == bytes([dhcp.OFFER])
    assert options[1] == bytes([255, 255, 255, 0])
    assert options[12] == b"web"
    assert options[26] == struct.pack(">H", 9000)
    assert options[67] == b"pxelinux.0"
    assert 3 not in options  # there is no router


def test_the_http_boot_of_a_uefi_is_told_that_it_is_meant() -> None:
    answer = dhcp.Answer("web", IPv4Interface("10.77.0.11/24"), ME, f"http://{ME}/ipxe.efi")
    request = dhcp.request_of(ask(dhcp.DISCOVER, *BY_HTTP))
    assert request is not None
    assert told(dhcp.reply(request, answer, dhcp.OFFER))[1][60] == b"HTTPClient"


def test_a_request_for_another_address_is_refused_and_one_of_another_server_left_alone() -> None:
    answer = dhcp.Answer("web", IPv4Interface("10.77.0.11/24"), ME)
    for options, has, kind in (
        (((50, YOU.packed),), "0.0.0.0", dhcp.ACK),
        ((), str(YOU), dhcp.ACK),
        (((50, ME.packed),), "0.0.0.0", dhcp.NAK),
        (((54, YOU.packed), (50, YOU.packed)), "0.0.0.0", None),
    ):
        request = dhcp.request_of(ask(dhcp.REQUEST, *options, has=has))
        assert request is not None
        assert dhcp.answer_kind(request, answer) == kind


@given(st.binary(max_size=600))
def test_nothing_that_comes_breaks_a_parser(data: bytes) -> None:
    dhcp.request_of(data)
    dhcp.request_of(ask(dhcp.DISCOVER)[:240] + data)
    tftp.request_of(data)
    http.request_of(data)
    packets.frame_of(data)
    packets.question_of(data)
    packets.ip_of(data)
    packets.datagram_of(ME, YOU, data)
    packets.segment_of(ME, YOU, data)


@given(st.binary(max_size=1200), st.integers(1, 65535), st.integers(1, 65535))
def test_what_is_packed_is_read_again(data: bytes, source: int, target: int) -> None:
    datagram = Datagram(ME, YOU, source, target, data)
    protocol, mine, yours, content = packets.ip_of(packets.udp(datagram)) or pytest.fail("no packet")
    assert protocol == packets.UDP
    assert packets.datagram_of(mine, yours, content) == datagram
    segment = TcpSegment(ME, YOU, source, target, 2**32 - 1, 5, SYN | ACK, 300, data, mss=1460, scale=3)
    protocol, mine, yours, content = packets.ip_of(packets.tcp(segment)) or pytest.fail("no packet")
    assert protocol == packets.TCP
    assert packets.segment_of(mine, yours, content) == segment


def test_a_packet_with_one_wrong_bit_is_none() -> None:
    whole = packets.udp(Datagram(ME, YOU, 1000, 69, b"some bytes"))
    for at in range(len(whole)):
        wrong = bytearray(whole)
        wrong[at] ^= 1
        found = packets.ip_of(bytes(wrong))
        assert found is None or packets.datagram_of(*found[1:]) is None


# TFTP


def content(size: int) -> bytes:
    return bytes(at * 7 % 251 for at in range(size))


def fetch(size: int, *options: tuple[str, str], lose: int = 0) -> tuple[bytes, tftp.Transfer]:
    """A file as a client gets it; every `lose`-th packet of either side is lost."""
    whole = content(size)
    asked = tftp.Asked("file", options)
    transfer = tftp.Transfer(lambda at, count: whole[at : at + count], size, asked, 1468)
    now, count, have = 0.0, 0, b""
    next_block = 1
    sent = transfer.begin(now)
    while not transfer.done:
        back: list[bytes] = []
        for each in sent:
            count += 1
            if lose and count % lose == 0:
                continue
            does, number = struct.unpack_from(">HH", each)
            if does == 6:
                back = [struct.pack(">HH", 4, 0)]
            elif number == next_block & 0xFFFF:
                have += each[4:]
                next_block += 1
                back = [struct.pack(">HH", 4, number)]
        sent = []
        for each in back:
            count += 1
            if not lose or count % lose:
                sent += transfer.take(each, now)
        if not sent:
            now += 10
            sent = transfer.late(now)
    return have, transfer


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 40000])
@pytest.mark.parametrize("options", [(), (("blksize", "1432"), ("tsize", "0")), (("windowsize", "8"),)])
@pytest.mark.parametrize("lose", [0, 7])
def test_a_file_arrives_whole_by_tftp(size: int, options: tuple[tuple[str, str], ...], lose: int) -> None:
    assert fetch(size, *options, lose=lose)[0] == content(size)


def test_tftp_block_numbers_go_round() -> None:
    size = 8 * 66000 + 3
    assert fetch(size, ("blksize", "8"), ("windowsize", "16"))[0] == content(size)


def test_tftp_agrees_on_no_larger_block_than_a_packet_holds_and_no_larger_window_than_is_fair() -> None:
    _, transfer = fetch(5000, ("blksize", "65464"), ("windowsize", "65535"))
    assert (transfer.block, transfer.window) == (1468, 16)


def test_tftp_gives_up_a_client_that_says_nothing() -> None:
    transfer = tftp.Transfer(lambda _at, count: bytes(count), 5000, tftp.Asked("file"), 1468)
    sent, now = len(transfer.begin(0)), 0.0
    while not transfer.done:
        now += 10
        sent += len(transfer.late(now))
    assert sent == 1 + tftp.TRIES


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\0\1kernel\0octet\0", tftp.Asked("kernel")),
        (b"\0\1a\0OCTET\0BlkSize\x001428\0", tftp.Asked("a", (("blksize", "1428"),))),
        (b"\0\2kernel\0octet\0", tftp.DENIED),
        (b"\0\1kernel", tftp.ILLEGAL),
        (b"\0\1kernel\0mail\0", tftp.ILLEGAL),
        (b"\0\1\xff\0octet\0", tftp.ILLEGAL),
        (b"\0\4\0\1", None),
    ],
)
def test_tftp_requests(data: bytes, found: object) -> None:
    assert tftp.request_of(data) == found


# HTTP


@pytest.mark.parametrize(
    ("text", "name", "keep"),
    [
        ("GET /kernel HTTP/1.1\r\nHost: a\r\n\r\n", "kernel", True),
        ("GET /a%20b/c?x=1 HTTP/1.0\r\n\r\n", "a b/c", False),
        ("GET http://10.77.0.1/kernel HTTP/1.1\r\nConnection: Close\r\n\r\n", "kernel", False),
        ("GET kernel HTTP/1.1\r\n\r\n", None, True),
        ("nonsense\r\n\r\n", None, False),
    ],
)
def test_http_requests(text: str, name: str | None, keep: bool) -> None:
    asked = http.request_of(text.encode())
    assert asked is not None
    assert (asked.name, asked.keep) == (name, keep)


@pytest.mark.parametrize(
    ("span", "status", "start", "size"),
    [
        ("", 200, 0, 100),
        ("bytes=10-19", 206, 10, 10),
        ("bytes=90-", 206, 90, 10),
        ("bytes=-5", 206, 95, 5),
        ("bytes=90-500", 206, 90, 10),
        ("bytes=100-", 416, 0, 0),
        ("bytes=-", 200, 0, 100),
    ],
)
def test_http_ranges(span: str, status: int, start: int, size: int) -> None:
    answer = http.answer(http.Asked("GET", "a", 0, keep=True, span=span), 100)
    assert (answer.status, answer.start, answer.size) == (status, start, size)


def test_http_refuses_what_does_not_read() -> None:
    assert http.answer(http.Asked("PUT", "a", 0, keep=True), 100).status == 405
    assert http.answer(http.Asked("GET", "a", 0, keep=True), None).status == 404
    assert http.answer(http.Asked("", None, 0, keep=False), None).status == 400
    assert http.answer(http.Asked("HEAD", "a", 0, keep=True), 100).size == 0


# TCP


class Client:
    """A client that asks once and reads, with packets lost either way where `lost` says so."""

    def __init__(self, size: int, lost: Iterator[bool], window: int = 65535, mss: int = 1460, last: bool = True):
        self.whole = content(size)
        self.lost = lost
        self.window = window
        self.seq, self.ack = 1000, 0
        self.have = b""
        self.ended = False
        self.syn = TcpSegment(YOU, ME, 40000, 80, self.seq, 0, SYN, window, mss=mss, scale=0)
        reply = Reply(size, lambda at, count: self.whole[at : at + count], last=last)
        self.connection = Connection(
            self.syn, 2**32 - 500, 1460, lambda came: (reply, len(came)) if came.endswith(b"!") else None, 0.0
        )

    def segment(self, flags: int, data: bytes = b"") -> TcpSegment:
        return TcpSegment(YOU, ME, 40000, 80, self.seq, self.ack, flags, self.window, data)

    def run(self) -> None:
        now = 0.0
        sent = self.connection.begin(now)
        asked = 0
        for _ in range(20000):
            back: list[TcpSegment] = []
            for each in sent:
                if next(self.lost):
                    continue
                if each.flags & SYN:
                    self.ack = (each.seq + 1) % 2**32
                    back.append(self.segment(ACK))
                    continue
                if each.seq == self.ack:
                    self.have += each.data
                    self.ack = (self.ack + len(each.data)) % 2**32
                    if each.flags & FIN and not self.ended:
                        self.ended = True
                        self.ack = (self.ack + 1) % 2**32
                back.append(self.segment(ACK))
            if self.ended:
                back.append(self.segment(FIN | ACK))
            elif self.ack and not self.have and asked < 1000:
                asked += 1
                back.append(self.segment(ACK, b"please!"))
            sent = []
            for segment in back:
                if not next(self.lost):
                    was = self.seq
                    sent += self.connection.take(segment, now)
                    self.seq = 1001
                    if segment.data and self.connection.next > was + 1:
                        self.seq = self.connection.next
            if self.ended:
                self.seq = self.connection.next if not self.connection.their_end else self.connection.next - 1
            if self.connection.closed:
                return
            if not sent:
                now += 9
                sent = self.connection.late(now)
        pytest.fail("it does not end")


def never() -> Iterator[bool]:
    while True:
        yield False


def every(number: int) -> Iterator[bool]:
    count = 0
    while True:
        count += 1
        yield count % number == 0


@pytest.mark.parametrize("size", [1, 1459, 1460, 100000, 700000])
@pytest.mark.parametrize("window", [1, 1000, 65535])
def test_an_answer_arrives_whole_by_tcp(size: int, window: int) -> None:
    client = Client(min(size, 3000) if window == 1 else size, never(), window=window)
    client.run()
    assert client.have == client.whole
    assert client.ended


@pytest.mark.parametrize("number", [3, 5, 11, 50])
def test_an_answer_arrives_whole_by_tcp_though_packets_are_lost(number: int) -> None:
    client = Client(60000, every(number))
    client.run()
    assert client.have == client.whole


def test_tcp_does_not_send_more_at_once_than_the_other_side_takes() -> None:
    client = Client(100000, never(), window=3000)
    client.connection.begin(0)
    client.ack = 2**32 - 499
    client.seq = 1001
    sent = client.connection.take(client.segment(ACK, b"please!"), 0)
    assert sum(len(each.data) for each in sent) == 3000
    assert max(len(each.data) for each in sent) <= 1460


def test_tcp_gives_up_a_client_that_says_nothing() -> None:
    client = Client(1000, never())
    now, sent = 0.0, client.connection.begin(0)
    count = 0
    while not client.connection.closed:
        now += 10
        sent = client.connection.late(now)
        count += len(sent)
    assert sent[-1].flags & RST
    assert count < 50


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 63), st.binary())))
def test_whatever_segments_come_a_connection_stays_bounded(said: list[tuple[int, int, int, bytes]]) -> None:
    client = Client(5000, never())
    client.connection.begin(0)
    for now, (seq, ack, flags, data) in enumerate(said):
        near = client.connection.next + seq % 5 - 2
        for number in (seq, near):
            segment = TcpSegment(YOU, ME, 40000, 80, number % 2**32, ack, flags, 1000, data)
            sent = client.connection.take(segment, float(now))
            assert sum(len(each.data) for each in sent) <= 5000
    assert len(client.connection.came) <= 16384
    assert len(client.connection.replies) <= 2
