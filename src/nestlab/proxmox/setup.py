"""Sets up and checks what nestlab needs on a Proxmox VE: commands, requests, and what is missing.

Nothing here is done by itself: `plan` says what, `perform` does that and no more.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.engines.pve import network_reload, nodes
from nestlab.engines.pve.cpu_types import Processor
from nestlab.engines.pve.uploads import Uploads
from nestlab.lab.places import Pve
from nestlab.wire.pve import privileges
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Denied, Exists, Missing, NodeUnreachable, PveError
from nestlab.wire.pve.privileges import Scope, Step

DISKS, FILES = "local-lvm", "local"
"""Storages of a Proxmox VE as its installer makes them."""

FOUND = "@DISKS@"
"""In place of a storage for disks that only the node itself can name: its commands find it (`_FIND`)."""

_FIND = (
    f'DISKS=$(pvesm status --content images | awk \'NR > 1 && $3 == "active" && (!d || $1 == "{DISKS}") '
    '{ d = $1 } END { print d }\'); echo "storage for disks: $DISKS"'
)


@frozen
class Setup:
    """The steps of a setup, in order, and how all of it is taken back. `version`: of the Proxmox VE; `notes`: what else
    a person has to know or do."""

    version: str
    steps: tuple[Step, ...]
    back: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """All of it, for root on a node."""
        lines = [step.line for step in self.steps]
        found = [_FIND] if any(FOUND in line for line in lines) else []
        return (*found, *(line.replace(f"/storage/{FOUND}", '"/storage/$DISKS"') for line in lines))


@frozen
class Point:
    """One thing that was looked at: `ok` None where it decides nothing."""

    what: str
    ok: bool | None
    seen: str
    do: str = ""


class NotThere(LabError):
    """The address or the lab file names something that this Proxmox VE, which was asked, does not have."""


def scope_of(on: Pve, stores: Sequence[Mapping[str, Any]] = (), bridges: Sequence[str] = ()) -> Scope:
    """Where a lab works that says this of its Proxmox VE. `stores`: its storages, if they are known; `bridges`: those
    that its segments name."""
    disks = on.storage or _first(stores, "images", DISKS, FOUND)
    files = on.images or _first(stores, "import", FILES, FILES)
    return Scope(on.pool, (disks,), (on.zone,), _bridges(on, bridges), (files,))


def _bridges(on: Pve, others: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*([on.bridge] if on.bridge else []), *others]))


def _first(stores: Sequence[Mapping[str, Any]], content: str, usual: str, otherwise: str) -> str:
    names = sorted(str(row["storage"]) for row in stores if content in str(row.get("content", "")).split(","))
    return usual if usual in names else names[0] if names else otherwise


def unasked(on: Pve, version: str, user: str, token: str, bridges: Sequence[str] = ()) -> Setup:
    """The setup of a Proxmox VE of that version which cannot be asked. Its commands find out what depends on its
    storages."""
    scope = scope_of(on, (), bridges)
    files = shlex.quote(on.images or FILES)
    had = f'pvesh get /storage/{files} --output-format json | sed -n \'s/.*"content":"\\([^"]*\\)".*/\\1/p\''
    takes = f'had=$({had}); case ",$had," in *,import,*) ;; *) pvesm set {files} --content "$had,import" ;; esac'
    zone = " && ".join(step.command for step in privileges.zone_steps(on.zone))  # applied only if it is new
    more = (Step(takes, "PUT", f"/storage/{on.images or FILES}", ()), Step(zone, "POST", network_reload.SDN, ()))
    back = (*_zone_back(on.zone), f"pvesm set {files} --content …  (without `import`)")
    return _setup(on, version, scope, user, token, more, (), back)


async def plan(api: Api, on: Pve, user: str, token: str, bridges: Sequence[str] = ()) -> Setup:
    """The setup that a Proxmox VE still needs, without what it has already. `api` must be allowed to see its storages
    and zones. NotThere for a node or a storage that is named and not there."""
    version = str((await api.get("/version"))["version"])
    await _nodes_are_there(api, on)
    stores, zones = await asyncio.gather(api.get("/storage"), api.get("/cluster/sdn/zones"))
    scope = scope_of(on, stores, bridges)
    notes: list[str] = []
    more: list[Step] = []
    back: list[str] = []
    for name in scope.images:
        row = next((row for row in stores if row["storage"] == name), None)
        if row is None:
            known = ", ".join(sorted(str(row["storage"]) for row in stores))
            kind = NotThere if stores else LabError  # without a right to see them there are none
            raise kind(f"{api.where} has no storage {name}.", hint=f"Its storages: {known}. Name one: `images:`.")
        content = str(row.get("content", ""))
        if "import" not in content.split(","):
            more.append(_takes_imports(name, content))
            back.append(f"pvesm set {shlex.quote(name)} --content {shlex.quote(content)}")
    if not any(str(row["zone"]) == on.zone for row in zones):
        more += privileges.zone_steps(on.zone)
        back = [*_zone_back(on.zone), *back]
        notes.append("Making an SDN zone reloads the network of all nodes, as `Apply` in Datacenter > SDN does.")
    return _setup(on, version, scope, user, token, tuple(more), tuple(notes), tuple(back))


async def _nodes_are_there(api: Api, on: Pve) -> None:
    if not on.nodes:
        return
    known = sorted(str(row["node"]) for row in await api.get("/nodes"))
    strange = [node for node in on.nodes if node not in known]
    if known and strange:
        what = f"{api.where} has no node {', '.join(strange)}; it has: {', '.join(known)}."
        raise NotThere(what, hint="Correct the node in the address, or `nodes:`.")


def _zone_back(zone: str) -> tuple[str, ...]:
    """A zone that was made here goes again, and that is applied."""
    return f"pvesh delete {network_reload.SDN}/zones/{shlex.quote(zone)}", f"pvesh set {network_reload.SDN}"


def _takes_imports(storage: str, content: str) -> Step:
    wanted = f"{content},import" if content else "import"
    command = f"pvesm set {shlex.quote(storage)} --content {wanted}"
    return Step(command, "PUT", f"/storage/{storage}", (("content", wanted),))


def _setup(
    on: Pve,
    version: str,
    scope: Scope,
    user: str,
    token: str,
    more: tuple[Step, ...],
    notes: tuple[str, ...],
    undo: tuple[str, ...],
) -> Setup:
    """`undo`: how what is done by `more` is taken back."""
    steps = privileges.setup(version, scope, user, token)
    roles = dict.fromkeys(privileges.ROLES[template] for template, _ in scope.paths())
    back = (
        f"pveum user token remove {shlex.join([user, token])}",
        f"pveum user delete {shlex.quote(user)}",
        *(f"pveum role delete {role}" for role in roles),
        f"pveum pool delete {shlex.quote(on.pool)}",
        *undo,
    )
    return Setup(version, (*more, *steps), back, notes)


@frozen
class Done:
    """`secret`: the token's, which PVE shows this once. `failures`: nodes that did not load the zone, and why."""

    secret: str
    failures: tuple[str, ...] = ()


