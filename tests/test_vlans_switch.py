"""A segment of the switch that has VLANs, with cards that speak to it as QEMU does."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.network.switch_ports import LIMIT, Loop, Port
from nestlab.network.switch_segment import Segment, socket_name
from switch_cards import BROADCAST, Card, ask, frame, framed, kill, mac, ports, start, until

Plug = Callable[..., Card]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a switch serves `lan`, with VLANs 10 and 20, and `wire`, without any."""
    place = tmp_path_factory.mktemp("net")
    started = start(place, "lan", "wire")
    assert started.returncode == 0, started.stderr
    assert ask(place, {"do": "vlans", "segment": "lan", "vlans": [10, 20]}) == {"ok": True}
    yield place
    kill(place)


@pytest.fixture
def plug(directory: Path) -> Iterator[Plug]:
    """Makes cards on `lan` of one kind: "", a VLAN or `trunk`. They are unplugged at the end."""
    cards: list[Card] = []

    def make(port: str = "", segment: str = "lan") -> Card:
        already = len(ports(directory, segment))
        cards.append(Card(directory, segment, port))
        until(lambda: len(ports(directory, segment)) > already)
        return cards[-1]

    yield make
    for card in cards:
        card.close()
    until(lambda: not ports(directory, "lan") and not ports(directory, "wire"))


def tagged(data: bytes, vlan: int, priority: int = 0) -> bytes:
    return data[:12] + struct.pack(">HH", 0x8100, priority << 13 | vlan) + data[12:]


def test_machines_on_one_vlan_reach_each_other_and_no_others(plug: Plug) -> None:
    a, b, other, plain = plug("10"), plug("10"), plug("20"), plug()
    a.send(frame(BROADCAST, mac(1), b"to ten"))
    assert b.body() == "to ten"
    other.send(frame(BROADCAST, mac(3), b"to twenty"))
    plain.send(frame(BROADCAST, mac(4), b"to none"))
    b.send(frame(mac(1), mac(2), b"answer"), frame(mac(3), mac(2), b"not there"))
    assert [a.body(), a.body()] == ["answer", "not there"]
    for card in (other, plain):
        card.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            card.sock.recv(1)


def test_a_trunk_gets_the_tags_of_vlans_and_what_has_none_as_it_is(plug: Plug) -> None:
    trunk, ten, twenty, plain = plug("trunk"), plug("10"), plug("20"), plug()
    frames = [frame(BROADCAST, mac(number), b"x" * number) for number in (1, 2, 3)]
    for card, sent in zip((ten, twenty, plain), frames, strict=True):
        card.send(sent)
        expected = {id(ten): tagged(sent, 10), id(twenty): tagged(sent, 20)}.get(id(card), sent)
        assert trunk.receive() == expected


def test_what_a_trunk_tags_reaches_that_vlan_without_the_tag(plug: Plug) -> None:
    trunk, ten, twenty, plain = plug("trunk"), plug("10"), plug("20"), plug()
    for vlan, card in ((10, ten), (20, twenty)):
        sent = frame(BROADCAST, mac(vlan), b"for you alone")
        trunk.send(tagged(sent, vlan, priority=5))
        assert card.receive() == sent
    trunk.send(frame(BROADCAST, mac(5), b"for none"), tagged(frame(BROADCAST, mac(5), b"one is none"), 1))
    assert [plain.body(), plain.body()] == ["for none", "one is none"]


def test_a_tag_passes_between_trunks_as_it_was(plug: Plug) -> None:
    one, other = plug("trunk"), plug("trunk")
    sent = tagged(frame(BROADCAST, mac(1), b"any"), 4094, priority=3)
    one.send(sent)
    assert other.receive() == sent


