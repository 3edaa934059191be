"""Starts a machine and follows its console until it is ready, or never will be."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.engines.qemu import observed, records, scripts
from nestlab.engines.qemu.argv import name_of
from nestlab.engines.qemu.booting import Boot
from nestlab.engines.qemu.console import Watch
from nestlab.engines.qemu.readiness import Knocking
from nestlab.engines.qemu.screen_watch import Ended, Screen
from nestlab.engines.qemu.wait import Wait, waiting
from nestlab.hosts.host import called
from nestlab.hosts.ssh import SshHost
from nestlab.hosts.starvation import cause
from nestlab.lab.model import plain
from nestlab.plan.room import NO_ROOM
from nestlab.plan.steps import NO_PLUGS

FIRST_PORT, PORTS = 20000, 12000
"""ssh forwards are taken from 127.0.0.1:20000-31999, below Linux's ephemeral ports."""

KEPT, LONGEST = 200, 1000
"""Lines of what QEMU says when it does not start, and bytes of each, that are kept: its host may print for ever."""

_STATE = "nestlab-start: "
_FAILED = f"{_STATE}failed"
"""What `scripts.START` says; that QEMU failed, at its end."""

_QEMU_LINES = 100

ANSWERS = 30.0
"""Nominal seconds in which the monitor of a QEMU that has just been started answers."""

TRIES = 24
"""Ports tried before giving up."""

RESTARTS = 2
"""Times that a machine whose kernel got stuck while it boots is started again."""


class _PortTaken(Exception):
    """Another process listens there."""


class _NoSandbox(Exception):
    """This QEMU, or the kernel below it, has no filter of system calls."""


class _Again(Exception):
    """What was left of the machine is gone: it can be started."""


class _Stuck(Exception):
    """Its kernel goes nowhere: seen with two CPUs on a busy host that emulates them (Linux 6.12 in QEMU 10)."""


async def start(boot: Boot, reach: Callable[[int], SshHost], say: Say) -> None:
    """Start the machine (or find it running) and wait until it is up, by ssh or what else tells that.

    LabError with the end of its console when QEMU refuses or ends, the guest panics, or it shows no life for too long.
    """
    seed = zlib.crc32(name_of(boot.launch.lab, boot.path).encode())
    trying, restarts = boot, 0
    for attempt in range(TRIES):
        port = FIRST_PORT + (seed + attempt * 37) % PORTS
        watch = Watch()
        screen = Screen(boot.host, boot.launch, boot.slowness, boot.ready.by == "screen", boot.picture)
        try:
            async with waiting(boot.host, boot.launch.paths.root, lambda: boot.slowness) as wait:
                await screen.unless_ended(_try(trying, port, reach, say, watch, wait), wait)
            return
        except (_PortTaken, _Again):
            continue
        except _Stuck:
            restarts += 1
            if boot.keep or restarts > RESTARTS:
                watch.fatal = watch.fatal or watch.stuck
                raise await _given_up(boot, watch, screen) from None
            await _end(boot)
            say(f"starting it again: {watch.stuck}")
        except _NoSandbox:
            trying = replace(boot, launch=replace(boot.launch, sandbox=False))
        except TimeoutError:
            raise await screen.kept(await _overdue(boot, watch, wait)) from None
        except (Ended, _Hopeless) as end:
            if isinstance(end, Ended):
                watch.fatal = watch.fatal or str(end)
                watch.tail.extend(end.lines)
            raise await _given_up(boot, watch, screen) from None
    raise LabError(
        f"{boot.path}: no free port for ssh among {TRIES} tried on 127.0.0.1 of {called(boot.host)}.",
        hint=f"Free some of {FIRST_PORT}-{FIRST_PORT + PORTS - 1}.",
    )


async def _overdue(boot: Boot, watch: Watch, wait: Wait) -> LabError:
    """The error for a machine that was waited for in vain: what is known of it, and why its host may be late."""
    said = patience.said(wait.took)
    what = f"{boot.path} could not be reached within {said}."
    if boot.ready.by != "ssh":
        what = f"{boot.path} was not up within {said}: {boot.ready.unseen} (`{boot.ready.said}`)."
    if wait.spent is not None:
        what += f" Its QEMU took {100 * wait.spent:.0f} % of a CPU at last."
    starved = await cause(boot.host)
    if starved:
        what += f" {starved}"
    hint = f"See `nestlab logs {boot.path}`; it still runs, and `nestlab up` goes on waiting for it. {patience.LONGER}"
    return Overdue(what, hint=hint, detail=watch.end)