async def perform(api: Api, todo: Setup, say: Callable[[str], None]) -> Done:
    """Do it. LabError, with what is done and left, when it refuses."""
    await _nothing_pending(api, todo)
    if any(FOUND in step.path or FOUND in str(step.params) for step in todo.steps):
        what = f"{api.where} has no storage for disks (content `images`) that can be seen."
        raise LabError(
            what, hint="Name one: `on: {storage: …}` in a lab file, and set up for that: nestlab pve setup FILE"
        )
    secret, failures = "", dict[str, str]()
    for number, step in enumerate(todo.steps):
        say(step.command)
        try:
            answer = await _do(api, step)
        except Exists:
            if not step.there:
                raise _there(step) from None
            answer = await _otherwise(api, step, say)
        except PveError as error:
            if not (step.there and "already exists" in error.message):
                left = "\n".join(each.line for each in todo.steps[number:])
                error.detail = f"{error.detail}\nleft to do:\n{left}".strip()
                raise
            answer = await _otherwise(api, step, say)
        if step.shows:
            secret = str(answer["value"])
        elif isinstance(answer, str) and answer.startswith("UPID:"):
            failures |= await network_reload.finished(api, answer)
    return Done(secret, tuple(f"{node}: {reason}" for node, reason in failures.items()))


async def _otherwise(api: Api, step: Step, say: Callable[[str], None]) -> Any:
    """Do the step that replaces one whose thing is there already."""
    if step.otherwise is None:
        return None
    say(step.otherwise.command)
    return await _do(api, step.otherwise)


