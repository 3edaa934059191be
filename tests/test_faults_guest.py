"""Faults on purpose, in real machines: two on a segment, and two inside a hypervisor.

One lab for each part of the file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_nested import Cli

TWO = """
lab: bad
segments: {wire: {cidr: 10.78.0.0/24}}
machines:
  a: {image: tiny, memory: 128M, segments: [wire]}
  b: {image: tiny, memory: 128M, segments: [wire]}
"""

INSIDE = """
lab: bad
segments: {wire: {cidr: 10.78.0.0/24}}
machines:
  hv:
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      a: {image: tiny, memory: 128M, segments: [wire]}
      b: {image: tiny, memory: 128M, segments: [wire]}
"""


def _lab(text: str) -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        file = Path(home) / "bad.yaml"
        file.write_text(text)
        try:
            cli.run("up", str(file))
            yield cli
        finally:
            cli.run("down", "bad", "--yes")
        assert not cli.qemus()


@pytest.fixture(scope="module")
def two() -> Iterator[Cli]:
    yield from _lab(TWO)


@pytest.fixture(scope="module")
def inside() -> Iterator[Cli]:
    yield from _lab(INSIDE)


def _reached(cli: Cli, machine: str, address: str, count: int = 2) -> list[float]:
    """The milliseconds of each echo that was answered."""
    done = cli.run("exec", machine, "--", "sh", "-c", f"ping -c {count} -W 20 {address} || true")
    return [float(each) for each in re.findall(r"time=([0-9.]+)", done)]


def _carrier(cli: Cli, machine: str, card: str = "eth1") -> str:
    return cli.run("exec", machine, "cat", f"/sys/class/net/{card}/carrier").strip()


def _address(cli: Cli, machine: str) -> str:
    [row] = [each for each in cli.json("status", "bad")["machines"] if each["path"] == machine]
    return str(row["addresses"][0])


def _machines(cli: Cli) -> dict[str, Any]:
    return {row["path"]: row for row in cli.json("status", "bad")["machines"]}


@pytest.mark.guest
def test_a_cut_cable_has_no_carrier_and_no_frame_passes_until_it_is_healed(two: Cli) -> None:
    assert (_carrier(two, "a"), len(_reached(two, "b", _address(two, "a")))) == ("1", 2)
    assert "a is cut off wire" in two.run("cut", "a", "wire")
    assert (_carrier(two, "a"), _carrier(two, "a", "eth0")) == ("0", "1")
    assert "a is cut off wire already" in two.error("cut", "a", "wire")
    assert "`nestlab heal a wire` takes it back" in two.run("verify", "bad", status=2)
    assert "a is cut off wire" in two.run("plan", "bad")


@pytest.mark.guest
def test_a_machine_that_starts_again_is_still_cut_off(two: Cli) -> None:
    two.run("stop", "a")
    two.run("start", "a")
    assert _carrier(two, "a") == "0"
    two.run("heal", "a", "wire")
    assert (_carrier(two, "a"), len(_reached(two, "b", _address(two, "a")))) == ("1", 2)
    assert two.json("status", "bad")["faults"] == []


@pytest.mark.guest
def test_frames_are_late_and_lost_as_they_are_told_to_be(two: Cli) -> None:
    two.run("impair", "wire", "--delay", "200ms")
    times = _reached(two, "b", _address(two, "a"))
    assert times
    assert min(times) >= 400
    two.run("impair", "wire", "--loss", "100%")
    two.run("exec", "b", "--", "sh", "-c", f"! ping -c 2 -W 2 {_address(two, 'a')}")
    two.run("heal", "wire")
    assert len(_reached(two, "b", _address(two, "a"))) == 2


@pytest.mark.guest
def test_a_clock_is_an_hour_ahead_and_right_again(two: Cli) -> None:
    two.run("clock", "b", "+1h")
    assert int(two.run("exec", "b", "date", "+%s")) >= time.time() + 3000
    two.run("clock", "b", "-1d")
    assert int(two.run("exec", "b", "date", "+%s")) <= time.time() - 80_000
    two.run("heal", "b")
    assert abs(int(two.run("exec", "b", "date", "+%s")) - time.time()) < 1800


@pytest.mark.guest
def test_what_was_killed_stays_off_until_it_is_healed(two: Cli) -> None:
    two.run("kill", "a")
    assert _machines(two)["a"]["state"] == "killed"
    told = two.run("up", "bad", status=2)
    assert "a was killed" in told
    assert _machines(two)["a"]["state"] == "killed"
    two.run("heal", "bad")
    assert _machines(two)["a"]["state"] == "running"
    assert "proven" in two.run("verify", "bad")


@pytest.mark.guest
@pytest.mark.slow
def test_machines_inside_a_hypervisor_fail_by_the_same_words(inside: Cli) -> None:
    address = _address(inside, "hv/b")
    assert len(_reached(inside, "hv/a", address)) == 2
    inside.run("cut", "hv/b", "wire")
    assert _carrier(inside, "hv/b") == "0"
    inside.run("exec", "hv/a", "--", "sh", "-c", f"! ping -c 2 -W 2 {address}")
    inside.run("kill", "hv/b")
    assert _machines(inside)["hv/b"]["state"] == "killed"
    inside.run("start", "hv/b")
    assert _carrier(inside, "hv/b") == "0"
    inside.run("heal")
    inside.run("impair", "hv/b", "wire", "--delay", "400ms")
    times = _reached(inside, "hv/a", address)
    assert times
    assert min(times) >= 800
    inside.run("restart", "hv/b")
    assert min(_reached(inside, "hv/a", address)) >= 800
    inside.run("heal", "hv/b")
    assert min(_reached(inside, "hv/a", address, 5)) < 800
    assert len(_reached(inside, "hv/a", address)) == 2
