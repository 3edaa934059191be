"""`ready:` of a machine and `hypervisor: other`: what they mean, what they exclude, and that they restart nothing."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import Mistake, Mistakes
from nestlab.engines.qemu import records
from nestlab.images.image_files import keys_of
from nestlab.lab import addresses, blueprint_file
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, images_of, settle
from nestlab.lab.model import Lab, Machine
from nestlab.lab.readiness import Ready
from nestlab.labfile import parse_text, render
from nestlab.verbs.reachability import pairs_of


def lab_of(machines: str, **rest: str) -> Lab:
    head = "".join(f"{key}: {value}\n" for key, value in rest.items())
    return parse_text(f"lab: x\n{head}machines:\n" + textwrap.indent(textwrap.dedent(machines), "  "), environ={})


def mistakes(machines: str, **rest: str) -> list[Mistake]:
    with pytest.raises(Mistakes) as caught:
        lab_of(machines, **rest)
    return list(caught.value.mistakes)


def machine(text: str, **rest: str) -> Machine:
    return lab_of(f"m: {text}", **rest).machines[0]


def settled(lab: Lab) -> Blueprint:
    images = [*images_of(lab), PROBE]
    return settle(lab, addresses.lease(lab, Leases(), ()), keys_of(images))


@pytest.mark.parametrize(
    ("said", "ready"),
    [
        ("{}", Ready()),
        ("{ready: ssh}", Ready()),
        ("{ready: agent}", Ready("agent")),
        ("{ready: none}", Ready("none")),
        ("{ready: {port: 3389}}", Ready("port", port=3389)),
        ('{ready: {console: "login: ?$"}}', Ready("console", pattern="login: ?$")),
        ("{image: tiny, display: true, ready: {screen: still}}", Ready("screen", still=30)),
        ("{image: tiny, display: true, ready: {screen: still, for: 2m}}", Ready("screen", still=120)),
        ("{hypervisor: other, image: tiny}", Ready("none")),
        ("{hypervisor: other, image: tiny, ready: ssh}", Ready()),
        ("{hypervisor: kvm}", Ready()),
    ],
)
def test_what_is_said_is_what_is_meant(said: str, ready: Ready) -> None:
    lab = lab_of(f"m: {said}")
    assert lab.machines[0].ready == ready
    assert parse_text(render(lab), environ={}) == lab
    again = blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(settled(lab)))
    assert again == settled(lab)


def test_nobody_logs_in_to_a_medium(tmp_path: Path) -> None:
    medium = tmp_path / "a.iso"
    medium.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(2041))
    assert machine(f"{{image: {{file: {medium}}}}}").ready == Ready("none")


@pytest.mark.parametrize(("head", "said"), [("", "{image: none, disk: 1G}"), ("on: pve://pve1\n", "{}")])
def test_what_boots_by_firmware_and_what_a_proxmox_ve_runs_has_a_screen(head: str, said: str) -> None:
    text = f"lab: x\n{head}defaults: {{ready: {{screen: still}}}}\nmachines: {{m: {said}}}"
    assert parse_text(text, environ={}).machines[0].ready == Ready("screen", still=30)


def test_what_defaults_say_of_a_screen_is_a_mistake_where_there_is_none() -> None:
    [found] = mistakes("m: {}", defaults="{ready: {screen: still}}")
    assert "m has none" in found.what
    assert found.line == 4


def test_it_is_no_reason_to_restart_a_machine() -> None:
    before, after = (settled(lab_of(f"m: {said}")).specs[0] for said in ("{}", "{ready: {port: 80}}"))
    assert before.digest == after.digest
    assert before.machine != after.machine


def test_what_defaults_say_passes_over_those_of_whom_only_one_thing_is_true() -> None:
    lab = lab_of("a: {}\nhv: {hypervisor: kvm, machines: {b: {ready: ssh}}}", defaults="{ready: agent}")
    assert {each.path: each.machine.ready.by for each in lab.walk()} == {"a": "agent", "hv": "ssh", "hv/b": "ssh"}


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        ("{ready: {}}", "it says none of `port`, `console` and `screen`", "ready: none"),
        ("{ready: {port: 1, console: a}}", "`port` and `console` exclude each other", "Say one of them"),
        ("{ready: {screen: still, port: 1}}", "`port` and `screen` exclude each other", "Say one of them"),
        ("{ready: {port: 1, for: 9s}}", "`for` belongs to `screen: still`", "Leave it out"),
        ("{display: true, ready: {screen: still, for: 3m}}", "is looked at for 120 s at most", "`2m` or less"),
        ("{display: true, ready: {screen: moves}}", "still", ""),
        ("{ready: {screen: still}}", "`ready: {screen: still}` needs a screen, and m has none", "`display: true`"),
        ("{ready: {port: 0}}", "expected a whole number from 1 to 65535", ""),
        ("{ready: {console: '(a'}}", "a `(` is not closed", "docs/labfile.md"),
        ("{ready: maybe}", "expected ssh, agent or none", ""),
        ("{login: none}", "`login` is not a key of a machine", "`ready`"),
        ("{ready: none, setup: [ls]}", "`setup` needs a login, and nestlab does not log in to m (`ready: none`)", ""),
        ("{ready: agent, ssh_keys: [k]}", "", ""),
        ("{hypervisor: other, image: tiny, setup: [ls]}", "(`ready: none`, which is its default here)", "ready: ssh"),
        ("{hypervisor: kvm, ready: none}", "nestlab works in m, a hypervisor of kind kvm", "hypervisor: other"),
        ("{hypervisor: other}", "m says no `image`, and nestlab has none of its own", "file: ./disk.qcow2"),
        ("{hypervisor: other, image: tiny, machines: {a: {}}}", "that nestlab boots and shows vmx or svm to", "kvm"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(said: str, what: str, hint: str) -> None:
    found = mistakes(f"m: {said}")
    assert any(what in each.what and hint in each.hint for each in found), [(e.what, e.hint) for e in found]
    assert all(each.line == 3 for each in found)


def test_one_that_nestlab_does_not_work_in_needs_nothing_of_nestlabs() -> None:
    lab = settled(lab_of("m: {hypervisor: other, image: debian}"))
    assert lab.specs[0].cargo == ()
    assert lab.specs[0].machine.foreign
    assert not lab.specs[0].machine.nests


def test_no_machine_is_asked_to_reach_one_that_nobody_logs_in_to() -> None:
    text = "a: {segments: [w]}\nb: {segments: [w]}\nc: {segments: [w], ready: none}"
    lab = settled(lab_of(text, segments="{w: }"))
    pairs = pairs_of(lab)
    assert pairs["c"] == {}
    assert {pair.other for pair in pairs["a"]["w"]} == {"b"}


def test_what_stands_in_the_record_of_a_start_is_believed_only_if_it_can_be() -> None:
    def read(ready: str) -> Ready:
        return records.started(f'{{"port": 20001, "asked": true, "ready": {ready}}}').ready

    assert read('{"by": "port", "port": 3389}') == Ready("port", port=3389)
    assert read('{"by": "console", "pattern": "login:"}') == Ready("console", pattern="login:")
    assert read('{"by": "screen", "still": 30}') == Ready("screen", still=30)
    assert read('{"by": "agent"}') == Ready("agent")
    assert records.started('{"port": 20001, "asked": true}').ready == Ready()
    for odd in (
        '{"by": "screen", "still": 999}',
        '{"by": "console", "pattern": "("}',
        '{"by": "port", "port": 99999}',
        '{"by": 7}',
        "{}",
    ):
        assert read(odd) == Ready("none")


def test_a_machine_of_another_ready_is_another_machine_of_the_same_start() -> None:
    one = settled(lab_of("m: {}")).specs[0]
    other = replace(one, machine=replace(one.machine, ready=Ready("agent")))
    assert one != other
