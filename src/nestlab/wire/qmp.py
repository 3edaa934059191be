"""QEMU's monitor (QMP) on a unix socket: `connect` for conversations, `ask` for a quick look.

`ask` imports neither asyncio nor qemu.qmp, for `nestlab status` has no time for them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.printable import one_line
from nestlab.wire import shapes
from nestlab.wire.jsonlines import Lines

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

TIMEOUT = 10.0
"""Seconds for the greeting. A QEMU whose main loop is busy (snapshots, slow disks) answers late."""

WORK = 6.0
"""Times that for a command: inside a hypervisor it may not be a QEMU at all that took the connection."""

SAID = 2000
"""Characters of an error of QEMU's that are told."""


_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What qemu.qmp raises for messages that no QEMU sends: not UTF-8, too long, nested too deeply, without what belongs
there."""


class Monitor:
    """A conversation with one QEMU. LabError when it refuses a command, Unreachable when it is gone or does not answer
    in time."""

    def __init__(self, client: QMPClient, where: str, timeout: float) -> None:
        self._client = client
        self._where = where
        self._timeout = timeout

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run a QMP command; an underscore in the name of an argument stands for a dash. Its return value."""
        return await self.command(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    async def command(self, command: str, named: Mapping[str, Any]) -> Any:
        """The same with arguments that are named as they are: those of devices have underscores."""
        import asyncio

        from qemu.qmp import ExecuteError, QMPError

        try:
            async with asyncio.timeout(WORK * self._timeout):
                answer = await self._client.execute(command, dict(named) or None)
        except ExecuteError as error:
            raise refused(self._where, command, error.error_class, str(error)) from error
        except (QMPError, TimeoutError, EOFError, *_NONSENSE) as error:
            raise _gone(self._where, error) from error
        return _answered(answer, self._where, command)

    async def status(self) -> str:
        """Its run state: `running`, `paused`, `prelaunch`, `inmigrate`, `postmigrate`, `guest-panicked`, `shutdown`…"""
        return str((await self.execute("query-status"))["status"])

    async def kvm(self) -> bool:
        """Whether its guest runs on KVM (else it is emulated)."""
        return bool((await self.execute("query-kvm"))["enabled"])

    async def virtualization(self) -> str:
        """`vmx` or `svm`, if its guest's first CPU shows it; else ""."""
        for cpu in (await self.execute("query-cpus-fast"))[:1]:
            for flag in ("vmx", "svm"):
                if await self.execute("qom-get", path=cpu["qom-path"], property=flag) is True:
                    return flag
        return ""

    async def powerdown(self) -> None:
        """Press its power button."""
        await self.execute("system_powerdown")

    async def grow(self, drive: str, size: int) -> None:
        """Make a drive larger under its guest; one that is as large already stays as it is."""
        for block in await self.execute("query-block"):
            if block["device"] == drive and "inserted" in block and block["inserted"]["image"]["virtual-size"] >= size:
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
    client.events.event_filter = lambda _: False  # nobody reads them there, and a flood of events would fill our memory
    try:
        async with asyncio.timeout(timeout):
            await client.connect(path)
    except (QMPError, OSError, TimeoutError, *_NONSENSE) as error:
        raise _gone(where, error) from error
    try:
        yield Monitor(client, where, timeout)
    finally:
        # A QEMU that has ended meanwhile, or talked nonsense, is no error when one lets go of it.
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError, *_NONSENSE):
            async with asyncio.timeout(timeout):
                await client.disconnect()


def ask(path: str, commands: Sequence[str | Mapping[str, Any]], *, timeout: float = 1.0, where: str = "") -> list[Any]:
    """The return values of a few commands within `timeout` seconds: names, or whole messages. They are all sent at
    once, for QEMU takes them one after another, and in an emulated machine each turn takes its time. LabError and
    Unreachable as in `connect`."""
    where = where or path
    messages = [{"execute": each} if isinstance(each, str) else each for each in ("qmp_capabilities", *commands)]
    answers = []
    try:
        with Lines(path, timeout) as lines:
            lines.write(*messages)
            if "QMP" not in lines.read():
                raise _gone(where, ValueError("no QMP greeting"))
            for command in (str(message["execute"]) for message in messages):
                while "return" not in (reply := lines.read()):
                    if "error" in reply:
                        said = shapes.read(reply["error"], _ERROR, f"QEMU of {where}", command)
                        raise refused(where, command, said.get("class", ""), said.get("desc", ""))
                answers.append(_answered(reply["return"], where, command))
    except (OSError, ValueError) as error:
        raise _gone(where, error) from error
    return answers[1:]


