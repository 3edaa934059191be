"""A lab on the libvirt of a host that ssh reaches comes up, is proven and leaves nothing: a real sshd and libvirtd."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import libvirtd
from libvirtd import virsh
from nestlab.home.directories import Home
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import MIB, Image, Lab, Link, Machine, Segment
from nestlab.lab.places import Libvirt
from nestlab.plan.planner import plan
from nestlab.verbs import local
from nestlab.verbs.apply import apply
from nestlab.verbs.nest import Nest
from nestlab.verbs.verify import verify
from remotes import known_server, needs_sshd, url
from test_qemu_engine import settled

pytestmark = [pytest.mark.guest, needs_sshd]

CACHE = Home.of(os.environ, Path.home()).cache
BOX = Machine("box", image=Image(base="tiny"), memory=128 * MIB, links=(Link("wire"),))
LAB = Lab("nlfar", segments=(Segment("wire", "10.79.0.0/24"),), machines=(BOX, replace(BOX, name="other")))


async def test_a_lab_on_the_libvirt_of_another_host_is_proven_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_tool: Tool
) -> None:
    with libvirtd.running(qemu_tool), known_server(tmp_path, monkeypatch) as server:
        on = Libvirt(f"{url(server).replace('ssh://', 'qemu+ssh://')}/system")
        site, lab = local.site(Home(tmp_path / "h", CACHE)), settled(replace(LAB, on=on))
        platform = site.platform(site.home.lab(lab.lab), on, named=True)
        try:
            await platform.enter()
            async with Nest(lab, platform.host, platform.on, {}) as nest:
                await apply(plan(lab, await nest.observe(), "running"), lab, nest, lambda _: None)
                seen = await nest.observe()
                assert plan(lab, seen, "running").steps == ()
                assert "nestlab-nlfar-box" in virsh("list")
                proofs = platform.proofs(lab)
                assert (await verify(nest, lab, nest.observe, proofs, lambda _: None, frozenset())).ok
                gone = Blueprint(lab.lab)
                await apply(plan(gone, await nest.observe(), "gone"), gone, nest, lambda _: None)
            await platform.leave()
        finally:
            await platform.close()
        assert "nlfar" not in virsh("list", "--all") + virsh("net-list", "--all")
