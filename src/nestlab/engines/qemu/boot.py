"""Starts a machine and follows its console until it is ready, or never will be."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.engines.qemu import observed, scripts
from nestlab.engines.qemu.argv import Launch, name_of
from nestlab.engines.qemu.console import Watch
from nestlab.engines.qemu.first_guest import Opening
from nestlab.engines.qemu.wait import Wait, waiting
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.hosts.starvation import cause

FIRST_PORT, PORTS = 20000, 12000
"""ssh forwards are taken from 127.0.0.1:20000-31999, below Linux's ephemeral ports."""

TRIES = 24
"""Ports tried before giving up."""


@dataclass(frozen=True)
class Boot:
    """`argv` is the pure compiler. `pingable`: the machine is expected to answer ssh. `opening`: the shell that made it
    and may still wait to start it. How long it may take depends on how slow its host is, then."""

    host: Host
    launch: Launch
    argv: Callable[[Launch], list[str]]
    env: dict[str, str]
    user: str
    pingable: bool = True
    opening: Opening | None = None
    keep: bool = False
    """See `plan.steps.Boot`."""

    @property
    def path(self) -> str:
        return self.launch.spec.path

    @property
    def asked(self) -> bool:
        """Only its ssh tells that it is up: a system of the user's, whose console says nothing that nestlab knows."""
        return self.launch.kernel is None and self.pingable

    @property
    def slowness(self) -> float:
        """How slow the machine presumably is."""
        return patience.inside(self.host.slowness, self.launch.accel)

    def begin(self, words: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run `scripts.START` with its arguments: the lines that it prints."""
        if self.opening is not None and self.opening.waits:
            return self.opening.start(words)
        return self.host.lines(("sh", "-c", scripts.START, "start", *words))


class _PortTaken(Exception):
    """Another process listens there."""


class _Again(Exception):
    """What was left of the machine is gone: it can be started."""


async def start(boot: Boot, reach: Callable[[int], SshHost], say: Say) -> None:
    """Start the machine (or find it running) and wait until it answers ssh.

    LabError with the end of its console when QEMU refuses or ends, the guest panics, or it shows no life for too long.
    """
    seed = zlib.crc32(name_of(boot.launch.lab, boot.path).encode())
    for attempt in range(TRIES):
        port = FIRST_PORT + (seed + attempt * 37) % PORTS
        watch = Watch()
        try:
            async with waiting(boot.host, boot.launch.paths.root, lambda: boot.slowness) as wait:
                await _try(boot, port, reach, say, watch, wait)
            return
        except (_PortTaken, _Again):
            continue
        except TimeoutError:
            raise await _overdue(boot, watch, wait) from None
    raise LabError(
        f"{boot.path}: no free port for ssh among {TRIES} tried on 127.0.0.1 of {boot.host.path or 'this machine'}.",
        hint=f"Free some of {FIRST_PORT}-{FIRST_PORT + PORTS - 1}.",
    )


async def _overdue(boot: Boot, watch: Watch, wait: Wait) -> LabError:
    """The error for a machine that was waited for in vain: what is known of it, and why its host may be late."""
    what = f"{boot.path} could not be reached within {patience.said(wait.took)}."
    if wait.spent is not None:
        what += f" Its QEMU took {100 * wait.spent:.0f} % of a CPU at last."
    starved = await cause(boot.host)
    if starved:
        what += f" {starved}"
    hint = f"See `nestlab logs {boot.path}`; it still runs, and `nestlab up` goes on waiting for it. {patience.LONGER}"
    return Overdue(what, hint=hint, detail=watch.end)


async def _try(boot: Boot, port: int, reach: Callable[[int], SshHost], say: Say, watch: Watch, wait: Wait) -> None:
    launch = replace(boot.launch, port=port)
    told = {"port": port, "accel": launch.accel, "user": boot.user, "tells": launch.kernel is not None}
    told |= {"asked": boot.asked}
    note = json.dumps(told, separators=(",", ":"))
    name = name_of(launch.lab, boot.path)
    environment = [f"{key}={value}" for key, value in sorted(boot.env.items())]
    command = ["env", *environment, *boot.argv(launch)] if environment else boot.argv(launch)
    async with boot.begin((name, launch.paths.root, note, *command)) as lines:
        state = await _started(boot, lines)
        if state == "running":
            port = await _port_of(boot)
            if not await _goes_on(boot):
                await _end(boot)
                raise _Again
        wait.alive()
        heard = _heard(lines, wait)
        if launch.kernel is not None:
            say("booting")
            await _until_ready(boot, heard, watch)
            say("waiting for ssh")
            await _until_ssh(boot, heard, watch, reach(port), say)
        elif boot.pingable:
            say("waiting for ssh")
            await _until_ssh(boot, heard, watch, reach(port), say)


async def _heard(lines: AsyncIterator[bytes], wait: Wait) -> AsyncIterator[bytes]:
    """The lines of its console, each of which is a sign of life."""
    async for line in lines:
        wait.alive()
        yield line


async def _started(boot: Boot, lines: AsyncIterator[bytes]) -> str:
    said: list[str] = []
    async for raw in lines:
        line = raw.decode(errors="replace").rstrip()
        if line == "nestlab-start: failed":
            break
        if line.startswith("nestlab-start: "):
            return line.removeprefix("nestlab-start: ")
        said.append(line)
    text = "\n".join(said)
    if "Could not set up host forwarding rule" in text:
        raise _PortTaken
    from nestlab.explain.explain import with_advice

    raise LabError(
        f"{boot.path}: QEMU did not start on {boot.host.path or 'this machine'}.",
        hint=with_advice("The last lines are QEMU's own.", text),
        detail="\n".join(f"  | {line}" for line in said[-12:]),
    )


async def _port_of(boot: Boot) -> int:
    """Of a machine that runs already."""
    text = await boot.host.read(boot.launch.paths.boot)
    return int(json.loads(text)["port"])


async def _goes_on(boot: Boot) -> bool:
    """A machine that was paused runs again. False: its QEMU is there, but its guest is not."""
    from nestlab.wire.qmp import TIMEOUT, connect

    limit = patience.allowed(TIMEOUT, boot.host.slowness)
    async with (
        boot.host.unix(boot.launch.paths.qmp) as socket,
        connect(socket, timeout=limit, where=boot.path) as monitor,
    ):
        status = await monitor.status()
        if status in ("paused", "suspended", "io-error"):
            await monitor.execute("system_wakeup" if status == "suspended" else "cont")
        if status == "io-error":
            await asyncio.sleep(1)  # the guest repeats what failed at once
            if await monitor.status() == "io-error":
                what = f"{boot.path} cannot go on: writing to its disk fails in {boot.launch.paths.root}"
                where = boot.host.path or "this machine"
                raise LabError(f"{what} on {where}.", hint="Make room there, then repeat `nestlab up`.")
        return observed.RUN_STATES.get(status, ("running", ""))[0] != "died"


async def _until_ready(boot: Boot, lines: AsyncIterator[bytes], watch: Watch) -> None:
    async for line in lines:
        watch.feed(line)
        if watch.ready:
            return
        if watch.fatal:
            break
    await _give_up(boot)
    raise _hopeless(boot, watch)


async def _give_up(boot: Boot) -> None:
    """It will not come up: it is ended, unless it is to stay as it is."""
    if not boot.keep:
        await _end(boot)


async def _end(boot: Boot) -> None:
    """A machine that panicked would go on resetting or spinning."""
    name = name_of(boot.launch.lab, boot.path)
    await boot.host.run(("sh", "-c", scripts.STOP, "stop", name, boot.launch.paths.root, "0", "crash"))


def _hopeless(boot: Boot, watch: Watch) -> LabError:
    where = boot.host.path or "this machine"
    what = watch.fatal or f"its QEMU on {where} ended before it was up"
    from nestlab.explain.explain import with_advice

    return LabError(
        f"{boot.path} did not come up: {what}.",
        hint=with_advice(f"The end of its console follows; all of it: `nestlab logs {boot.path}`.", watch.end),
        detail=watch.end,
    )


async def _until_ssh(boot: Boot, lines: AsyncIterator[bytes], watch: Watch, host: SshHost, say: Say) -> None:
    """It is tried again and again: for systems of the user's no sign on the console tells when sshd listens, and where
    one does, a machine that is starved may take longer than a login may."""

    async def read() -> None:
        async for line in lines:
            watch.feed(line)
            if watch.fatal:
                break

    async def knock() -> None:
        while True:
            try:
                await host.connect()
                return
            except Unreachable as error:
                if watch.ready:
                    say(f"waiting for ssh: {error.what}")
                await asyncio.sleep(1.0)

    reading, knocking = asyncio.create_task(read()), asyncio.create_task(knock())
    try:
        # QEMU takes the connection at once and holds it until the guest answers: the console may tell earlier.
        done, _ = await asyncio.wait({reading, knocking}, return_when=asyncio.FIRST_COMPLETED)
        if knocking in done:
            await knocking
            return
        await _give_up(boot)
        raise _hopeless(boot, watch)
    finally:
        for task in (reading, knocking):
            task.cancel()
        await asyncio.gather(reading, knocking, return_exceptions=True)


async def cancelled(work: asyncio.Future[None]) -> None:
    """Work that nobody waits for any more is over when this returns."""
    work.cancel()
    await asyncio.wait({work})
