"""Whether a machine may move between hypervisors of its lab; where it is then, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.hosts.local import LocalHost
from nestlab.lab import addresses, moved_machines
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, images_of, settle
from nestlab.lab.model import Lab
from nestlab.lab.moved_machines import Away, Passage, made_under, moved, placed, told
from nestlab.labfile import parse_text
from nestlab.labfile.machine_block import moved as text_moved
from nestlab.labfile.source import Source
from nestlab.plan.migration import SPARE, Cpu, End, Ruling, check_places, judge
from nestlab.plan.moved_machines import settled_only
from nestlab.plan.planner import plan
from nestlab.plan.steps import Observed, Seen, State
from nestlab.verbs import migration_downtime
from nestlab.verbs.migration_downtime import gap, reply, shared
from nestlab.verbs.moving import asked
from nestlab.verbs.place_kept import placed as lab_placed
from nestlab.verbs.place_kept import same

LAB = """
lab: trio
segments: {wire: , back: }
machines:
  hv1:
    hypervisor: kvm
    segments: [wire]
    machines:
      # serves pages
      web: {image: tiny, memory: 128M, segments: [wire]}
      db:
        image: debian
        segments: [wire, back]
  hv2:
    hypervisor: kvm
    segments: [wire]
    machines:
      other: {image: tiny, segments: [wire]}
  hv3: {hypervisor: kvm}
