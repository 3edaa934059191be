from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueprints import blueprints, draft, guest, hypervisor, look, pair
from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint, definition
from nestlab.lab.model import GIB, MIB, Link, Segment, parent_of
from nestlab.plan import states
from nestlab.plan.planner import plan, targets
from nestlab.plan.steps import Drift, Observed, Plan, Seen, State, Want, Written
from nestlab.testing.fake_engine import FakeWorld


def ids(steps: Plan) -> list[str]:
    return [step.id for step in steps.steps]


def whys(steps: Plan) -> dict[str, str]:
    return {step.id: step.why for step in steps.steps}


def needs(steps: Plan) -> dict[str, tuple[str, ...]]:
    return {step.id: step.needs for step in steps.steps}


def do(world: FakeWorld, steps: Plan, blueprint: Blueprint, chosen: Callable[[str], bool] = lambda _: True) -> None:
    """Steps in order, without those not chosen and those that need them."""
    done: set[str] = set()
    for step in steps.steps:
        if chosen(step.id) and done.issuperset(step.needs):
            world.do(steps.lab, step, blueprint)
            done.add(step.id)


def running(blueprint: Blueprint) -> FakeWorld:
    world = FakeWorld()
    do(world, plan(blueprint, Observed()), blueprint)
    return world


def replan(world: FakeWorld, new: Blueprint, old: Blueprint, want: Mapping[str, Want] | Want = "running") -> Plan:
    return plan(new, look(world, new, old), want, previous=old)


def test_a_program_that_the_host_lacks_is_a_step_of_its_own_before_the_machines_there() -> None:
    blueprint = pair()
    world = FakeWorld()
    world.lacking = {"qemu"}
    todo = plan(blueprint, look(world, blueprint))
    assert needs(todo)["install:qemu"] == ()
    for spec in blueprint.specs:
        made = needs(todo)[f"create:{spec.path}"]
        assert ("install:qemu" in made) == (not spec.parent), "inside, QEMU is part of the image"
    do(world, todo, blueprint)
    assert not plan(blueprint, look(world, blueprint))
    world.lacking = {"qemu"}
    assert not plan(blueprint, look(world, blueprint)), "what runs needs no program"


def test_an_empty_world_gets_images_segments_and_machines_outside_in() -> None:
    steps = plan(draft("lab", hypervisor("hv1", guest("web"))), Observed())
    verbs = [each.split("-")[0] for each in ids(steps)]
    assert " ".join(verbs) == ("connect:wire build:kvm build:tiny create:hv1 boot:hv1 create:hv1/web boot:hv1/web")
    assert set(whys(steps).values()) == {"not there yet", "hv1 needs it"}
    needed = needs(steps)
    assert [each.split("-")[0] for each in needed["create:hv1"]] == ["build:kvm", "build:tiny"]
    assert needed["boot:hv1"] == ("create:hv1", "connect:wire")
    assert needed["create:hv1/web"][0] == "boot:hv1"
    assert needed["boot:hv1/web"] == ("create:hv1/web",)


def test_a_world_as_wanted_needs_nothing() -> None:
    lab = pair()
    assert not replan(running(lab), lab, lab)


def anew(blueprint: Blueprint, path: str) -> Blueprint:
    """The same lab with another image for a machine."""
    image = replace(blueprint[path].machine.image, packages=("curl",))
    spec = replace(blueprint[path], machine=replace(blueprint[path].machine, image=image), image="other")
    spec = replace(spec, digest=definition(spec.machine, spec.nics, spec.management, spec.image))
    specs = tuple(spec if each.path == path else each for each in blueprint.specs)
    return replace(blueprint, specs=specs, images={**blueprint.images, "other": image})


def larger(blueprint: Blueprint, path: str, disk: int | None) -> Blueprint:
    """The same lab with another size of a machine's disk, in GiB."""
    machine = replace(blueprint[path].machine, disk=disk and disk * GIB)
    changed = replace(blueprint[path], machine=machine)
    return replace(blueprint, specs=tuple(changed if each.path == path else each for each in blueprint.specs))


def ways_of(steps: Plan) -> dict[str, tuple[str, str]]:
    return {change.path: (change.way, change.why) for change in steps.changes}


