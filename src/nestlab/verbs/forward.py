"""A port of 127.0.0.1 that leads to one of a machine's while nestlab runs, and what is served there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.home import ports as kept_ports
from nestlab.home.ports import Kept
from nestlab.hosts.listeners import listener
from nestlab.hosts.ssh import SshHost
from nestlab.lab.places import Pve
from nestlab.lab.ports import LOWEST
from nestlab.verbs import ports
from nestlab.verbs.session import Session
from nestlab.wire.passing import LOOPBACK, Far, passing
from nestlab.wire.ssh import NoForwarding

KNOCK = 15.0
"""Nominal seconds in which a machine that runs lets in; after that its QEMU is asked to forward instead."""

DISCARD = 9

SERVED = 10.0
"""Nominal seconds in which a server says whether it speaks TLS."""

USUAL = (8006, 443, 9090, 8443, 5001, 8080, 80)
"""Ports that are looked at for a web page, in this order: Proxmox VE's first."""


@frozen
class Served:
    """What is at a port. `fingerprint`: SHA-256 of its certificate, as `AA:BB:…`; "" without TLS."""

    fingerprint: str

    @property
    def scheme(self) -> str:
        return "https" if self.fingerprint else "http"


@asynccontextmanager
async def forwarded(
    session: Session, path: str, port: int, local: int | None, say: Callable[[str], None]
) -> AsyncIterator[int]:
    """The port of 127.0.0.1 that leads to a machine's while the context is open: `local` (None: the same number where
    it is free, else any). By ssh to the machine, where it lets in; else by the QEMUs on the way.

    LabError where the port is taken; Unreachable where the machine does not run."""
    host = await _host(session, path)
    far = session.platform.host
    if host is None and isinstance(far, SshHost):
        async with (
            ports.on_host(session, path, port) as there,
            _any_of(port, local, lambda: far.tcp(there), say, path) as got,
        ):
            yield got
        return
    if host is None:
        got = await ports.open_port(session, path, port, local, kept_ports.load(session.place))
        try:
            yield got
        finally:
            await ports.close_port(session, Kept(path, port, got), kept_ports.load(session.place))
        return

    async with _any_of(port, local, lambda: host.tcp(port), say, path) as got:
        yield got


@asynccontextmanager
async def _any_of(port: int, local: int | None, far: Far, say: Callable[[str], None], path: str) -> AsyncIterator[int]:
    tries = (local,) if local is not None else (port, 0) if port >= LOWEST else (0,)
    async with contextlib.AsyncExitStack() as stack:
        for each in tries:
            try:
                passed = await stack.enter_async_context(passing(each, far, say))
                break
            except OSError as error:
                if each == tries[-1]:
                    who = listener(each)
                    why = f" by {who}" if who else f": {error.strerror}" if error.strerror else ""
                    what = f"Port {each} of {LOOPBACK} is taken{why}."
                    raise LabError(what, hint=f"Take another one: nestlab forward {path} {port} OTHER") from error
        yield passed.port


async def _host(session: Session, path: str) -> SshHost | None:
    """The machine, once it has let us in; None where it does not, or nobody logs in to it."""
    spec = session.blueprint.by_path().get(path)
    if spec is not None and not spec.machine.by_ssh and not isinstance(session.blueprint.on, Pve):
        return None
    host = await session.nest.host(path)
    if not isinstance(host, SshHost):
        return None
    try:
        async with asyncio.timeout(patience.allowed(KNOCK, host.slowness)):
            await host.connect()
        await _knock(host)
    except (NoForwarding, Unreachable, TimeoutError):
        if isinstance(session.blueprint.on, Pve):
            raise
        return None
    return host


async def _knock(host: SshHost) -> None:
    """NoForwarding where its sshd does not do that. Nothing listens at port 9 (discard) as a rule, which is an answer,
    too."""
    with contextlib.suppress(Unreachable):
        _, writer = await host.tcp(DISCARD)
        writer.close()


async def page(session: Session, path: str) -> int:
    """The first of the usual ports of a machine at which something listens. LabError where none does."""
    host = await _host(session, path)
    if host is None:
        raise LabError(f"{path} lets nobody in who could look.", hint=f"Name the port: nestlab open {path} 443")
    for port in USUAL:
        try:
            _, writer = await host.tcp(port)
        except Unreachable:
            continue
        writer.close()
        return port
    what = f"{path} serves no page: nothing listens at {', '.join(map(str, USUAL))}."
    raise LabError(what, hint=f"Name the port: nestlab open {path} PORT")


async def served(local: int) -> Served:
    """What is at a port of 127.0.0.1: TLS or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(patience.allowed(SERVED)):
            _, writer = await asyncio.open_connection(LOOPBACK, local, ssl=context)
    except (OSError, TimeoutError):  # ssl.SSLError is an OSError
        return Served("")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return Served(hashlib.sha256(certificate).digest().hex(":").upper())
