"""Nothing goes to stdout or stderr but through one door, which lets nothing pass that acts on a terminal."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import pty
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nestlab
from nestlab.base.door import Door, canvas
from nestlab.base.events import Began, Said, from_line, to_line
from nestlab.base.paint import Paint, columns, harmless, inked, unpainted
from nestlab.base.printable import LONGEST, Passing, brief, hidden, one_line, printable, to_json
from nestlab.base.wrap import readable
from nestlab.show import live

SOURCES = Path(nestlab.__file__).parent

RED = Paint(True)

DANGEROUS = {
    "CSI": "\x1b[2J",
    "OSC 8": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "OSC 52": "\x1b]52;c;cm0gLXJm\x07",
    "DCS": "\x1bP$q q\x1b\\",
    "C1 CSI": "\x9b31m",
    "C0": "".join(map(chr, range(0x20))),
    "C1": "".join(map(chr, range(0x7F, 0xA0))),
    "bidi": "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "lines": "\u2028\u2029",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e",
    "fillers": "\u115f\u1160\u3164\uffa0\u17b4",
    "tags": "\U000e0001\U000e0041\U000e007f",
    "selectors": "\ufe00\U000e0100\U000e01ef",
    "halves": "\udc80\udcff\ud800",
    "noncharacters": "\ufdd0\ufdef\uffff\U0010ffff",
}


def sink() -> tuple[io.BytesIO, Door]:
    below = io.BytesIO()
    return below, Door(below, "utf-8", write_through=True)


def said(below: io.BytesIO) -> str:
    return below.getvalue().decode()


@pytest.mark.parametrize("evil", DANGEROUS.values(), ids=DANGEROUS)
def test_what_acts_on_a_terminal_or_hides_is_shown(evil: str) -> None:
    for shown in (one_line(evil), printable(evil), harmless(evil), inked(evil), brief(evil)):
        assert not [letter for letter in shown if hidden(letter) and letter not in "\n\t"]
    assert one_line(f"a{evil}b").startswith("a")
    assert one_line(f"a{evil}b").endswith("b")


@given(st.text())
def test_shown_is_what_can_be_read_and_nothing_else(text: str) -> None:
    assert not any(map(hidden, one_line(text)))
    assert one_line(one_line(text)) == one_line(text)
    below, door = sink()
    assert door.write(text) == len(text)
    assert not any(hidden(letter) for letter in said(below) if letter not in "\n\t")


@pytest.mark.parametrize("text", ["Größe 12 %", "日本語　と", "│ ├─ └─ ✓ ▸ ✗ … —", "שלום", "👍🏽 ☎️", "a\u00a0b"])
def test_what_people_write_stays(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize("evil", DANGEROUS.values(), ids=DANGEROUS)
def test_in_json_it_is_the_same_data_and_does_nothing_to_a_terminal(evil: str) -> None:
    text = to_json({evil: [evil]}, indent=1)
    assert json.loads(text) == {evil: [evil]}
    assert not any(hidden(letter) for letter in text if letter != "\n")
    below, door = sink()
    door.write(text)
    assert said(below) == text
    event = Said(1.0, "boot:hv1", "hv1", text=evil)
    assert from_line(to_line(event)) == event
    assert "\n" not in to_line(event)


@given(st.text())
def test_json_holds_any_text(text: str) -> None:
    assert json.loads(to_json(text)) == text


def test_colours_are_nestlabs_own_alone() -> None:
    below, door = sink()
    door.write(RED("red", "mine \x1b[32mforged\x1b[0m") + "\x1b[1mforged")
    assert said(below) == "\x1b[31mmine \\x1b[32mforged\\x1b[0m\x1b[0m\\x1b[1mforged"
    assert unpainted(RED("red", "mine")) == "mine"


@given(st.text(st.sampled_from([chr(0xFDD0 + at) for at in range(32)] + list("bdrgyce"))))
def test_nobody_else_can_colour_who_does_not_know_the_mark(text: str) -> None:
    assert "\x1b" not in inked(text)


def test_all_that_writes_text_goes_through_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    below, door = sink()
    monkeypatch.setattr("sys.stderr", door)
    evil = "\x1b]52;c;x\x07\u202e"
    typer.echo(evil, err=True)
    door.writelines([evil, evil])
    print(evil, file=door)
    traceback.print_exception(ValueError(evil))
    assert said(below).count("\\x1b]52;c;x\\x07\\u202e") == 5
    assert "\x1b" not in said(below)
    canvas(door).write("\x1b[K")
    assert said(below).endswith("\x1b[K")


def test_a_value_of_one_line_is_one_line_of_a_bounded_length() -> None:
    lines = columns([["hv1\nproven: all 9 claims hold", "x" * 10**6], ["b", "c"]], [[None] * 2] * 2, Paint())
    assert len(lines) == 2
    assert lines[0].startswith("hv1\\x0aproven")
    assert len(lines[0]) < 2 * LONGEST


def test_a_line_for_people_is_cut_and_says_so() -> None:
    for text in (RED("red", "x" * 10**6), " " * 10**6, "`" * 10**6, f"{'a ' * 10**6}"):
        shown = readable(text, 80)
        assert len(shown) < 20_000
        assert "more characters)" in " ".join(shown.split())


PASSED = [
    ([b"\x1b[3", b"1mred\r\n"], "\\x1b[31mred\n"),
    ([b"10%\r", b"20%\r", b"\n"], "10%\n20%\n"),
    ([b"\xe2\x80", b"\xaeevil"], "\\u202eevil"),
    ([b"half \xe2\x80"], "half \ufffd"),
    ([b"\x9b31m"], "\ufffd31m"),
]


@pytest.mark.parametrize(("chunks", "shown"), PASSED)
def test_what_a_command_prints_does_nothing_to_a_terminal_however_it_is_cut(chunks: list[bytes], shown: str) -> None:
    passing = Passing()
    assert b"".join([*map(passing, chunks), passing(b"", last=True)]).decode() == shown


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, Door]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, Door(io.BufferedWriter(io.FileIO(theirs, "w", closefd=False)), "utf-8", write_through=True)
    finally:
        os.close(theirs)
        os.close(ours)


async def test_what_is_said_while_the_tree_is_drawn_is_harmless_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal() as (ours, door):
        monkeypatch.setattr("sys.stderr", door)
        async with live.as_tree(door, {}) as emit:
            emit(Began(0.0, verb="up", lab="pair", steps=("boot:hv1",)))
            print("one \x1b]0;title\x07[red]two[/red]", file=door)
            print("no newline \x9b1m", file=door, end="")
        print("last \u202e", file=door, flush=True)
        drawn = b""
        while b"last" not in drawn or not drawn.endswith(b"\n"):
            drawn += os.read(ours, 1 << 16)
    text = drawn.decode()
    assert "one \\x1b]0;title\\x07[red]two[/red]" in text
    assert "no newline \\x9b1m" in text
    assert "last \\u202e" in text
    assert "\x1b]" not in text


# -- who goes past the door

_PAST = {
    "cli/exit_status.py": "bytes_out: a capture, `logs --raw`, and `exec` where stdout is no terminal",
    "cli/streams.py": "makes the door",
    "hosts/terminal.py": "`console`: the machine has the terminal",
    "wire/interactive.py": "`ssh`: the machine has the terminal; `exec`: harmless on one",
    "wire/stdio.py": "`ssh --stdio`: bytes for the user's own ssh",
    "wire/terminal_modes.py": "sets the terminal's modes back",
    # Programs of their own, which run elsewhere and import nothing of nestlab.
    "hosts/probe.py": "a script that runs on a host",
    "engines/qemu/container_runner.py": "a program that runs in a hypervisor",
    "engines/qemu/container_sockets.py": "a part of that",
    "network/remote_switch.py": "a program that runs on another host: frames for `capture`",
    "network/switch_ports.py": "a line for the log of the switch, a process of its own",
    "install/relay.py": "a program whose stdout is a guest's connection",
    "wire/pve/relay.py": "a script that runs on a node",
    "verbs/capture.py": "the text of a script that runs in a machine",
    # Files and pipes, not stdout.
    "base/files.py": "writes files",
    "wire/download.py": "writes what it downloads to a file",
    "cli/watching.py": "`capture` writes frames to a file",
    "home/journal.py": "writes a journal",
    "home/lock.py": "writes a note into a lock",
}


def _goes_past(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            if whole in ("os.write", "sys.__stdout__", "sys.__stderr__", "os.writev", "os.sendfile"):
                yield node.lineno
            if whole.startswith(("sys.stdout.buffer", "sys.stderr.buffer", "sys.stdout.fileno", "sys.stderr.fileno")):
                yield node.lineno


def test_nothing_else_writes_past_the_door() -> None:
    found = {}
    for file in SOURCES.rglob("*.py"):
        name = str(file.relative_to(SOURCES))
        if name.startswith("testing/") or name in _PAST:
            continue
        lines = [line for line in _goes_past(ast.parse(file.read_text())) if not _is_a_width(file, line)]
        if lines:
            found[name] = lines
    assert found == {}


def _is_a_width(file: Path, line: int) -> bool:
    return "get_terminal_size" in file.read_text().splitlines()[line - 1]


def test_no_program_inherits_stdout() -> None:
    """Every process is started by `wire.proc`, or says where its output goes."""
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("subprocess.run", "subprocess.Popen", "asyncio.create_subprocess_exec"):
                keys = {each.arg for each in node.keywords}
                assert keys & {"capture_output", "stdout", None}, f"{file}:{node.lineno}"
            assert name not in ("os.system", "subprocess.call", "subprocess.check_call", "os.popen"), f"{file}"
