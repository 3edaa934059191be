"""An installer in a hypervisor, by stand-ins: an sshd of this machine, and a program that plays its QEMU.

What goes there, what comes back, what is left, and what a hypervisor can do that lies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import install_in_sshd
from install_in_sshd import SIZE, WHERE, hypervisor, install_in, job
from installer_qemu import MARK
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu import sparse_copy
from nestlab.home.directories import Home
from nestlab.images import installed
from nestlab.images.qemu_runtime import choose_qemu_img
from nestlab.install import inside as inside_a_hypervisor
from nestlab.install import installation, runner
from nestlab.lab.install import Install
from nestlab.lab.model import MIB
from nestlab.wire import proc
from sshd import PROGRAM, USER, Sshd, sshd
from test_install_medium import iso_with
from waiting import until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="openssh-server is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), "MaxSessions 100") as running:
        yield running


@pytest.fixture
def root() -> Iterator[Path]:
    """The folder of installations there. (Paths of sockets are short.)"""
    with tempfile.TemporaryDirectory(prefix="nl") as folder:
        yield Path(folder) / "install"


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside_a_hypervisor, "GIB", 16 * MIB)
    patience.of_lab(1.0, 1.0)


def iso(folder: Path, behave: str = "well") -> Path:
    return iso_with(folder / "a.iso", {"/casper/vmlinuz": behave.encode(), "/casper/initrd": b"initrd"})


def left(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.name != "lock") if root.exists() else []


async def raw(disk: Path, to: Path) -> bytes:
    tool = await choose_qemu_img(Home.of(os.environ, Path.home()).cache, lambda _: None)
    words = [*tool.argv, "convert", "-f", "qcow2", "-O", "raw", str(disk), str(to)]
    await proc.run(words, env=tool.env)
    return to.read_bytes()


async def test_an_installer_runs_in_a_hypervisor_and_its_disk_comes_back(
    server: Sshd, root: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    inside = hypervisor(server.connect, root)
    disk = await install_in(inside, job(iso(tmp_path)), tmp_path / "made", said.append)
    content = await raw(disk, tmp_path / "raw")
    assert len(content) == SIZE
    assert content.startswith(MARK)
    assert content.endswith(MARK)
    assert [each.name for each in disk.parent.iterdir()] == ["disk.qcow2"]
    assert disk.stat().st_mode & 0o777 == 0o600
    assert left(root) == []
    assert said[:3] == [
        "copying linux into pair:hv1, 4",
        "copying initrd into pair:hv1, 6",
        f"copying a.iso into pair:hv1, {said[2].rpartition(', ')[2]}",
    ]
    assert said[3:6] == [
        "starting Ubuntu's installer in pair:hv1",
        "the installer has its answers",
        "the installer is done",
    ]
    assert said[6] == "fetching what it installed from pair:hv1"


FAILURES = [
    ("dies", "did not start: qemu: no such machine"),
    ("mute", "ended after “the installer has its answers”"),
    ("fails", "failed after “the installer has its answers”: it says that it failed"),
    ("sleeps", "has been silent for"),
]


@pytest.mark.parametrize(("behave", "words"), FAILURES)
async def test_one_that_fails_there_shows_why_and_leaves_nothing(
    server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: str, words: str
) -> None:
    monkeypatch.setattr(installation, "SILENCE", 3.0)
    with pytest.raises(LabError) as error:
        await install_in(hypervisor(server.connect, root), job(iso(tmp_path, behave)), tmp_path / "made")
    assert str(error.value).startswith(f"{WHERE}: Ubuntu's installer ")
    assert words in str(error.value)
    assert list((tmp_path / "made").iterdir()) == []
    assert left(root) == []


async def test_on_this_machine_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    disk = await install_in(None, job(iso(tmp_path)), tmp_path / "made", said.append)
    assert [each.name for each in disk.parent.iterdir()] == ["disk.qcow2"]
    assert MARK in disk.read_bytes()
    assert said == ["starting Ubuntu's installer", "the installer has its answers", "the installer is done"]
    monkeypatch.setattr(installation, "SILENCE", 3.0)
    for behave, words in FAILURES:
        (tmp_path / behave).mkdir()
        with pytest.raises(LabError) as error:
            await install_in(None, job(iso(tmp_path / behave, behave)), tmp_path / behave / "made")
        assert words in str(error.value)
        assert not (tmp_path / behave / "made" / "i").exists()
        assert processes(tmp_path) == []
    monkeypatch.setattr(installation, "FULL", 1 << 60)
    with pytest.raises(LabError, match=r"the disk of this machine is full\."):
        await install_in(None, job(iso(tmp_path, "sleeps")), tmp_path / "full")


async def test_a_hypervisor_without_room_is_told_before_anything_is_copied(
    server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    inside, medium = hypervisor(server.connect, root), iso(tmp_path)
    with pytest.raises(LabError, match=r"takes 1024T of memory, and pair:hv1 has .* free\."):
        await install_in(inside, job(medium, memory=1 << 50), tmp_path / "a", said.append)
    monkeypatch.setattr(inside_a_hypervisor, "GIB", 1 << 60)
    with pytest.raises(LabError, match=r"pair:hv1 has .* free on its disk: too few for an installation of 1024T"):
        await install_in(inside, job(medium, disk=1 << 50), tmp_path / "b", said.append)
    assert said == []
    assert left(root) == []


async def test_a_disk_that_is_full_there_ends_it_at_once(
    server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU stops a machine whose disk cannot be written, and says nothing."""
    monkeypatch.setattr(installation, "FULL", 1 << 60)
    with pytest.raises(LabError, match=r"cannot go on.*: the disk of pair:hv1 is full\."):
        await install_in(hypervisor(server.connect, root), job(iso(tmp_path, "sleeps")), tmp_path / "made")
    assert left(root) == []


