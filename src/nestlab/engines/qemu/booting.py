"""A machine's start, as a value: what is started, how, and how it is known that it is up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import field
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import scripts
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.first_guest import Opening
from nestlab.hosts.host import Host
from nestlab.lab.readiness import Ready
from nestlab.plan.steps import NO_PLUGS, Plugs

if TYPE_CHECKING:
    from nestlab.base.picture import Picture
    from nestlab.wire.qmp import Monitor


@frozen
class Boot:
    """`argv` is the pure compiler. `ready`: how it is known that the machine is up. `opening`: the shell that made it
    and may still wait to start it. How long it may take depends on how slow its host is, then."""

    host: Host
    launch: Launch
    argv: Callable[[Launch], list[str]]
    env: dict[str, str]
    user: str
    ready: Ready = field(default_factory=Ready)
    opening: Opening | None = None
    keep: bool = False
    """See `plan.steps.Boot`."""
    plugs: Plugs = NO_PLUGS
    """The disks that it takes while it runs."""
    ports: Callable[[], Awaitable[None]] | None = None
    """Sets up its ports of its host's bridges, once it is started."""
    links: Callable[[], Awaitable[None]] | None = None
    """Takes its links down that are cut. Its CPUs are let go only then."""
    incoming: bool = False
    """Its QEMU waits for a migration."""
    monitor: Callable[[], AbstractAsyncContextManager[Monitor]] | None = None
    """Opens the monitor of its QEMU; None: that listens in its directory."""

    @property
    def path(self) -> str:
        return self.launch.spec.path

    @property
    def by(self) -> str:
        """What runs it."""
        return "LXC" if self.launch.spec.machine.container else "QEMU"

    @property
    def picture(self) -> Callable[[], Awaitable[Picture | None]] | None:
        """Takes a picture of its screen: see `Screen.taken`."""
        return None

    @property
    def asked(self) -> bool:
        """It has to be asked whether it is up: its console does not say it as those of nestlab's own images do."""
        return self.ready.by != "none" and not self.tells

    @property
    def tells(self) -> bool:
        """Its console says when its sshd listens."""
        return self.launch.kernel is not None and self.ready.by == "ssh"

    @property
    def slowness(self) -> float:
        """How slow the machine presumably is."""
        return patience.inside(self.host.slowness, self.launch.accel)

    @asynccontextmanager
    async def talk(self) -> AsyncIterator[Monitor]:
        """The monitor of its QEMU. Unreachable when that does not answer."""
        if self.monitor is not None:
            async with self.monitor() as monitor:
                yield monitor
            return
        from nestlab.wire.qmp import TIMEOUT, connect

        limit = patience.allowed(TIMEOUT, self.host.slowness)
        async with (
            self.host.unix(self.launch.paths.qmp) as socket,
            connect(socket, timeout=limit, where=self.path) as monitor,
        ):
            yield monitor

    def begin(self, words: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run `scripts.START` with its arguments: the lines that it prints."""
        if self.opening is not None and self.opening.waits:
            return self.opening.start(words)
        return self.host.lines(("sh", "-c", scripts.on_host(scripts.START, self.host.level), "start", *words))
