"""Has ports of this computer lead to a host that ssh reaches, by a process that goes on when nestlab ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.network import pid_files, port_keeper
from nestlab.network.port_keeper import ALREADY, LOG, PID, Wanted
from nestlab.network.switch_control import PATIENCE, SOURCE, Runner

LOOPBACK = "127.0.0.1"

_POLL = 0.05


def kept(directory: Path) -> dict[int, int]:
    """The ports of this computer that are wanted, each with the host's that it leads to."""
    wanted = port_keeper.load(directory)
    return dict(wanted.ports) if wanted is not None else {}


async def keep(directory: Path, lab: str, url: str, ports: Mapping[int, int], host: Runner) -> Mapping[int, str]:
    """These ports lead there, and no others of the lab: those that could not be had, each with the reason. What is so
    already keeps its connections. LabError where the process does not start, or does not answer."""
    wanted = Wanted(url, secrets.token_hex(8), tuple(sorted(ports.items())))
    port_keeper.save(directory, wanted)
    if not ports:
        _wake(directory)
        (directory / port_keeper.WANTED).unlink(missing_ok=True)
        return {}
    deadline = time.monotonic() + patience.allowed(PATIENCE * 3)
    while time.monotonic() < deadline:
        if not _wake(directory):
            await _start(directory, lab, host)
        answer = port_keeper.done(directory)
        if answer is not None and answer.token == wanted.token:
            return dict(answer.refused)
        await asyncio.sleep(_POLL)
    what = f"What keeps ports of this computer open for lab {lab} does not answer."
    raise Unreachable(what, hint=f"Its log: {directory / LOG}")


def any_port(wanted: int) -> int:
    """That port of 127.0.0.1, where nobody listens there, else any other one."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((LOOPBACK, port))
            return int(tried.getsockname()[1])
    raise LabError("No port of 127.0.0.1 is free.", hint="End what listens there.")


async def _start(directory: Path, lab: str, host: Runner) -> None:
    argv = [sys.executable, "-P", "-m", "nestlab.network.port_keeper", f"nestlab-ports:{lab}", str(directory)]
    agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
    done = await host.run(argv, env={"PYTHONPATH": SOURCE, **agent}, check=False, timeout=PATIENCE * 3)
    if done.status not in (0, ALREADY):
        what = f"What keeps ports of this computer open for lab {lab} does not start (status {done.status})."
        hint = f"Look at {directory}: it must belong to you, and its disk must not be full."
        raise LabError(what, hint=hint, detail=done.stderr.decode(errors="replace").strip()[-2000:])


def _wake(directory: Path) -> bool:
    """Have the process look at once. False where there is none."""
    with pid_files.holder(directory / PID) as process:
        if process is None:
            return False
        signal.pidfd_send_signal(process.descriptor, signal.SIGHUP)
        return True
