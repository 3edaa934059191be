"""Whatever the world says, no command of nestlab's passes on what acts on a terminal, hides, or adds a line."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hostile_world
from nestlab.base.printable import hidden
from waiting import VERY_LONG

PROGRAM = Path(hostile_world.__file__)

OWN = re.compile(
    r"\x1b\[(?:0|1|2|31|32|33|36)m"  # nestlab's colours
    r"|\x1b\[(?:1;)?(?:0|1|2|31|32|33|36)m|\x1b\[\?25[lh]|\x1b\[\d*[AGK]|\x1b\[2K|\r"  # the tree, drawn in place
)


def env(folder: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("NESTLAB_") and name != "NO_COLOR"}
    return kept | {"TERM": "xterm", "COLUMNS": "100", "LANG": "C.UTF-8"}


def dangerous(text: str) -> list[str]:
    return [line for line in text.split("\n") if any(hidden(letter) and letter != "\t" for letter in line)]


def check(text: str, *, whole: bool) -> None:
    assert [ascii(line[:300]) for line in dangerous(text)] == []
    assert "INJECTED" in text
    assert "Traceback" not in text
    assert "This is a bug in nestlab" not in text
    ran = re.findall(r"^#### (\S+)", text, re.MULTILINE)
    assert len(ran) == len(hostile_world.COMMANDS)
    if whole:
        people = [line for line in text.split("\n") if not re.match(r"\s*[\"{]", line)]  # JSON is whole
        assert max(map(len, people)) < 30_000


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[bytes]:
    folder = tmp_path_factory.mktemp("h")
    argv = [sys.executable, str(PROGRAM), str(folder)]
    done = subprocess.run(argv, env=env(folder), capture_output=True, stdin=subprocess.DEVNULL, timeout=VERY_LONG)
    assert done.returncode == 0, done.stderr[-3000:].decode(errors="replace")
    return done


def test_nothing_that_acts_on_a_terminal_is_written_to_a_pipe(piped: subprocess.CompletedProcess[bytes]) -> None:
    check(piped.stdout.decode(), whole=False)
    assert [ascii(line[:300]) for line in dangerous(piped.stderr.decode())] == []


def test_no_value_adds_a_line_to_what_was_asked_for(piped: subprocess.CompletedProcess[bytes]) -> None:
    """Tables, plans, proofs and configurations have none of them; lines that an error quotes are indented."""
    for stream in (piped.stdout, piped.stderr):
        assert [line for line in stream.decode().split("\n") if line.startswith("INJECTED")] == []
    assert "\n  INJECTED" in piped.stderr.decode()
    progress = [line for line in piped.stderr.decode().split("\n") if "phase" in line]
    assert progress
    assert all("\\x0aINJECTED" in line and len(line) < 2000 for line in progress)


def test_who_is_reached_by_odd_words_is_left_out_of_configurations(piped: subprocess.CompletedProcess[bytes]) -> None:
    assert b"hv2: ssh_config cannot hold `root" in piped.stdout
    assert b"left out: hv2: ssh_config cannot hold" in piped.stderr
    assert b"Host pair.hv1" in piped.stdout
    assert b"Host pair.hv2\n" not in piped.stdout


def test_json_is_valid_and_has_all_of_it_as_data(piped: subprocess.CompletedProcess[bytes]) -> None:
    parts = re.split(r"^#### (.*)\n", piped.stdout.decode(), flags=re.MULTILINE)
    said = dict(zip(hostile_world.COMMANDS, parts[0::2], strict=False))
    status = json.loads(said["status", "pair", "--deep", "--json"])
    assert hostile_world.EVIL in [row["why"] for row in status["machines"]]
    for words, text in said.items():
        if "--json" in words or ("--list" in words[:3] and words[0] == "inventory"):
            _documents(text)


def _documents(text: str) -> None:
    """One document, or one a line."""
    try:
        json.loads(text)
    except ValueError:
        for line in filter(str.strip, text.splitlines()):
            json.loads(line)


def test_nothing_that_acts_on_a_terminal_is_written_to_one(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, str(PROGRAM), str(tmp_path)]
    process = subprocess.Popen(argv, env=env(tmp_path), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 1 << 16):
                said.extend(data)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert process.wait(VERY_LONG) == 0
    finally:
        process.kill()
        reader.join()
        os.close(ours)
    check(OWN.sub("", said.decode()), whole=True)
