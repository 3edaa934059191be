"""The tiny guest that proves what a hypervisor can when nothing of its lab runs inside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from nestlab.engines.qemu.engine import Environment, QemuEngine
from nestlab.home.paths import Place
from nestlab.lab.blueprint import PROBE, Blueprint, Spec
from nestlab.lab.model import Machine


async def test_it_is_in_no_lab_file_and_starts_without_its_hypervisors_ports() -> None:
    engine = object.__new__(QemuEngine)
    engine.environment = cast(Environment, SimpleNamespace(place=Place("/var/lib/nestlab/labs/lab")))
    spec = Spec("hv/nestlab-proof", Machine("nestlab-proof", image=PROBE), (), "10.1.0.0/24", "key", (), "digest")
    assert await engine._ports(spec, Blueprint("lab", (), (spec,), {"key": PROBE})) is None
