"""A hypervisor's first guest is made and started by one shell, and nothing that is not whole is taken for made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.engines.qemu import scripts
from nestlab.engines.qemu.first_guest import Opening
from nestlab.engines.qemu.identity import archive
from nestlab.hosts.local import LocalHost
from waiting import LONG

NAME = "nestlab:pair:hv1/web"
CARD = bytes(range(256)) * 300
SHELLS = [shell for shell in ("dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]

QEMU = """
echo 'nestlab: ready' >>console.log
exec sleep 100
"""
"""What a QEMU does, as far as START looks."""


def prepare(root: Path, *more: str) -> tuple[str, ...]:
    words = (
        NAME,
        str(root),
        "d1",
        "r1",
        "no",
        "0",
        str(len(CARD)),
        '{"path": "hv1/web"}',
        '{"digest":"d1"}',
        str(root.with_name("also")),
    )
    return (*words[: len(words) - len(more)], *more)


def command(root: Path) -> tuple[str, ...]:
    return scripts.opening((scripts.PREPARE, prepare(root)), ("echo second $1", ("one",)), ("echo third", ()))


@contextlib.contextmanager
def ended(root: Path) -> Iterator[None]:
    """What START started is ended."""
    try:
        yield
    finally:
        if (root / "pid").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((root / "pid").read_text()), signal.SIGKILL)


async def test_one_shell_makes_a_machine_answers_what_is_asked_and_starts_the_machine(tmp_path: Path) -> None:
    root = tmp_path / "m" / "0123abcd"
    opening = Opening(LocalHost(), "hv1/web")
    with ended(root):
        said, failed = await opening.make(command(root), 3, CARD + b"whole\n")
        assert ([part.strip() for part in said], failed) == (["new", "second one", "third"], None)
        assert (root / "identity").read_bytes() == CARD
        assert (root / "made").read_text() == '{"digest":"d1"}\n'
        assert (root / "making").read_text() == '{"path": "hv1/web"}\n'
        assert root.with_name("also").is_dir()
        assert oct((root / "identity").stat().st_mode & 0o777) == oct(0o600)
        assert opening.waits
        async with opening.start((NAME, str(root), '{"port":1}', "sh", "-c", QEMU)) as lines:
            assert await anext(lines) == b"nestlab-start: started"
            assert await anext(lines) == b"nestlab: ready"
            assert (root / "boot").read_text() == '{"port":1}\n'
        assert not opening.waits, "it starts one machine, once"


async def test_a_machine_that_cannot_be_made_is_told_and_nothing_waits(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0123abcd").write_text("a file where the directory should be")
    opening = Opening(LocalHost(), "hv1/web")
    said, failed = await opening.make(command(tmp_path / "m" / "0123abcd"), 3, CARD + b"whole\n")
    assert (said, opening.waits) == ([], False)
    assert failed is not None
    assert failed.status != 0
    assert b"mkdir" in failed.stderr
    await opening.close()


async def test_a_shell_that_is_not_needed_is_ended(tmp_path: Path) -> None:
    opening = Opening(LocalHost(), "hv1/web")
    await opening.make(command(tmp_path / "m" / "0123abcd"), 3, CARD + b"whole\n")
    await opening.close()
    await opening.close()
    assert not opening.waits


def made(shell: str, root: Path, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    argv = [*shell.split(), "-c", scripts.alone(scripts.PREPARE), "prepare", *prepare(root)]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=LONG)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("stdin", [b"", CARD[:1000], CARD, CARD + b"who"])
def test_papers_that_are_not_all_there_make_no_machine(shell: str, stdin: bytes, tmp_path: Path) -> None:
    done = made(shell, tmp_path / "m" / "0123abcd", stdin)
    assert done.returncode != 0
    assert not (tmp_path / "m" / "0123abcd" / "made").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_making_twice_makes_it_once_and_what_runs_is_left_alone(shell: str, tmp_path: Path) -> None:
    root = tmp_path / "m" / "0123abcd"
    assert made(shell, root, CARD + b"whole\n").stdout == b"new\n"
    (root / "made").write_text('{"digest":"d1"}\n{"digest":"d1"}')
    assert made(shell, root, CARD + b"whole\n").stdout == b"made\n"
    running = subprocess.Popen(["sh", "-c", "read x", NAME], stdin=subprocess.PIPE)
    try:
        (root / "pid").write_text(f"{running.pid}\n")
        (root / "identity").write_text("older")
        assert made(shell, root, CARD + b"whole\n").stdout == b"running\n"
        assert (root / "identity").read_text() == "older"
    finally:
        running.kill()
        running.wait()


def renewed(shell: str, root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """PREPARE of a machine with a disk: digest, root, bytes that its disk is asked to have."""
    digest, made_from, size = words
    papers = archive({"made.new": (f'{{"digest":"{digest}","root":"{made_from}","disk":{size}}}\n'.encode(), 0o600)})
    argv = [*shell.split(), "-c", scripts.alone(scripts.PREPARE), "prepare", NAME, str(root)]
    return subprocess.run([*argv, digest, made_from, "yes", size], input=papers, capture_output=True, timeout=LONG)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_is_kept_under_another_definition_grows_and_is_never_thrown_away(shell: str, tmp_path: Path) -> None:
    root = tmp_path / "m" / "0123abcd"

    def state(*words: str) -> bytes:
        return renewed(shell, root, *words).stdout.strip()

    assert state("d1", "r1", "0") == b"new"
    assert not (root / "made").exists(), "only with its disk it is made"
    (root / "made.new").rename(root / "made")
    assert state("d1", "r1", "0") == b"bare", "its disk is gone"
    (root / "disk.qcow2").write_text("precious")
    assert state("d2", "r1", "0") == b"made"
    assert '"d2"' in (root / "made").read_text()
    assert state("d2", "r1", "5000000000") == b"small"
    assert '"disk":0' in (root / "made").read_text(), "it has not grown yet"
    done = renewed(shell, root, "d2", "r2", "0")
    assert (done.returncode != 0, b"another image" in done.stderr) == (True, True)
    (root / "made").write_text('{"path":"hv1/web","digest":"older","names":"n"}\n')
    assert state("d2", "r1", "0") == b"made", "an earlier nestlab made it"
    assert (root / "disk.qcow2").read_text() == "precious"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_runs_is_given_nothing_but_a_larger_disk(shell: str, tmp_path: Path) -> None:
    root = tmp_path / "m" / "0123abcd"
    renewed(shell, root, "d1", "r1", "0")
    (root / "made.new").rename(root / "made")
    (root / "disk.qcow2").touch()
    with subprocess.Popen(["sh", "-c", "read x", NAME], stdin=subprocess.PIPE) as running:
        (root / "pid").write_text(f"{running.pid}\n")
        assert renewed(shell, root, "d1", "r1", "0").stdout == b"running\n"
        assert renewed(shell, root, "d1", "r1", "9").stdout == b"live\n"
        done = renewed(shell, root, "d2", "r1", "0")
        assert b"another definition" in done.stderr
        running.kill()


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_in_a_row_share_a_shell_and_the_first_one_counts(shell: str) -> None:
    first = ("cat; return 3", ())
    argv = scripts.together(first, ("read -r x || echo none $1", ("a b",)), ("echo last; return 5", ()))
    done = subprocess.run([*shell.split(), *argv[1:]], input=b"papers", capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")
    assert [part.strip() for part in scripts.apart(done.stdout.decode())] == ["papers", "none a b", "last"]
