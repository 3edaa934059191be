"""The setup of a machine: when it is due, and what is done in the machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from blueprints import draft, guest, hypervisor, look
from nestlab.base.errors import LabError
from nestlab.engines import names_and_keys
from nestlab.home.lab_keys import marked
from nestlab.hosts.local import LocalHost
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import File, Lab, Machine, Setup
from nestlab.lab.setup_stamps import done, stamps
from nestlab.plan.planner import plan
from nestlab.plan.steps import Plan, Seen
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import machine_setup

COMMANDS = ("echo one", "echo two", "echo three")


def lab(*commands: str, inside: Sequence[Machine] = ()) -> Blueprint:
    outer = hypervisor("hv", *inside) if inside else guest("web")
    return draft("lab", replace(outer, setup=Setup(commands=commands) if commands else None))


def running(blueprint: Blueprint) -> FakeWorld:
    world = FakeWorld()
    for step in plan(blueprint, look(world, blueprint)).steps:
        world.do(blueprint.lab, step, blueprint)
    return world


def setups(steps: Plan) -> dict[str, str]:
    return {step.path: step.why for step in steps.steps if step.verb == "setup"}


def test_a_new_machine_is_set_up_after_it_is_up_and_once_only() -> None:
    blueprint = lab(*COMMANDS)
    world = FakeWorld()
    steps = plan(blueprint, look(world, blueprint))
    assert [step.id for step in steps.steps][-2:] == ["boot:web", "setup:web"]
    assert steps.steps[-1].needs == ("boot:web",)
    assert not plan(blueprint, look(running(blueprint), blueprint))


def test_a_setup_is_no_reason_to_make_a_machine_anew() -> None:
    world = running(lab())
    later = lab(*COMMANDS)
    steps = plan(later, look(world, later))
    assert [step.id for step in steps.steps] == ["setup:web"]
    assert setups(steps) == {"web": "its setup is to be done"}


def test_what_changed_and_what_follows_it_is_due_again() -> None:
    world = running(lab(*COMMANDS))
    longer, other, shorter = lab(*COMMANDS, "echo four"), lab("echo one", "echo other"), lab("echo one")
    assert setups(plan(longer, look(world, longer))) == {"web": "1 of 4 steps of its setup are left"}
    assert setups(plan(other, look(world, other))) == {"web": "its setup changed"}
    assert not setups(plan(shorter, look(world, shorter)))


def test_a_machine_that_does_not_run_is_asked_once_it_does() -> None:
    blueprint = lab(*COMMANDS)
    world = running(blueprint)
    world.kill("lab", "web")
    assert setups(plan(blueprint, look(world, blueprint))) == {"web": "its setup, unless that was done before"}
    assert not setups(plan(blueprint, look(world, blueprint), "stopped"))


def test_machines_inside_wait_for_the_setup_of_their_hypervisor() -> None:
    blueprint = lab(*COMMANDS, inside=[guest("web")])
    needs = {step.id: step.needs for step in plan(blueprint, look(FakeWorld(), blueprint)).steps}
    assert "setup:hv" in needs["create:hv/web"]


def test_stamps_depend_on_all_that_is_before_them() -> None:
    files = (File("/a", text="x"), File("/b", source="/here"))
    one = stamps(Setup(files, COMMANDS), {"/here": "1"})
    assert len(one) == len(set(one)) == 4
    assert done(one[:2], one) == 2
    assert done(stamps(Setup(files, COMMANDS), {"/here": "2"}), one) == 0
    assert done(stamps(Setup(files, ("echo one", "x", "echo three")), {"/here": "1"}), one) == 2
    assert stamps(Setup(files, COMMANDS), {"/here": "1"}) == one


def test_the_files_that_setups_copy_are_read_when_the_lab_is(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    machine = replace(guest("web"), setup=Setup((File("/srv/index.html", source=str(file)),)))
    with pytest.raises(LabError, match="cannot be read"):
        machine_setup.contents(Lab("lab", machines=(machine,)))
    file.write_text("one")
    before = machine_setup.contents(Lab("lab", machines=(machine,)))
    file.write_text("two")
    assert before.keys() == {str(file)}
    assert machine_setup.contents(Lab("lab", machines=(machine,))) != before


# In a machine: here a place of its own, for commands that would write elsewhere as root.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scripts that act on / act, without any right."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for name in ("_STAMP", "_FILES", "_COMMAND", "STAMPS"):
        text = getattr(machine_setup, name).replace("/var/lib", f"{root}/var/lib").replace("-C /;", f"-C {root};")
        monkeypatch.setattr(machine_setup, name, text.replace("cd /\n", f"cd {root}\n"))
    monkeypatch.setattr(machine_setup, "as_root", lambda script, *words: ("sh", "-c", script, "sh", *words))
    return root


def spec(*commands: str, files: tuple[File, ...] = ()) -> Spec:
    return draft("lab", replace(guest("web"), setup=Setup(files, commands)))["web"]


async def test_files_are_written_then_commands_run_each_once(place: Path) -> None:
    said: list[str] = []
    wanted = spec("cp srv/a srv/b", "echo x >>count", files=(File("/srv/a", text="text", mode=0o750),))
    await machine_setup.set_up(LocalHost(), wanted, said.append)
    assert (place / "srv/b").read_text() == "text"
    assert (place / "srv/a").stat().st_mode & 0o777 == 0o750
    assert said[:2] == ["1 of 3: writing /srv/a", "2 of 3: cp srv/a srv/b"]
    assert await machine_setup.stamped(LocalHost()) == wanted.setup
    await machine_setup.set_up(LocalHost(), wanted, said.append)
    assert (place / "count").read_text() == "x\n"
    assert said[-1] == "it was done before"


async def test_a_command_that_fails_is_told_with_what_it_said_and_the_next_time_goes_on_with_it(place: Path) -> None:
    wanted = spec("echo x >>count", "echo looking for it; test -e mended\necho found >>count", "echo z >>count")
    with pytest.raises(LabError) as caught:
        await machine_setup.set_up(LocalHost(), wanted, lambda _: None)
    assert "Command 2 of 3 in the setup of web ended with status 1" in caught.value.what
    assert "looking for it" in caught.value.detail
    assert await machine_setup.stamped(LocalHost()) == wanted.setup[:1]
    (place / "mended").touch()
    await machine_setup.set_up(LocalHost(), wanted, lambda _: None)
    assert (place / "count").read_text() == "x\nfound\nz\n"


async def test_a_command_that_holds_a_secret_is_on_no_command_line(place: Path) -> None:
    wanted = spec("tr '\\0' ' ' </proc/$PPID/cmdline >line; tr '\\0' ' ' </proc/$$/cmdline >>line; : hush-hush")
    await machine_setup.set_up(LocalHost(), wanted, lambda _: None)
    assert "setup" in (place / "line").read_text()
    assert "hush-hush" not in (place / "line").read_text()


async def test_a_machine_that_says_more_than_stamps_is_not_believed(place: Path) -> None:
    (place / "var/lib/nestlab").mkdir(parents=True)
    (place / "var/lib/nestlab/setup").write_text("x\n" * (machine_setup.MANY + 1))
    assert await machine_setup.stamped(LocalHost()) == ()


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_keys_of_the_lab_file_come_and_go_and_others_stay(tmp_path: Path, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    keys = tmp_path / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.write_text("ssh-ed25519 AAAA by hand\n")
    words = [found, "sh"] if shell == "busybox" else [found]

    def tell(*wanted: str) -> str:
        lines = "".join(f"{line}\n" for line in marked(wanted))
        argv = [*words, "-c", names_and_keys._KEYS.replace("/run/nestlab", "/nonexistent"), "keys", lines]
        subprocess.run(argv, check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
        return keys.read_text()

    assert tell("ssh-ed25519 BBBB me") == ("ssh-ed25519 AAAA by hand\nssh-ed25519 BBBB me (from the lab file)\n")
    assert tell("ssh-ed25519 CCCC me") == ("ssh-ed25519 AAAA by hand\nssh-ed25519 CCCC me (from the lab file)\n")
    assert tell() == "ssh-ed25519 AAAA by hand\n"
    assert tell() == "ssh-ed25519 AAAA by hand\n"


def test_what_is_seen_says_what_is_stamped() -> None:
    blueprint = lab(*COMMANDS)
    seen = look(running(blueprint), blueprint).machines["web"]
    assert isinstance(seen, Seen)
    assert seen.setup == blueprint["web"].setup