def test_a_changed_machine_is_restarted_and_the_plan_names_what_changed() -> None:
    old, new = pair(memory=128), pair(memory=256)
    steps = replan(running(old), new, old)
    assert ids(steps) == ["stop:hv1/web", "update:hv1/web", "boot:hv1/web"]
    assert needs(steps)["update:hv1/web"] == ("stop:hv1/web",)
    assert needs(steps)["boot:hv1/web"] == ("update:hv1/web",)
    assert whys(steps)["boot:hv1/web"] == "restart: memory 128M -> 256M"
    assert ways_of(steps) == {"hv1/web": ("restart", "restart: memory 128M -> 256M")}
    assert steps.losses == ()


def test_without_the_old_blueprint_a_change_is_still_a_reason() -> None:
    world = running(pair(memory=128))
    new = pair(memory=256)
    assert whys(plan(new, look(world, new)))["stop:hv1/web"] == "restart: its definition changed"


def test_a_restarted_hypervisor_keeps_its_disk_and_what_runs_inside_is_stopped_before_and_started_after() -> None:
    old = draft("lab", hypervisor("hv1", guest("web")), hosts="")
    new = draft("lab", hypervisor("hv1", guest("web"), memory=2048), hosts="")
    steps = replan(running(old), new, old)
    assert ids(steps) == ["stop:hv1/web", "stop:hv1", "update:hv1", "boot:hv1", "boot:hv1/web"]
    assert needs(steps)["stop:hv1"] == ("stop:hv1/web",)
    assert needs(steps)["boot:hv1/web"] == ("stop:hv1/web", "boot:hv1")
    why = "restart: memory 1G -> 2G; its disk is kept"
    assert ways_of(steps)["hv1"] == ("restart", why)
    assert whys(steps)["update:hv1"] == why
    assert whys(steps)["boot:hv1/web"] == "restart: hv1, in which it runs, is restarted"


def test_what_runs_beside_the_machine_that_was_named_is_started_again_too() -> None:
    old = draft("lab", hypervisor("hv1", guest("web"), guest("db"), guest("off")), hosts="")
    new = draft("lab", hypervisor("hv1", guest("web"), guest("db"), guest("off"), memory=2048), hosts="")
    world = running(old)
    world.machines["lab", "hv1/off"].state = "stopped"
    seen = look(world, new, old)
    steps = plan(new, seen, targets("running", ["hv1/web"], new, seen), previous=old)
    assert [each for each in ids(steps) if "db" in each] == ["stop:hv1/db", "boot:hv1/db"]
    assert not [each for each in ids(steps) if "off" in each], "nobody wanted it to run"


def test_what_ran_beside_the_named_machine_is_started_after_an_interruption_once_it_is_named_or_the_lab_is() -> None:
    old = draft("lab", hypervisor("hv1", guest("db")))
    new = draft("lab", hypervisor("hv1", guest("web"), guest("db"), memory=2048))
    begun = running(old)
    want: Mapping[str, Want] = targets("running", ["hv1/web"], new, look(begun, new, old))
    steps = replan(begun, new, old, want)
    at_once = copy.deepcopy(begun)
    do(at_once, steps, new)
    assert at_once.machines["lab", "hv1/db"].state == "running"
    for cut in range(ids(steps).index("stop:hv1/db") + 1, len(steps.steps)):
        world = copy.deepcopy(begun)
        do(world, steps, new, set(ids(steps)[:cut]).__contains__)
        assert not [each for each in ids(replan(world, new, old, want)) if "db" in each], "nothing says that it ran"
        for more in (with_left(want, steps), "running"):
            going_on = copy.deepcopy(world)
            do(going_on, replan(going_on, new, old, more), new)
            assert state(going_on) == state(at_once)


