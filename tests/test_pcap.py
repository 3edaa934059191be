"""Captures: what is written is read back, also in pieces; the switch copies what passes one port."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.network import pcap, switch_capture
from switch_cards import BROADCAST, Card, ask, frame, kill, mac, ports, start, until
from test_cli import Console, console  # noqa: F401 - the fixture

frames = st.lists(st.binary(min_size=14, max_size=80), max_size=6)


@given(frames, st.integers(1, 50))
def test_a_capture_is_read_back_however_it_is_cut(sent: list[bytes], size: int) -> None:
    data = pcap.HEADER + b"".join(pcap.record(number + 0.5, each) for number, each in enumerate(sent))
    records = pcap.Records()
    found = [each for at in range(0, len(data), size) for each in records.feed(data[at : at + size])]
    assert found == [(number + 0.5, each) for number, each in enumerate(sent)]


def test_captures_of_the_other_byte_order_and_with_nanoseconds_are_read() -> None:
    head = struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    data = head + struct.pack(">IIII", 7, 250_000_000, 3, 3) + b"abc"
    assert list(pcap.Records().feed(data)) == [(7.25, b"abc")]


@pytest.mark.parametrize(
    "data",
    [
        b"tcpdump: no such device, and more",
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113),
        pcap.HEADER + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30),
    ],
)
def test_what_is_no_capture_is_told(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(pcap.Records().feed(data))


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
def test_tcpdump_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap.HEADER + pcap.record(1.0, frame(BROADCAST, mac(1), b"hi")))
    assert subprocess.run(["tcpdump", "-n", "-r", str(file)], capture_output=True).returncode == 0


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "net"
    started = start(place, "wire")
    assert started.returncode == 0, started.stderr
    yield place
    kill(place)


def plug(directory: Path) -> Card:
    already = len(ports(directory))
    card = Card(directory)
    until(lambda: len(ports(directory)) > already)
    return card


async def test_what_passes_a_port_is_copied_and_nothing_else(directory: Path) -> None:
    one, two, three = plug(directory), plug(directory), plug(directory)
    one.hello(mac(1), two, three)
    two.hello(mac(2), one, three)
    three.hello(mac(3), one, two)
    async with switch_capture.capture(directory, "wire", None, "52:54:00:00:00:01") as capture:
        two.send(frame(mac(1), mac(2), b"to it"))
        assert one.body() == "to it"
        one.send(frame(mac(2), mac(1), b"from it"))
        assert two.body() == "from it"
        two.send(frame(mac(3), mac(2), b"others'"))
        assert three.body() == "others'"
        three.send(frame(BROADCAST, mac(3), b"to all"))
        assert [one.body(), two.body()] == ["to all"] * 2
        seen = capture.frames()
        bodies = [(await anext(seen))[14:].rstrip(b"\0").decode() for _ in range(3)]
        assert bodies == ["to it", "from it", "to all"]
        one.close()  # its machine goes down
        assert [each async for each in seen] == []
    until(lambda: len(ports(directory)) == 2)
    two.send(frame(mac(9), mac(2), b"after"))
    assert three.body() == "after"
    for card in (two, three):
        card.close()


async def test_a_machine_without_a_card_there_is_told(directory: Path) -> None:
    with pytest.raises(LabError, match="No card of that machine"):
        async with switch_capture.capture(directory, "wire", None, "52:54:00:00:00:01"):
            pass
    assert ask(directory, {"do": "mirror", "segment": "wire", "port": 1, "of": 2})["ok"] is False


def test_capture_is_no_text_for_json_and_wants_a_segment_of_the_machine(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    said = console.run("capture", "hv1", "nowhere", "-o", "x.pcap", status=2).stderr
    assert "hv1 is not on a segment nowhere." in said
    assert "Its segments: wire." in said
    assert not (console.folder / "x.pcap").exists()
    assert "cannot hold" in console.run("capture", "hv1", "wire", "--json", status=2).stderr