async def _try(boot: Boot, port: int, reach: Callable[[int], SshHost], say: Say, watch: Watch, wait: Wait) -> None:
    launch = replace(boot.launch, port=port)
    runs_on = "container" if launch.spec.machine.container else launch.accel
    told: dict[str, object] = {"port": port, "accel": runs_on, "user": boot.user, "tells": boot.tells}
    told |= {"asked": boot.asked}
    told |= {"plugs": records.of_plugs(boot.plugs)} if boot.plugs != NO_PLUGS else {}
    told |= {"room": records.of_room(launch.room)} if launch.room != NO_ROOM else {}
    if boot.ready.by != "ssh":
        told |= {"ready": plain(boot.ready)}
    note = json.dumps(told, separators=(",", ":"))
    name = name_of(launch.lab, boot.path)
    environment = [f"{key}={value}" for key, value in sorted(boot.env.items())]
    command = ["env", *environment, *boot.argv(launch)] if environment else boot.argv(launch)
    async with boot.begin((name, launch.paths.root, note, *command)) as lines:
        state = await _started(boot, lines)
        if state == "running":
            port = await _port_of(boot)
            await _let_go(boot)
            if not await _goes_on(boot):
                await _end(boot)
                raise _Again
        else:
            await _let_go(boot)
        wait.alive()
        if boot.ports is not None:
            await boot.ports()
        heard = _heard(boot, lines, wait)
        if boot.ready.by == "ssh" and not boot.incoming:
            if boot.tells:
                say("booting")
                await _until_ready(boot, heard, watch)
            say("waiting for ssh")
            await _until_up(boot, heard, watch, _login(reach(port), watch, say))
        elif boot.ready.by != "none" and not boot.incoming:
            say(f"waiting for {boot.ready.awaited}")
            knocking = Knocking(boot.host, launch.paths, boot.path, boot.ready, boot.slowness)
            await _until_up(boot, heard, watch, knocking.until_up())
        elif state != "running":
            await _until_set_up(boot, heard)


async def _let_go(boot: Boot) -> None:
    """A machine that is cut off segments runs no instruction before its links are down."""
    if boot.links is None:
        return
    with suppress(TimeoutError):  # of what has ended, its lines tell why
        async with asyncio.timeout(patience.allowed(ANSWERS, boot.host.slowness)):
            while not await _answers(boot):  # noqa: ASYNC110 (nothing tells when a socket begins to answer)
                await asyncio.sleep(0.1)
            await boot.links()
            await _goes_on(boot)


async def _heard(boot: Boot, lines: AsyncIterator[bytes], wait: Wait) -> AsyncIterator[bytes]:
    """The lines of its console, each of which is a sign of life; those of a QEMU that failed are an error."""
    last: deque[str] = deque(maxlen=_QEMU_LINES)
    async for line in lines:
        wait.alive()
        last.append(line.decode(errors="replace").rstrip()[:LONGEST])
        yield line
    if last and last.pop() == _FAILED:
        raise _failure(boot, last)


async def _until_set_up(boot: Boot, lines: AsyncIterator[bytes]) -> None:
    """Nothing is expected of its guest: QEMU has started it when its monitor answers, or has ended."""

    async def over() -> None:
        async for _ in lines:
            pass

    reading = asyncio.create_task(over())
    try:
        while not reading.done() and not await _answers(boot):
            await asyncio.wait({reading}, timeout=0.2)
        if reading.done():
            await reading
    finally:
        await cancelled(reading)


async def _answers(boot: Boot) -> bool:
    try:
        async with boot.talk() as monitor:
            await monitor.status()
    except (LabError, OSError):
        return False
    return True


async def _started(boot: Boot, lines: AsyncIterator[bytes]) -> str:
    said: deque[str] = deque(maxlen=_QEMU_LINES)
    async for raw in lines:
        line = raw.decode(errors="replace").rstrip()
        if line == _FAILED:
            break
        if line.startswith(_STATE):
            return line.removeprefix(_STATE)
        said.append(line[:LONGEST])
    raise _failure(boot, said)