def test_only_another_image_makes_a_machine_anew_and_what_is_inside_it() -> None:
    old = draft("lab", hypervisor("hv1", guest("web")), hosts="")
    new = anew(old, "hv1")
    world = running(old)
    world.machines["lab", "hv1"].files["/root/data"] = b"precious"
    steps = replan(world, new, old)
    assert [each for each in ids(steps) if "build" not in each] == [
        "stop:hv1/web",
        "remove:hv1",
        "create:hv1",
        "boot:hv1",
        "create:hv1/web",
        "boot:hv1/web",
    ]
    assert ways_of(steps)["hv1"] == ("anew", "anew: image kvm -> kvm+curl; its disk is deleted")
    assert ways_of(steps)["hv1/web"] == (
        "anew",
        "anew: hv1, in which it runs, is made anew; it has no disk: only what is in its memory is lost",
    )
    assert [change.path for change in steps.losses] == ["hv1", "hv1/web"]
    assert needs(steps)["remove:hv1"] == ("stop:hv1/web",)


def test_a_deletion_says_how_much_is_lost_where_that_is_known() -> None:
    old = draft("lab", hypervisor("hv1"), hosts="")
    seen = look(running(old), old)
    weighed = replace(seen, machines={"hv1": replace(seen.machines["hv1"], written=Written(1288490189))})
    steps = plan(anew(old, "hv1"), weighed, previous=old)
    assert whys(steps)["remove:hv1"].endswith("; its disk with 1.2G written is deleted")
    assert steps.data()["changes"][0] == {
        "path": "hv1",
        "way": "anew",
        "why": whys(steps)["remove:hv1"],
        "deletes": True,
        "written": 1288490189,
        "written_at_most": False,
    }
    at_most = replace(seen, machines={"hv1": replace(seen.machines["hv1"], written=Written(8 << 30, at_most=True))})
    assert whys(plan(anew(old, "hv1"), at_most, previous=old))["remove:hv1"].endswith(
        "with up to 8G written is deleted"
    )


def test_a_disk_grows_live_and_a_smaller_one_makes_the_machine_anew() -> None:
    old = larger(draft("lab", hypervisor("hv1"), hosts=""), "hv1", 4)
    steps = replan(running(old), larger(old, "hv1", 8), old)
    assert ids(steps) == ["update:hv1"]
    assert ways_of(steps) == {"hv1": ("live", "live: disk 4G -> 8G")}
    steps = replan(running(old), larger(old, "hv1", 2), old)
    assert ids(steps) == ["remove:hv1", "create:hv1", "boot:hv1"]
    assert whys(steps)["remove:hv1"] == "anew: disk 4G -> 2G, and no disk gets smaller; its disk of 4G is deleted"
    assert ids(replan(running(old), larger(old, "hv1", None), old)) == [], "no size is no wish for a smaller one"


def test_a_stopped_machine_has_its_new_definition_before_it_boots() -> None:
    old = draft("lab", hypervisor("hv1"), hosts="")
    new = draft("lab", hypervisor("hv1", memory=2048), hosts="")
    world = running(old)
    world.kill("lab", "hv1")
    steps = replan(world, new, old)
    assert ids(steps) == ["update:hv1", "boot:hv1"]
    assert whys(steps)["update:hv1"] == "restart: memory 1G -> 2G; its disk is kept"


def old_form(world: FakeWorld, blueprint: Blueprint) -> Blueprint:
    """As an earlier nestlab made it: other digests, and nothing told of disks."""
    for machine in world.machines.values():
        machine.digest, machine.root = f"old {machine.digest}", None
    return replace(blueprint, specs=tuple(replace(each, digest=f"old {each.digest}") for each in blueprint.specs))


def test_what_an_earlier_nestlab_made_is_left_alone_and_restarted_where_it_changed() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")), hosts="")
    world = running(lab)
    before = old_form(world, lab)
    assert not plan(lab, look(world, lab, before), previous=before)
    more = draft("lab", hypervisor("hv1", guest("web"), memory=2048), hosts="")
    steps = plan(more, look(world, more, before), previous=before)
    assert ways_of(steps)["hv1"] == ("restart", "restart: memory 1G -> 2G; its disk is kept")
    assert steps.losses == ()
    assert [each.path for each in plan(lab, look(world, lab)).losses] == ["hv1", "hv1/web"], "nobody knows its image"


