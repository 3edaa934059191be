"""The live migration of a machine between two QEMUs, as a dialogue: requests out, answers in. Pure.

Its disks are mirrored to the target first, by NBD; then its memory goes over, and it stops for the last of both. QEMU
at the target starts paused and is let go by us, so at no moment do two run, whatever is lost: the source says
`completed` only when the target has loaded all (capability `return-path`), and until then it goes on when anything
fails. What is at the source is deleted last, when the target runs.

Whoever performs a dialogue may be killed at any request. `recover` then asks both QEMUs and ends it, one way or the
other.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.paint import human
from nestlab.base.printable import one_line
from nestlab.engines.qemu.migration_ends import dispose, let_go, recover, recover_cold, settle
from nestlab.engines.qemu.migration_requests import (
    TICK,
    Act,
    Ask,
    Await,
    Dialogue,
    Disk,
    Journey,
    Keep,
    Moved,
    Request,
    Say,
    Side,
    ask,
    node_of,
)

IDLE = 120
"""Looks in a row that may see no progress."""

FIRST_DOWNTIME, LAST_DOWNTIME = 300, 5000
"""Milliseconds that it may stop for the last of its memory: QEMU's own, and where a busy machine needs more."""

PATIENT = 4
"""Rounds over its memory before that time grows."""


def live(journey: Journey) -> Dialogue:
    """Move it. LabError where that fails; then the machine goes on where it was, and nothing is left at the target."""
    yield Keep("begun")
    try:
        yield Act("receive")
        yield from _compare(journey)
        yield Act("join")
        yield from _prepare(journey)
        yield from _mirror(journey)
        yield from _memory(journey)
    except LabError as error:
        outcome = yield from recover(journey)
        if outcome == "moved":
            return Moved()
        raise error
    yield from let_go(journey)
    found = yield from _told()
    yield from settle(journey)
    return found


def cold(path: str, *, ran: bool) -> Dialogue:
    """Move a machine that does not run, or is stopped for it (`ran`) and started after. LabError where that fails; then
    it is where it was, and nothing is left at the target."""
    yield Keep("begun")
    try:
        if ran:
            yield Act("stop", "source")
        yield Act("make")
        yield Act("carry")
    except LabError as error:
        yield from recover_cold(ran=ran)
        raise error
    yield Keep("moved")
    yield from dispose("source")
    if ran:
        yield Act("start")
    return Moved()


def _compare(journey: Journey) -> Generator[Request, Any, None]:
    """LabError unless the two QEMUs are of one version, with the same devices."""
    here = yield from ask("source", "query-version")
    there = yield from ask("target", "query-version")
    if here != there:
        what = f"The QEMU that runs {journey.path} is {_version(here)}, and the other one {_version(there)}."
        raise LabError(what, hint="The state of one is not always what another takes: move it with --cold.")
    mine = yield from ask("source", "query-pci")
    others = yield from ask("target", "query-pci")
    if devices_of(mine) != devices_of(others):
        what = f"{journey.path} has other devices than when it was started, or than it would have now."
        raise LabError(what, hint=f"`nestlab restart {journey.path}` first, or move it with --cold.")


def _version(said: Any) -> str:
    number = said["qemu"]
    return f"{number['major']}.{number['minor']}.{number['micro']}"


def devices_of(buses: Any) -> list[Any]:
    """The devices of a machine's PCI buses and where they are, those behind bridges too, in any order."""
    found = []
    for bus in buses:
        for each in bus.get("devices", []):
            found.append((bus.get("bus"), *_place(each)))
            behind = each.get("pci_bridge", {}).get("devices", [])
            found += [(each.get("slot"), each.get("function"), *_place(inner)) for inner in behind]
    return sorted(found, key=repr)


