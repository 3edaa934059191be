"""README.md and docs/ show what the program does: examples run, commands exist, lists are complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nestlab import labfile
from nestlab.cli.app import app
from nestlab.doctor.checks import checks

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NEEDS = re.compile(
    r"make |sudo |.*(ssh|\||>)|nestlab (up|down|status|verify|exec|ssh|cp|logs|stop|start|gc|pve|migrate|rename)\b"
)
"""Commands that need a lab, a Proxmox VE, root, or files of the reader's: not run here."""
TEXT = "\n".join(page.read_text() for page in PAGES)


def examples() -> Iterator[tuple[str, str, str]]:
    """Page, command and what it prints, of the blocks marked `console`."""
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                yield page.name, command.strip(), printed


RUN = [example for example in examples() if not NEEDS.match(example[1]) and example[2].strip()]


def test_some_examples_can_be_run() -> None:
    assert RUN


@pytest.mark.parametrize(("page", "command", "printed"), RUN, ids=[f"{page}: {what}" for page, what, _ in RUN])
def test_an_example_prints_what_the_page_shows(page: str, command: str, printed: str, tmp_path: Path) -> None:
    program, *words = shlex.split(command)
    assert program == "nestlab"
    env = {**os.environ, "NESTLAB_HOME": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "80"}
    argv = [sys.executable, "-m", "nestlab", *words]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert matches(printed, done.stdout + done.stderr), f"{page} shows\n{printed}\nbut it prints\n{done.stdout}"


def matches(shown: str, printed: str) -> bool:
    """Every run of lines between lines of `…` stands in what is printed, as it is and in that order."""
    at, lines = 0, [line.rstrip() for line in printed.splitlines()]
    for part in re.split(r"^…$", shown, flags=re.MULTILINE):
        wanted = [line.rstrip() for line in part.strip("\n").splitlines()]
        if not wanted:
            continue
        found = next((n for n in range(at, len(lines) + 1) if lines[n : n + len(wanted)] == wanted), None)
        if found is None:
            return False
        at = found + len(wanted)
    return True


def test_an_example_that_is_out_of_date_is_found() -> None:
    assert matches("…\nb\nc\n…\ne\n", "a\nb\nc\nd\ne\n")
    assert not matches("…\nb\nd\n…\n", "a\nb\nc\nd\n")
    assert not matches("e\n…\nb\n", "a\nb\ne\n")


# Commands in running text and in blocks.


def commands() -> Iterator[str]:
    """What follows `nestlab` in code, to the end of the command."""
    for page in PAGES:
        text = page.read_text()
        code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
        for piece in code:
            yield from re.findall(
                r"^\s*(?:\$ )?(?:\.venv/bin/)?nestlab ((?:[a-z-]+|--[a-z-]+)(?: [^\n#|;)&`]*)?)", piece, re.MULTILINE
            )


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name (None if there is no such), and the words after it."""
    found: Any = typer.main.get_command(app)
    while words and hasattr(found, "commands") and not words[0].startswith("-"):
        found, words = found.commands.get(words[0]), words[1:]
    return found, words


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    unknown = []
    assert len(list(commands())) > 40
    for line in commands():
        command, words = command_of(line.split())
        options = {"--help", "--patience"}
        if command is not None:
            options |= {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        end = words.index("--") if "--" in words else len(words)
        wrong = [word for word in words[:end] if re.match(r"--[a-z]", word) and word.split("=")[0] not in options]
        if command is None or wrong:
            unknown.append(f"nestlab {line}")
    assert unknown == []


# Lists that are to be complete.

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_an_example_lab_has_no_mistake_and_goes_by_the_name_of_its_file(file: Path) -> None:
    assert labfile.parse(file, environ={}).name == file.stem


def test_the_list_of_example_labs_is_complete() -> None:
    page = (REPOSITORY / "examples/README.md").read_text()
    listed = re.findall(r"^\| \[([a-z-]+)\]\(\1\.yaml\) \| ", page, re.MULTILINE)
    assert sorted(listed) == sorted(file.stem for file in EXAMPLES)


def verbs(group: Any, before: str = "") -> Iterator[str]:
    """All commands, such as `pve setup`."""
    for name, command in group.commands.items():
        if not command.hidden:
            yield from verbs(command, f"{before}{name} ") if hasattr(command, "commands") else [before + name]


def test_every_command_is_in_the_documents() -> None:
    text = " ".join(" ".join(page.read_text().split()) for page in PAGES)
    lost = [
        verb
        for verb in verbs(typer.main.get_command(app))
        if not re.search(rf"nestlab {re.escape(verb)}\b|`{re.escape(verb)}[` ]", text)
    ]
    assert lost == []


def variables() -> set[str]:
    """Names of environment variables that the program and the scripts read or set."""
    found: set[str] = set()
    for path in [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "scripts").iterdir(), REPOSITORY / "Makefile"]:
        if path.is_file():
            found |= set(re.findall(r"\bNESTLAB_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    return {name for name in found if not name.startswith("NESTLAB_HV")}


def test_every_environment_variable_is_documented() -> None:
    page = (REPOSITORY / "docs/environment.md").read_text()
    documented = set(re.findall(r"^\| `(NESTLAB_[A-Z_0-9]+)`", page, re.MULTILINE))
    tests = {"NESTLAB_GOLDEN", "NESTLAB_PVE_RECORDINGS"}
    set_for_machines = {"NESTLAB_HV1__WEB_SSH"}
    assert documented - tests - set_for_machines == variables() - tests | {"NESTLAB_SSH_CONFIG", "NESTLAB_LAB"}


def test_the_readme_counts_the_checks() -> None:
    assert f" {len(checks.checks)} checks" in (REPOSITORY / "README.md").read_text()


def test_every_page_is_named_by_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


def test_every_test_that_the_page_on_security_names_is_there() -> None:
    """`…::test_x` is of the file that was named last, as a reader takes it."""
    page, tests = (REPOSITORY / "docs/security.md").read_text(), REPOSITORY / "tests"
    named = re.findall(r"(test_\w+\.py|…)(?:::(test_\w+))?`", page)
    assert len(named) > 60
    missing, last = [], ""
    for file, function in named:
        last = file if file != "…" else last
        path = tests / last
        there = path.is_file() and (not function or f"def {function}(" in path.read_text())
        missing += [] if there else [f"{last}::{function}"]
    assert missing == []


def test_every_promise_on_the_page_on_security_names_what_attacks_it() -> None:
    page = (REPOSITORY / "docs/security.md").read_text()
    promises = page.partition("## Promises\n")[2].partition("## Not promised")[0]
    points = re.split(r"(?m)^- ", promises)[1:]
    assert len(points) > 30
    assert [point[:80] for point in points if "test_" not in point and "make fuzz" not in point] == []
