"""Waits: how long they may be, what they depend on, and what is told when they were in vain."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blueprints import draft, guest
from liars import engine_on
from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.cli import _patient
from nestlab.engines.qemu import wait
from nestlab.engines.qemu.accel import Choice
from nestlab.engines.qemu.slowness import MEASURED
from nestlab.engines.qemu.wait import LONGEST, Wait, waiting
from nestlab.home.speeds import Speeds
from nestlab.hosts import speed, starvation
from nestlab.hosts.facts import Facts, Kvm
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.labfile import parse_text

STARVED = """cpu some avg10=91.10 avg60=83.00 avg300=40.00 total=1
memory some avg10=0.00 avg60=0.00 avg300=0.00 total=1
memory full avg10=0.00 avg60=99.00 avg300=0.00 total=1
io some avg10=0.00 avg60=2.50 avg300=0.00 total=1
cpu  100 0 100 800 0 0 0 0 0 0
cpu  120 0 120 810 0 0 0 50 0 0
load 15.02 9.10 4.00 3/211 5123
cpus 2
"""


def test_a_wait_grows_with_the_square_root_of_slowness_and_never_shrinks() -> None:
    assert [patience.allowed(30, slow) for slow in (0.1, 1, 4, 100)] == [30, 30, 60, 300]


def test_what_the_user_said_multiplies_every_wait_and_the_option_counts_first() -> None:
    def allowed(option: str | None, environ: dict[str, str], lab: int) -> float:
        patience.settle(option, environ)
        patience.of_lab(lab, 4.0)
        return patience.allowed(10)

    def run(*given: object) -> float:
        return contextvars.copy_context().run(allowed, *given)  # type: ignore[arg-type]

    assert run(None, {}, 1) == 20, "this machine is four times slower"
    assert run(None, {}, 3) == 60
    assert run(None, {"NESTLAB_PATIENCE": "5"}, 3) == 100
    assert run("0.5", {"NESTLAB_PATIENCE": "5"}, 3) == 10


@pytest.mark.parametrize("word", ["", "x", "0", "-1", "nan", "inf", "1e9"])
def test_patience_that_is_no_number_is_told_with_what_it_may_be(word: str) -> None:
    with pytest.raises(LabError, match=r"(?s)--patience is .*from 0\.1 to 1000"):
        patience.number(word, "--patience")


def test_the_option_stands_before_or_behind_the_verb_but_not_in_a_command_of_the_user_s() -> None:
    def parsed(line: str) -> tuple[list[str], float]:
        return contextvars.copy_context().run(lambda: (_patient(line.split()), patience.stretch()))

    assert parsed("--patience 5 up x.yaml") == (["up", "x.yaml"], 5)
    assert parsed("up --patience=2.5 x.yaml") == (["up", "x.yaml"], 2.5)
    assert parsed("exec hv1 -- sleep --patience 5") == (["exec", "hv1", "--", "sleep", "--patience", "5"], 1)
    assert parsed("--patience 3 exec hv1 sleep --patience 5")[1] == 3


def test_a_wrong_option_is_an_error_of_the_user_s() -> None:
    done = subprocess.run([sys.executable, "-m", "nestlab", "ls", "--patience"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --patience is ''")


def test_a_lab_file_s_patience_is_kept_with_the_lab() -> None:
    lab = parse_text("lab: x\npatience: 3\nmachines: {a: {image: tiny}}\n", environ={})
    assert lab.patience == 3
    made = Blueprint("x", patience=lab.patience)
    assert blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(made)) == made


async def test_this_machine_s_speed_is_measured_and_kept(tmp_path: Path) -> None:
    slowness = await speed.measure(LocalHost())
    assert slowness > 0
    file = tmp_path / "speeds.json"
    Speeds(file).keep("", slowness)
    Speeds(file).keep("hv1", 20)
    found = Speeds(file).of("")
    assert found is not None
    assert found.slowness == slowness
    assert found.fresh(time.time())
    assert not found.fresh(time.time() + 1e6)
    assert Speeds(file).all().keys() == {"", "hv1"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"": 1}', '{"": {"slowness": "x", "at": 0}}', '{"": {"at": 1}}'])
def test_damaged_speeds_say_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "speeds.json").write_text(text)
    assert Speeds(tmp_path / "speeds.json").all() == {}


@pytest.mark.parametrize(
    ("said", "slowness"),
    [
        ("speed 200 5\n", 1.0),
        ("speed 10 5", 20.0),
        ("speed 1 100000", patience.SLOWEST),
        ("speed 0 5", 200.0),
        ("speed 99999999999999999 0", None),
        ("speed ٣ 5", None),
        ("", None),
        ("root:x:0:0", None),
    ],
)
def test_what_a_host_says_of_its_speed_is_bounded(said: str, slowness: float | None) -> None:
    assert speed.parse(said) == slowness


def test_a_starved_host_is_named_with_its_causes() -> None:
    assert starvation.parse(STARVED).causes() == [
        "its own host withholds 50 % of its CPU time (steal)",
        "programs waited for a CPU in 83 % of the last minute (/proc/pressure/cpu)",
    ]
    without = "\n".join(line for line in STARVED.splitlines() if line.startswith(("load", "cpus")))
    assert starvation.parse(without).causes() == ["15 programs want its 2 CPUs (load)"]
    for nonsense in ("", "cpu some", "cpu\ncpu", "load x\ncpus y", "cpu some avg10=1 avg60=? x"):
        assert starvation.parse(nonsense).causes() == []


async def test_this_machine_says_whether_it_is_starved() -> None:
    said = await starvation.cause(LocalHost())
    assert said == "" or said.startswith("This machine is starved: ")


async def test_a_wait_ends_when_nothing_shows_life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wait, "BOOT", 0.05)
    with pytest.raises(TimeoutError):
        async with waiting(LocalHost(), str(tmp_path), lambda: 1.0):
            await asyncio.Event().wait()


class Clock:
    """Notes until when it was allowed to run."""

    def __init__(self) -> None:
        self.until: list[float] = []

    def expired(self) -> bool:
        return False

    def reschedule(self, when: float | None) -> None:
        self.until.append(when or 0)


async def test_signs_of_life_lengthen_a_wait_but_not_for_ever() -> None:
    clock = Clock()
    found = Wait(clock, lambda: 100.0)
    began = found._began
    found.alive()
    found.worked(0.05)
    assert len(clock.until) == 1, "an idle guest's QEMU computes a little"
    found.worked(0.9)
    found._clock = lambda: began + 250
    found.alive()
    assert clock.until[-1] == began + LONGEST * 100
    assert (len(clock.until), found.spent) == (3, 0.9)


async def test_the_work_of_a_process_is_read_from_its_host(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{1}\n")
    said = (await LocalHost().run(("sh", "-c", wait.SCRIPT, "look", str(tmp_path)))).text
    found = wait.parse(said)
    assert found is not None
    assert found[0] > 0
    assert wait.parse("") is wait.parse("1 x") is wait.parse("1 2 3") is None


async def test_a_slow_host_is_measured_later_after_a_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for slowness in (1.0, 400.0):
        engine = engine_on(LocalHost(), "pair", tmp_path)
        engine.parent.slowness = slowness
        await engine._slow.measure()
    assert slept == [MEASURED, 20 * MEASURED]


async def test_a_machine_that_was_reached_before_its_host_was_measured_counts_as_slow_as_that_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first machine of an emulated host is reached as soon as it is started."""

    async def sleep(seconds: float) -> None: ...

    async def measure(host: object) -> float:
        return 16.0

    (tmp_path / "id_ed25519").write_text("")
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(speed, "measure", measure)
    engine = engine_on(LocalHost(), "pair", tmp_path)
    monkeypatch.setattr(
        type(engine.environment.lab_keys),
        "host",
        lambda keys, path, *_: SshHost(path, None),  # type: ignore[arg-type]
    )
    machine = engine._reach("hv1", 2201, "root", "kvm")
    assert machine.slowness == patience.ACCELERATED
    await engine._slow.measure()
    assert engine.parent.slowness == 16.0
    assert machine.slowness == 16.0 * patience.ACCELERATED