def test_a_machine_is_restarted_or_made_anew_because_somebody_says_so() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")), hosts="")
    seen = look(running(lab), lab)
    steps = plan(lab, seen, {"hv1": "running", "hv1/web": "running"}, again={"hv1": "restart"})
    assert ids(steps) == ["stop:hv1/web", "stop:hv1", "boot:hv1", "boot:hv1/web"]
    assert whys(steps)["stop:hv1"] == "restart: as asked; its disk is kept"
    steps = plan(lab, seen, {"hv1/web": "running"}, again={"hv1/web": "anew"})
    assert ids(steps) == ["remove:hv1/web", "create:hv1/web", "boot:hv1/web"]
    assert [change.path for change in steps.losses] == ["hv1/web"]


def test_a_half_made_machine_with_something_on_its_disk_is_not_thrown_away_unasked() -> None:
    lab = draft("lab", hypervisor("hv1"))
    world = running(lab)
    world.spoil("lab", "hv1")
    seen = look(world, lab, lab)
    assert plan(lab, seen).losses == ()
    weighed = replace(seen, machines={"hv1": replace(seen.machines["hv1"], written=Written(5 * MIB))})
    assert [each.path for each in plan(lab, weighed).losses] == ["hv1"]


def test_a_machine_that_died_is_booted_and_so_is_what_ran_in_it() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    world = running(lab)
    world.kill("lab", "hv1", "killed by signal 9")
    steps = replan(world, lab, lab)
    assert ids(steps) == ["boot:hv1", "create:hv1/web", "boot:hv1/web"]
    assert whys(steps)["boot:hv1"] == "it died: killed by signal 9"
    assert whys(steps)["boot:hv1/web"] == "hv1, in which it runs, is started"


def test_a_paused_machine_goes_on() -> None:
    lab = draft("lab", guest("web"))
    world = running(lab)
    world.pause("lab", "web")
    assert whys(replan(world, lab, lab)) == {"boot:web": "it is paused"}


def test_a_machine_that_is_still_booting_is_waited_for() -> None:
    lab = draft("lab", guest("web"))
    world = look(running(lab), lab, lab)
    booting = replace(world, machines={"web": replace(world.machines["web"], ready=False)})
    assert whys(plan(lab, booting)) == {"boot:web": "it is still booting"}


def test_what_was_changed_by_hand_is_set_back_by_a_restart_inside_out_or_while_it_runs() -> None:
    lab = pair()
    seen = look(running(lab), lab, lab)

    def with_drift(*drift: Drift) -> Plan:
        machines = {**seen.machines, "hv1": replace(seen.machines["hv1"], drift=drift)}
        return plan(lab, replace(seen, machines=machines), previous=lab)

    memory, name = Drift("memory is 64, wanted 128"), Drift("name is a, wanted b", live=True)
    steps = with_drift(memory, name)
    assert ids(steps) == ["stop:hv1/web", "stop:hv1", "boot:hv1", "boot:hv1/web"]
    assert whys(steps)["stop:hv1"] == (
        "restart: memory is 64, wanted 128, name is a, wanted b (changed by hand); its disk is kept"
    )
    assert whys(steps)["boot:hv1/web"] == "restart: hv1, in which it runs, is restarted"
    assert needs(steps)["boot:hv1"] == ("stop:hv1",)
    assert ids(with_drift(name)) == ["boot:hv1"]


def test_a_half_made_machine_is_made_anew() -> None:
    lab = draft("lab", guest("web"))
    world = running(lab)
    world.spoil("lab", "web", "its disk is missing")
    steps = replan(world, lab, lab)
    assert ids(steps) == ["remove:web", "create:web", "boot:web"]
    assert whys(steps)["remove:web"] == "it was half made: its disk is missing"


def test_a_hypervisor_that_does_not_answer_is_waited_for() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    world = running(lab)
    world.silence("lab", "hv1")
    steps = replan(world, lab, lab)
    assert ids(steps) == ["boot:hv1", "create:hv1/web", "boot:hv1/web", "introduce:hv1/web"]
    assert whys(steps)["boot:hv1"] == "hv1 does not answer."


def test_a_machine_no_longer_in_the_file_is_removed_and_the_others_learn_the_names() -> None:
    old = draft("lab", hypervisor("hv1", guest("web"), guest("db")))
    new = draft("lab", hypervisor("hv1", guest("web")))
    steps = replan(running(old), new, old)
    assert ids(steps) == ["remove:hv1/db", "introduce:hv1", "introduce:hv1/web"]
    lost = "it has no disk: only what is in its memory is lost"
    assert whys(steps)["remove:hv1/db"] == f"no longer in the lab file; {lost}"
    assert whys(steps)["introduce:hv1"] == "its names changed"