def _place(device: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = device.get("id", {})
    words = (device.get("slot"), device.get("function"), kind.get("vendor"), kind.get("device"))
    return (*words, device.get("qdev_id"))


def _prepare(journey: Journey) -> Generator[Request, Any, None]:
    switched = ["return-path", "events", *(["pause-before-switchover"] if journey.disks else [])]
    source = [{"capability": name, "state": True} for name in (*switched, "auto-converge")]
    yield from ask("source", "migrate-set-capabilities", capabilities=source)
    target = [{"capability": name, "state": True} for name in ("return-path", "events")]
    yield from ask("target", "migrate-set-capabilities", capabilities=target)
    yield from ask("source", "migrate-set-parameters", downtime_limit=FIRST_DOWNTIME, max_bandwidth=1 << 40)
    for card in journey.down:
        yield from ask("target", "set_link", name=card, up=False)


def _mirror(journey: Journey) -> Generator[Request, Any, None]:
    """All that is written on its disks is at the target, too, and stays so. Only their own layer moves."""
    if not journey.disks:
        return
    server = {"type": "unix", "data": {"path": journey.target.disks}}
    yield from ask("target", "nbd-server-start", addr=server)
    where = {"type": "unix", "path": journey.source.disks}
    for disk in journey.disks:
        node = disk.name if disk.is_node else (yield from _node("target", disk))
        export = {"type": "nbd", "id": node_of(disk), "node-name": node, "name": disk.name, "writable": True}
        yield from ask("target", "block-export-add", **export)
        below = {"driver": "nbd", "server": where, "export": disk.name}
        yield from ask("source", "blockdev-add", driver="raw", node_name=node_of(disk), file=below)
        job = {"job-id": node_of(disk), "device": disk.name, "target": node_of(disk), "sync": "top"}
        yield from ask("source", "blockdev-mirror", **job, copy_mode="write-blocking")
    yield from _until_ready(journey)


def _node(side: Side, disk: Disk) -> Generator[Request, Any, str]:
    for each in (yield from ask(side, "query-block")):
        if each["device"] == disk.name and "inserted" in each:
            return str(each["inserted"]["node-name"])
    raise LabError(f"QEMU knows no disk {disk.name}.", hint="Move it with --cold.")


def _until_ready(journey: Journey) -> Generator[Request, Any, None]:
    idle, before, told = 0, -1, -1
    while True:
        jobs = {job["device"]: job for job in (yield from ask("source", "query-block-jobs"))}
        mine = [jobs.get(node_of(disk)) for disk in journey.disks]
        if None in mine:
            what = f"A disk of {journey.path} could not be copied to the other hypervisor."
            raise LabError(what, hint="Is there room on its disk? It goes on where it is.")
        done, size = sum(job["offset"] for job in mine if job), sum(job["len"] for job in mine if job)
        if all(job["ready"] for job in mine if job):
            return
        idle, before = (idle + 1, before) if done == before else (0, done)
        if idle > IDLE:
            raise _stuck(journey, "its disks do not get over")
        if size and done * 10 // size != told:
            told = done * 10 // size
            yield Say(f"its disks: {human(done)} of {human(size)}")
        yield Await(TICK)


def _told() -> Generator[Request, Any, Moved]:
    """What the source says of a migration that is done."""
    try:
        found = yield from ask("source", "query-migrate")
    except LabError:
        return Moved()
    sent = found.get("ram", {}).get("transferred", 0)
    return Moved(found.get("downtime", 0) / 1000, found.get("total-time", 0) / 1000, sent)


def _memory(journey: Journey) -> Generator[Request, Any, None]:
    """Its memory goes over, and the machine stops at the source. From then on every question would keep it waiting:
    what an event tells is not asked."""
    yield from ask("target", "migrate-incoming", uri=f"unix:{journey.target.stream}")
    yield from ask("source", "migrate", uri=f"unix:{journey.source.stream}")
    idle, before, limit, said = 0, (-1, -1), FIRST_DOWNTIME, False
    event: str | None = None
    while True:
        known = event in ("completed", "pre-switchover")
        found: Mapping[str, Any] = {"status": event} if known else (yield from ask("source", "query-migrate"))
        status, memory = found.get("status", ""), found.get("ram", {})
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            why = one_line(found.get("error-desc", "QEMU does not say why")[:300])
            raise LabError(f"{journey.path} could not be moved: {why}.", hint="It goes on where it is.")
        if status == "pre-switchover":
            yield from _let_go_of_disks(journey)
            yield from ask("source", "migrate-continue", state="pre-switchover")
            event = yield Await(TICK)
            if (idle := idle + 1) > IDLE:
                raise _stuck(journey, "it does not leave its hypervisor")
            continue
        now = (memory.get("transferred", 0), memory.get("remaining", 0))
        idle, before = (idle + 1, before) if now == before else (0, now)
        if idle > IDLE:
            raise _stuck(journey, "its memory does not get over")
        rounds = memory.get("dirty-sync-count", 0)
        if rounds > PATIENT and (wanted := _downtime(rounds)) > limit:
            limit = wanted
            yield Say(f"it writes faster than that is sent: it may stop for {limit / 1000:g} s")
            yield from ask("source", "migrate-set-parameters", downtime_limit=limit)
        elif not said and memory.get("total"):
            said = True
            yield Say(f"its memory: {human(memory['total'])}")
        event = yield Await(TICK)


def _downtime(rounds: int) -> int:
    """Milliseconds that a machine may stop after so many rounds over its memory."""
    return min(LAST_DOWNTIME, FIRST_DOWNTIME << min(8, (rounds - PATIENT) // 2))


def _let_go_of_disks(journey: Journey) -> Generator[Request, Any, None]:
    """The mirrors end, whole: it writes nothing more."""
    yield Ask("source", tuple(("block-job-cancel", {"device": node_of(disk)}) for disk in journey.disks))
    turns = 0
    while (yield from ask("source", "query-block-jobs")):
        yield Await(TICK)
        if (turns := turns + 1) > IDLE:
            raise _stuck(journey, "the mirrors of its disks do not end")


def _stuck(journey: Journey, why: str) -> LabError:
    what = f"{journey.path} could not be moved: {why}."
    return LabError(what, hint="It goes on where it is. With --cold it is stopped, moved and started again.")
