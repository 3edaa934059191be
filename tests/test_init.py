"""`nestlab init`: lab files from examples, and the list of what each needs."""

from __future__ import annotations

import os
import pty
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from nestlab.labfile import parse
from nestlab.verbs import examples
from test_cli import Console, console  # noqa: F401 - the fixture

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_examples_of_the_repository_are_those_that_come_along() -> None:
    assert examples.names() == sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    for name in examples.names():
        assert examples.text_of(name) == (EXAMPLES / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.yaml"))])
def test_every_example_becomes_a_lab_file_of_another_name(name: str, tmp_path: Path) -> None:
    path, lab = examples.write(name, "my-lab", tmp_path)
    assert (path.name, lab) == ("my-lab.yaml", "my-lab")
    made, original = parse(path, environ={}), parse(EXAMPLES / f"{name}.yaml", environ={})
    assert made.name == "my-lab"
    assert made.machines == original.machines
    schema = path.read_text().splitlines()[0].partition("$schema=")[2]
    assert Path(schema).is_file()


def test_nothing_is_overwritten_and_a_bad_name_is_refused(console: Console) -> None:  # noqa: F811
    before = (console.folder / "pair.yaml").read_text()
    assert "is there already" in console.run("init", "--from", "pair", status=2).stderr
    assert (console.folder / "pair.yaml").read_text() == before
    assert "not the name of a lab" in console.run("init", "../x", "--from", "pair", status=2).stderr
    assert "no example nothing" in console.run("init", "--from", "nothing", status=2).stderr
    said = console.run("init", "web", "--from", "single")
    assert "nestlab up web.yaml" in said.stdout
    console.run("up", "web.yaml", "--no-verify")


def test_the_list_says_what_each_needs_and_whether_it_fits(console: Console) -> None:  # noqa: F811
    listed = {each["name"]: each for each in console.json("init", "--list")["examples"]}
    assert listed["pair"]["machines"] == 4
    assert listed["pair"]["memory"] > 2 << 30
    assert listed["pair"]["fits"] is True
    assert listed["pair-on-pve"]["fits"] is None
    assert listed["three-levels"]["levels"] == 3
    assert "two hypervisors" in listed["pair"]["about"].lower()
    assert listed["containers"]["about"].endswith("all on one segment")
    assert listed["pair-on-pve"]["about"].endswith("all that can be said of where")
    assert listed["pair"]["seconds"] is None
    console.run("up", "pair.yaml", "--no-verify")
    assert (
        next(each for each in console.json("init", "--list")["examples"] if each["name"] == "pair")["seconds"]
        is not None
    )


def test_the_name_of_an_example_alone_is_that_example(console: Console) -> None:  # noqa: F811
    said = console.run("init", "three-levels")
    assert said.stdout.startswith("three-levels.yaml: lab three-levels, from the example three-levels")
    assert (console.folder / "three-levels.yaml").exists()


def test_without_a_terminal_it_lists_and_says_what_to_type(console: Console) -> None:  # noqa: F811
    said = console.run("init", "web", status=2).stderr
    assert "three-levels" in said
    assert f"--from {examples.names()[0]}" in said


def test_on_a_terminal_it_asks(console: Console) -> None:  # noqa: F811
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(console.folder)
        os.execve(sys.executable, [sys.executable, "-m", "nestlab", "init", "web"], {**os.environ, **console.env})
    said = b""
    while b"Which example" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"single\n")
    with suppress(OSError):
        while more := os.read(terminal, 4096):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    assert "lab: web" in (console.folder / "web.yaml").read_text()