# -- killed -----------------------------------------------------------------------------------------------------------


def processes(root: Path) -> list[str]:
    """Those that have anything to do with the folder there."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            line = (each / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if each.name.isdigit() and str(root).encode() in line and int(each.name) != os.getpid():
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def begun(server: Sshd, root: Path, tmp_path: Path, behave: str) -> subprocess.Popen[str]:
    (server.folder / "host.pub").write_text(server.host.public)
    words = [server.folder, server.port, iso(tmp_path, behave), root, tmp_path / f"made-{os.urandom(2).hex()}"]
    env = {**os.environ, "TEST_USER": USER}
    argv = [sys.executable, install_in_sshd.__file__, *map(str, words)]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True, process_group=0)


async def said_by(process: subprocess.Popen[str], phase: str) -> None:
    assert process.stdout is not None
    while phase not in (line := await asyncio.to_thread(process.stdout.readline)):
        assert line, "it ended before"


PHASES = ["copying linux", "copying a.iso", "starting", "the installer has its answers", "the installer is done"]


@pytest.mark.parametrize("phase", PHASES)
async def test_nestlab_killed_leaves_nothing_in_the_hypervisor(
    phase: str, server: Sshd, root: Path, tmp_path: Path
) -> None:
    process = begun(server, root, tmp_path, "well" if phase.endswith("done") else "sleeps")
    try:
        await said_by(process, phase)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    await until(lambda: left(root) == [] and processes(root) == [])


async def test_ctrl_c_leaves_nothing_in_the_hypervisor(server: Sshd, root: Path, tmp_path: Path) -> None:
    answered = asyncio.Event()

    def say(text: str) -> None:
        if text == "the installer has its answers":
            answered.set()

    work = install_in(hypervisor(server.connect, root), job(iso(tmp_path, "sleeps")), tmp_path / "made", say)
    task = asyncio.create_task(work)
    await answered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left(root) == []
    assert list((tmp_path / "made").iterdir()) == []
    await until(lambda: processes(root) == [])


async def test_what_a_hypervisor_that_was_cut_off_has_left_goes_with_the_next_installation(
    server: Sshd, root: Path, tmp_path: Path
) -> None:
    process = begun(server, root, tmp_path, "sleeps")
    try:
        await said_by(process, "the installer has its answers")
        [old] = left(root)
        server.kill_connections()  # the runner too, by SIGKILL: it takes its QEMU along, and nothing else
        assert await asyncio.to_thread(process.wait) != 0
        await until(lambda: processes(root) == [])
        assert left(root) == [old]
    finally:
        process.kill()
        process.wait()
    await install_in(hypervisor(server.connect, root), job(iso(tmp_path)), tmp_path / "made")
    assert left(root) == []


async def test_two_installations_in_one_hypervisor_leave_each_other_alone(
    server: Sshd, root: Path, tmp_path: Path
) -> None:
    process = begun(server, root, tmp_path, "sleeps")
    try:
        await said_by(process, "the installer has its answers")
        [other] = left(root)
        (tmp_path / "second").mkdir()
        await install_in(hypervisor(server.connect, root), job(iso(tmp_path / "second")), tmp_path / "made")
        assert left(root) == [other]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    await until(lambda: left(root) == [])


def test_a_runner_that_hears_nothing_of_nestlab_ends_what_it_runs(root: Path) -> None:
    words = [sys.executable, "-I", "-S", runner.__file__, str(root), "aa", "0.5"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] is None
    process.stdin.write(json.dumps({"start": ["sleep", "100000"], "size": 1}) + "\n")
    process.stdin.flush()
    assert process.wait() == 0
    assert left(root) == []
    process.stdin.close()
    process.stdout.close()


# -- a hypervisor that lies -------------------------------------------------------------------------------------------

LIES: dict[str, tuple[str, str]] = {
    "no JSON": ("print('I am fine', flush=True)", "gave an odd answer to how an installation is: no JSON"),
    "a number": ("print(7, flush=True)", "gave an odd answer"),
    "a line without end": ("sys.stdout.write('x' * (1 << 20)); sys.stdout.flush()", "a line without end"),
    "no bytes": (f"print({json.dumps(json.dumps({'console': 'ä', 'errors': '', 'blocks': 1, 'free': 1, 'memory': 1}))},"
                 " flush=True)", "console is no base64"),
    "less than nothing": (f"print({json.dumps(json.dumps({'console': '', 'errors': '', 'blocks': -1, 'free': 1}))},"
                          " flush=True)", "blocks is -1"),
    "nothing at all": ("sys.exit('\\x1b]0;evil\\x07 No')", "was ended there:"),
    "a full disk": ("sys.exit('[Errno 28] No space left on device')", "The disk of pair:hv1 is full."),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_what_a_hypervisor_tells_is_typed_and_bounded(
    lie: str, server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, words = LIES[lie]
    (tmp_path / "runner.py").write_text(f"import sys, time\n{program}\ntime.sleep(1000)\n")
    monkeypatch.setattr(inside_a_hypervisor, "ANSWER", 1.0 if lie != "nothing at all" else 60.0)
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    with pytest.raises(LabError) as error:
        await install_in(hypervisor(server.connect, root), job(iso(tmp_path)), tmp_path / "made")
    assert words in str(error.value)
    assert "\x1b" not in str(error.value)
    assert list((tmp_path / "made").iterdir()) == []


async def test_one_that_says_nothing_is_waited_for_in_time(
    server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner.py").write_text("import time\ntime.sleep(100000)\n")
    monkeypatch.setattr(inside_a_hypervisor, "ANSWER", 0.5)
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    with pytest.raises(LabError, match="pair:hv1 does not tell how the installation is"):
        await install_in(hypervisor(server.connect, root), job(iso(tmp_path)), tmp_path / "made")


async def test_a_disk_that_comes_back_as_another_format_is_bytes_of_a_disk(
    server: Sshd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is is never guessed: it names no file of this machine that anybody would open."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this machine" * 40)
    tool = await choose_qemu_img(Home.of(os.environ, Path.home()).cache, lambda _: None)
    evil = tmp_path / "evil.qcow2"
    words = [*tool.argv, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(evil)]
    await proc.run(words, env=tool.env)
    read = sparse_copy.fetch

    async def lying(host: Any, path: str, target: Path, size: int, seen: Callable[[int], None]) -> None:
        Path(path).write_bytes(evil.read_bytes())
        await read(host, path, target, size, seen)

    monkeypatch.setattr(sparse_copy, "fetch", lying)
    disk = await install_in(hypervisor(server.connect, root), job(iso(tmp_path)), tmp_path / "made")
    content = await raw(disk, tmp_path / "raw")
    assert content.startswith(b"QFI\xfb")
    assert b"of this machine" not in content
    assert len(content) == SIZE


def test_where_an_image_was_installed_stands_beside_it(tmp_path: Path) -> None:
    key = "install-0000000000000000"
    folder = installed.folder_of(key, tmp_path)
    folder.mkdir(parents=True)
    (folder / installed.DISK).touch()
    (folder / installed.DESCRIPTION).write_text(installed.describe(Install("debian"), "web", "pair:hv1"))
    found = installed.load(key, tmp_path)
    assert found is not None
    assert (found.called, found.inside) == ("web", "pair:hv1")
    (folder / installed.DESCRIPTION).write_text(installed.describe(Install("debian"), "web"))
    assert "inside" not in (folder / installed.DESCRIPTION).read_text()
    found = installed.load(key, tmp_path)
    assert found is not None
    assert found.inside == ""
