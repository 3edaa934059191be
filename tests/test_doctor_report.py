"""What a walk through the levels of a lab comes to, and what a report says besides the findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nestlab.base.paint import Paint
from nestlab.doctor import report
from nestlab.doctor.report import Visit, visit
from nestlab.hosts.facts import Facts


def host(name: str) -> Facts:
    return Facts.from_json((Path(__file__).parent / "facts" / f"{name}.json").read_text())


TRAP = visit("this machine", 0, host("pvm-no-svm"))
SOUND = visit("hv", 1, host("amd-nested-1"))
OFF = visit("hv", 1, host("amd-nested-0"))
GONE = Visit("hv", 1, error="it is stopped.")


def test_where_level_one_is_emulated_the_first_broken_layer_is_not_the_host_s() -> None:
    assert report.summary([TRAP, OFF]).startswith("First broken layer: hv (level 1), module: kvm_amd has nested=0")
    assert report.summary([TRAP, GONE]) == "First broken: hv: it is stopped."
    assert "so the hypervisors of level 1 are emulated" in report.summary([TRAP, SOUND])
    assert [report.ok([TRAP, each], walked=True) for each in (SOUND, OFF, GONE)] == [True, False, False]


def test_a_host_that_lends_nothing_is_the_first_broken_layer() -> None:
    host_off = visit("this machine", 0, host("amd-nested-0"))
    bare = visit("hv", 1, replace(host("amd-nested-1"), flags=frozenset(), provider=""))
    for inner in (bare, GONE):
        assert report.summary([host_off, inner]).startswith("First broken layer: this machine (level 0), module")
        assert not report.ok([host_off, inner], walked=True)


def test_alone_a_host_without_virtualization_is_broken() -> None:
    assert not report.ok([TRAP])


def test_what_a_user_could_not_see_is_said() -> None:
    facts = replace(
        host("amd-nested-1"), uid=1000, user="kai", unseen={"msr": "not root", "messages": "dmesg: refused"}
    )
    said = report.text(visit("hv", 1, facts), Paint(False))
    assert "Not seen by kai: messages (dmesg: refused); msr (not root). Root may see it." in said
    assert "Not seen" not in report.text(visit("hv", 1, replace(facts, uid=0)), Paint(False))