@pytest.mark.parametrize(("busy", "accels"), [(True, ["kvm"]), (False, ["kvm", "tcg"])])
async def test_a_host_that_is_too_busy_to_say_what_it_can_do_ends_no_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy: bool, accels: list[str]
) -> None:
    """One that says that it has no KVM has what was begun with KVM started again."""
    lab = draft("pair", guest("a"))
    host, began, asked = LocalHost(), [], asyncio.Event()

    async def start(spec: object, blueprint: object, choice: Choice, say: object, *, keep: bool) -> None:
        began.append(choice.accel)
        await asked.wait()

    async def facts() -> Facts:
        asked.set()
        if busy:
            raise Overdue("It did not end within 60 s.", hint="")
        return Facts()

    async def kill(path: str) -> None: ...

    monkeypatch.setattr("nestlab.engines.qemu.engine.DOUBT", 0.0)
    monkeypatch.setattr(host, "facts", facts)
    engine = engine_on(host, "pair", tmp_path)
    monkeypatch.setattr(engine, "_start", start)
    monkeypatch.setattr(engine, "_kill", kill)
    engine._maker.glance = Facts(provider="kvm_amd", flags=frozenset({"svm"}), kvm=Kvm(opened=True))
    await engine._boot(lab["a"], lab, lambda _: None, keep=False)
    assert began == accels
