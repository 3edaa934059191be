"""Ports of machines that lead from 127.0.0.1 of this computer for good: by the QEMUs on the way, without nestlab.

Each QEMU forwards to its machine from 127.0.0.1 of the host that it runs on. What comes into a hypervisor comes to its
management address, from which a relay of systemd's leads to that: a connection from elsewhere than 127.0.0.1 would keep
its sender, which the machine inside has no route to (slirp's tcp_connect). Where ssh reaches the lab's own host, a
process here leads to that one's (`network.port_keeping`).
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.engines.port_rules import Forwarding, PortTaken, Rule, Rules
from nestlab.home import ports as kept_ports
from nestlab.home.ports import Kept
from nestlab.hosts.listeners import listener
from nestlab.hosts.local import LocalHost
from nestlab.hosts.port_relay import relay, unrelay
from nestlab.hosts.ssh import SshHost
from nestlab.lab.model import parent_of
from nestlab.lab.places import Pve, called
from nestlab.lab.ports import LOWEST
from nestlab.network import port_keeping
from nestlab.verbs import port_changes
from nestlab.verbs.session import Session

LOOPBACK = "127.0.0.1"

SSH = 22

INNER = 12000, 8000
"""The first of the ports of a hypervisor that lead to machines inside it, and how many they are: below those of sshds
(`engines.qemu.boot`)."""


@frozen
class Settled:
    """What was done: `opened` and `closed` are ports; `later`: machines that do not run, whose ports wait for them;
    `refused`: why machines run without a port of theirs."""

    opened: tuple[Kept, ...] = ()
    closed: tuple[Kept, ...] = ()
    later: tuple[Kept, ...] = ()
    refused: tuple[LabError, ...] = ()

    def check(self) -> None:
        """LabError where a machine runs without a port of its own."""
        if self.refused:
            raise LabError("\n".join(error.what for error in self.refused), hint=self.refused[0].hint)


async def open_port(session: Session, path: str, port: int, local: int | None, others: Iterable[Kept] = ()) -> int:
    """Have 127.0.0.1:`local` lead to a port of a running machine, and give that port (None: the same number where that
    is free, else any). What is so already stays. `others`: of which the numbers are not taken away: machines in one
    hypervisor have one QEMU here, and the system would not refuse them the same number.

    LabError where it is another's, where the lab is not on this machine, or the machine does not run: then nothing is
    left."""
    if isinstance(session.blueprint.on, Pve):
        raise _elsewhere(session, path)
    theirs = {each.local: each for each in others if (each.path, each.port) != (path, port)}
    if local is not None:
        if local in theirs:
            there = theirs[local]
            what = f"Port {local} of 127.0.0.1 leads to port {there.port} of {there.path} already."
            raise LabError(what, hint=f"Take another port: nestlab forward {path} {port} OTHER --keep")
        return await _lead(session, path, port, local)
    if port >= LOWEST and port not in theirs:
        try:
            return await _lead(session, path, port, port)
        except _Taken:
            pass
    return await _lead(session, path, port, 0)


async def _lead(session: Session, path: str, port: int, local: int) -> int:
    """A port of 127.0.0.1 of this computer (0: any) leads to a machine's: where the lab's own host is another one,
    through a port of that. _Taken where it is another's."""
    far = _far(session)
    if far is None:
        return await _chain(session, path, port, local)
    there = await _chain(session, path, port, 0, anywhere=True)
    directory, lab = session.place.root, session.blueprint.lab
    known = port_keeping.kept(directory)
    same = [here for here, to in known.items() if to == there]
    here = local or (same[0] if same else port_keeping.any_port(0))
    refused = await port_keeping.keep(directory, lab, far, {**known, here: there}, LocalHost())
    if here in refused:
        await port_keeping.keep(directory, lab, far, {one: to for one, to in known.items() if one != here}, LocalHost())
        raise _taken(path, port, here)
    return here


def _far(session: Session) -> str | None:
    """The address of the lab's own host, where ssh reaches it."""
    host = session.platform.host
    return host.address if isinstance(host, SshHost) and not isinstance(session.blueprint.on, Pve) else None


@asynccontextmanager
async def on_host(session: Session, path: str, port: int) -> AsyncIterator[int]:
    """A port of 127.0.0.1 of the lab's own host, wherever that is, that leads to a machine's while the context is open.
    LabError as of `open_port`."""
    others = kept_ports.load(session.place)
    got = await _chain(session, path, port, 0)
    try:
        yield got
    finally:
        await close_port(session, Kept(path, port, got), others)


async def close_port(session: Session, kept: Kept, others: Iterable[Kept]) -> None:
    """Undo that, as far as the machines on the way run. Hops that `others` need stay."""
    shared = any((each.path, each.port) == (kept.path, kept.port) for each in others)
    target, hops = kept.port, []
    last = await _let_go(session, kept)
    for machine in _way(kept.path):
        if machine not in session.blueprint.by_path():
            break  # its forwards have gone with it
        own, outer = _address(session, machine), parent_of(machine)
        try:
            async with (await _engine(session, machine)).forwards(machine) as rules:
                found = [each for each in await rules.all() if (each.address, each.port) == (own, target)]
        except Unreachable:
            break  # with its QEMU its forwards have gone
        found = [each for each in found if outer or each.local == last]
        if not found:
            break
        hops.append((machine, found[0]))
        target = found[0].local
    for machine, rule in reversed(hops):
        if not (shared and parent_of(machine)):
            await _remove(session, machine, rule)


