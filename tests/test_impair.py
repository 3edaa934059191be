"""Frames delayed, lost and slowed down on purpose: the queue with the time given, and the switch as a process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueprints import pair
from nestlab.engines.qemu import link_impair
from nestlab.home.paths import Place
from nestlab.lab.faults import Fault, Impairment
from nestlab.network import switch_control
from nestlab.network.network_script import bridge_name
from nestlab.network.switch_impair import LONGEST, WAITING, Impaired, Rule, impaired
from nestlab.network.switch_ports import Loop
from nestlab.network.switch_segment import Segment, socket_name
from switch_cards import BROADCAST, Card, ask, frame, framed, kill, mac, ports, start, until


class Line:
    """A segment in this process with three ports, whose time and chance are given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        self.now = 100.0
        self.chance = 0.5
        self.segment = Segment(Loop(), "wire")
        self.clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in self.clients:
            client.connect(socket_name("wire"))
            client.settimeout(30)
            self.segment.accept(self.segment.listeners[""], 0, trunk=False)
        self.ports = list(self.segment.ports.values())

    def rules(self, rules: dict[bytes, Rule]) -> Impaired:
        made = self.segment.impaired = Impaired(self.segment, rules, lambda: self.chance, lambda: self.now)
        self.segment.resort()
        return made

    def send(self, sender: int, data: bytes) -> None:
        self.clients[sender].sendall(framed(data))
        self.ports[sender].read()

    def got(self, receiver: int) -> bytes:
        self.clients[receiver].setblocking(False)
        try:
            return self.clients[receiver].recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.segment.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    made = Line(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_frame_waits_for_its_delay_and_not_longer(line: Line) -> None:
    bad = line.rules({b"": Rule(0.04, 0, 0, 0)})
    data = frame(BROADCAST, mac(1), b"late")
    line.send(0, data)
    assert line.got(1) == b""
    assert bad.due() == pytest.approx(0.04)
    line.now += 0.0399
    bad.release()
    assert line.got(1) == b""
    line.now += 0.0002
    bad.release()
    assert line.got(1) == line.got(2) == framed(data)
    assert (line.got(0), bad.due()) == (b"", LONGEST)


def test_a_rule_for_a_link_is_for_what_comes_from_it_and_for_what_goes_to_it(line: Line) -> None:
    bad = line.rules({mac(1): Rule(0.1, 0, 0, 0)})
    line.send(0, frame(BROADCAST, mac(1)))
    assert bad.due() == pytest.approx(0.1)
    line.now += 1
    bad.release()
    line.send(1, frame(mac(1), mac(2)))
    assert bad.due() == pytest.approx(0.1)
    line.send(1, frame(mac(3), mac(2), b"others"))
    bad.release()
    assert b"others" in line.got(2)


def test_a_frame_passes_the_rules_of_both_links_and_of_the_segment_once_each(line: Line) -> None:
    bad = line.rules({b"": Rule(1, 0, 0, 0), mac(1): Rule(0.1, 0, 0, 0), mac(2): Rule(0.01, 0, 0, 0)})
    line.segment.learn(line.ports[1], mac(2), now=0)
    line.send(0, frame(mac(2), mac(1)))
    assert bad.due() == pytest.approx(1.11)


def test_what_is_lost_is_counted_where_it_was_to_go(line: Line) -> None:
    bad = line.rules({b"": Rule(0, 0, 0.25, 0)})
    for line.chance in (0.0, 0.24, 0.25, 0.99):
        line.send(0, frame(BROADCAST, mac(1)))
    bad.release()
    assert [port.dropped for port in line.ports] == [0, 2, 2]
    assert [port.tx_frames for port in line.ports] == [0, 2, 2]


def test_a_rate_lets_one_frame_after_the_other_through(line: Line) -> None:
    bad = line.rules({b"": Rule(0, 0, 0, 8000)})
    for _ in range(3):
        line.send(0, frame(BROADCAST, mac(1), size=100))
    bad.release()
    took = []
    while bad.waiting:
        took.append(bad.due())
        line.now += took[-1] + 1e-9
        bad.release()
    assert took == pytest.approx([0.1, 0.1, 0.1], abs=1e-6)


def test_no_more_waits_than_the_bound(line: Line) -> None:
    bad = line.rules({b"": Rule(LONGEST, 0, 0, 0)})
    line.segment.learn(line.ports[1], mac(2), now=0)
    size = 60_000
    for _ in range(WAITING // size + 10):
        line.send(0, frame(mac(2), mac(1), size=size))
    assert sum(len(each[3]) for each in bad.waiting) <= WAITING
    assert line.ports[1].dropped >= 10


def test_what_waits_is_sent_when_it_is_healed(line: Line) -> None:
    line.rules({b"": Rule(50, 0, 0, 0)})
    line.send(0, frame(BROADCAST, mac(1), b"at last"))
    line.segment.impair({})
    assert b"at last" in line.got(1)
    assert line.ports[0].sort is None
    line.send(0, frame(BROADCAST, mac(1), b"at once"))
    assert b"at once" in line.got(1)


def test_frames_for_a_port_that_went_away_are_forgotten(line: Line) -> None:
    bad = line.rules({b"": Rule(1, 0, 0, 0)})
    line.send(0, frame(BROADCAST, mac(1)))
    line.ports[1].close()
    line.now += 2
    bad.release()
    assert line.got(2)
    assert not bad.waiting
    assert all(line.ports[1].number not in between for between in bad.last)


chances = st.floats(0, 1, exclude_max=True)


@settings(deadline=None, max_examples=60)
@given(
    delay=st.floats(0, 2),
    part=st.floats(0, 1),
    loss=st.floats(0, 1),
    rate=st.sampled_from([0, 1000, 10**6]),
    frames=st.lists(st.tuples(st.floats(0, 0.5), st.integers(60, 1500), chances), max_size=30),
)
def test_no_frame_leaves_early_or_overtakes_whatever_the_rule(
    delay: float, part: float, loss: float, rate: int, frames: list[tuple[float, int, float]]
) -> None:
    rule, now, chance = Rule(delay, delay * part, loss, rate), 0.0, [0.0]
    left: list[float] = []
    for pause, size, chance[0] in frames:
        now += pause
        when = rule.leaves(now, size, (0, 0), lambda: chance[0])
        if when is not None:
            assert when >= now + delay - delay * part - 1e-9 + (8 * size / rate if rate else 0)
            left.append(max(when, left[-1] if left else 0))
        else:
            assert chance[0] < loss
    assert all(one <= two for one, two in pairwise(left))


@pytest.mark.parametrize(
    "rules",
    [
        [],
        {"": [1, 0, 0]},
        {"": [1, 0, 0, 0, 0]},
        {"": ["1", 0, 0, 0]},
        {"": [True, 0, 0, 0]},
        {"": [-1, 0, 0, 0]},
        {"": [61, 0, 0, 0]},
        {"": [float("nan"), 0, 0, 0]},
        {"": [0, 1, 0, 0]},
        {"": [0, 0, 2, 0]},
        {"": [0, 0, 0, 1]},
        {"52:54": [1, 0, 0, 0]},
        {"x": [1, 0, 0, 0]},
    ],
)
def test_rules_that_are_none_are_refused(line: Line, rules: object) -> None:
    with pytest.raises(ValueError):
        impaired(line.segment, rules)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "net"
    assert start(place, "wire").returncode == 0
    yield place
    kill(place)


def _cards(directory: Path) -> tuple[Card, Card]:
    cards = Card(directory), Card(directory)
    until(lambda: len(ports(directory)) == 2)
    return cards


async def test_the_switch_delays_by_what_it_is_told_until_it_is_healed(directory: Path) -> None:
    a, b = _cards(directory)
    await switch_control.impair(directory, {"wire": {"": Impairment(delay=0.3)}})
    assert ask(directory, {"do": "status"})["segments"]["wire"]["rules"] == {"": [0.3, 0.0, 0.0, 0]}
    began = time.monotonic()
    a.send(frame(BROADCAST, mac(1), b"late"))
    assert b.body() == "late"
    assert time.monotonic() - began >= 0.3
    await switch_control.impair(directory, {"wire": {}})
    assert ask(directory, {"do": "status"})["segments"]["wire"]["rules"] == {}
    for card in (a, b):
        card.close()


async def test_the_switch_loses_all_or_nothing_as_it_is_told(directory: Path) -> None:
    a, b = _cards(directory)
    await switch_control.impair(directory, {"wire": {"": Impairment(loss=1)}})
    a.send(*[frame(BROADCAST, mac(1), b"lost")] * 50)
    until(lambda: sum(port["dropped"] for port in ports(directory)) == 50)
    await switch_control.impair(directory, {"wire": {"": Impairment(loss=0, delay=0.001)}})
    a.send(frame(BROADCAST, mac(1), b"kept"))
    assert b.body() == "kept"
    for card in (a, b):
        card.close()


async def test_what_is_wrong_is_refused_and_nothing_changes(directory: Path) -> None:
    refused = ask(directory, {"do": "impair", "segment": "wire", "rules": {"": [99, 0, 0, 0]}})
    assert refused["ok"] is False
    assert ask(directory, {"do": "impair", "segment": "lan", "rules": {}})["ok"] is False
    assert ask(directory, {"do": "status"})["segments"]["wire"]["rules"] == {}


async def test_where_no_switch_runs_there_is_nothing_to_impair(tmp_path: Path) -> None:
    await switch_control.impair(tmp_path, {"wire": {"": Impairment(delay=1)}})


def test_a_link_inside_a_hypervisor_is_impaired_by_netem_on_its_port() -> None:
    blueprint = pair()
    place = Place("/var/lib/nestlab/pair")
    faults = (
        Fault("impair", "hv1/web", "wire", impairment=Impairment(0.04, 0.005, 0.01, 10_000_000)),
        Fault("impair", "hv2/web", "wire", impairment=Impairment(delay=1.0)),
        Fault("impair", "hv1", "wire", impairment=Impairment(delay=1.0)),
        Fault("cut", "hv1/web", "wire"),
    )
    root, bridge, device, said = link_impair.words(blueprint, faults, place, "hv1")
    assert (root, bridge) == (place.of("hv1/web").root, bridge_name("wire"))
    assert len(device) <= 15
    assert said == "delay 40000us 5000us loss 1% rate 10000000bit limit 4096"
    assert link_impair.words(blueprint, faults, place, "hv3") == []
    assert link_impair.netem(Impairment(loss=1.0)) == "loss 100% limit 4096"