def answer(line: str, command: str, where: str) -> Any:
    """The return value in a message of QMP that answers a command. LabError when it is a refusal, Unreachable for what
    is no answer."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _gone(where, error) from error
    if not isinstance(reply, dict) or not ("return" in reply or "error" in reply):
        raise _gone(where, ValueError("what it says is no answer"))
    if "return" in reply:
        return _answered(reply["return"], where, command)
    said = shapes.read(reply["error"], _ERROR, f"QEMU of {where}", command)
    raise refused(where, command, said.get("class", ""), said.get("desc", ""))


_IMAGE = shapes.record({"virtual-size": shapes.count})
_INSERTED = shapes.record({"image": _IMAGE}, node_name=shapes.text)
_KIND = shapes.record({}, vendor=shapes.count, device=shapes.count)
_PLACE = {"qdev_id": shapes.text, "slot": shapes.count, "function": shapes.count, "id": _KIND}
_BEHIND = shapes.record({}, devices=shapes.rows(shapes.record({}, _PLACE)))
_BUS = shapes.rows(shapes.record({}, {**_PLACE, "pci_bridge": _BEHIND}))
_RAM = shapes.record(
    {"transferred": shapes.count, "remaining": shapes.count, "total": shapes.count}, dirty_sync_count=shapes.count
)
_SLOT = shapes.record({}, socket_id=shapes.count, core_id=shapes.count, thread_id=shapes.count, node_id=shapes.count)
_MEMORY = shapes.record({}, {"id": shapes.text, "size": shapes.count, "requested-size": shapes.count})
_NUMBER = shapes.record({"major": shapes.count, "minor": shapes.count, "micro": shapes.count})
_ERROR = shapes.record({}, {"class": shapes.text, "desc": shapes.text})
_ANSWERS: dict[str, shapes.Reader[Any]] = {
    "query-status": shapes.record({"status": shapes.text}),
    "query-kvm": shapes.record({"enabled": shapes.flag}),
    "query-block": shapes.rows(shapes.record({"device": shapes.text}, inserted=_INSERTED)),
    "query-block-jobs": shapes.rows(
        shapes.record({"device": shapes.text, "len": shapes.count, "offset": shapes.count, "ready": shapes.flag})
    ),
    "query-migrate": shapes.record(
        {}, status=shapes.text, error_desc=shapes.text, downtime=shapes.count, total_time=shapes.count, ram=_RAM
    ),
    "query-version": shapes.record({"qemu": _NUMBER}, package=shapes.text),
    "query-named-block-nodes": shapes.rows(shapes.record({}, node_name=shapes.text)),
    "human-monitor-command": shapes.text,
    "query-cpus-fast": shapes.rows(shapes.record({"qom-path": shapes.text})),
    "query-pci": shapes.rows(shapes.record({}, bus=shapes.count, devices=_BUS)),
    "query-hotpluggable-cpus": shapes.rows(shapes.record({"type": shapes.text, "props": _SLOT}, qom_path=shapes.text)),
    "query-memory-devices": shapes.rows(shapes.record({"type": shapes.text, "data": _MEMORY})),
    "qom-list": shapes.rows(shapes.record({"name": shapes.text})),
}
"""What is read of an answer, by command: inside a hypervisor, root there decides what its QEMU says."""


def _answered(value: Any, where: str, command: str) -> Any:
    return shapes.read(value, _ANSWERS.get(command, shapes.anything), f"QEMU of {where}", command)


def refused(where: str, command: str, kind: str, what: str) -> LabError:
    what, kind = what[:SAID], kind[:SAID]
    return LabError(f"QEMU of {where} refused {command}: {what}", hint=f"Its error class is {kind}.")


def _gone(where: str, error: Exception) -> Unreachable:
    cause = one_line((str(error) or type(error).__name__)[:SAID].partition("\n")[0])
    return Unreachable(f"QEMU of {where} does not answer: {cause}.", hint="See whether it runs: nestlab status")
