"""The embedded engine over ssh leads the life that every engine must lead, with a hypervisor and a guest on the far
side of a real sshd; and two labs of one name in one account never meet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine_contract import Stage, live_through
from nestlab.home.directories import Home
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB, Image, Lab, Link, Machine, Segment
from nestlab.lab.places import Ssh
from nestlab.plan.planner import plan
from nestlab.verbs import local
from nestlab.verbs.apply import apply
from nestlab.verbs.nest import Nest
from nestlab.verbs.site import Site
from nestlab.verbs.ssh_platform import SshPlatform
from nestlab.verbs.verify import verify
from remotes import known_server, needs_sshd, url
from sshd import Sshd
from test_qemu_engine import HV, LAB, MOVED, kill_web, no_qemu_inside, settled

pytestmark = [pytest.mark.guest, needs_sshd]

CACHE = Home.of(os.environ, Path.home()).cache


@dataclass
class Far:
    """`home`: what is kept on the far side."""

    server: Sshd
    folder: Path

    @property
    def home(self) -> Path:
        return self.server.folder / ".local/state/nestlab/hosted"

    def site(self, name: str) -> Site:
        return local.site(Home(self.folder / name, CACHE))

    def platform(self, name: str, lab: str) -> SshPlatform:
        site = self.site(name)
        made = site.platform(site.home.lab(lab), Ssh(url(self.server)), named=True)
        assert isinstance(made, SshPlatform)
        return made


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with (
        known_server(tmp_path, monkeypatch) as server,
        tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as here,
    ):
        yield Far(server, Path(here))


@pytest.mark.slow
async def test_the_engine_over_ssh_lives_through_the_contract(far: Far) -> None:
    site, platform = far.site("one"), far.platform("one", LAB.name)
    try:
        await platform.enter()

        def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
            return Nest(blueprint, platform.host, platform.on, site.inside, previous=previous)

        changed = settled(replace(LAB, machines=(replace(HV, machines=(MOVED,)),)))
        larger = replace(HV, memory=GIB + 64 * MIB, cmdline="loglevel=3", machines=(MOVED,))  # that takes a restart
        enlarged = settled(replace(LAB, machines=(larger,)))
        await live_through(Stage(settled(LAB), changed, enlarged, "hv/web", nest, no_qemu_inside, kill_web))
        assert len(list((far.home / "labs").iterdir())) == 1
        await platform.leave()
    finally:
        await platform.close()
    assert list((far.home / "labs").iterdir()) == []
    assert list((far.home / "files").iterdir())


BOX = Machine("box", image=Image(base="tiny"), memory=128 * MIB, links=(Link("wire"),))
TWINS = Lab("twins", segments=(Segment("wire", "10.79.0.0/24"),), machines=(BOX, replace(BOX, name="other")))


async def test_two_labs_of_one_name_in_one_account_never_meet(far: Far) -> None:
    lab, nothing, verdicts = settled(TWINS), Blueprint(TWINS.name), []
    platforms = [far.platform(name, lab.lab) for name in ("one", "two")]
    try:
        for each in platforms:
            await each.enter()
            async with Nest(lab, each.host, each.on, {}) as nest:
                seen = await nest.observe()
                assert not seen.machines
                await apply(plan(lab, seen, "running"), lab, nest, lambda _: None)
                seen = await nest.observe()
                assert {path: at.state for path, at in seen.machines.items()} == {"box": "running", "other": "running"}
                verdicts.append(await verify(nest, lab, nest.observe, each.proofs(lab), lambda _: None, frozenset()))
        assert all(verdict.ok for verdict in verdicts)
        first, second = platforms
        async with Nest(lab, first.host, first.on, {}) as nest:
            await apply(
                plan(Blueprint(lab.lab), await nest.observe(), "gone"), Blueprint(lab.lab), nest, lambda _: None
            )
        await first.leave()
        async with Nest(lab, second.host, second.on, {}) as nest:
            seen = await nest.observe()
            assert {at.state for at in seen.machines.values()} == {"running"}
            assert seen.links == {"wire"}
            await apply(plan(nothing, seen, "gone"), nothing, nest, lambda _: None)
        await second.leave()
    finally:
        for each in platforms:
            await each.close()
    assert list((far.home / "labs").iterdir()) == []
