"""On a Proxmox VE, too, what a hypervisor says of its machines means no guest of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from liars import engine_on, report
from nestlab.engines import Engine
from nestlab.hosts.host import Host, Result
from nestlab.lab.model import within
from nestlab.plan.planner import plan
from nestlab.plan.steps import Observed, Remove, Stop
from nestlab.testing.fake_engine import FakeHost
from nestlab.verbs.apply import apply
from nestlab.verbs.nest import Nest
from test_hostile_reports import LAB, LIES

if TYPE_CHECKING:
    from pve_lab import Bench


def nest(made: Bench, *, lies: bool) -> Nest:
    """`lies`: hv1 is asked by the embedded engine, and answers as the world does; else all that is inside is honest."""

    def on(lab: str, parent: Any) -> Engine:
        return made.engine_on(made.api, lab, memory=made.place / "memory.json")

    def inside(lab: str, parent: Host) -> Engine:
        lying = lies and parent.path == "hv1"
        return engine_on(parent, lab, made.place / "own") if lying else made.inside.engine(lab, parent)

    return Nest(LAB, FakeHost(made.inside, "", ""), on, {"kvm": inside}, previous=LAB)


async def test_a_lie_about_machines_ends_no_guest_of_a_proxmox_ve(made: Bench) -> None:
    async with nest(made, lies=False) as honest:
        await apply(plan(LAB, await honest.observe()), LAB, honest, lambda _: None)
    before = {vmid: guest.running for vmid, guest in made.fake.vms.items()}
    assert len(before) >= 3
    for number, lie in enumerate(LIES):
        said = Result((), 0, report(lie).encode(), b"")
        made.inside.answer = lambda path, argv, said=said: said if path == "hv1" else None
        async with nest(made, lies=True) as liar:
            seen: Observed = await liar.observe()
            todo = plan(LAB, seen, previous=LAB)
            ends = [step.path for step in todo.steps if isinstance(step, Remove | Stop)]
            assert all(path.startswith("hv1/") for path in ends), (number, ends)
            beside = {path: each.state for path, each in seen.machines.items() if not within(path, "hv1")}
            assert beside == dict.fromkeys(("hv2", "hv2/web", "victim"), "running"), number
    assert {vmid: guest.running for vmid, guest in made.fake.vms.items()} == before


@pytest.mark.parametrize("nonsense", ["", "U nan", "x" * 10_000], ids=range(3))
async def test_nonsense_there_is_told_as_that_hypervisors_fault(made: Bench, nonsense: str) -> None:
    async with nest(made, lies=False) as honest:
        await apply(plan(LAB, await honest.observe()), LAB, honest, lambda _: None)
    made.inside.answer = lambda path, argv: Result((), 0, nonsense.encode(), b"") if path == "hv1" else None
    async with nest(made, lies=True) as liar:
        seen = (await liar.observe()).machines
    assert (seen["hv1/web"].state, seen["hv2/web"].state) == ("unknown", "running")
    assert seen["hv1/web"].why.startswith("What hv1 says of its machines is nothing")
