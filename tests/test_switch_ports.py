"""What a segment knows of its ports, with the time given."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.network.switch_ports import Loop
from nestlab.network.switch_segment import Segment, socket_name
from switch_cards import mac


@pytest.fixture
def segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    """A segment in this process, with three ports."""
    monkeypatch.chdir(tmp_path)
    made = Segment(Loop(), "wire")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for client in clients:
        client.connect(socket_name("wire"))
        made.accept(made.listeners[""], 0, trunk=False)
    yield made
    made.close()
    for client in clients:
        client.close()


def test_an_address_is_forgotten_after_five_silent_minutes(segment: Segment) -> None:
    a, b, c = segment.ports.values()
    segment.learn(a, mac(1), now=100.0)
    segment.age(now=399.0)
    assert segment.route(b, mac(1) + mac(2)) == (a,)
    segment.age(now=401.0)
    assert segment.route(b, mac(1) + mac(2)) == (a, c)


def test_who_sends_is_not_forgotten(segment: Segment) -> None:
    a, b, _ = segment.ports.values()
    segment.learn(a, mac(1), now=100.0)
    segment.learn(a, mac(1), now=350.0)
    segment.age(now=600.0)
    assert segment.route(b, mac(1) + mac(2)) == (a,)


def test_a_flood_of_addresses_takes_bounded_memory_and_old_ones_still_work(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nestlab.network.switch_segment.MACS", 100)
    monkeypatch.setattr("nestlab.network.switch_segment.FLOWS", 50)
    a, b, c = segment.ports.values()
    segment.learn(a, mac(1), now=0.0)
    for number in range(2, 1000):
        segment.route(b, mac(1) + mac(number))
    assert len(segment.table) == 100
    assert len(b.flows) <= 50
    assert segment.route(b, mac(1) + mac(2000)) == (a,)
    assert segment.route(a, mac(999) + mac(1)) == (b, c)