async def _do(api: Api, step: Step) -> Any:
    ask = {"POST": api.create, "PUT": api.set}[step.method]
    return await ask(step.path, dict(step.params))


def _there(step: Step) -> LabError:
    name = step.path.rpartition("/")[2]
    what = f"There is a token {name} already, and nobody can read its secret again."
    return LabError(what, hint=f"Name another (--token ID), or remove it first (`pveum user token remove … {name}`).")


async def _nothing_pending(api: Api, todo: Setup) -> None:
    """Applying a zone would apply what somebody else has not finished."""
    if not any(step.path == "/cluster/sdn" and step.method == "PUT" for step in todo.steps):
        return
    for kind in ("zones", "vnets"):
        rows = await api.get(f"/cluster/sdn/{kind}", {"pending": True})
        if any(row.get("state") for row in rows):
            what = f"Changes of the SDN ({kind}) wait for being applied on {api.where}."
            raise LabError(what, hint="Apply or revert them first (Datacenter > SDN): nestlab applies nothing else.")


async def check(api: Api, on: Pve, bridges: Sequence[str] = (), *, hypervisors: bool = True) -> tuple[Point, ...]:
    """Whether labs can be made there by who asks: privileges, pool, storages, zone, bridge, and what the nodes can.
    `hypervisors`: machines are to run inside machines."""
    version = str((await api.get("/version"))["version"])
    privileges.major(version)
    points = [Point("version", True, f"Proxmox VE {version} at {api.where}")]
    rows = await api.get("/cluster/resources")
    stores = [row for row in rows if row.get("type") == "storage"]
    scope = scope_of(on, stores, bridges)
    points += await _privileges(api, version, scope)
    pools = {str(row["pool"]) for row in rows if row.get("type") == "pool"}
    make = "`nestlab pve setup` makes it"
    points.append(Point("pool", on.pool in pools, on.pool if on.pool in pools else f"there is no {on.pool}", make))
    points.append(await _zone(api, on))
    found = await nodes.rooms(api, on, rows)
    meant = [room for room in found if not on.nodes or room.node in on.nodes]
    usable = [room for room in meant if room.online]
    depot = Uploads(api, on, "0" * 8, _no_locks())
    for room in usable:
        points.append(_nests(room.processor, hypervisors))
        points.append(await _loaded(api, on.zone, room.node))
        points += await _bridged(api, _bridges(on, bridges), room.node)
        points.append(await _imports(depot, room.node))
        held = [store for store in room.stores if "images" in store.content]
        mine = [store for store in held if on.storage in (None, store.name)]
        names = ", ".join(f"{store.name} ({human(store.free)} free)" for store in mine)
        lack = f"{on.storage or 'no storage'} does not take disks (content `images`) there"
        do = "Name another: `storage:`." if room.stores else "See above: what may be used there must be seen first."
        points.append(Point(f"disks on {room.node}", bool(mine), names or lack, do))
    points += [
        Point(f"node {room.node}", None, "it is offline: no machine of a lab can be there until it is back")
        for room in meant
        if not room.online and usable
    ]
    strange = [node for node in on.nodes if node not in {room.node for room in found}]
    if strange:
        has = ", ".join(room.node for room in found) or "none that can be seen"
        do = "Correct the node in the address, or `nodes:`."
        points.append(Point("nodes", False, f"there is no node {', '.join(strange)}; it has: {has}", do))
    elif not usable:
        points.append(Point("nodes", False, "none that may be used answers", "Start one, or name others: `nodes:`."))
    return tuple(points)


def _no_locks() -> Any:
    from pathlib import Path

    return Path("/nonexistent")  # the depot only looks here


async def _privileges(api: Api, version: str, scope: Scope) -> list[Point]:
    hint = "`nestlab pve setup` tells the commands that grant all of them"
    held: dict[str, Mapping[str, object]] = {}
    paths = list(dict.fromkeys(path for _, path in scope.paths()))
    for path in (path for path in paths if FOUND not in path):
        answer = await api.get("/access/permissions", {"path": path})
        held |= answer
    lacks = [lack for lack in privileges.missing(held, version, scope) if FOUND not in lack.path]
    if any(FOUND in path for path in paths):
        do = "On a node `pvesm status --content images` lists them; `nestlab pve setup` tells how to grant one."
        return [
            Point("storage for disks", False, "none that takes content `images` can be seen by who asks", do),
            *(Point("privileges", False, lack.sentence, hint) for lack in lacks),
        ]
    if not lacks:
        return [Point("privileges", True, f"all on {', '.join(paths)}")]
    return [Point("privileges", False, lack.sentence, hint) for lack in lacks]


