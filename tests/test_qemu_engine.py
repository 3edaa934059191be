"""The embedded engine leads the life that every engine must lead, with a real hypervisor and a real guest in it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine_contract import Stage, live_through
from nestlab.home.directories import Home
from nestlab.hosts.local import LocalHost
from nestlab.images import image_files
from nestlab.images.qemu_runtime import Tool
from nestlab.lab import addresses
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, settle
from nestlab.lab.model import GIB, MIB, Image, Lab, Link, Machine, Segment
from nestlab.verbs import local
from nestlab.verbs.nest import Nest

pytestmark = pytest.mark.guest

WEB = Machine("web", image=Image(base="tiny"), memory=128 * MIB, links=(Link("wire"),))
HV = Machine("hv", hypervisor="kvm", image=Image(base="kvm"), memory=GIB, machines=(WEB,))
LAB = Lab("contract", segments=(Segment("wire", "10.78.0.0/24"),), machines=(HV,))
MOVED = replace(WEB, memory=160 * MIB, links=(Link("wire", address="10.78.0.99"),))


def settled(lab: Lab) -> Blueprint:
    images = [PROBE, *(placed.machine.image for placed in lab.walk())]
    return settle(lab, addresses.lease(lab, Leases(), ()), image_files.keys_of(images))


@contextlib.contextmanager
def no_qemu_inside() -> Iterator[None]:
    """Inside hypervisors there is suddenly no QEMU."""
    there = local.GUEST_QEMU
    absent = Tool(("/nonexistent/qemu",), {}, (10, 0, 0))
    local.GUEST_QEMU = absent
    try:
        yield
    finally:
        local.GUEST_QEMU = there


async def kill_web(nest: Nest) -> None:
    pid = (await nest.observe()).machines["hv/web"].pid
    gone = 'kill -9 "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done'
    await (await nest.host("hv")).run(("sh", "-c", gone, "kill", str(pid)))


async def test_the_qemu_engine_lives_through_the_contract() -> None:
    cache = Home.of(os.environ, Path.home()).cache
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        site = local.site(Home(Path(folder), cache))

        def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
            return Nest(blueprint, LocalHost(), site.on, site.inside, previous=previous)

        changed = settled(replace(LAB, machines=(replace(HV, machines=(MOVED,)),)))
        larger = replace(HV, memory=GIB + 64 * MIB, cmdline="loglevel=3", machines=(MOVED,))  # that takes a restart
        enlarged = settled(replace(LAB, machines=(larger,)))
        await live_through(Stage(settled(LAB), changed, enlarged, "hv/web", nest, no_qemu_inside, kill_web))
