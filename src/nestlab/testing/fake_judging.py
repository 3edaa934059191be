"""How pretended machines look from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Spec
    from nestlab.testing.fake_engine import FakeWorld


class FakeJudging:
    """Of an engine: every machine that runs is up, and a hypervisor's CPU shows svm. See `engines.Judging`."""

    world: FakeWorld
    lab: str

    async def is_up(self, spec: Spec) -> bool:
        self.world.reach(self.lab, spec.path)
        return True

    async def shown(self, path: str) -> tuple[str, str]:
        self.world.reach(self.lab, path)
        return "svm", "its QEMU"
