"""What `plan` says of ports: that is what `up` does with them while machines run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nestlab.home import ports as kept_ports
from nestlab.home.directories import Home
from nestlab.home.ports import Kept
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import Machine
from nestlab.lab.ports import Port
from nestlab.plan.steps import Observed, Plan, Seen
from nestlab.show import render
from nestlab.verbs import port_changes
from nestlab.verbs.session import Session


def session(folder: Path, ports: Sequence[Port], before: Sequence[Kept], *, made: bool = True) -> Session:
    place = Home(folder, folder).lab("x")
    kept_ports.save(place, before)
    spec = Spec("web", Machine("web", ports=tuple(ports)), (), "10.90.0.0/24", "tiny", (), "d" * 40)
    seen = Observed({"web": Seen("web", "running")} if made else {}, frozenset())
    found: Any = SimpleNamespace(place=place, blueprint=Blueprint("x", (), (spec,), {}), observed=seen)
    return cast(Session, found)


CHANGES = [
    ([Port(80, 8080)], [Kept("web", 80, 8080)], ""),
    ([Port(80, None)], [Kept("web", 80, 8080)], ""),
    ([Port(80, 8080)], [Kept("web", 80, 8080, asked=True)], ""),
    ([], [Kept("web", 80, 8080, asked=True)], ""),
    (
        [Port(80, 8081)],
        [Kept("web", 80, 8080)],
        "live: 127.0.0.1:8081 leads to its port 80, 127.0.0.1:8080 no longer leads to its port 80",
    ),
    ([], [Kept("web", 80, 8080)], "live: 127.0.0.1:8080 no longer leads to its port 80"),
    ([Port(80, None)], [], "live: 127.0.0.1:(a free port) leads to its port 80"),
]


@pytest.mark.parametrize(("ports", "before", "said"), CHANGES)
def test_what_a_change_of_ports_does_is_said_beforehand(
    tmp_path: Path, ports: list[Port], before: list[Kept], said: str
) -> None:
    found = port_changes.due(session(tmp_path, ports, before))
    assert [str(each) for each in found] == ([said] if said else [])


def test_the_ports_of_a_machine_that_is_made_first_are_no_change(tmp_path: Path) -> None:
    assert port_changes.due(session(tmp_path, [Port(80, 8080)], [], made=False)) == ()


def test_a_plan_with_nothing_but_ports_does_not_say_that_all_is_as_wanted() -> None:
    said = render.plan(Plan("x"), ports={"web": "live: 127.0.0.1:8080 leads to its port 80"})
    assert said == "x: only ports change\n  web  ports  live: 127.0.0.1:8080 leads to its port 80"
    data = render.plan_data(Plan("x"), (), ports={"web": "live: …"})
    assert data["ports"] == [{"path": "web", "change": "live: …"}]