def _failure(boot: Boot, said: Iterable[str]) -> Exception:
    """Of a QEMU that did not start, from what it said."""
    text = "\n".join(said)
    if "Could not set up host forwarding rule" in text:
        return _PortTaken()
    if boot.launch.sandbox and ("sandbox" in text or "seccomp" in text):
        return _NoSandbox()
    from nestlab.explain.explain import with_advice

    if not text.strip():
        what = f"{boot.path} did not come up: its {boot.by} on {called(boot.host)} ended before it was up."
        return LabError(what, hint="It said nothing: somebody ended it, or the kernel did, as when memory is short.")
    return LabError(
        f"{boot.path}: {boot.by} did not start on {called(boot.host)}.",
        hint=with_advice(f"The last lines are {boot.by}'s own.", text),
        detail="\n".join(f"  | {line}" for line in text.splitlines()[-12:]),
    )


async def _port_of(boot: Boot) -> int:
    """Of a machine that runs already."""
    text = await boot.host.read(boot.launch.paths.boot)
    port = records.started(text.decode(errors="replace")).port
    if port is None:
        hint = f"`nestlab stop {boot.path}` and `up` start it again."
        raise LabError(f"{boot.path} runs, and where its sshd listens is not known.", hint=hint)
    return port


async def _goes_on(boot: Boot) -> bool:
    """A machine that was paused runs again. False: its QEMU is there, but its guest is not."""
    async with boot.talk() as monitor:
        status = await monitor.status()
        if status in ("paused", "prelaunch", "suspended", "io-error"):
            await monitor.execute("system_wakeup" if status == "suspended" else "cont")
        if status == "io-error":
            await asyncio.sleep(1)  # the guest repeats what failed at once
            if await monitor.status() == "io-error":
                what = f"{boot.path} cannot go on: writing to its disk fails in {boot.launch.paths.root}"
                where = called(boot.host)
                raise LabError(f"{what} on {where}.", hint="Make room there, then repeat `nestlab up`.")
        return observed.RUN_STATES.get(status, ("running", ""))[0] != "died"


async def _until_ready(boot: Boot, lines: AsyncIterator[bytes], watch: Watch) -> None:
    async for line in lines:
        watch.feed(line)
        if watch.ready:
            return
        if watch.fatal:
            break
        if watch.stuck:
            raise _Stuck
    raise _hopeless(boot, watch)


async def _given_up(boot: Boot, watch: Watch, screen: Screen) -> LabError:
    """The error for a machine that will not come up: it is ended, unless it is to stay as it is."""
    error = await screen.kept(_hopeless(boot, watch))
    if not boot.keep:
        await _end(boot)
    return error


async def _end(boot: Boot) -> None:
    """A machine that panicked would go on resetting or spinning."""
    name = name_of(boot.launch.lab, boot.path)
    await boot.host.run(("sh", "-c", scripts.STOP, "stop", name, boot.launch.paths.root, "0", "crash"))


class _Hopeless(LabError):
    """The machine will not come up."""


def _hopeless(boot: Boot, watch: Watch) -> _Hopeless:
    where = called(boot.host)
    what = watch.fatal or f"its {boot.by} on {where} ended before it was up"
    from nestlab.explain.explain import with_advice

    return _Hopeless(
        f"{boot.path} did not come up: {what}.",
        hint=with_advice(f"The end of its console follows; all of it: `nestlab logs {boot.path}`.", watch.end),
        detail=watch.end,
    )


async def _login(host: SshHost, watch: Watch, say: Say) -> None:
    """It is tried again and again: for systems of the user's no sign on the console tells when sshd listens, and where
    one does, a machine that is starved may take longer than a login may."""
    while True:
        try:
            await host.connect()
            return
        except Unreachable as error:
            if watch.ready:
                say(f"waiting for ssh: {error.what}")
            await asyncio.sleep(1.0)


async def _until_up(boot: Boot, lines: AsyncIterator[bytes], watch: Watch, knock: Coroutine[None, None, None]) -> None:
    """Until `knock` returns. LabError when the machine will never be up."""

    async def read() -> None:
        async for line in lines:
            watch.feed(line)
            if watch.fatal:
                break

    reading, knocking = asyncio.create_task(read()), asyncio.create_task(knock)
    try:
        # QEMU takes the connection at once and holds it until the guest answers: the console may tell earlier.
        done, _ = await asyncio.wait({reading, knocking}, return_when=asyncio.FIRST_COMPLETED)
        if knocking in done:
            await knocking
            return
        await reading
        raise _hopeless(boot, watch)
    finally:
        for task in (reading, knocking):
            task.cancel()
        await asyncio.gather(reading, knocking, return_exceptions=True)


async def cancelled(work: asyncio.Future[None]) -> None:
    """Work that nobody waits for any more is over when this returns."""
    work.cancel()
    await asyncio.wait({work})
