"""Root in a hypervisor says of its machines what it likes: nothing above it or beside it is meant, and nobody waits."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import draft, guest, hypervisor
from liars import engine_on, nest_with, report, told, up
from nestlab.base.errors import LabError, Overdue
from nestlab.base.events import Event, Finished
from nestlab.engines.qemu import observed, quick_status, records, scripts, step_time
from nestlab.home.paths import Place, short_id
from nestlab.hosts.host import Result
from nestlab.hosts.local import LocalHost
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import directly_in, within
from nestlab.plan.planner import plan
from nestlab.plan.steps import Clear, HalfMade, Observed, Remove, Seen, Stop
from nestlab.testing.fake_engine import FakeEngine, FakeHost
from nestlab.verbs import apply as apply_module
from nestlab.verbs.apply import apply
from nestlab.verbs.nest import Nest
from nestlab.verbs.own_machines import own
from nestlab.wire.own_thread import own_thread
from scripted import Hear, Say, Step, server
from waiting import LONG

SHELLS = [shell for shell in ("dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]
LAB = draft("pair", hypervisor("hv1", guest("web")), hypervisor("hv2", guest("web")), guest("victim"))
WEB = short_id("hv1/web")
VICTIM = {"path": "victim", "digest": "x", "names": "y", "root": "z", "disk": 0}

LIES = [
    told(WEB, making={"path": "hv1/web"}, made=VICTIM),
    told(short_id("victim"), made=VICTIM, boot={"port": 1}, runs=True),
    told(short_id("hv2"), made=VICTIM | {"path": "hv2"}),
    told(short_id("hv2/web"), made=VICTIM | {"path": "hv2/web"}, runs=True),
    told(short_id("hv1"), made=VICTIM | {"path": "hv1"}),
    told("deadbeef", making={"path": "?"}),
    told("deadbeef", making={"path": "hv1/?"}),
    told("deadbeef", making={"path": "../x"}),
    told(short_id("hv1/../victim"), making={"path": "hv1/../victim"}),
    told(short_id("hv1//victim"), made=VICTIM | {"path": "hv1//victim"}),
    told(short_id("hv1/a/b"), made=VICTIM | {"path": "hv1/a/b"}),
    told("deadbeef", making={"path": "victim\nM 00000000\nW {}"}),
    told("deadbeef", made="[" * 100_000),
    told("deadbeef", made={"path": ["victim"]}, boot={"port": [1]}),
    told(WEB, made={"path": "hv1/web", "digest": {"x": 1}, "names": 7, "root": [], "disk": "all"}),
    told("?", making={"path": "?"}),
    told("", making={"path": ""}),
    told("..", making={"path": "victim"}),
    told(". ", made=VICTIM),
    told("x" * 1_000_000, made=VICTIM),
    told("deadbeef", made=VICTIM | {"digest": "x" * 1_000_000}),
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
async def test_a_lie_about_machines_means_nothing_outside_the_hypervisor_that_told_it(lie: str, tmp_path: Path) -> None:
    world = up(LAB)
    async with nest_with(world, LAB, {"hv1": report(lie)}, tmp_path) as nest:
        seen = await nest.observe()
    there = {path: each for path, each in seen.machines.items() if not within(path, "hv1")}
    assert {path: each.state for path, each in there.items()} == dict.fromkeys(("hv2", "hv2/web", "victim"), "running")
    assert {each.digest for each in there.values()} == {LAB[path].digest for path in there}
    for want in ("running", "stopped", "gone"):
        todo = plan(LAB if want != "gone" else Blueprint("pair"), seen, want, previous=LAB)
        for step in todo.steps:
            if isinstance(step, Remove | Stop) and want == "running":
                assert step.path.startswith("hv1/"), step
            if isinstance(step, Clear):
                assert (step.rest.host, len(step.rest.folder)) == ("hv1", 8)
        for path in there:
            assert want == "running" or f"{'stop' if want == 'stopped' else 'remove'}:{path}" in {
                step.id for step in todo.steps
            }


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "Segmentation fault\n",
        "U nan\n",
        "U 1e400\n",
        f"U {'9' * 100}\n",
        "U 1.0\nM deadbeef\nP 1 (x) S 1\n",
        f"U 1.0\nM deadbeef\nP {'9' * 5000} (x) S {' 1' * 50}\n",
        "U 1.0\n" + "y\n" * (observed.LIMIT // 2),
        "U 1.0\n" + "".join(f"M {number:08x}\n" for number in range(observed.MOST + 1)),
    ],
    ids=range(9),
)
async def test_nonsense_is_told_in_one_line_as_that_hypervisors_fault_and_the_rest_is_seen(
    nonsense: str, tmp_path: Path
) -> None:
    async with nest_with(up(LAB), LAB, {"hv1": nonsense}, tmp_path) as nest:
        seen = (await nest.observe()).machines
    assert (seen["hv1"].state, seen["hv1/web"].state) == ("running", "unknown")
    assert "hv1" in seen["hv1/web"].why
    assert "\n" not in seen["hv1/web"].why
    assert len(seen["hv1/web"].why) < 300
    assert seen["hv2/web"].state == seen["victim"].state == "running"


async def test_at_level_2_the_same_holds(tmp_path: Path) -> None:
    lab = draft("pair", hypervisor("hv1", hypervisor("in", guest("web")), guest("victim")), guest("victim"))
    lies = [told(short_id(path), made=VICTIM | {"path": path}) for path in ("victim", "hv1/victim", "hv1/in", "hv1")]
    async with nest_with(up(lab), lab, {"hv1/in": report(*lies)}, tmp_path) as nest:
        seen = await nest.observe()
    assert all(seen.machines[path].state == "running" for path in ("victim", "hv1/victim", "hv1/in", "hv1"))
    assert seen.half_made == {HalfMade("hv1/in", short_id(p)) for p in ("victim", "hv1/victim", "hv1/in", "hv1")}
    ends = [step for step in plan(lab, seen, previous=lab).steps if isinstance(step, Remove | Stop)]
    assert ends == []


@pytest.mark.parametrize(
    "odd",
    [
        Observed({"victim": Seen("victim", "stopped")}),
        Observed({"hv1/x": Seen("victim", "stopped")}),
        Observed({"hv1": Seen("hv1", "stopped")}),
        Observed({"hv1/a/b": Seen("hv1/a/b", "stopped")}),
        Observed({"hv1/\nx": Seen("hv1/\nx", "stopped")}),
        Observed(half_made=frozenset({HalfMade("", "deadbeef")})),
    ],
)
async def test_whatever_an_engine_saw_beside_its_host_is_refused_whole(odd: Observed) -> None:
    with pytest.raises(LabError, match=r"^hv1 tells of machines that cannot be in it") as refused:
        own("hv1", odd)
    assert "\n" not in refused.value.what
    world = up(LAB)

    class Liar(FakeEngine):
        async def observe(self) -> Observed:
            return odd

    def inside(lab: str, parent: FakeHost) -> FakeEngine:
        return (Liar if parent.path == "hv1" else FakeEngine)(world, lab, parent.path)

    async with Nest(LAB, world.host(), world.engine, {"kvm": inside}) as nest:  # type: ignore[dict-item]
        seen = (await nest.observe()).machines
    assert (seen["victim"].state, seen["hv1/web"].state, seen["hv2/web"].state) == ("running", "unknown", "running")


WORDS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["hv1/web", "kvm"]))
VALUES = st.recursive(WORDS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
KEYS = st.sampled_from(["path", "digest", "names", "root", "disk", "port", "user", "accel", "tells", "asked"])


@given(st.dictionaries(KEYS, VALUES) | VALUES, st.sampled_from([WEB, "deadbeef"]))
def test_a_record_is_a_typed_value_or_none(data: object, folder: str) -> None:
    line = json.dumps(data)
    made, boot, path = records.made(line, "hv1", folder), records.started(line), records.owner(line, "hv1", folder)
    assert path in (None, "hv1/web")
    assert made is None or (made.path == "hv1/web" and folder == WEB)
    assert made is None or all(text is None or text.isalnum() for text in (made.digest, made.names, made.root))
    assert boot.port is None or 0 < boot.port < 65536
    assert boot.user.isascii()
    assert boot.user.isprintable()
    assert " " not in boot.user
    assert boot.accel in (None, "kvm", "tcg")


@given(st.text())
def test_what_is_directly_in_a_machine_is_one_name_below_it(name: str) -> None:
    assert directly_in(f"hv1/{name}", "hv1") == directly_in(name, "")
    assert not directly_in(name, "hv1") or name.startswith("hv1/")


# -- what deletes


def precious(directory: Path) -> tuple[Path, Path]:
    """The machines of a lab, as directories with disks: m/, and one machine."""
    machines = directory / "m"
    for name in ("0123abcd", "4567cdef"):
        (machines / name).mkdir(parents=True)
        (machines / name / "disk.qcow2").write_text("precious")
    (directory / "key").write_text("precious")
    return machines, machines / "0123abcd"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", ["REMOVE", "PREPARE"])
@pytest.mark.parametrize(
    "aim",
    ["m/", "m", "m/.", "m/..", "m/*", "m/?", "m/0123abcd/", "m/0123abcd/..", "m/0123ABCD", "", "m/0123abc", "key"],
)
def test_the_scripts_that_delete_touch_nothing_but_the_directory_of_a_machine(
    shell: str, script: str, aim: str, tmp_path: Path
) -> None:
    precious(tmp_path)
    body = scripts.REMOVE if script == "REMOVE" else scripts.alone(scripts.PREPARE)
    before = sorted(tmp_path.rglob("*"))
    words = ("nestlab:pair:?", f"{tmp_path}/{aim}", "d", "r", "yes", "0")
    done = subprocess.run([*shell.split(), "-c", body, "x", *words], input=b"", capture_output=True, timeout=LONG)
    assert done.returncode != 0
    assert b"is no directory of a machine" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("shell", SHELLS)
def test_of_machines_the_one_that_is_meant_goes(shell: str, tmp_path: Path) -> None:
    machines, one = precious(tmp_path)
    subprocess.run([*shell.split(), "-c", scripts.REMOVE, "x", "nestlab:pair:?", str(one)], check=True, timeout=LONG)
    assert [path.name for path in machines.iterdir()] == ["4567cdef"]


@pytest.mark.parametrize("path", ["?", "hv1/?", "?..", "?/../key", "hv1/?..", "victim", "..", "?4567cdef/.."])
async def test_removing_what_no_machine_is_called_removes_no_other(path: str, tmp_path: Path) -> None:
    precious(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    engine = engine_on(LocalHost(), "pair", tmp_path / "own", Place(str(tmp_path)))
    await engine.perform(Remove(machine=path, why=""), Blueprint("pair"), lambda _: None)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("folder", ["", "?", "..", ".", "4567cdef/..", "4567CDEF", "4567cdef\n", "*"])
async def test_what_is_half_made_goes_by_a_name_that_nestlab_makes_or_not_at_all(folder: str, tmp_path: Path) -> None:
    machines, _ = precious(tmp_path)
    engine = engine_on(LocalHost(), "pair", tmp_path / "own", Place(str(tmp_path)))
    with pytest.raises(ValueError, match="not the name of a machine's directory"):
        await engine.perform(Clear("", HalfMade("", folder)), Blueprint("pair"), lambda _: None)
    assert (machines / "4567cdef" / "disk.qcow2").exists()
    await engine.perform(Clear("", HalfMade("", "4567cdef")), Blueprint("pair"), lambda _: None)
    assert [each.name for each in machines.iterdir()] == ["0123abcd"]


async def test_what_is_half_made_without_a_name_is_cleared_where_it_is_before_machines_are_made_there() -> None:
    world = up(LAB)
    world.half_made = {("pair", HalfMade("", "deadbeef")), ("pair", HalfMade("hv1", "deadbeef"))}
    del world.machines["pair", "hv1/web"]
    async with Nest(LAB, world.host(), world.engine, {"kvm": world.engine}) as nest:
        todo = plan(LAB, await nest.observe())
        assert {"clear:deadbeef", "clear:hv1/deadbeef"} <= {step.id for step in todo.steps}
        [create] = [step for step in todo.steps if step.id == "create:hv1/web"]
        assert "clear:hv1/deadbeef" in create.needs
        await apply(todo, LAB, nest, lambda _: None)
        assert world.half_made == set()
        world.half_made = {("pair", HalfMade("hv1", "deadbeef"))}
        ids = {step.id for step in plan(Blueprint("pair"), await nest.observe(), "gone").steps}
        assert "clear:hv1/deadbeef" not in ids, "it goes with its hypervisor"


# -- what takes for ever


async def test_a_step_that_hangs_in_a_hypervisor_fails_in_time_and_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(step_time.LIMITS, Remove, 0.05)

    class Hangs(FakeHost):
        async def run(self, argv: Sequence[str], **how: object) -> Result:
            await asyncio.Event().wait()
            raise AssertionError

    world = up(LAB)
    engine = engine_on(Hangs(world, "pair", "hv1"), "pair", tmp_path)
    with pytest.raises(Overdue, match=r"^hv1 did not remove hv1/web within") as late:
        await engine.perform(Remove("", "hv1/web"), LAB, lambda _: None)
    assert "\n" not in late.value.what


async def test_a_shell_that_prints_for_ever_is_told_as_its_hypervisors_fault(tmp_path: Path) -> None:
    class Floods(LocalHost):
        path, level = "hv1", 1

        async def run(self, argv: Sequence[str], **how: Any) -> Result:
            return await super().run(("yes", *argv), **how)

    (tmp_path / "m").mkdir()
    engine = engine_on(Floods(), "pair", tmp_path / "own", Place(str(tmp_path)))
    for ask in (engine.observe, engine.sshds, lambda: engine.observe_and_ask("", ())):
        with pytest.raises(LabError) as flooded:
            await asyncio.wait_for(ask(), LONG)
        assert "\n" not in flooded.value.what


async def test_what_cannot_be_ended_in_a_hypervisor_that_ends_goes_with_it_and_that_is_said() -> None:
    for want, verb in (("gone", "remove"), ("stopped", "stop")):
        world = up(LAB)
        world.refuse(f"{verb}:hv1/web")
        events: list[Event] = []
        async with Nest(LAB, world.host(), world.engine, {"kvm": world.engine}) as nest:
            todo = plan(LAB, await nest.observe(), want)  # type: ignore[arg-type]
            await apply(todo, LAB, nest, events.append)
        assert ("pair", f"{verb}:hv1") in world.done
        [note] = [each.note for each in events if isinstance(each, Finished) and each.step == f"{verb}:hv1/web"]
        assert note.startswith("it ends with hv1: ")
        assert all(world.machines[key].state == "stopped" for key in world.machines if key[1] == "hv1")


async def test_what_is_removed_in_a_hypervisor_that_is_removed_too_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apply_module, "BRIEF", 0.01)
    world = up(LAB)
    world.hold("remove:hv1/web")  # for ever
    events: list[Event] = []
    async with Nest(LAB, world.host(), world.engine, {"kvm": world.engine}) as nest:
        await apply(plan(LAB, await nest.observe(), "gone"), LAB, nest, events.append)
    assert world.machines == {}
    [note] = [each.note for each in events if isinstance(each, Finished) and each.step == "remove:hv1/web"]
    assert note.startswith("it ends with hv1: hv1 did not remove hv1/web within")


async def test_what_waits_for_guests_in_threads_keeps_nobody_else_from_working() -> None:
    release = threading.Event()
    hanging = [asyncio.ensure_future(own_thread(release.wait)) for _ in range(100)]
    try:
        assert await asyncio.to_thread(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await own_thread(lambda: 1 / 0)
        hanging[0].cancel()
        await asyncio.wait({hanging[0]})
    finally:
        release.set()
    assert await asyncio.gather(*hanging[1:]) == [True] * 99


@pytest.mark.parametrize("shell", SHELLS)
def test_a_console_without_an_end_or_a_newline_keeps_nobody_waiting(shell: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    root = Path(place.of("hv1").root)
    root.mkdir(parents=True)
    (root / "made").write_text(json.dumps({"path": "hv1", "digest": "d", "names": "n"}) + "\n")
    (root / "boot").write_text('{"port":20022,"accel":"tcg","tells":true}\n')
    with (root / "console.log").open("wb") as console:
        console.truncate(1 << 40)  # a terabyte of one line
    with subprocess.Popen(["sh", "-c", "read x", "nestlab:pair:hv1,x"], stdin=subprocess.PIPE) as qemu:
        (root / "pid").write_text(f"{qemu.pid}\n")
        argv = [*shell.split(), "-c", scripts.alone(observed.SCRIPT), "look", place.machines, "pair"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LONG)
        [booting] = observed.parse(done.stdout, now=time.time()).machines
        argv.append(short_id("hv1"))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LONG)
        [known] = observed.parse(done.stdout, now=time.time()).machines
        qemu.kill()
    assert (booting.seen.state, booting.seen.ready) == ("running", False)
    assert (known.seen.state, known.seen.ready) == ("running", True), "nestlab itself saw it coming up"


@pytest.mark.parametrize(
    "answer",
    [report(told(WEB, made=VICTIM)).removeprefix("U 500.0\n"), "x" * 1000, "U 1.0\nM deadbeef\nP x\n"],
    ids=range(3),
)
def test_an_agent_that_lies_is_as_one_that_does_not_answer(answer: str, tmp_path: Path) -> None:
    import base64

    place = Place(str(tmp_path))
    Path(place.of("hv1").root).mkdir(parents=True)
    out = base64.b64encode(answer.encode()).decode()
    script: list[Step] = [
        Hear(),
        Say(b"\xff"),
        Say({"return": "ID"}),
        Hear(),
        Say({"return": {"pid": 1}}),
        Hear(),
        Say({"return": {"exited": True, "exitcode": 0, "out-data": out}}),
    ]
    with server(Path(place.of("hv1").agent), script):
        assert quick_status._inside(place, "pair", quick_status.guest_place("pair"), "hv1", LONG) is None
