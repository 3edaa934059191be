"""A guest that prints for ever fills no disk: its console is cut, beside a QEMU that writes to it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

import waiting
from nestlab.engines.qemu import scripts
from nestlab.hosts.local import LocalHost
from nestlab.verbs import logs
from test_copy import BUSYBOX
from waiting import LONG

SMALL = {
    f"sleep {scripts.PAUSE}": "sleep 0.05",
    f"-gt {scripts.CONSOLE}": "-gt 60000",
    f"-c {scripts.HEAD}": "-c 1000",
    f"s - {scripts.END} +": "s - 4000 +",
    f"s - {scripts.HEAD + scripts.END})": "s - 5000)",
}
"""The same with other numbers."""


def script() -> str:
    text = scripts.KEEP
    for old, new in SMALL.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def kept(
    folder: Path, process: int, shell: Sequence[str] = ("sh",), before: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*shell, "-c", before + script(), "keep", str(process)], cwd=folder) as keeper:
        try:
            yield keeper
        finally:
            keeper.kill()


@contextlib.contextmanager
def pretended() -> Iterator[subprocess.Popen[bytes]]:
    """A process in the place of a QEMU."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as qemu:
        try:
            yield qemu
        finally:
            qemu.kill()


def until(holds: object, what: str) -> None:
    assert callable(holds)
    deadline = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture(params=["sh", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    if request.param == "sh":
        return ["sh"]
    if BUSYBOX is None:
        pytest.skip("needs busybox")
    (tmp_path / "bin").mkdir()
    for name in ("sh", "sleep", "stat", "head", "tail", "cat", "rm"):
        (tmp_path / "bin" / name).symlink_to(BUSYBOX)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    return [f"{tmp_path}/bin/sh"]


def test_a_console_that_never_ends_is_cut_and_its_beginning_and_end_stay(tmp_path: Path, shell: list[str]) -> None:
    log, cut = tmp_path / "console.log", tmp_path / "console.log.cut"
    with pretended() as qemu, log.open("ab", buffering=0) as written:
        written.write(b"it boots\n")
        with kept(tmp_path, qemu.pid, shell) as keeper:
            total, most = 0, 0
            while total < 2_000_000:
                total += written.write(b"for ever and ever %08d\n" % total * 40)
                most = max(most, log.stat().st_size)
                if total % 50 == 0:
                    time.sleep(0.001)
                if log.stat().st_size > 60000:
                    until(lambda: log.stat().st_size < 60000 and not cut.exists(), "it was cut")
            written.write(b"the last line\n")
            text = log.read_bytes()
            assert most < 120000
            assert text.startswith(b"it boots\n")
            assert b" bytes left out]" in text
            assert text.endswith(b"the last line\n")
            assert [each.name for each in tmp_path.iterdir() if each.name.startswith("console")] == ["console.log"]
            qemu.send_signal(signal.SIGKILL)
            qemu.wait()
            assert keeper.wait(timeout=LONG) == 0


@pytest.mark.parametrize("behind", [False, True], ids=["in time", "far behind"])
async def test_who_follows_it_reads_on_where_it_is_cut(
    tmp_path: Path, shell: list[str], monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """Nothing is said twice; what was cut before it was read is told as left out."""
    follow = scripts.FOLLOW.replace(str(scripts.HEAD), "1000")
    monkeypatch.setattr(logs, "FOLLOW", follow.replace("sleep 0.1", "sleep 0.01"))
    monkeypatch.setattr(logs, "LOOK", 0.01)
    log = tmp_path / "console.log"
    log.touch()
    boot, read, left_out = logs.Boot(1, str(log), 0, 0), [-1], 0
    with pretended() as qemu, log.open("ab", buffering=0) as written, kept(tmp_path, qemu.pid, shell):
        async with logs.lines(LocalHost(), boot, follow=True) as lines:
            for number in range(3000):
                written.write(b"%d %s\n" % (number, b"x" * 100))
                if number % 30 == 29:  # less than stays of the end
                    while not behind and read[-1] < number:
                        read += [int(line.split()[0]) async for line in first(lines, number - read[-1])]
                    await until_cut(log)
            if behind:
                async for line in lines:
                    left_out += b" bytes left out]" in line
                    read += [int(line.split()[0])] if line[:1].isdigit() and line.endswith(b"x" * 100) else []
                    if read[-1] == 2999:
                        break
    assert read == sorted(set(read))
    assert (left_out, len(read) > 3000) == ((1, False) if behind else (0, True))


async def first(lines: AsyncIterator[bytes], many: int) -> AsyncIterator[bytes]:
    for _ in range(many):
        yield await anext(lines)


async def until_cut(log: Path) -> None:
    """Whoever cuts it has done so, where it is due."""
    await waiting.until(lambda: log.stat().st_size <= 60000 and not log.with_suffix(".log.cut").exists())


def test_a_directory_that_is_renamed_or_gone_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pretended() as qemu, kept(tmp_path / "old", qemu.pid) as keeper:
        until(lambda: Path(f"/proc/{keeper.pid}/cwd").resolve() == Path(f"/proc/{qemu.pid}"), "it looks after it")
        (tmp_path / "old").rename(tmp_path / "new")
        (tmp_path / "new" / "console.log").write_bytes(b"x" * 100000)
        until(lambda: (tmp_path / "new" / "console.log").stat().st_size < 60000, "it was cut")
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        qemu.kill()
        qemu.wait()
        assert keeper.wait(timeout=LONG) == 0


def test_on_a_full_disk_it_is_emptied(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * 100000)
    with pretended() as qemu, kept(tmp_path, qemu.pid, before="trap '' XFSZ; ulimit -f 0\n"):
        until(lambda: log.stat().st_size == 0, "it was emptied")


def test_qemu_appends_to_its_console_so_that_who_empties_it_gets_the_room_back() -> None:
    for golden in (Path(__file__).parent / "golden" / "argv").glob("*.txt"):
        assert "console.log,logappend=on" in golden.read_text().replace("\n", "")
