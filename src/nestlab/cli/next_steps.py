"""What a user may do next, once a lab is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestlab.cli.exit_status import show

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Spec
    from nestlab.verbs.session import Session


def _is_shut(spec: Spec) -> bool:
    """Whether nothing runs commands in a machine from outside."""
    return not spec.machine.by_ssh or spec.sealed


def print_next(session: Session, *, other: bool, program: str) -> None:
    """What one may do now. `other`: commands that name no lab mean another one here."""
    from nestlab.show import render

    running = [path for path, seen in session.observed.machines.items() if seen.state == "running"]
    specs = session.blueprint.by_path()
    shut = [path for path in running if path in specs and _is_shut(specs[path])]
    running = [path for path in running if path not in shut]
    deepest = max(running, key=lambda path: path.count("/"), default=None)
    hypervisors = [s.path for s in session.blueprint.specs if s.machine.nests and s.path in running]
    several = len(session.site.home.labs()) > 1 or other
    text = render.next_lines(
        session.blueprint.lab,
        deepest,
        next(iter(hypervisors), None),
        console=next(iter(shut), None),
        several=several,
        program=program,
    )
    show(f"\n{text}")
