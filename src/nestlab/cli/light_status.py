"""`nestlab status`, which people type most and programs ask often: without typer, an event loop or ssh, where the
machines' agents answer. Typer alone would cost more than all the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli.common import home, lab_named, meant, paint, print_json, site
from nestlab.cli.exit_status import run, say, show, width

if TYPE_CHECKING:
    from nestlab.home.directories import LabHome
    from nestlab.home.lock_holder import Holder
    from nestlab.lab.blueprint import Blueprint
    from nestlab.plan.steps import Observed
    from nestlab.show.machine_table import Row

ANSWER = 3.0
"""Nominal seconds a hypervisor has to answer where its guest agent did not."""

FAR = 60.0
"""The same on a Proxmox VE, where the way in may be its guest agent."""

_OPTIONS = ("--json", "--deep")


def wanted(words: Sequence[str]) -> bool:
    """Whether a command line is a `status` that this module can answer by itself."""
    return words[:1] == ["status"] and all(word in _OPTIONS or not word.startswith("-") for word in words)


def read(words: Sequence[str]) -> None:
    """`nestlab status [LAB] [MACHINE...] [--json] [--deep]`."""
    status([word for word in words[1:] if word not in _OPTIONS], as_json="--json" in words, deep="--deep" in words)


def status(words: Sequence[str] | None, *, as_json: bool, deep: bool) -> None:
    """The machines of the lab that is meant, or where none is named of all labs, on stdout."""
    if not words:
        _all(as_json=as_json, deep=deep)
        return
    found = meant(words)
    text, data = _status_of(lab_named(found), found.machines, deep=deep, as_json=as_json)
    if as_json:
        print_json(data)
    else:
        show(text)


def _all(*, as_json: bool, deep: bool) -> None:
    """One lab after the other; one that cannot be looked at is told as that among the others."""
    shown: list[tuple[str, dict[str, Any]]] = []
    for name in home().labs():
        try:
            shown.append(_status_of(name, (), deep=deep, as_json=as_json))
        except LabError as error:
            shown.append((brief(f"{name}: {error.what}"), {"lab": name, "error": error.what}))
    if as_json:
        print_json({"labs": [data for _, data in shown]})
    else:
        show("\n\n".join(text for text, _ in shown) or "no labs; `nestlab up FILE` makes one")


def _status_of(name: str, patterns: tuple[str, ...], *, deep: bool, as_json: bool) -> tuple[str, dict[str, Any]]:
    """The status of a lab, or of the machines of it that are meant, as text and as JSON data."""
    from nestlab.home import labs
    from nestlab.lab import blueprint_file

    place = labs.existing(home(), name)
    blueprint = blueprint_file.load(place.blueprint, name)
    observed = look(place, blueprint, deep=deep)

    from nestlab.home import faults as kept_faults
    from nestlab.home import lock_holder
    from nestlab.home import moved_machines as kept_moves
    from nestlab.home import ports as kept_ports
    from nestlab.lab import faults as sayings
    from nestlab.lab import moved_machines
    from nestlab.plan.faults import marked
    from nestlab.plan.moved_machines import settled_only
    from nestlab.show import machine_table

    faults = kept_faults.load(place)
    moves = kept_moves.load(place)
    observed = marked(settled_only(observed, moves.passages), faults)
    holder = lock_holder.holder(place.lock)
    machines = machine_table.rows(blueprint, _in_work(observed, holder), time.time())
    if patterns:
        machines = _only(machines, patterns, name, whole=as_json)
    at_work = asdict(holder) if holder else None
    head = machine_table.head(name, machines, paint())
    work = brief(f"; {holder} is at work on it") if holder else ""
    ports = [each for each in kept_ports.load(place) if each.path in {row.path for row in machines}]
    table = machine_table.table(machines, paint(), width(sys.stdout))
    faults = tuple(each for each in faults if not each.path or each.path in {row.path for row in machines})
    lines = [f"127.0.0.1:{each.local} -> {each.path}:{each.port}" for each in ports]
    lines += sayings.lines(faults, time.time())
    lines += moved_machines.lines(moves.aways, time.time(), {row.path for row in machines})
    lines += [each.said for each in moves.passages if holder is None]
    lines += [brief(f"{each.host} also has {each.what}: nestlab did not make it") for each in observed.others]
    told, clusters = _clusters(name, blueprint, observed, machines)
    text = "\n".join([f"{head}{work}", table, *(["", told] if told else []), *(["", *lines] if lines else [])])
    data = {
        **machine_table.data(name, machines, faults),
        "clusters": clusters,
        "others": [asdict(each) for each in observed.others],
    }
    ways = [asdict(each) for each in moves.aways if not each.at_home]
    return text, {**data, "away": ways, "ports": [asdict(each) for each in ports], "at_work": at_work}


def _clusters(
    name: str, blueprint: Blueprint | None, observed: Observed, machines: Sequence[Row]
) -> tuple[str, list[dict[str, Any]]]:
    """The clusters of the machines that are shown, as text and as JSON data."""
    if blueprint is None or not blueprint.clusters:
        return "", []
    from nestlab.cli import cluster_status
    from nestlab.show import cluster_table

    found = cluster_status.rows(name, blueprint, observed, {row.path for row in machines})
    return cluster_table.text(found, paint()), cluster_table.data(found)


def _in_work(observed: Observed, holder: Holder | None) -> Observed:
    """While somebody changes the lab, a machine that does not run has not died: it is about to be started or ended."""
    if holder is None:
        return observed
    why = f"`nestlab {holder.verb}` is at work"
    machines = {
        path: replace(seen, state="stopped", why=why) if seen.state == "died" else seen
        for path, seen in observed.machines.items()
    }
    return replace(observed, machines=machines)


def _only(machines: list[Row], patterns: Sequence[str], lab: str, *, whole: bool) -> list[Row]:
    """The machines that are meant, with what is inside them; for people (not `whole`) also with those they are in."""
    from nestlab.home.targets import expand
    from nestlab.lab.model import within

    chosen = expand(patterns, [row.path for row in machines], lab)
    return [
        row
        for row in machines
        if any(within(row.path, path) or (not whole and within(path, row.path)) for path in chosen)
    ]


def look(place: LabHome, blueprint: Blueprint | None, *, deep: bool) -> Observed:
    """By the machines' agents, in milliseconds; by ssh where those cannot tell (deeper levels, other images). `deep`:
    all by ssh. A Proxmox VE is asked for its own guests only, unless `deep`."""
    from nestlab.engines.qemu import quick_status
    from nestlab.home import former_names
    from nestlab.home.paths import Place
    from nestlab.lab.places import is_here

    patience.of_lab(blueprint.patience if blueprint else 1)
    specs = blueprint.specs if blueprint else ()
    on = blueprint.on if blueprint is not None else None
    far = not is_here(on)
    if deep or on is not None:  # libvirt itself talks to its machines' agents
        return _asked(place, deep=deep, answer=FAR if far else ANSWER)
    nodes = {spec.path for spec in specs if spec.machine.hypervisor == "pve"}  # their API tells, and no agent
    hypervisors = frozenset(spec.parent for spec in specs if spec.parent)
    first = former_names.first(place)
    found = quick_status.status(
        Place(str(place.root)), place.name, hypervisors - nodes, first_name=first, meanwhile=_import_the_rest
    )
    up = {path for path, seen in found.machines.items() if seen.state == "running" and seen.ready}
    if found.silent or hypervisors & nodes & up:
        if sys.stderr.isatty() and quick_status.late(found):
            say(f"{', '.join(quick_status.late(found))}: no answer at once; asking by ssh, which takes longer")
        return _asked(place, deep=True, answer=FAR if hypervisors & nodes & up else ANSWER)

    from nestlab.home import last_seen
    from nestlab.plan.steps import Observed
    from nestlab.plan.unseen import complete

    booting = {path: f"{path} is still booting" for path, seen in found.machines.items() if not seen.ready}
    return Observed(complete(found.machines, booting, (spec.path for spec in specs), last_seen.load(place)))


def _import_the_rest() -> None:
    """What shows the answers takes as long to import as a guest agent to answer."""
    from nestlab.home import faults, last_seen, lock_holder  # noqa: F401
    from nestlab.plan import unseen  # noqa: F401
    from nestlab.show import machine_table  # noqa: F401


def _asked(place: LabHome, *, deep: bool, answer: float) -> Observed:
    observed: list[Observed] = []
    run(_observe(place.name, observed, deep=deep, answer=answer))
    return _remembered(place, observed[0])


def _remembered(place: LabHome, observed: Observed) -> Observed:
    """With what is known of machines that cannot be seen though what they are in runs: what was done with them last."""
    from dataclasses import replace

    from nestlab.base.paint import elapsed
    from nestlab.home import journal
    from nestlab.lab.model import parent_of

    machines = dict(observed.machines)
    blind = [path for path, seen in machines.items() if seen.state == "unknown" and parent_of(path) in machines]
    blind = [path for path in blind if machines[parent_of(path)].state in ("running", "unknown")]
    for path, (verb, at) in (journal.last_steps(place.journal, blind) if blind else {}).items():
        known = f"{_DONE.get(verb, verb)} {elapsed(max(0.0, time.time() - at))} ago, by what nestlab did last"
        machines[path] = replace(machines[path], why=f"{machines[path].why}; {known}")
    return replace(observed, machines=machines)


_DONE = {"create": "made", "boot": "came up", "introduce": "ran", "stop": "was stopped", "remove": "was removed"}


async def _observe(name: str, into: list[Observed], *, deep: bool, answer: float) -> None:
    from nestlab.verbs.session import looking

    async with looking(site(), name=name, answer=answer) as session:
        into.append(await (session.look() if deep else session.glance()))
