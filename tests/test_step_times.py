"""How long steps usually take: remembered in one small file, and shown."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from blueprints import pair
from nestlab.home import step_times
from nestlab.home.directories import Home
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Build, Create, Observed, Plan
from nestlab.show import render
from test_cli import Console, console  # noqa: F401 - the fixture


def home(folder: Path) -> Home:
    return Home(folder / "state", folder / "cache")


def test_what_was_done_before_is_usual_for_steps_that_are_alike(tmp_path: Path) -> None:
    blueprint, place = pair(), home(tmp_path)
    todo = Plan("pair", (Boot("why", "hv1"), Boot("why", "hv1/web")))
    for seconds in (4.0, 100.0, 6.0):
        step_times.remember(place, todo, blueprint, {"boot:hv1": seconds})
    both = Plan("pair", (Boot("why", "hv1"), Boot("why", "hv2"), Boot("why", "hv1/web"), Create("why", "hv1")))
    assert step_times.usual(step_times.load(place), both, blueprint) == {"boot:hv1": 6.0, "boot:hv2": 6.0}
    assert (tmp_path / "state" / step_times.NAME).stat().st_mode & 0o777 == 0o600


@given(st.lists(st.tuples(st.integers(0, 1000).map(str), st.floats(0, 1e6)), max_size=2000))
def test_it_stays_small_and_keeps_what_was_done_last(done: list[tuple[str, float]]) -> None:
    times = step_times.learned({}, done)
    assert len(times) <= step_times.KEYS
    assert all(0 < len(each) <= step_times.KEPT for each in times.values())
    if done:
        assert list(times)[-1] == done[-1][0]


def test_a_file_that_is_damaged_too_large_or_unwritable_keeps_nobody_from_working(tmp_path: Path) -> None:
    place, blueprint = home(tmp_path), pair()
    place.state.mkdir()
    file = place.state / step_times.NAME
    for text in ("{", "[]", '{"a": 1}', '{"a": ["x"]}', json.dumps({"a": [1.0] * 500_000})):
        file.write_text(text)
        assert step_times.load(place) == {}
    file.unlink()
    file.mkdir()
    step_times.remember(place, Plan("pair", (Boot("why", "hv1"),)), blueprint, {"boot:hv1": 1.0})
    assert step_times.load(place) == {}


def test_steps_that_wait_for_each_other_add_up_and_others_do_not() -> None:
    todo = Plan("pair", (Build("why", "i"), Boot("x", "hv1", needs=("build:i",)), Boot("x", "hv2", needs=("build:i",))))
    known = {"build:i": 20.0, "boot:hv1": 5.0, "boot:hv2": 7.0}
    assert step_times.longest(todo, known) == 27.0
    assert step_times.longest(todo, {"build:i": 1.0}) is None
    assert step_times.longest(Plan("pair"), {}) == 0.0


def test_a_plan_says_how_long_its_steps_usually_take() -> None:
    blueprint = pair()
    todo = plan(blueprint, Observed(), "running")
    text = render.plan(todo, blueprint, usual={"create:hv1": 1.4, "boot:hv1": 12.0, "boot:hv2": 9.0})
    assert "not there yet (usually 13s)" in text
    assert text.count("usually") == 1, "hv2's create is not known: nothing is said of the two together"


def test_up_remembers_and_the_next_plan_shows_it(console: Console) -> None:  # noqa: F811
    assert "usually" not in console.run("plan", "pair.yaml").stdout
    console.run("up", "pair.yaml", "--no-verify")
    console.run("down", "pair", "--yes")
    file = console.home.state / step_times.NAME
    took = json.loads(file.read_text())
    assert any(" boot " in key for key in took)
    file.write_text(json.dumps({key: [7.0] for key in took}))
    assert "usually 14s" in console.run("plan", "pair.yaml").stdout
    assert all("usual" in step for step in console.json("plan", "pair.yaml")["steps"] if step["do"] == "boot")
    assert "usually" in console.run("up", "pair.yaml", "--no-verify").stderr
