"""A real qemu-guest-agent behind the fake Proxmox VE: requests to `…/agent/…` go to its socket, as PVE passes them on.

`agent_here` runs one on this machine, whose "guest" then is this machine; that of a booted guest is plugged in the same
way (`RealAgent(socket)`).
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.testing.fake_pve import Agent, FakePve, Guest
from nestlab.testing.fake_pve.refusals import died
from nestlab.wire import qga
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.login import Token
from nestlab.wire.pve.retries import Patience
from nestlab.wire.pve.trust import Trust
from waiting import LONG

PROGRAM = shutil.which("qemu-ga", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
needs_agent = pytest.mark.skipif(PROGRAM is None, reason="needs qemu-ga")

VMID = 100
PING = 3.0
"""Seconds that PVE waits for the agent (qga_check_running in PVE/QemuServer/Agent.pm)."""


class RealAgent(Agent):
    """Answers from the agent on a unix socket; `VM is silent` as PVE tells it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = str(path)

    def _ask(self, command: str, **arguments: Any) -> Any:
        try:
            with qga.Agent(self.path, timeout=PING) as agent:
                return agent.execute(command, **arguments)
        except Unreachable:
            raise died("QEMU guest agent is not running") from None
        except LabError as error:
            raise died(f"Agent error: {error.what.partition(f'refused {command}: ')[2]}") from None

    def ping(self) -> None:
        self._ask("guest-ping")

    def execute(self, command: list[str], input: bytes | None) -> int:
        given = {} if input is None else {"input_data": base64.b64encode(input).decode()}
        answer = self._ask("guest-exec", path=command[0], arg=command[1:], capture_output=True, **given)
        return int(answer["pid"])

    def status(self, pid: int) -> dict[str, Any]:
        row: dict[str, Any] = dict(self._ask("guest-exec-status", pid=pid))
        for name in ("out-data", "err-data"):
            if name in row:
                row[name] = base64.b64decode(row[name]).decode("latin-1")
        return {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}

    def read(self, file: str) -> bytes:
        handle = self._ask("guest-file-open", path=file)
        data, over = b"", False
        while not over:
            answer = self._ask("guest-file-read", handle=handle, count=1 << 20)
            data, over = data + base64.b64decode(answer["buf-b64"]), answer["eof"]
        self._ask("guest-file-close", handle=handle)
        return data

    def write(self, file: str, data: bytes) -> None:
        handle = self._ask("guest-file-open", path=file, mode="wb")
        self._ask("guest-file-write", handle=handle, buf_b64=base64.b64encode(data).decode())
        self._ask("guest-file-close", handle=handle)

    def cards(self) -> list[dict[str, Any]]:
        return list(self._ask("guest-network-get-interfaces"))


@contextlib.contextmanager
def agent_here(folder: Path) -> Iterator[Path]:
    """Run qemu-ga on this machine; its socket."""
    assert PROGRAM is not None
    socket, state = folder / "qga", folder / "state"
    state.mkdir()
    argv = [PROGRAM, "-m", "unix-listen", "-p", str(socket), "-t", str(state), "-f", str(state / "pid")]
    with (folder / "qga.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + LONG
        while not socket.exists():
            assert process.poll() is None, (folder / "qga.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield socket
    finally:
        process.kill()
        process.wait()


def started(pve: FakePve, inside: Agent | None = None, **config: str | int) -> None:
    """A machine with the number VMID that runs, with an agent inside if one is given."""
    with pve.world.lock:
        settings: dict[str, str | int] = {"name": "hv1", "agent": 1, "serial0": "socket", **config}
        guest = Guest(VMID, "pve1", "qemu", config=settings, machine=dict(settings), running=True)
        pve.world.guests[VMID] = guest
    if inside is not None:
        pve.boot_agent(VMID, inside)


@contextlib.asynccontextmanager
async def client(pve: FakePve, **rest: Any) -> AsyncIterator[Pve]:
    """A client of a fake, by its token."""
    rest.setdefault("patience", Patience(tries=4, first=0.01, most=0.05))
    name, secret = pve.token
    login, believed = Token.of(f"{name}={secret}"), Trust.of(pve.fingerprint)
    async with Pve("127.0.0.1", login, believed, port=pve.port, **rest) as api:
        yield api
