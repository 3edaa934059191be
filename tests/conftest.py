"""What holds for all tests."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from nestlab.home.directories import Home
from nestlab.images.qemu_runtime import Tool, choose_qemu
from waiting import STRETCH

if TYPE_CHECKING:
    from nestlab.testing.fake_pve import FakePve
    from pve_lab import Bench

# A shell's background jobs ignore Ctrl-C, what nohup starts a lost terminal, and so would everything that tests start
# and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Hypothesis times each example: no test depends on how fast the machine is.
hypothesis.settings.register_profile("nestlab", deadline=None)
hypothesis.settings.load_profile("nestlab")


LONG_FILES = [
    *("pve_real", "doctor_guests", "nested", "hostile_nest", "copy_nest"),
    *("qemu_engine", "build_attacks", "changes", "pve_tiny", "images"),
]
"""Test files that boot machines for a minute or more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """The longest files first, so that workers end together. And how long a test may hang: what boots machines takes
    minutes, on a machine five times slower half an hour."""
    places = {f"test_{name}": place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    usual = float(config.getini("timeout")) * STRETCH
    for item in items:
        if item.get_closest_marker("timeout") is None:
            boots = item.get_closest_marker("guest") or item.get_closest_marker("slow")
            item.add_marker(pytest.mark.timeout(4 * usual if boots else usual))


@pytest.fixture(scope="session")
def qemu_tool() -> Tool:
    """The QEMU that nestlab would emulate with here; unpacked first, if this machine's own is too old or missing."""
    cache = Home.of(os.environ, Path.home()).cache
    return asyncio.run(choose_qemu("tcg", cache, lambda _: None)).qemu


@pytest.fixture
def fake() -> Iterator[FakePve]:
    """A pretended Proxmox VE of two nodes that is set up for nestlab."""
    from pve_lab import cluster

    with cluster("pve1", "pve2") as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    """A lab's engines on it; at the end every request must have been one that PVE's schemas allow."""
    from pve_lab import assert_valid, bench

    async with bench(fake, tmp_path) as found:
        yield found
        assert_valid(fake)
