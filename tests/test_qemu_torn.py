"""What a power cut leaves of a machine's directory is made whole by the next PREPARE, in every shell."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nestlab.engines.qemu import identity, scripts
from nestlab.engines.qemu.create import Papers

SHELLS = [shell for shell in ("dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]

FILES = ("making", "made", "identity", "disk.qcow2")

MADE = json.dumps({"path": "hv1", "digest": "d1", "root": "r1", "disk": 0}, separators=(",", ":")).encode() + b"\n"

PAPERS: Papers = {
    "making": (b'{"path":"hv1"}\n', 0o600),
    "made.new": (MADE, 0o600),
    "identity": (b"\1" * 1024, 0o600),
}


def prepare(shell: str, root: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    script = scripts.on_host(scripts.alone(scripts.PREPARE), 0)
    argv = [*shell.split(), "-c", script, "prepare", "nestlab:pair:hv1", str(root), "d1", "r1", "yes", "0"]
    done = subprocess.run(argv, input=identity.archive(PAPERS), capture_output=True, check=False, env=env)
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode().strip(), done.stderr.decode())


def disk(shell: str, root: Path) -> None:
    make = ("sh", "-c", f"echo qcow2 > {root}/disk.qcow2")
    argv = [*shell.split(), "-c", scripts.on_host(scripts.DISK, 0), "disk", str(root), *make]
    subprocess.run(argv, check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_whatever_a_power_cut_emptied_or_took_the_directory_is_made_whole(shell: str, tmp_path: Path) -> None:
    for number, kept in enumerate(itertools.product(("whole", "empty", "gone"), repeat=len(FILES))):
        root = tmp_path / str(number) / "m" / "0123abcd"
        assert prepare(shell, root).stdout == "new"
        disk(shell, root)
        for name, how in zip(FILES, kept, strict=True):
            if how == "empty":
                (root / name).write_bytes(b"")
            elif how == "gone":
                (root / name).unlink()
        left = dict(zip(FILES, kept, strict=True))
        state = prepare(shell, root).stdout
        assert state == ("new" if left["made"] != "whole" else "bare" if left["disk.qcow2"] != "whole" else "made")
        if state != "made":
            disk(shell, root)
        assert (root / "made").read_bytes() == MADE
        assert (root / "identity").read_bytes() == PAPERS["identity"][0]
        assert (root / "disk.qcow2").read_text() == "qcow2\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_made_on_the_labs_own_host_is_synced_before_it_counts(shell: str, tmp_path: Path) -> None:
    root, log = tmp_path / "m" / "0123abcd", tmp_path / "log"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sync", "mv"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\nexec /bin/{name} "$@"\n')
        (tools / name).chmod(0o755)
    assert prepare(shell, root, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}).returncode == 0
    said = log.read_text().splitlines() if log.exists() else []
    if not shell.startswith("busybox"):  # whose shell runs its own programs
        assert said == ["sync -- making made.new identity", "sync -- . .. ../.."]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_that_cannot_sync_fails_and_a_host_without_sync_goes_on(shell: str, tmp_path: Path) -> None:
    if shell.startswith("busybox"):
        pytest.skip("its shell runs its own programs")
    root, tools = tmp_path / "m" / "0123abcd", tmp_path / "bin"
    tools.mkdir()
    (tools / "sync").write_text("#!/bin/sh\necho 'sync: error syncing: Input/output error' >&2\nexit 1\n")
    (tools / "sync").chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    failed = prepare(shell, root, env)
    assert failed.returncode
    assert "Input/output error" in failed.stderr
    assert not (root / "made").exists()
    (tools / "sync").write_text("#!/bin/sh\nexit 127\n")
    assert prepare(shell, root, env).stdout == "new"