def test_what_is_removed_from_a_stopped_hypervisor_is_removed_once_it_runs() -> None:
    old = draft("lab", hypervisor("hv1", guest("web"), guest("db")), hosts="")
    new = draft("lab", hypervisor("hv1", guest("web")), hosts="")
    world = running(old)
    do(world, replan(world, old, old, "stopped"), old)
    steps = replan(world, new, old)
    assert ids(steps) == ["connect:wire", "boot:hv1", "create:hv1/web", "boot:hv1/web", "remove:hv1/db"]
    assert needs(steps)["remove:hv1/db"] == ("boot:hv1",)


def test_taking_down_is_the_plan_of_an_empty_lab_inside_out() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    world = running(lab)
    steps = replan(world, Blueprint("lab"), lab)
    assert ids(steps) == ["remove:hv1/web", "remove:hv1", "disconnect:wire"]
    assert needs(steps) == {
        "remove:hv1/web": (),
        "remove:hv1": ("remove:hv1/web",),
        "disconnect:wire": ("remove:hv1",),
    }
    assert ids(replan(world, lab, lab, "gone")) == ids(steps)


def test_stopping_goes_inside_out_and_makes_nothing() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web"), guest("db")), guest("lone"))
    world = running(draft("lab", hypervisor("hv1", guest("web")), hosts=""))
    steps = replan(world, lab, lab, "stopped")
    assert ids(steps) == ["stop:hv1/web", "stop:hv1", "disconnect:wire"]
    assert whys(steps)["stop:hv1/web"] == "hv1, in which it runs, is to stop"


def test_bringing_one_machine_up_brings_up_what_it_is_in_and_nothing_else() -> None:
    lab = pair()
    wanted = targets("running", ["hv1/web"], lab, Observed())
    steps = plan(lab, Observed(), wanted)
    assert {step.path for step in steps.steps} == {"", "hv1", "hv1/web"}


def test_what_is_wanted_of_one_machine_follows_for_those_around_it() -> None:
    lab = pair()
    assert {step.path for step in plan(lab, Observed(), {"hv1/web": "running"}).steps} == {"", "hv1", "hv1/web"}
    seen = look(running(lab), lab)
    assert ids(plan(lab, seen, {"hv1": "stopped", "hv1/web": "running"})) == ["stop:hv1/web", "stop:hv1"]
    assert ids(plan(lab, seen, {"hv1": "gone"})) == ["remove:hv1/web", "remove:hv1"]


def test_stopping_or_removing_one_machine_takes_all_inside_it_along() -> None:
    lab = pair()
    seen = look(running(lab), lab)
    assert ids(plan(lab, seen, targets("stopped", ["hv1"], lab, seen))) == ["stop:hv1/web", "stop:hv1"]
    assert ids(plan(lab, seen, targets("gone", ["hv1"], lab, seen))) == ["remove:hv1/web", "remove:hv1"]


def test_an_unknown_machine_is_named_with_what_it_may_have_meant() -> None:
    with pytest.raises(LabError, match="no machine hv1/wbe") as caught:
        targets("running", ["hv1/wbe"], pair(), Observed())
    assert caught.value.hint == "Did you mean hv1/web?"


def test_a_machine_waits_for_the_one_whose_address_it_takes_over() -> None:
    old = draft("lab", guest("old", at="10.77.0.9"), hosts="")
    new = draft("lab", guest("new", at="10.77.0.9"), hosts="")
    steps = replan(running(old), new, old)
    assert "remove:old" in needs(steps)["boot:new"]


def test_two_machines_that_swap_addresses_both_end_before_either_boots() -> None:
    def lab(first: str, second: str) -> Blueprint:
        return draft("lab", guest("a", at=first), guest("b", at=second), hosts="")

    old, new = lab("10.77.0.1", "10.77.0.2"), lab("10.77.0.2", "10.77.0.1")
    needed = needs(replan(running(old), new, old))
    assert "stop:b" in needed["boot:a"]
    assert "stop:a" in needed["boot:b"]