def test_a_machine_on_a_vlan_cannot_send_into_another_by_a_tag(directory: Path, plug: Plug) -> None:
    ten, twenty, plain, trunk = plug("10"), plug("20"), plug(), plug("trunk")
    for card in (ten, plain):
        card.send(tagged(frame(BROADCAST, mac(1), b"hop"), 20), frame(BROADCAST, mac(1), b"end"))
    assert trunk.receive() == tagged(frame(BROADCAST, mac(1), b"end"), 10)
    assert trunk.receive() == frame(BROADCAST, mac(1), b"end")
    assert [each["rx_errors"] for each in ports(directory, "lan")] == [1, 0, 1, 0]
    twenty.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        twenty.sock.recv(1)


def test_one_address_in_two_vlans_is_two(plug: Plug) -> None:
    ten, twenty, trunk = plug("10"), plug("20"), plug("trunk")
    ten.send(frame(BROADCAST, mac(7), b"ten"))
    twenty.send(frame(BROADCAST, mac(7), b"twenty"))
    assert [trunk.receive()[16:18], trunk.receive()[16:18]] == [b"\x08\x00"] * 2
    trunk.send(tagged(frame(mac(7), mac(1), b"a"), 10), tagged(frame(mac(7), mac(1), b"b"), 20))
    assert (ten.body(), twenty.body()) == ("a", "b")


def test_a_known_address_is_reached_by_its_port_alone(plug: Plug) -> None:
    one, two, trunk = plug("10"), plug("10"), plug("trunk")
    trunk.send(tagged(frame(BROADCAST, mac(9), b"hello"), 10))
    assert (one.body(), two.body()) == ("hello", "hello")
    one.send(frame(mac(9), mac(1), b"private"), frame(BROADCAST, mac(1), b"public"))
    assert two.body() == "public"
    assert trunk.receive() == tagged(frame(mac(9), mac(1), b"private"), 10)


def test_what_bridges_keep_to_themselves_passes_the_switch_on_every_vlan(plug: Plug) -> None:
    one, two, trunk = plug("10"), plug("10"), plug("trunk")
    for last in (0x00, 0x02, 0x03, 0x0E):
        sent = frame(bytes((1, 0x80, 0xC2, 0, 0, last)), mac(1), b"protocol")
        one.send(sent)
        assert two.receive() == sent
        assert trunk.receive() == tagged(sent, 10)


def test_the_largest_frames_get_a_tag_too(plug: Plug) -> None:
    one, trunk = plug("20"), plug("trunk")
    sent = frame(BROADCAST, mac(1), size=65521 + 14)
    one.send(sent)
    assert trunk.receive() == tagged(sent, 20)
    one.send(frame(BROADCAST, mac(1), size=LIMIT), frame(BROADCAST, mac(1), b"next"))
    assert trunk.receive() == tagged(frame(BROADCAST, mac(1), b"next"), 20)


def test_a_segment_without_vlans_passes_tags_as_they_are(plug: Plug) -> None:
    a, b = plug(segment="wire"), plug(segment="wire")
    sent = tagged(frame(BROADCAST, mac(1), b"any"), 20)
    a.send(sent)
    assert b.receive() == sent


def test_a_capture_sees_the_frames_as_its_port_does(directory: Path, plug: Plug) -> None:
    trunk, ten, capture, other = plug("trunk"), plug("10"), plug(), plug()
    numbers = [each["port"] for each in ports(directory, "lan")]
    asked = {"do": "mirror", "segment": "lan", "port": numbers[2]}
    sent, back = frame(BROADCAST, mac(1), b"there"), frame(BROADCAST, mac(2), b"back")
    for watched, forms in ((0, [tagged(sent, 10), tagged(back, 10)]), (1, [sent, back])):
        assert ask(directory, {**asked, "of": numbers[watched]})["ok"]
        ten.send(sent)
        assert trunk.receive() == tagged(sent, 10)
        trunk.send(tagged(back, 10))
        assert [capture.receive(), capture.receive()] == forms
    other.send(frame(BROADCAST, mac(3), b"end"))
    assert ten.body() == "back"


