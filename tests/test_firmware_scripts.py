"""What is beside a machine's QEMU, its UEFI's variables and its TPM: by real shells, with a swtpm of the test's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from nestlab.engines.qemu import hardware_argv, scripts
from nestlab.engines.qemu.hardware_argv import Uefi
from nestlab.home.paths import MachinePaths
from waiting import LONG

SWTPM = """#!/bin/sh
# Takes swtpm's options; --daemon: it is in the background when this ends, and its words are those that it was given.
for word; do case $word in file=*) pid=${word#file=} ;; esac; done
[ ! -e "${0%/*}/broken" ] || { echo 'swtpm: no' >&2; exit 1; }
sh -c 'sleep 900; :' swtpm "$@" >/dev/null 2>&1 &
echo $! >"$pid"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "swtpm").write_text(SWTPM)
    (tmp_path / "swtpm").chmod(0o755)
    (tmp_path / "VARS.fd").write_bytes(b"fresh")
    (tmp_path / "m").mkdir()
    return tmp_path


def before(root: Path, *, tpm: bool = True) -> list[str]:
    uefi = Uefi("uefi", "/CODE.fd", f"{root}/VARS.fd")
    swtpm = (f"{root}/swtpm",) if tpm else ()
    return ["sh", "-c", hardware_argv.before(uefi, swtpm, MachinePaths(f"{root}/m")), "before"]


def start(root: Path, qemu: str) -> list[str]:
    words = ["sh", "-c", scripts.START, "start", "nestlab:lab:m", f"{root}/m", "{}", *before(root), "sh", "-c", qemu]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=True)
    return done.stdout.splitlines()


def alive(pid: str) -> bool:
    state = Path("/proc", pid, "stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid: str) -> bool:
    """Whether a process that was told to end does."""
    until = time.monotonic() + LONG
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_a_machine_gets_variables_once_and_keeps_them(root: Path) -> None:
    subprocess.run([*before(root, tpm=False), "true"], check=True)
    mine = root / "m/uefi.fd"
    assert mine.read_bytes() == b"fresh"
    assert mine.stat().st_mode & 0o777 == 0o600
    mine.write_bytes(b"mine")
    subprocess.run([*before(root, tpm=False), "true"], check=True)
    assert mine.read_bytes() == b"mine"


def test_the_shell_becomes_qemu_when_its_tpm_listens(root: Path) -> None:
    done = subprocess.run(
        [*before(root), "sh", "-c", f"echo $$; cat {root}/m/tpm.pid"], capture_output=True, text=True, check=True
    )
    _, tpm = done.stdout.split()
    assert alive(tpm)
    assert (root / "m/tpm").is_dir()
    end(root)
    assert ends(tpm)


def test_a_kernel_is_told_how_high_its_initramfs_may_be_and_its_image_stays_as_it_is(root: Path) -> None:
    """Below the megabyte at the end of memory where SeaBIOS has its tables, never above 2 GiB."""
    head = bytes(range(256)) * 4
    (root / "k 'x").write_bytes(head)
    for memory, most in ((512 << 20, 0x1FEFFFFF), (8 << 30, 0x7FEFFFFF)):
        line = hardware_argv.lowered(f"{root}/k 'x", MachinePaths(f"{root}/m"), memory)
        script = hardware_argv.before(None, (), MachinePaths(f"{root}/m"), line)
        subprocess.run(["sh", "-c", script, "before", "true"], check=True)
        made = (root / "m/kernel").read_bytes()
        assert int.from_bytes(made[0x22C:0x230], "little") == most  # initrd_addr_max
        assert made[0x236] & 3 == 1  # a 64-bit kernel that cannot be loaded above 4 GiB (xloadflags)
        assert (made[:0x22C], made[0x230:0x236], made[0x237:]) == (head[:0x22C], head[0x230:0x236], head[0x237:])
        assert (root / "k 'x").read_bytes() == head


def test_a_kernel_that_cannot_be_copied_is_told(root: Path) -> None:
    line = hardware_argv.lowered(f"{root}/none", MachinePaths(f"{root}/m"), 1 << 30)
    script = hardware_argv.before(None, (), MachinePaths(f"{root}/m"), line)
    done = subprocess.run(["sh", "-c", script, "before", "echo", "up"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "its kernel cannot be copied\n")


def end(root: Path) -> None:
    subprocess.run(["sh", "-c", scripts.STOP, "stop", "nestlab:lab:m", f"{root}/m", "0", "asked"], check=True)


def test_a_qemu_that_does_not_start_leaves_no_tpm(root: Path) -> None:
    said = start(root, f"cat {root}/m/tpm.pid; exit 1")
    assert said[-1] == "nestlab-start: failed"
    tpm = next(line for line in said if line.isdecimal())
    assert ends(tpm)
    assert not (root / "m/tpm.pid").exists()


def test_a_tpm_that_does_not_start_is_told(root: Path) -> None:
    (root / "broken").touch()
    said = start(root, "echo up >>console.log")
    assert said == [
        "nestlab-start: started",
        "swtpm: no",
        "its TPM does not start: swtpm failed",
        "nestlab-start: failed",
    ]


def test_a_process_that_has_the_number_of_a_tpm_now_is_left_alone(root: Path) -> None:
    with subprocess.Popen(["sleep", "900"]) as other:
        (root / "m/tpm.pid").write_text(f"{other.pid}\n")
        end(root)
        assert other.poll() is None
        os.kill(other.pid, 15)
    assert not (root / "m/tpm.pid").exists()


def test_a_machine_that_is_removed_takes_its_tpm_with_it(root: Path) -> None:
    folder = root / "m/0123abcd"
    folder.mkdir(parents=True)
    words = ["sh", "-c", "sleep 900; :", "swtpm", "--pid", f"file={folder}/tpm.pid"]
    with subprocess.Popen(words) as tpm:
        (folder / "tpm.pid").write_text(f"{tpm.pid}\n")
        subprocess.run(["sh", "-c", scripts.REMOVE, "remove", "nestlab:lab:m", str(folder)], check=True)
        assert tpm.wait(LONG) == -15
    assert not folder.exists()