def test_a_switch_that_died_is_started_under_running_machines() -> None:
    lab = draft("lab", guest("web"))
    world = running(lab)
    world.links.clear()
    assert whys(replan(world, lab, lab)) == {"connect:wire": "machines that run need it, and it is not there"}


def test_a_segment_nobody_uses_any_more_is_disconnected_after_its_machines_end() -> None:
    both = (Segment("wire"), Segment("back"))
    old = draft("lab", guest("web"), guest("db", on=["back"]), segments=both, hosts="")
    new = draft("lab", guest("web"), hosts="")
    steps = replan(running(old), new, old)
    assert ids(steps) == ["remove:db", "disconnect:back"]
    assert needs(steps)["disconnect:back"] == ("remove:db",)


def test_a_segment_of_the_file_that_no_machine_uses_is_left_as_it_is() -> None:
    lab = draft("lab", guest("web"), segments=(Segment("wire"), Segment("spare")))
    world = running(lab)
    world.links.add(("lab", "spare"))
    assert not replan(world, lab, lab)
    assert ids(replan(world, lab, lab, "stopped")) == ["stop:web", "disconnect:spare", "disconnect:wire"]


def test_an_image_that_vanished_is_built_only_when_something_boots_from_it() -> None:
    lab = draft("lab", guest("web"))
    world = running(lab)
    world.images.clear()
    assert not replan(world, lab, lab)
    world.kill("lab", "web")
    assert [each.split("-")[0] for each in ids(replan(world, lab, lab))] == ["build:tiny", "boot:web"]


def test_names_that_changed_while_a_machine_was_stopped_are_made_before_it_boots() -> None:
    old = draft("lab", guest("web"), hosts="before")
    new = draft("lab", guest("web"), hosts="after")
    world = running(old)
    world.kill("lab", "web")
    assert ids(replan(world, new, old)) == ["update:web", "boot:web"]


def test_a_changed_card_is_named() -> None:
    old = draft("lab", guest("web", at="10.77.0.1"), hosts="")
    new = draft("lab", guest("web", at="10.77.0.2"), hosts="")
    why = whys(replan(running(old), new, old))["boot:web"]
    assert why == "restart: addresses on wire 10.77.0.1/16 -> 10.77.0.2/16"


def test_the_plan_is_json_data() -> None:
    steps = plan(draft("lab", guest("web", on=[])), Observed())
    row = steps.data()["steps"][-1]
    assert row == {"id": "boot:web", "do": "boot", "on": "web", "why": "not there yet", "needs": ["create:web"]}


# properties: a random world, made of any old lab, half done and damaged, and a random lab wanted of it


@st.composite
def worlds(draw: st.DrawFn) -> tuple[FakeWorld, Blueprint, Blueprint]:
    old = draw(blueprints())
    new = draw(st.one_of(st.just(old), blueprints(), st.just(Blueprint("lab"))))
    world = FakeWorld()
    other = draft("other", guest("web"))
    do(world, plan(other, Observed()), other)
    steps = plan(old, look(world, old))
    left_out = draw(st.sets(st.sampled_from(ids(steps)), max_size=2)) if steps else set()
    do(world, steps, old, lambda each: each not in left_out)
    paths = sorted(path for lab, path in world.machines if lab == "lab")
    if paths:
        harm = st.tuples(st.sampled_from(["kill", "pause", "spoil", "silence", "stop"]), st.sampled_from(paths))
        for what, path in draw(st.lists(harm, max_size=4)):
            _harm(world, what, path)
    if draw(st.booleans()):
        world.links = {link for link in world.links if link != ("lab", "wire")}
    if draw(st.booleans()):
        world.images.clear()
    return world, old, new


def _harm(world: FakeWorld, what: str, path: str) -> None:
    if not world.answers("lab", path):
        return
    match what:
        case "kill":
            world.kill("lab", path)
        case "pause":
            world.pause("lab", path)
        case "spoil":
            world.spoil("lab", path)
        case "silence":
            world.silence("lab", path)
        case _:
            world.kill("lab", path)
            world.machines["lab", path].state = "stopped"


