"""The libvirt of this machine for tests: the one that runs, or one that is started for them, as root, and ended.

Its QEMU is the system's, or nestlab's own through a script, which libvirt takes for the system's. It emulates.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.images.qemu_runtime import Tool
from waiting import wait_until

URI = "qemu:///system"

LOCK = Path(tempfile.gettempdir()) / "nestlab-tests-libvirtd.lock"
"""There is one libvirt: who started it keeps it until the end of his tests."""

OWN_WORLD = """
printf 'namespaces = []\\n' >"$1/qemu.conf" && mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf || exit
[ ! -e /dev/kvm ] || { : >"$1/kvm" && chmod 0 "$1/kvm" && mount --bind "$1/kvm" /dev/kvm; } || exit
exec "$2"
"""
"""Arguments: a directory, a daemon. Runs it with no /dev/kvm: where there is one that runs no guests, libvirt would ask
its QEMU anew, for seconds, each time that it is asked itself."""


def virsh(*words: str, text: str = "", check: bool = True) -> str:
    """What virsh prints; `text` is its stdin."""
    done = subprocess.run(("virsh", "-q", "-c", URI, *words), input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


def answers() -> bool:
    asked = ("virsh", "-q", "-c", URI, "list")
    return subprocess.run(asked, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def running(qemu: Tool) -> Iterator[None]:
    """A libvirt that answers, while the context is open. The test is skipped where there can be none. `qemu`: what it
    runs, where the system has none."""
    if shutil.which("virsh") is None:
        pytest.skip("libvirt is not installed here")
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answers():
            yield
        else:
            with _started(qemu):
                yield


@contextlib.contextmanager
def _started(qemu: Tool) -> Iterator[None]:
    daemons = [shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("virtlogd", "libvirtd")]
    if os.geteuid() != 0 or None in daemons:
        pytest.skip("libvirt does not run here, and cannot be started")
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, contextlib.ExitStack() as ends:
        if shutil.which("qemu-system-x86_64") is None:
            program = Path(folder) / "qemu-system-x86_64"
            sets = [f"export {name}={shlex.quote(value)}" for name, value in qemu.env.items()]
            program.write_text("\n".join(["#!/bin/sh", *sets, f'exec {shlex.join(qemu.argv)} "$@"']) + "\n")
            program.chmod(0o755)
        log = ends.enter_context((Path(folder) / "log").open("wb"))
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        for daemon in daemons:
            assert daemon is not None
            argv = ("unshare", "-m", "sh", "-c", OWN_WORLD, daemon, folder, daemon)
            ends.callback(_end, subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd="/"))
        wait_until(answers)
        yield


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    daemon.wait()
