"""QEMU's monitor (QMP) on a unix socket: `connect` for conversations, `ask` for a quick look.

`ask` imports neither asyncio nor qemu.qmp, for `nestlab status` has no time for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.jsonlines import Lines

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

TIMEOUT = 10.0
"""Seconds for the greeting. A QEMU whose main loop is busy (snapshots, slow disks) answers late."""


class Monitor:
    """A conversation with one QEMU. LabError when it refuses a command, Unreachable when it is gone."""

    def __init__(self, client: QMPClient, where: str) -> None:
        self._client = client
        self._where = where

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run a QMP command; an underscore in the name of an argument stands for a dash. Its return value."""
        from qemu.qmp import ExecuteError, QMPError

        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return await self._client.execute(command, named or None)
        except ExecuteError as error:
            raise refused(self._where, command, error.error_class, str(error)) from error
        except QMPError as error:
            raise _gone(self._where, error) from error

    async def status(self) -> str:
        """Its run state: `running`, `paused`, `prelaunch`, `inmigrate`, `postmigrate`, `guest-panicked`, `shutdown`…"""
        return str((await self.execute("query-status"))["status"])

    async def kvm(self) -> bool:
        """Whether its guest runs on KVM (else it is emulated)."""
        return bool((await self.execute("query-kvm"))["enabled"])

    async def powerdown(self) -> None:
        """Press its power button."""
        await self.execute("system_powerdown")

    async def grow(self, drive: str, size: int) -> None:
        """Make a drive larger under its guest; one that is as large already stays as it is."""
        for block in await self.execute("query-block"):
            if block["device"] == drive and block["inserted"]["image"]["virtual-size"] >= size:
                return
        await self.execute("block_resize", device=drive, size=size)

    async def quit(self) -> None:
        """End it at once. It may be gone before it answers."""
        with contextlib.suppress(Unreachable):
            await self.execute("quit")

    @contextlib.asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Its events from now on (`names`: only those), until the monitor is closed."""
        with self._client.listener(names) as listener:
            yield aiter(listener)


@contextlib.asynccontextmanager
async def connect(path: str, *, timeout: float = TIMEOUT, where: str = "") -> AsyncIterator[Monitor]:
    """Talk to the QEMU whose monitor listens on the unix socket `path`. `where` names the machine in errors.
    Unreachable if it does not answer within `timeout` seconds."""
    import asyncio

    from qemu.qmp import QMPClient, QMPError

    where = where or path
    client = QMPClient(where)
    try:
        async with asyncio.timeout(timeout):
            await client.connect(path)
    except (QMPError, OSError, TimeoutError) as error:
        raise _gone(where, error) from error
    try:
        yield Monitor(client, where)
    finally:
        # A QEMU that has ended meanwhile is no error when one lets go of it.
        with contextlib.suppress(QMPError, OSError, EOFError):
            await client.disconnect()


def ask(path: str, commands: Sequence[str], *, timeout: float = 1.0, where: str = "") -> list[Any]:
    """The return values of a few commands without arguments, within `timeout` seconds. They are all sent at once, for
    QEMU takes them one after another, and in an emulated machine each turn takes its time. LabError and Unreachable as
    in `connect`."""
    where = where or path
    commands = ("qmp_capabilities", *commands)
    answers = []
    try:
        with Lines(path, timeout) as lines:
            lines.write(*({"execute": command} for command in commands))
            if "QMP" not in lines.read():
                raise _gone(where, ValueError("no QMP greeting"))
            for command in commands:
                while "return" not in (reply := lines.read()):
                    if "error" in reply:
                        raise refused(where, command, reply["error"]["class"], reply["error"]["desc"])
                answers.append(reply["return"])
    except (OSError, ValueError) as error:
        raise _gone(where, error) from error
    return answers[1:]


def refused(where: str, command: str, kind: str, what: str) -> LabError:
    return LabError(f"QEMU of {where} refused {command}: {what}", hint=f"Its error class is {kind}.")


def _gone(where: str, error: Exception) -> Unreachable:
    cause = str(error) or type(error).__name__
    return Unreachable(f"QEMU of {where} does not answer: {cause}.", hint="See whether it runs: nestlab status")