@st.composite
def wants(draw: st.DrawFn, old: Blueprint, new: Blueprint, seen: Observed) -> Mapping[str, Want] | Want:
    want: Want = draw(st.sampled_from(["running", "running", "stopped", "gone"]))
    known = sorted(new.by_path().keys() | seen.machines.keys())
    if not known or draw(st.booleans()):
        return want
    return targets(want, [draw(st.sampled_from(known))], new, seen)


def with_left(want: Mapping[str, Want] | Want, steps: Plan) -> Mapping[str, Want] | Want:
    """What to want to go on from a part of a plan: what it starts is named, as far as single machines are. It may start
    one that nobody named, which ran in a hypervisor that is restarted; once that is stopped, nothing says that it ran.
    """
    if isinstance(want, str):
        return want
    return {**want, **dict.fromkeys((step.path for step in steps.steps if step.verb == "boot"), "running")}


def state(world: FakeWorld, lab: str = "lab") -> tuple[object, ...]:
    made = {key: (each.digest, each.names, each.state) for key, each in world.machines.items() if key[0] == lab}
    return made, {link for link in world.links if link[0] == lab}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_plan_carried_out_leaves_nothing_to_do(data: st.DataObject) -> None:
    world, old, new = data.draw(worlds())
    seen = look(world, new, old)
    want = data.draw(wants(old, new, seen))
    do(world, plan(new, seen, want, previous=old), new)
    assert ids(plan(new, look(world, new, old), want, previous=old)) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_going_on_from_any_part_of_a_plan_reaches_the_same_world(data: st.DataObject) -> None:
    world, old, new = data.draw(worlds())
    seen = look(world, new, old)
    want = data.draw(wants(old, new, seen))
    steps = plan(new, seen, want, previous=old)
    at_once = copy.deepcopy(world)
    do(at_once, steps, new)
    cut = data.draw(st.integers(0, len(steps.steps)))
    left_out = data.draw(st.sets(st.sampled_from(ids(steps)))) if steps else set()
    kept = data.draw(st.sampled_from([set(ids(steps)[:cut]), set(ids(steps)) - left_out]))
    do(world, steps, new, lambda each: each in kept)
    do(world, plan(new, look(world, new, old), with_left(want, steps), previous=old), new)
    assert state(world) == state(at_once)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_steps_are_in_order_unique_and_about_this_lab_only(data: st.DataObject) -> None:
    world, old, new = data.draw(worlds())
    seen = look(world, new, old)
    want = data.draw(wants(old, new, seen))
    steps = plan(new, seen, want, previous=old)
    shuffled = dict(data.draw(st.permutations(list(seen.machines.items()))))
    assert plan(new, Observed(shuffled, seen.links, seen.images), want, previous=old) == steps
    before: set[str] = set()
    for step in steps.steps:
        assert before.issuperset(step.needs)
        assert step.id not in before
        assert step.why
        assert step.path in {"", *new.by_path(), *seen.machines}
        before.add(step.id)
    others = state(world, "other")
    do(world, steps, new)
    assert state(world, "other") == others


def test_planning_needs_only_what_is_seen() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    seen = {"hv1": Seen("hv1", "stopped", lab["hv1"].digest)}
    assert ids(plan(lab, Observed(seen, frozenset({"wire"}), frozenset(lab.images)))) == [
        "boot:hv1",
        "create:hv1/web",
        "boot:hv1/web",
    ]


def test_deep_labs_are_planned_as_well() -> None:
    machine = guest("m")
    for _ in range(60):
        machine = hypervisor("m", machine, memory=1)
    lab = draft("lab", machine)
    world = running(lab)
    assert not replan(world, lab, lab)
    assert parent_of(lab.specs[-1].path) == lab.specs[-2].path
    assert lab.specs[0].machine.memory == MIB
    assert lab.specs[0].machine.links == (Link("wire"),)


@pytest.mark.parametrize("state", get_args(State))
def test_the_state_of_a_machine_is_said_in_words(state: State) -> None:
    wanted = {"died": "it died"}.get(state, f"it is {state}")
    assert states.said(Seen("a", state)) == wanted
    assert states.said(None) == "it is not there"
