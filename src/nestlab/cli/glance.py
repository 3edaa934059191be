"""`nestlab status`, which people type most and programs ask often: without typer, an event loop or ssh, where the
machines' agents answer. Typer alone would cost more than all the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nestlab.cli.common import home, one_lab, paint, print_json, site
from nestlab.cli.guard import out, run

if TYPE_CHECKING:
    from nestlab.blueprint import Blueprint
    from nestlab.home import LabHome
    from nestlab.plan import Observed

PATIENCE = 5.0
"""Seconds a hypervisor has to answer where its guest agent did not."""


def wanted(words: Sequence[str]) -> bool:
    """Whether the words of a command line are a `status` that this module reads by itself."""
    return words[:1] == ["status"] and all(word == "--json" or not word.startswith("-") for word in words)


def read(words: Sequence[str]) -> None:
    """`nestlab status [LAB] [--json]`."""
    status([word for word in words[1:] if word != "--json"], as_json="--json" in words)


def status(words: Sequence[str] | None, *, as_json: bool) -> None:
    """The machines of the lab that is meant, on stdout."""
    from nestlab import origin, store, tree

    name = one_lab(words)
    place = origin.existing(home(), name)
    blueprint = store.load(place.blueprint)
    observed = _look(place, blueprint)
    machines = tree.rows(blueprint, observed, time.time())
    if as_json:
        print_json(tree.data(name, machines))
        return
    out(f"{tree.head(name, machines, paint())}\n{tree.table(machines, paint())}")


def _look(place: LabHome, blueprint: Blueprint | None) -> Observed:
    """By the machines' agents, in milliseconds; by ssh where those cannot tell (deeper levels, other images)."""
    from nestlab.engines.qemu import quick
    from nestlab.engines.qemu.paths import Place
    from nestlab.plan import Observed

    specs = blueprint.specs if blueprint else ()
    hypervisors = frozenset(spec.parent for spec in specs if spec.parent)
    found = quick.status(Place(str(place.root)), place.name, hypervisors)
    if found.silent:
        observed: list[Observed] = []
        run(_observe(place.name, observed))
        return observed[0]
    return Observed({**found.machines, **_unknown(specs, found.machines)})


def _unknown(specs: Any, machines: Any) -> dict[str, Any]:
    """Machines that cannot be seen because what they are in does not run."""
    from nestlab.plan import Seen

    unknown: dict[str, Seen] = {}
    for spec in specs:
        outer = unknown.get(spec.parent) or machines.get(spec.parent)
        if spec.path in machines or outer is None or outer.state == "broken":
            continue
        if outer.state != "running" or not outer.ready:
            what = "is still booting" if outer.state == "running" else "does not run"
            unknown[spec.path] = Seen(spec.path, "unknown", why=f"{spec.parent}, in which it runs, {what}")
    return unknown


async def _observe(name: str, into: list[Observed]) -> None:
    from nestlab.session import looking

    async with looking(site(), name=name, patience=PATIENCE) as session:
        into.append(await session.look())