async def _let_go(session: Session, kept: Kept) -> int:
    """Where the lab's own host is another one, this computer's port leads there no more. The port of that host."""
    far = _far(session)
    if far is None:
        return kept.local
    known = port_keeping.kept(session.place.root)
    there = known.pop(kept.local, 0)
    if there:
        await port_keeping.keep(session.place.root, session.blueprint.lab, far, known, LocalHost())
    return there


async def settle(session: Session) -> Settled:
    """Have the ports of 127.0.0.1 be what the lab file and the user want, all but those that another process has."""
    before = kept_ports.load(session.place)
    wanted = port_changes.wanted(session.blueprint, before)
    if not (before or wanted):
        return Settled()
    opened, later, refused = [], [], []
    now: list[Kept] = []
    gone = port_changes.gone(before, wanted)
    for each in gone:
        await close_port(session, each, (other for other in before if other not in gone))
    for each in wanted:
        try:
            others = [*now, *(other for other in wanted if other.local)]
            local = await open_port(session, each.path, each.port, each.local or None, others)
        except Unreachable:
            later.append(each)
            now.extend([each] if each.local else [])
            continue
        except LabError as error:
            refused.append(LabError(f"{error.what} {each.path} runs without it.", hint=error.hint))
            now.extend([each] if each in before else [])
            continue
        now.append(replace(each, local=local))
        opened.append(now[-1])
    kept_ports.save(session.place, now)
    fresh = tuple(each for each in opened if each not in before)
    return Settled(fresh, tuple(gone), tuple(later), tuple(refused))


class _Taken(LabError):
    """The outermost port is another's."""


async def _chain(session: Session, path: str, port: int, local: int, *, anywhere: bool = False) -> int:
    """`anywhere`: any port of the lab's own host that leads there already will do."""
    target = port
    made: list[tuple[str, Rule]] = []
    try:
        for machine in _way(path):
            outer = parent_of(machine)
            rule = Rule(LOOPBACK, _inner(machine, target) if outer else local, _address(session, machine), target)
            async with (await _engine(session, machine)).forwards(machine) as rules:
                known = await rules.all()
                found = next((each for each in known if _serves(each, rule, inside=bool(outer) or anywhere)), None)
                if found is None:
                    for each in known:
                        if _stale(each, rule):
                            await rules.remove(each)
                    found = await _added(rules, rule, inside=bool(outer))
                    made.append((machine, found))
            target = found.local
            if outer:
                await relay(await session.nest.host(outer), _address(session, outer), target)
    except BaseException as error:
        for machine, rule in reversed(made):
            await _remove(session, machine, rule)
        if isinstance(error, PortTaken):
            raise _taken(path, port, error.port) from error
        raise
    return target


async def _remove(session: Session, machine: str, rule: Rule) -> None:
    async with (await _engine(session, machine)).forwards(machine) as rules:
        await rules.remove(rule)
    if outer := parent_of(machine):
        await unrelay(await session.nest.host(outer), rule.local)


def _inner(machine: str, target: int) -> int:
    """The port of a hypervisor that leads to a machine inside it: the same each time it is started, so that what leads
    there from outside stays right."""
    first, count = INNER
    return first + zlib.crc32(f"{machine}:{target}".encode()) % count


async def _added(rules: Rules, rule: Rule, *, inside: bool) -> Rule:
    try:
        return await rules.add(rule)
    except PortTaken:
        if not inside:
            raise
        return await rules.add(replace(rule, local=0))


def _stale(there: Rule, wanted: Rule) -> bool:
    """Whether a forward of the same QEMU is in the way: it led to what was there before. The way to sshd stays."""
    return (there.bind, there.local) == (wanted.bind, wanted.local) and there.local != 0 and there.port != SSH


def _serves(there: Rule, wanted: Rule, *, inside: bool) -> bool:
    """Whether a forward is the one that is wanted; inside a hypervisor any port of it will do, but that of its sshd's
    own."""
    if (there.address, there.port) != (wanted.address, wanted.port):
        return False
    return there.local == wanted.local or (inside and there.port != SSH)


def _taken(path: str, port: int, local: int) -> LabError:
    who = listener(local)
    by = f" by {who}" if who else ""
    what = f"Port {local} of 127.0.0.1, which is to lead to port {port} of {path}, is taken{by}."
    return _Taken(
        what,
        hint=f"End that, then run the same command again; or take another port: nestlab forward {path} {port} OTHER"
        " --keep, or `ports:` in the lab file.",
    )


def _way(path: str) -> list[str]:
    """A machine and all that it is in, from inside to outside."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(len(names), 0, -1)]


def _address(session: Session, machine: str) -> str:
    """A machine's own address on the card that leads to its host."""
    return str(IPv4Network(session.blueprint[machine].management)[15])


def _elsewhere(session: Session, machine: str) -> LabError:
    where = called(session.blueprint.on)
    what = f"Nothing keeps a port of this computer open for {machine}: its lab is on {where}."
    return LabError(what, hint=f"`nestlab forward {machine} PORT` does it while it runs.")


async def _engine(session: Session, machine: str) -> Forwarding:
    if machine not in session.blueprint.by_path() or isinstance(session.blueprint.on, Pve):
        raise _elsewhere(session, machine)
    engine = await session.nest.engine(parent_of(machine))
    if not isinstance(engine, Forwarding):
        raise LabError(f"What runs {machine} forwards no ports.", hint="Forward it while nestlab runs: nestlab forward")
    return engine
