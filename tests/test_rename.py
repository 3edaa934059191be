"""`nestlab rename`: another name, the same machines. On a pretended world, whose machines follow the directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nestlab.base import files
from nestlab.base.errors import Busy, LabError
from nestlab.cli.app import app
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.engines.qemu.quick_status import guest_place
from nestlab.home import former_names, labs, lock
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.labfile import lab_line
from nestlab.labfile.source import Source
from nestlab.plan.steps import Boot, Update
from nestlab.verbs import local, session
from nestlab.verbs.rename import FileChange, renaming
from test_cli import Console, console  # noqa: F401 - the fixture
from test_session import ALL, PAIR, Bench, bench, quiet  # noqa: F401 - the fixture


class Killed(BaseException):
    """What a process does not survive."""


def made(bench: Bench, name: str) -> Blueprint:  # noqa: F811
    place = labs.existing(bench.home, name)
    found = blueprint_file.load(place.blueprint, name)
    assert found is not None
    return found


async def renamed(bench: Bench, name: str, new: str) -> str:  # noqa: F811
    async with renaming(bench.site, name, new, {}) as ready:
        left = await ready.perform()
    bench.world.rename(name, new)
    return left


async def start(bench: Bench, name: str) -> None:  # noqa: F811
    async with session.changing(bench.site, "start", name=name) as opened:
        await opened.apply(opened.plan("running"), quiet)


async def test_a_renamed_lab_has_the_same_machines_under_the_other_name(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    before = made(bench, "pair")
    key = labs.existing(bench.home, "pair").root / "id_ed25519"
    key.write_text("the key")
    await bench.change("stopped")
    assert await renamed(bench, "pair", "demo") == ""
    assert bench.home.labs() == ["demo"]
    assert (bench.home.lab("demo").root / "id_ed25519").read_text() == "the key"
    assert bench.file.read_text() == PAIR.replace("lab: pair", "lab: demo")
    todo = await bench.up()
    assert {type(step) for step in todo.steps if step.path} == {Update, Boot}
    after = made(bench, "demo")
    assert [(s.path, s.digest, s.nics, s.root) for s in after.specs] == [
        (s.path, s.digest, s.nics, s.root) for s in before.specs
    ]
    assert "web.hv1.demo.internal web.hv1" in after["hv1"].hosts
    assert "pair" not in after["hv1"].hosts
    assert not await bench.up()
    assert bench.running() == ALL


async def test_a_machine_that_is_added_later_fits_those_that_are_there(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    before = made(bench, "pair")
    await bench.change("stopped")
    await renamed(bench, "pair", "demo")
    bench.file.write_text(bench.file.read_text() + "  extra: {image: tiny, segments: [wire]}\n")
    await bench.up()
    after = made(bench, "demo")
    assert {s.path: s.nics for s in before.specs}.items() <= {s.path: s.nics for s in after.specs}.items()
    assert after["extra"].nics[0].addresses


async def test_start_needs_no_lab_file_and_machines_learn_the_new_names(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    await renamed(bench, "pair", "demo")
    await start(bench, "demo")
    assert bench.running() == ALL
    assert bench.world.machines["demo", "hv1"].names == made(bench, "demo")["hv1"].names
    assert not await bench.up()


async def test_the_first_name_is_kept_through_any_number_of_renames(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    before = made(bench, "pair")
    for old, new in (("pair", "b"), ("b", "c"), ("c", "pair"), ("pair", "d")):
        await renamed(bench, old, new)
        assert former_names.first(bench.home.lab(new)) == "pair"
    await bench.up()
    assert [s.digest for s in made(bench, "d").specs] == [s.digest for s in before.specs]


async def test_directories_in_hypervisors_and_macs_of_the_way_in_stay_those_of_the_first_name(
    bench: Bench,  # noqa: F811
) -> None:
    await bench.up()
    site = local.site(bench.home)
    old = site.inside["kvm"]("pair", bench.world.host())
    await bench.change("stopped")
    await renamed(bench, "pair", "demo")
    site = local.site(bench.home)
    outer, inner = site.on("demo", bench.world.host()), site.inside["kvm"]("demo", bench.world.host())
    assert isinstance(old, QemuEngine)
    assert isinstance(outer, QemuEngine)
    assert isinstance(inner, QemuEngine)
    assert inner.environment.place == guest_place("pair")
    assert outer.environment.place.root == str(bench.home.lab("demo").root)
    macs = {each.environment.management_mac(made(bench, "demo")["hv1"]) for each in (old, outer, inner)}
    assert len(macs) == 1


async def test_killed_before_the_directory_is_moved_nothing_is_renamed(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await bench.up()
    await bench.change("stopped")
    with monkeypatch.context() as patched:
        patched.setattr(files, "move", die)
        with pytest.raises(Killed):
            await renamed(bench, "pair", "demo")
    assert bench.home.labs() == ["pair"]
    assert bench.file.read_text() == PAIR
    await bench.up()
    assert not await bench.up()
    await bench.change("stopped")
    await renamed(bench, "pair", "demo")
    assert former_names.load(bench.home.lab("demo")) == ("pair",)


def test_killed_after_it_the_lab_is_renamed_and_its_file_is_not_taken_for_another_lab(
    console: Console,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "pair")
    with monkeypatch.context() as patched:
        patched.setattr(FileChange, "perform", die)
        with pytest.raises(Killed):
            CliRunner().invoke(app, ["rename", "pair", "demo"])
    console.world.rename("pair", "demo")
    assert console.home.labs() == ["demo"]
    for verb in ("up", "plan"):
        said = console.run(verb, "pair.yaml", status=2).stderr
        assert "Lab pair was renamed to demo" in said
        assert "Write `lab: demo` there" in said
        assert "write `lab: demo` in that file" in console.run(verb, "demo", status=2).stderr
    assert console.home.labs() == ["demo"]
    console.file.write_text(PAIR.replace("lab: pair", "lab: demo"))
    console.run("up", "pair.yaml", "--no-verify")
    assert "nothing to do" in console.run("plan", "pair.yaml").stdout


def die(*_: object) -> None:
    raise Killed


async def test_a_lab_of_which_something_runs_is_not_renamed(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    with pytest.raises(LabError, match="Machines of lab pair run: hv1, hv1/web, hv2, hv2/web") as error:
        await renamed(bench, "pair", "demo")
    assert "nestlab stop pair" in error.value.hint
    await bench.change("stopped", "hv1")
    with pytest.raises(LabError, match="run: hv2, hv2/web"):
        await renamed(bench, "pair", "demo")
    assert bench.home.labs() == ["pair"]


async def test_segments_that_are_still_there_are_taken_down_first(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped", *ALL)
    assert bench.world.links == {("pair", "wire")}
    await renamed(bench, "pair", "demo")
    assert not bench.world.links


async def test_somebody_at_work_on_the_lab_is_named(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    place = bench.home.lab("pair")
    async with lock.held(place.lock, "pair", "verify"):
        with pytest.raises(Busy, match=r"`nestlab verify` \(process \d+"):
            await renamed(bench, "pair", "demo")


async def test_a_name_that_is_taken_or_none_is_refused(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    (bench.home.lab("demo").root / "lab.json").write_text("x")
    for new, what in (("demo", "There is a lab demo"), ("pair", "called that already"), ("../x", "not the name")):
        with pytest.raises(LabError, match=what):
            await renamed(bench, "pair", new)
    with pytest.raises(LabError, match="There is no lab other"):
        await renamed(bench, "other", "fresh")
    assert bench.home.labs() == ["demo", "pair"]


async def test_a_lab_that_appears_under_the_new_name_meanwhile_is_not_touched(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    async with renaming(bench.site, "pair", "demo", {}) as ready:
        theirs = bench.home.lab("demo").lock
        theirs.touch()
        with pytest.raises(LabError, match="There is a lab demo"):
            await ready.perform()
    assert theirs.exists()
    assert bench.home.labs() == ["demo", "pair"]
    assert bench.file.read_text() == PAIR


@pytest.mark.parametrize(
    ("name", "said"), [("demo", "Lab demo was made from {}/pair.yaml"), ("pair", "Lab pair was renamed to demo")]
)
def test_who_waited_meanwhile_neither_takes_the_lab_over_nor_makes_a_second_one(
    console: Console,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "pair")
    file = console.lab(name)
    genuine = session.changing

    def changing(*words: Any, **how: Any) -> Any:
        """As if the lab were renamed while the other one waits."""
        place = console.home.lab("pair")
        former_names.keep(place)
        place.root.rename(place.root.with_name("demo"))
        return genuine(*words, **how)

    monkeypatch.setattr(session, "changing", changing)
    assert said.format(console.folder) in console.run("up", file.name, status=2).stderr
    assert console.home.labs() == ["demo"]


async def test_damaged_former_names_are_not_guessed(bench: Bench) -> None:  # noqa: F811
    place = bench.home.lab("pair")
    for text in ("no", "{}", '["../x"]', "[1]"):
        place.former_names.write_text(text)
        with pytest.raises(LabError, match="cannot be read"):
            former_names.first(place)


def test_the_lab_file_is_edited_where_the_name_simply_stands_there() -> None:
    for text, after in (
        ("lab: pair\n", "lab: new\n"),
        (
            "# lab: pair\r\n\r\nlab:   'pair'  # pair\r\nmachines: {}\r\n",
            "# lab: pair\r\n\r\nlab:   'new'  # pair\r\nmachines: {}\r\n",
        ),
        ('machines: {pair: {image: tiny}}\n"lab": "pair"', 'machines: {pair: {image: tiny}}\n"lab": "new"'),
        ("lab:\n  pair\n", "lab:\n  new\n"),
    ):
        found = lab_line.find(Source("lab.yaml", text, Path()), {})
        assert found is not None
        changed = found.renamed("new")
        assert changed is not None
        assert changed[1] == after
    for text in ("lab: ${NAME}\n", "lab: &a pair\n", "{lab: pair, machines: {}}\n", "x: &a pair\nlab: *a\n"):
        found = lab_line.find(Source("lab.yaml", text, Path()), {"NAME": "pair"})
        assert found is not None
        assert found.name == "pair"
        assert found.renamed("new") is None
    for text in ("", "- lab\n", "lab: [a]\n", "machines: {}\n", "lab: {\n"):
        assert lab_line.find(Source("lab.yaml", text, Path()), {}) is None


async def test_a_file_that_is_not_edited_is_told_with_its_line(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    bench.file.write_text(PAIR.replace("lab: pair", "lab: &x pair"))
    left = await renamed(bench, "pair", "demo")
    assert left == f"Write `lab: demo` in {bench.file}: its line 2 says `lab: &x pair`."
    bench.file.unlink()
    assert "which cannot be read" in await renamed(bench, "demo", "third")


async def test_a_file_that_was_edited_before_or_meanwhile_stays_as_it_is(bench: Bench) -> None:  # noqa: F811
    await bench.up()
    await bench.change("stopped")
    bench.file.write_text(PAIR.replace("lab: pair", "lab: demo"))
    assert await renamed(bench, "pair", "demo") == ""
    assert not [step for step in (await bench.up()).steps if not isinstance(step, Boot | Update) and step.path]
    async with session.changing(bench.site, "stop", name="demo") as opened:
        await opened.apply(opened.plan("stopped"), quiet)
    async with renaming(bench.site, "demo", "third", {}) as ready:
        bench.file.write_text("# mine\n" + bench.file.read_text())
        assert "it changed meanwhile" in await ready.perform()
    assert bench.file.read_text().startswith("# mine\n\nlab: demo")


async def test_a_name_given_by_set_goes_with_the_lab(bench: Bench) -> None:  # noqa: F811
    await bench.up(sets=("lab=first",))
    async with session.changing(bench.site, "stop", name="first") as opened:
        await opened.apply(opened.plan("stopped"), quiet)
    assert "--set lab=second" in await renamed(bench, "first", "second")
    assert bench.file.read_text() == PAIR
    lab, source = session.read_again(bench.home, "second", {})
    assert lab.name == "second"
    assert source.sets == ("lab=second",)


def test_the_command_shows_the_line_and_says_what_it_did(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    assert "nestlab stop pair" in console.run("rename", "pair", "demo", status=2).stderr
    console.run("stop", "pair")
    console.file.chmod(0o640)
    said = console.run("rename", "pair.yaml", "demo").stdout
    assert "pair.yaml:2\n  - lab: pair\n  + lab: demo" in said
    assert "`nestlab start demo`" in said
    assert console.file.stat().st_mode & 0o777 == 0o640
    console.world.rename("pair", "demo")
    told = console.json("rename", "demo", "third", "--yes")
    assert told == {
        "lab": "third",
        "was": "demo",
        "directory": str(console.home.state / "labs" / "third"),
        "file": str(console.file),
        "edited": True,
        "left": "",
    }


def test_at_a_terminal_it_asks(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("nestlab.cli.rename.on_terminal", lambda: True)
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "pair")
    assert "nothing was changed" in console.run("rename", "pair", "demo", status=2, input="n\n").stderr
    assert console.home.labs() == ["pair"]
    assert console.file.read_text() == PAIR
    console.run("rename", "pair", "demo", input="y\n")
    assert console.home.labs() == ["demo"]