"""

CPU = Cpu("x86_64", "AuthenticAMD", "EPYC", frozenset({"svm", "avx2"}))


def _lab(text: str = LAB) -> Lab:
    return parse_text(text, environ={})


def _blueprint(lab: Lab, aways: moved_machines.Aways = (), leases: Leases | None = None) -> tuple[Blueprint, Leases]:
    aways = told(aways, [each.path for each in lab.walk()])
    born = made_under(aways, [each.path for each in lab.walk()])
    leases = addresses.lease(lab, leases or Leases(), (), born)
    keys = {image: image.base or "x" for image in [*images_of(lab), PROBE]}
    return placed(settle(lab, leases, keys, born=born), aways), leases


def _observed(blueprint: Blueprint, **states: State) -> Observed:
    """All as they were made, running but for those named."""
    machines = {}
    for spec in blueprint.specs:
        seen = Seen(spec.path, "running", spec.digest, spec.names, root=spec.root, disk=spec.machine.disk or 0)
        machines[spec.path] = replace(seen, state=states.get(spec.path, "running"), accel="kvm", disks=spec.disks)
    images = frozenset(blueprint.images)
    return Observed(machines, frozenset(each.name for each in blueprint.segments), images)


def _rule(
    way: State = "running", *, source: End | None = None, target: End | None = None, cold: bool = False
) -> Ruling:
    blueprint, _ = _blueprint(_lab())
    spec = blueprint["hv1/web"]
    seen = replace(_observed(blueprint).machines["hv1/web"], state=way)
    return judge(
        spec, seen, source or End("hv1", cpu=CPU, kvm=True), target or End("hv2", cpu=CPU, kvm=True), cold=cold
    )


def test_a_machine_that_was_moved_is_who_it_was() -> None:
    before, leases = _blueprint(_lab())
    aways = moved((), "hv1/web", "hv2/web", 5.0)
    after, again = _blueprint(_lab(), aways, leases)
    assert "hv1/web" not in after.by_path()
    one, other = before["hv1/web"], after["hv2/web"]
    assert (one.nics, one.digest, one.hosts, one.management) == (
        other.nics,
        other.digest,
        other.hosts,
        other.management,
    )
    assert (other.born, again) == ("hv1/web", leases)
    assert [spec.digest for spec in before.specs if spec.machine.nests] == [
        spec.digest for spec in after.specs if spec.machine.nests
    ]
    assert [spec.names for spec in before.specs] == [before[spec.born or spec.path].names for spec in before.specs]
    order = [spec.path for spec in after.specs]
    assert order.index("hv2") < order.index("hv2/web")


def test_up_leaves_a_machine_where_it_was_moved_to() -> None:
    after, _ = _blueprint(_lab(), moved((), "hv1/web", "hv2/web", 5.0))
    assert not plan(after, _observed(after))
    gone = plan(after, _observed(after), "gone")
    assert [step.path for step in gone.steps if step.verb == "remove" and "web" in step.path] == ["hv2/web"]


def test_placing_twice_changes_nothing_and_what_is_back_is_put_back() -> None:
    aways = moved((), "hv1/web", "hv2/web", 5.0)
    home, _ = _blueprint(_lab())
    there = placed(home, aways)
    assert placed(there, aways) == there
    assert {spec.path: spec for spec in placed(there, ()).specs} == {spec.path: spec for spec in home.specs}
    assert moved(aways, "hv2/web", "hv1/web", 6.0) == ()


def test_a_machine_moved_on_and_on_is_made_under_its_first_path() -> None:
    aways = moved(moved((), "hv1/web", "hv2/web", 5.0), "hv2/web", "hv3/web", 6.0)
    assert aways == (Away("hv1/web", "hv1/web", "hv3/web", 6.0),)
    there, _ = _blueprint(_lab(), aways)
    assert there["hv3/web"].born == "hv1/web"


def test_kept_in_its_new_place_it_keeps_addresses_and_mac() -> None:
    before, leases = _blueprint(_lab())
    aways = moved((), "hv1/web", "hv2/web", 5.0, keep=True)
    lab = lab_placed(_lab(), "hv1/web", "hv2")
    assert lab is not None
    after, _ = _blueprint(lab, aways, leases)
    assert before["hv1/web"].nics == after["hv2/web"].nics
    assert moved_machines.lines(aways, 9.0) == []
    assert told(moved((), "hv1/web", "hv2/web", 5.0), [each.path for each in lab.walk()]) == aways


def test_a_new_machine_under_its_old_path_is_another() -> None:
    lab = lab_placed(_lab(), "hv1/web", "hv2")
    assert lab is not None
    fresh = replace(
        lab,
        machines=tuple(
            replace(each, machines=(*each.machines, _lab().machines[0].machines[0])) if each.name == "hv1" else each
            for each in lab.machines
        ),
    )
    after, _ = _blueprint(fresh, moved((), "hv1/web", "hv2/web", 5.0, keep=True))
    macs = [nic.mac for path in ("hv1/web", "hv2/web") for nic in after[path].nics]
    assert len(set(macs)) == len(macs)
    assert (
        len({address for path in ("hv1/web", "hv2/web") for nic in after[path].nics for address in nic.addresses}) == 4
    )


def test_a_lab_file_with_another_machine_in_its_place_is_refused() -> None:
    aways = moved((), "hv1/web", "hv2/web", 5.0)
    with pytest.raises(LabError, match="hv2/web, and hv1/web, which was moved, is there"):
        told(aways, ["hv1", "hv1/web", "hv2", "hv2/web"])
    assert told(aways, ["hv1", "hv2"]) == ()
    with pytest.raises(LabError, match="hv2 is not in the lab file any more"):
        _blueprint(replace(_lab(), machines=tuple(each for each in _lab().machines if each.name != "hv2")), aways)


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("hv1", "hv2", "hv1 is in no hypervisor of the lab"),
        ("hv1/web", "hv1", "hv1/web is in hv1 already"),
        ("hv1/web", "hv22", "Lab trio has no hypervisor hv22"),
        ("hv1/web", "hv1/db", "hv1/db is no hypervisor"),
        ("hv1/web", "hv3", "hv3 has no bridge on wire"),
        ("hv1/db", "hv2", "hv2 has no bridge on back"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused_with_the_reason(path: str, target: str, said: str) -> None:
    blueprint, _ = _blueprint(_lab())
    with pytest.raises(LabError, match=said):
        check_places(blueprint, _observed(blueprint), path, target)


def test_a_hypervisor_that_does_not_run_takes_nothing_in() -> None:
    blueprint, _ = _blueprint(_lab())
    check_places(blueprint, _observed(blueprint), "hv1/web", "hv2")
    with pytest.raises(LabError, match="hv2 is killed"):
        check_places(blueprint, _observed(blueprint, hv2="killed"), "hv1/web", "hv2")


def test_a_name_that_is_taken_and_a_hypervisor_with_machines_inside_are_refused() -> None:
    blueprint, _ = _blueprint(_lab(LAB.replace("other:", "web:")))
    with pytest.raises(LabError, match="There is a machine web in hv2 already"):
        check_places(blueprint, _observed(blueprint), "hv1/web", "hv2")
    nested = LAB.replace(", memory: 128M", "").replace(
        "      web: {image: tiny", "      web: {hypervisor: kvm, machines: {in: {image: tiny}}, memory: 1G, image: kvm"
    )
    blueprint, _ = _blueprint(_lab(nested))
    with pytest.raises(LabError, match="hv1/web is a hypervisor with machines of the lab inside"):
        check_places(blueprint, _observed(blueprint), "hv1/web", "hv2")


def test_what_runs_moves_live_what_is_off_stays_off_and_cold_is_a_restart() -> None:
    assert [_rule(state).way for state in ("running", "paused", "stopped", "died")] == ["live", "live", "off", "off"]
    assert _rule(cold=True).way == "restart"
    assert all(_rule(state).refused is None for state in ("running", "stopped"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (End("hv2", moves=False), "does not move machines that hv2 runs"),
        (End("hv2", kind="libvirt"), "hv2 a libvirt"),
        (End("hv2", live=False, cpu=CPU, kvm=True), "does not move while it runs"),
        (End("hv2", cpu=replace(CPU, arch="aarch64")), "hv1 is x86_64, and hv2 aarch64"),
        (End("hv2", cpu=CPU, kvm=False), "runs on KVM, and in hv2 it would be emulated"),
        (End("hv2", cpu=replace(CPU, model="Opteron"), kvm=True), "a CPU EPYC, and hv2 Opteron"),
        (End("hv2", cpu=replace(CPU, flags=frozenset({"svm"})), kvm=True), "lacks what that of hv1 has: avx2"),
        (End("hv2", cpu=CPU, kvm=True, free=SPARE), "of memory left, and hv1/web takes"),
    ],
)
def test_what_a_hypervisor_cannot_take_in_is_refused_with_the_reason(target: End, said: str) -> None:
    refused = _rule(target=target).refused
    assert refused is not None
    assert said in refused.what


def test_a_machine_with_a_tpm_or_with_guests_moves_only_when_it_is_off() -> None:
    blueprint, _ = _blueprint(_lab())
    spec, seen = blueprint["hv1/db"], _observed(blueprint).machines["hv1/db"]
    ends = End("hv1", cpu=CPU, kvm=True), End("hv2", cpu=CPU, kvm=True)
    hardware = replace(spec.machine.hardware, tpm=True)
    tpm = judge(replace(spec, machine=replace(spec.machine, hardware=hardware)), seen, *ends)
    guests = judge(replace(spec, machine=replace(spec.machine, hypervisor="kvm")), seen, *ends, inside=("qemu",))
    unknown = judge(replace(spec, machine=replace(spec.machine, hypervisor="kvm")), seen, *ends, inside=None)
    for ruling, said in ((tpm, "a TPM"), (guests, "guests run (qemu)"), (unknown, "cannot be told")):
        assert ruling.refused is not None
        assert said in ruling.refused.what
        assert "--cold" in ruling.refused.hint
    off = replace(seen, state="stopped")
    assert judge(replace(spec, machine=replace(spec.machine, hypervisor="kvm")), off, *ends).refused is None


def test_one_that_boots_or_runs_with_another_definition_waits() -> None:
    blueprint, _ = _blueprint(_lab())
    spec, seen = blueprint["hv1/web"], _observed(blueprint).machines["hv1/web"]
    ends = End("hv1", cpu=CPU, kvm=True), End("hv2", cpu=CPU, kvm=True)
    for other, said in (
        (replace(seen, ready=False), "still booting"),
        (replace(seen, digest="x"), "another definition"),
    ):
        refused = judge(spec, other, *ends).refused
        assert refused is not None
        assert said in refused.what


def test_what_a_migration_has_half_made_is_no_machine() -> None:
    blueprint, _ = _blueprint(_lab())
    seen = _observed(blueprint)
    both = replace(seen, machines={**seen.machines, "hv2/web": Seen("hv2/web", "paused")})
    for phase, gone in (("begun", "hv2/web"), ("failed", "hv2/web"), ("moved", "hv1/web")):
        left = settled_only(both, [Passage("hv1/web", "hv2/web", phase)])  # type: ignore[arg-type]
        assert both.machines.keys() - left.machines.keys() == {gone}


def test_whatever_a_hypervisor_says_of_itself_is_bounded() -> None:
    text = "x86_64\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: svm avx2\nMemAvailable:  123 kB\n"
    cpu, free = asked(text)
    assert cpu.flags == {"svm", "avx2"}
    assert (cpu.arch, cpu.vendor, free) == ("x86_64", "AuthenticAMD", 123 << 10)
    assert "EPYC" in cpu.model
    assert asked("\x1b[2J" + "x" * 100_000) == (Cpu(), None)


async def test_answers_without_end_are_heard_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration_downtime, "MOST", 50)
    echoes, line = migration_downtime.Echoes(), "[1764511200.1] 64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.1 ms"
    host = LocalHost()
    monkeypatch.setattr(host, "lines", lambda _: LocalHost().lines(("yes", line)))
    await migration_downtime._ask(host, "10.0.0.2", echoes)
    assert len(echoes.times) == 50


def test_the_silence_is_the_longest_gap_between_answers() -> None:
    line = b"[1764511200.123456] 64 bytes from 10.0.0.1: icmp_seq=3 ttl=64 time=0.5 ms"
    assert reply(line) == pytest.approx(1764511200.123456)
    assert reply(b"From 10.0.0.2 icmp_seq=3 Destination Host Unreachable") is None
    assert gap([1.0, 1.1, 1.9, 2.0]) == pytest.approx(0.7)
    assert gap([1.0]) is None
    blueprint, _ = _blueprint(_lab())
    address = blueprint["hv1/web"].nics[0].addresses[0].partition("/")[0]
    assert shared(blueprint["hv1/web"], blueprint["hv2"]) == address
    assert shared(blueprint["hv1/web"], blueprint["hv3"]) is None


def _text(text: str, path: str, target: str) -> str | None:
    return text_moved(Source("lab.yaml", text, Path("/")), {}, path, target)


@pytest.mark.parametrize(("path", "target"), [("hv1/web", "hv2"), ("hv1/db", "hv2"), ("hv2/other", "hv1")])
def test_the_lines_of_a_machine_move_in_the_lab_file_with_their_comments(path: str, target: str) -> None:
    text = _text(LAB, path, target)
    assert text is not None
    wanted = lab_placed(_lab(), path, target)
    assert wanted is not None
    assert same(_lab(text), wanted)
    assert text.count("# serves pages") == 1
    if path == "hv1/web":
        assert text.index("hv2:") < text.index("# serves pages")


@pytest.mark.parametrize(
    "change",
    [
        ("  hv3: {hypervisor: kvm}\n", "  hv3: {hypervisor: kvm}\n", "hv1/web", "hv3"),
        ("  hv1:\n", "  hv1: &node\n", "hv1/web", "hv9"),
        (
            "    machines:\n      other: {image: tiny, segments: [wire]}",
            "    machines: {other: {image: tiny}}",
            "hv1/web",
            "hv2",
        ),
    ],
)
def test_lines_that_do_not_stand_for_themselves_are_left_alone(change: Sequence[str]) -> None:
    old, new, path, target = change
    assert _text(LAB.replace(old, new), path, target) is None
