"""How pretended machines are made to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint, Spec
    from nestlab.testing.fake_engine import FakeWorld


class FakeFailing:
    """Of an engine; see `engines.Failing`. What the world has of it is in `FakeWorld.failing`."""

    world: FakeWorld
    lab: str

    async def kill(self, path: str) -> bool:
        self.world.reach(self.lab, path)
        self.world.kill(self.lab, path)
        return True

    async def link(self, spec: Spec, segment: str, *, up: bool) -> None:
        self.world.reach(self.lab, spec.path)
        if up:
            self.world.failing.discard((spec.path, segment))
        else:
            self.world.failing.add((spec.path, segment))

    async def impair(self, blueprint: Blueprint) -> None:
        self.world.reach(self.lab, "")
        self.world.failing.add(("", "impaired"))