def test_cards_that_are_there_when_a_segment_gets_vlans_see_no_tags_from_then_on(tmp_path: Path) -> None:
    place = tmp_path / "n"
    assert start(place, "lan").returncode == 0
    try:
        cards = [Card(place, "lan"), Card(place, "lan")]
        until(lambda: len(ports(place, "lan")) == 2)
        cards[0].send(tagged(frame(BROADCAST, mac(1), b"before"), 20))
        assert cards[1].receive() == tagged(frame(BROADCAST, mac(1), b"before"), 20)
        assert ask(place, {"do": "vlans", "segment": "lan", "vlans": [20]})["ok"]
        cards[0].send(tagged(frame(BROADCAST, mac(1), b"after"), 20), frame(BROADCAST, mac(1), b"bare"))
        assert cards[1].body() == "bare"
        assert (place / socket_name("lan", "20")).is_socket()
        assert ask(place, {"do": "remove", "segment": "lan"})["ok"]
        assert not list(place.glob("lan*.sock"))
        for card in cards:
            card.close()
    finally:
        kill(place)


@pytest.mark.parametrize("numbers", [[0], [1], [4095], [True], ["20"], "20", None])
def test_what_is_no_vlan_is_refused(directory: Path, numbers: object) -> None:
    assert ask(directory, {"do": "vlans", "segment": "lan", "vlans": numbers})["ok"] is False
    assert ask(directory, {"do": "vlans", "segment": "none", "vlans": [10]})["ok"] is False


KINDS = ("", "10", "20", "trunk")


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, Port, socket.socket]]]:
    """Two ports of each kind on a segment in this process, with the sockets of their cards."""
    with contextlib.chdir(tmp_path_factory.mktemp("s")):
        made = Segment(Loop(), "lan")
        made.tag([10, 20])
        found = []
        for kind in KINDS * 2:
            card = socket.socket(socket.AF_UNIX)
            card.connect(socket_name("lan", kind))
            made.accept(made.listeners[kind], int(kind) if kind.isdigit() else 0, trunk=kind == "trunk")
            card.setblocking(False)
            found.append((kind, made.ports[made.opened], card))
        yield found
        made.close()
        for _, _, card in found:
            card.close()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 7), st.sampled_from([None, 0, 1, 10, 20, 30, 4095]), st.integers(0, 7), st.binary(max_size=80))
def test_any_frame_reaches_exactly_the_ports_of_its_vlan(
    around: list[tuple[str, Port, socket.socket]], source: int, tag: int | None, priority: int, body: bytes
) -> None:
    """From a port of any kind, with any tag: who gets it, and in which form, by the rules of IEEE 802.1Q."""
    kind, port, card = around[source]
    bare = frame(BROADCAST, mac(source + 1), body)
    sent = bare if tag is None else tagged(bare, tag, priority)
    own = int(kind) if kind.isdigit() else 0
    vlan = own if tag in (None, 0, 1) else tag or 0
    card.sendall(framed(sent))
    port.read()
    for number, (other, _, receiver) in enumerate(around):
        member = other == "trunk" or (int(other) if other else 0) == vlan
        if number == source or not member or not (kind == "trunk" or vlan == own):
            with pytest.raises(BlockingIOError):
                receiver.recv(1)
            continue
        form = bare
        if other == "trunk" and vlan:
            form = sent if tag == vlan else tagged(bare, vlan)
        assert receiver.recv(1 << 16) == framed(form)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 7))
def test_anything_in_place_of_a_frame_is_taken_and_the_next_one_passes(
    around: list[tuple[str, Port, socket.socket]], junk: bytes, source: int
) -> None:
    kind, port, card = around[source]
    last = frame(BROADCAST, mac(source + 1), b"next")
    card.sendall(framed(junk) + framed(last))
    port.read()
    peer = around[(source + 4) % 8][2]
    assert peer.recv(1 << 16).endswith(framed(last)), kind
    for _, _, each in around:
        with contextlib.suppress(BlockingIOError):
            each.recv(1 << 16)
