"""What a host's directories and processes say is read as it is meant."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.engines.qemu import observed, scripts
from nestlab.engines.qemu.argv import name_of
from nestlab.home.paths import Place
from nestlab.plan.steps import HalfMade

SHELLS = [shell for shell in ("dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]


def report(place: Place, lab: str = "pair", parent: str = "", *, known: str = "") -> observed.Report:
    """What every shell finds, which is the same."""
    found = [_ask(shell, place, lab, parent, known) for shell in SHELLS]
    told = [[(each.directory, each.boot, each.seen.state, each.seen.ready) for each in one.machines] for one in found]
    assert told == [told[0]] * len(SHELLS)
    assert {one.half_made for one in found} == {found[0].half_made}
    return found[0]


def ask(place: Place, lab: str = "pair", parent: str = "") -> list[observed.Look]:
    return list(report(place, lab, parent).machines)


def _ask(shell: str, place: Place, lab: str, parent: str, known: str) -> observed.Report:
    for noted in Path(place.machines).glob("*/answered"):  # by the shell before
        if noted.read_text():
            noted.unlink()
    argv = [*shell.split(), "-c", scripts.alone(observed.SCRIPT), "look", place.machines, lab, known]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return observed.parse(done.stdout, now=time.time(), parent=parent)


def make(place: Place, path: str, *, made: bool = True, boot: bool = False, stopped: bool = False) -> Path:
    files = place.of(path)
    root = Path(files.root)
    root.mkdir(parents=True)
    Path(files.making).write_text(json.dumps({"path": path}) + "\n")
    if made:
        Path(files.identity).write_bytes(bytes(512))
        Path(files.made).write_text(json.dumps({"path": path, "digest": "d1", "names": "n1"}) + "\n")
    if boot:
        Path(files.boot).write_text('{"port":20022,"accel":"tcg"}\n')
    if stopped:
        Path(files.stopped).touch()
    return root


def test_no_directory_means_no_machines(tmp_path: Path) -> None:
    assert ask(Place(str(tmp_path / "absent"))) == []


def test_a_machine_that_never_ran_is_stopped(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    make(place, "hv1")
    [found] = ask(place)
    assert (found.seen.path, found.seen.state, found.seen.digest, found.seen.names) == ("hv1", "stopped", "d1", "n1")


@pytest.mark.parametrize("torn", ["identity", "disk.qcow2"])
def test_a_machine_of_which_a_power_cut_left_an_empty_file_gets_a_new_definition(tmp_path: Path, torn: str) -> None:
    place = Place(str(tmp_path))
    (make(place, "hv1", boot=True) / torn).write_bytes(b"")
    [found] = ask(place)
    assert (found.seen.path, found.seen.state, found.seen.digest) == ("hv1", "died", "")


def test_a_machine_whose_record_a_power_cut_emptied_is_half_made(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    (make(place, "hv1") / "made").write_bytes(b"")
    [found] = ask(place)
    assert found.seen.state == "broken"


def test_a_machine_that_ran_and_was_not_stopped_died(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    make(place, "hv1", boot=True)
    [found] = ask(place)
    assert found.seen.state == "died"
    assert found.boot.port == 20022


def test_a_machine_that_was_stopped_on_purpose_is_stopped(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    make(place, "hv1", boot=True, stopped=True)
    assert ask(place)[0].seen.state == "stopped"


def test_half_made_is_broken_and_keeps_its_name(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    make(place, "hv1/web", made=False)
    (tmp_path / "m" / "deadbeef").mkdir()
    found = report(place, parent="hv1")
    assert {each.seen.path: each.seen.state for each in found.machines} == {"hv1/web": "broken"}
    assert found.half_made == {HalfMade("hv1", "deadbeef")}, "it has no name: it is a thing of its own"


def test_a_living_process_counts_only_under_the_machines_own_name(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sleep = ["sh", "-c", "exec -a x sleep 60 2>/dev/null || exec sleep 60"]
    mine = subprocess.Popen(["sh", "-c", "read x", f"{name_of('pair', 'hv1')},debug-threads=on"], stdin=subprocess.PIPE)
    other = subprocess.Popen(sleep)
    try:
        (make(place, "hv1", boot=True) / "pid").write_text(f"{mine.pid}\n")
        (make(place, "hv2", boot=True) / "pid").write_text(f"{other.pid}\n")
        found = {each.seen.path: each.seen for each in ask(place)}
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()
    assert found["hv1"].state == "running"
    assert found["hv1"].accel == "tcg"
    assert found["hv1"].pid == mine.pid
    assert abs((found["hv1"].since or 0) - time.time()) < 30
    assert (found["hv1"].memory or 0) > 4096
    assert found["hv2"].state == "died", "a recycled pid is not the machine"


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    for said in (text, f"U 1.0\n{text}"):
        with contextlib.suppress(LabError):
            observed.parse(said, now=0.0, parent="hv1")


def dead(place: Place, console: str) -> str:
    root = make(place, "hv1", boot=True)
    (root / "console.log").write_text(console)
    [found] = ask(place)
    assert found.seen.state == "died"
    return found.seen.why


def test_the_console_tells_why_a_machine_died(tmp_path: Path) -> None:
    panic = "[    1.8] Kernel panic - not syncing: VFS: no root\r\n[    1.9] end\r\n"
    assert dead(Place(str(tmp_path / "a")), panic) == "its kernel panicked: VFS: no root"
    assert dead(Place(str(tmp_path / "b")), "[  9.1] reboot: Power down") == "it shut itself down"
    assert "nobody told nestlab" in dead(Place(str(tmp_path / "c")), "M deadbeef\nlogin: \n")


def test_a_machine_is_booting_until_its_console_says_ready(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    root = make(place, "hv1", boot=True)
    (root / "boot").write_text('{"port":20022,"accel":"tcg","tells":true}\n')
    mine = subprocess.Popen(["sh", "-c", "read x", f"{name_of('pair', 'hv1')},debug-threads=on"], stdin=subprocess.PIPE)
    try:
        (root / "pid").write_text(f"{mine.pid}\n")
        (root / "console.log").write_text("Linux version 6\n")
        [booting] = ask(place)
        (root / "console.log").write_text("Linux version 6\nnestlab: ready\n")
        [ready] = ask(place)
        (root / "console.log").write_text("a line\n" * 100)
        [talking] = ask(place)
        (root / "console.log").write_text("a line\n" * 100 + "nestlab: ready\n")
        [talked] = ask(place)
        (root / "console.log").write_text("nestlab: ready")
        [brief] = ask(place)
    finally:
        mine.kill()
        mine.wait()
    assert (booting.seen.state, booting.seen.ready, booting.seen.why) == ("running", False, "it is still booting")
    assert (ready.seen.state, ready.seen.ready, ready.seen.why) == ("running", True, "")
    assert (talking.seen.ready, talked.seen.ready, brief.seen.ready) == (False, True, True)


def test_a_system_of_the_users_is_booting_until_it_has_answered(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    root = make(place, "hv1", boot=True)
    (root / "boot").write_text('{"port":20022,"accel":"tcg","tells":false,"asked":true}\n')
    with subprocess.Popen(["sh", "-c", "read x", f"{name_of('pair', 'hv1')},x"], stdin=subprocess.PIPE) as mine:
        (root / "pid").write_text(f"{mine.pid}\n")
        (root / "console.log").write_text("Linux version 6\n")
        [booting] = ask(place)
        Path(place.of("hv1").answered).touch()
        [up] = ask(place)
        mine.kill()
    assert (booting.seen.state, booting.seen.ready, booting.seen.why) == ("running", False, "it is still booting")
    assert (up.seen.ready, up.seen.why) == (True, "")