async def _zone(api: Api, on: Pve) -> Point:
    try:
        zone = await api.get(f"/cluster/sdn/zones/{on.zone}")
    except (Missing, Denied) as error:
        return Point("SDN zone", False, f"{on.zone}: {error.message}", "`nestlab pve setup` makes it")
    reach = "a segment ends at each node" if zone.get("type") == "simple" else "a segment reaches from node to node"
    return Point("SDN zone", True, f"{on.zone} ({zone.get('type')}: {reach})")


async def _loaded(api: Api, zone: str, node: str) -> Point:
    """Whether a node has loaded the zone: its own word, and how the last reload of its network ended, since that may
    have failed behind the back of the task that applied the SDN."""
    what = f"SDN zone on {node}"
    try:
        rows = await api.get(f"/nodes/{node}/sdn/zones")
    except (Denied, NodeUnreachable) as error:
        return Point(what, None, error.message)
    status = next((str(row.get("status")) for row in rows or [] if row.get("zone") == zone), "")
    again = f"Mend that on {node}, then apply again: pvesh set {network_reload.SDN}"
    if reason := await network_reload.last_failure(api, node):
        return Point(what, False, f"its network was not reloaded: {reason}", again)
    if status == "available":
        return Point(what, True, f"{zone} is loaded")
    told = {
        "": f"{zone} is not there: it was not applied, or is for other nodes",
        "error": f"networks of {zone} are missing",
    }
    return Point(what, False, told.get(status, f"{zone} is {status}"), f"Apply it: pvesh set {network_reload.SDN}")


async def _bridged(api: Api, bridges: Sequence[str], node: str) -> list[Point]:
    """Whether bridges are on a node, and may be used."""
    if not bridges:
        return []
    what = f"bridge on {node}"
    try:
        rows = await api.get(f"/nodes/{node}/network", {"type": "any_bridge"})
    except Denied as error:
        return [Point(what, False, error.message, "Grant Sys.Audit on /nodes: `nestlab pve setup`.")]
    names = sorted(str(row["iface"]) for row in rows)
    lack = f"that may be used; there are: {', '.join(names) or 'none'}"
    do = "Correct `bridge:`, or grant SDN.Use: `nestlab pve setup`."
    return [Point(what, each in names, each if each in names else f"no {each} {lack}", do) for each in bridges]


async def _imports(depot: Uploads, node: str) -> Point:
    try:
        place = await depot.place(node)
    except LabError as error:
        return Point(f"images on {node}", False, error.what, error.hint)
    return Point(f"images on {node}", True, f"{place.storage} takes uploads ({human(place.free)} free)")


def _nests(processor: Processor, hypervisors: bool) -> Point:
    """`hypervisors`: something is to run inside machines there, without which it does not matter."""
    what = f"nesting on {processor.node}"
    model = processor.model or "a CPU that is not told"
    if processor.kvm is None:
        return Point(what, None, f"its CPU is not told: {processor.why}")
    if not processor.kvm:
        seen = f"{model} without KVM: machines are emulated (kvm: 0, cpu: max), 20 times slower; containers are not"
        return Point(what, None, seen, "Machines with `container: true` need no KVM.")
    if processor.nests is False:
        mend = f"On the node: nestlab doctor --fix, or from here: nestlab doctor ssh://root@{processor.node} --fix"
        off = f"{model}: the kernel's parameter `nested` is off"
        return Point(what, False if hypervisors else None, off, mend if hypervisors else "Only hypervisors need it.")
    if processor.early:
        seen = f"{model}; whether `nested` is on is not known yet: pvestatd there has not reported since it started"
        return Point(what, None, seen, "Ask again in a minute; systemctl status pvestatd tells if it does not run.")
    if processor.nests is None:
        seen = f"{model}; this version does not tell whether `nested` is on"
        return Point(what, None, seen, f"nestlab doctor ssh://root@{processor.node} tells it.")
    return Point(what, True, f"{model} offers it to guests")
