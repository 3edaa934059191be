"""A run's events folded into few lines."""

from __future__ import annotations

from nestlab.base.events import Began, Failed, Finished, Said, Started
from nestlab.base.paint import Paint, inked
from nestlab.show.progress import Progress


def fed() -> Progress:
    progress = Progress()
    steps = ("build:kvm", "boot:hv1", "boot:hv2", "create:hv1/web", "boot:hv1/web")
    for event in (
        Began(100.0, verb="up", lab="pair", steps=steps),
        Started(100.0, "build:kvm", why="not built yet"),
        Finished(130.0, "build:kvm", seconds=30.0),
        Started(130.0, "boot:hv1", "hv1", why="not there yet"),
        Started(130.0, "boot:hv2", "hv2", why="not there yet"),
        Said(132.0, "boot:hv1", "hv1", text="waiting for ssh"),
        Failed(140.0, "boot:hv2", "hv2", what="hv2 did not come up: panic\nmore"),
    ):
        progress.feed(event)
    return progress


def test_each_thing_has_one_line_with_its_phase_and_time() -> None:
    assert fed().show(150.0, height=10, width=80) == [
        "✓  image kvm  build  30s",
        "▸  hv1        boot   20s  waiting for ssh",
        "✗  hv2        boot   10s  hv2 did not come up: panic",
        "50s: 1 done, 1 at work, 2 waiting, 1 failed",
    ]


def test_what_failed_and_what_is_at_work_stay_when_there_is_no_room() -> None:
    lines = fed().show(150.0, height=3, width=80)
    assert [line.split()[0] for line in lines] == ["▸", "✗", "50s:"]


def test_lines_are_cut_to_the_width_of_the_terminal() -> None:
    assert all(len(line) <= 30 for line in fed().show(150.0, height=10, width=30))


def test_colours_do_not_change_the_width() -> None:
    painted = fed().show(150.0, height=10, width=30, paint=Paint(True))
    assert any("\x1b[31m✗\x1b[0m" in inked(line) for line in painted)


def test_a_machine_that_boots_after_it_was_made_keeps_its_line() -> None:
    progress = fed()
    progress.feed(Started(150.0, "create:hv1/web", "hv1/web"))
    progress.feed(Finished(151.0, "create:hv1/web", "hv1/web", seconds=1.0))
    progress.feed(Started(152.0, "boot:hv1/web", "hv1/web"))
    lines = progress.show(155.0, height=10, width=80)
    assert [line for line in lines if "hv1/web" in line] == ["▸    hv1/web  boot   3s"]


def test_what_is_to_be_known_of_a_step_stays_when_it_is_done() -> None:
    progress = fed()
    progress.feed(Started(150.0, "stop:hv2", "hv2"))
    progress.feed(Finished(151.0, "stop:hv2", "hv2", seconds=1.0, note="ended by force"))
    assert any("hv2" in line and "ended by force" in line for line in progress.show(155.0, height=10, width=80))


def test_what_is_said_of_a_step_that_never_started_is_no_line() -> None:
    progress = Progress()
    progress.feed(Said(1.0, "boot:hv1", "hv1", text="booting"))
    progress.feed(Said(1.0, text="waiting for another nestlab"))
    assert progress.lines == {}
