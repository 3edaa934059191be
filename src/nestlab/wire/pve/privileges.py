"""What nestlab may do on a Proxmox VE, and no more: privileges, the commands that grant them, and what is missing.

PVE 9 has no VM.Monitor any more (pve-access-control 9.0.2) and splits what it allowed into VM.GuestAgent.*; SDN.Use is
asked for since PVE 8. The rest is the same in both. A token with privilege separation has only what both it and its
user were granted, so that both are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

POOL, STORAGE, IMAGES, ZONE, SDN, BRIDGE, NODES = (
    "/pool/{pool}",
    "/storage/{storage}",
    "/storage/{images}",
    "/sdn/zones/{zone}",
    "/sdn",
    "/sdn/zones/localnetwork/{bridge}",
    "/nodes",
)

ROLES = {
    POOL: "NestlabGuests",
    STORAGE: "NestlabDisks",
    IMAGES: "NestlabImages",
    ZONE: "NestlabZone",
    SDN: "NestlabApply",
    BRIDGE: "NestlabBridge",
    NODES: "NestlabNodes",
}
"""One role for each kind of path. Names that begin with PVE are Proxmox's own."""

_GUESTS = {
    "Pool.Audit": "see what is in the pool",
    "VM.Allocate": "make and remove machines",
    "VM.Audit": "see machines and their configuration",
    "VM.Clone": "make machines from templates",
    "VM.Config.CDROM": "put an ISO into a machine's drive",
    "VM.Config.CPU": "give a machine a CPU that nests",
    "VM.Config.Disk": "give a machine disks, and choose what it boots",
    "VM.Config.HWType": "choose machine type, controller, serial port, and KVM or not",
    "VM.Config.Memory": "give a machine memory",
    "VM.Config.Network": "connect a machine",
    "VM.Config.Options": "name and mark a machine",
    "VM.Console": "show a console",
    "VM.Migrate": "migrate a machine",
    "VM.PowerMgmt": "start and stop machines",
    "VM.Snapshot": "take snapshots, go back to them and remove them",
}
_AGENT = {
    8: {"VM.Monitor": "run commands through the guest agent"},
    9: {"VM.GuestAgent.Unrestricted": "run commands through the guest agent"},
}
"""Unrestricted alone holds the place of all others of VM.GuestAgent (qemu-server, PVE/API2/Qemu/Agent.pm)."""

_DISKS = {"Datastore.AllocateSpace": "make disks", "Datastore.Audit": "see free space and images"}
_REST: dict[str, dict[str, str]] = {
    STORAGE: _DISKS,
    IMAGES: {
        "Datastore.Allocate": "remove images and seeds that it has uploaded",
        "Datastore.AllocateTemplate": "upload images and seeds",
        "Datastore.Audit": "see free space and images",
    },
    ZONE: {
        "SDN.Allocate": "make, see and remove the networks of a lab in the zone",
        "SDN.Use": "connect machines to the networks in the zone",
    },
    SDN: {"SDN.Allocate": "apply changes of networks (here only, not below: PVE asks for it at /sdn)"},
    BRIDGE: {"SDN.Use": "connect machines to the bridge"},
    NODES: {"Sys.Audit": "see what a node can do and has free"},
}


def major(version: str) -> int:
    """8 or 9, from what GET /version says (`9.1.10`, `pve-manager/8.4.1/…`). Later ones count as 9; LabError for
    earlier ones, and for what is no version."""
    found = re.search(r"(\d{1,9})(?:\.|\Z)", version)
    number = int(found[1]) if found else 0
    if number < 8:
        raise LabError(f"Proxmox VE {version or '(no version)'} is not supported.", hint="nestlab needs PVE 8 or 9.")
    return min(number, 9)


def reasons(version: str) -> dict[str, dict[str, str]]:
    """For each path template: each privilege that is needed there, and what for."""
    return {POOL: {**_GUESTS, **_AGENT[major(version)]}, **_REST}


def needed(version: str) -> dict[str, tuple[str, ...]]:
    """For each path template the privileges that are needed there, in order."""
    return {path: tuple(sorted(privileges)) for path, privileges in reasons(version).items()}


@frozen
class Scope:
    """Where nestlab works. `storages`: for disks. `zones`: SDN zones for the networks of labs; `bridges`: those of
    nodes that are used as they are. `images`: the storages that images and seeds are uploaded to (all of `storages`
    when none is named); to remove them there PVE wants Datastore.Allocate, which opens all that is on the storage, so
    that one of its own is best."""

    pool: str
    storages: tuple[str, ...]
    zones: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def paths(self) -> list[tuple[str, str]]:
        """Each path with its template, in order; twice a storage that is for both disks and images."""
        found = [(POOL, POOL.format(pool=self.pool))]
        images = self.images or self.storages
        found += [(STORAGE, STORAGE.format(storage=each)) for each in self.storages]
        found += [(IMAGES, IMAGES.format(images=each)) for each in images]
        found += [(ZONE, ZONE.format(zone=each)) for each in self.zones]
        found += [(SDN, SDN)] if self.zones else []
        found += [(BRIDGE, BRIDGE.format(bridge=each)) for each in self.bridges]
        return [*found, (NODES, NODES)]


@frozen
class Step:
    """One step of the setup: a command for root on a node, and the same as a request of the API. `there`: that it is
    refused because it exists already is no error; then `otherwise` is done. `shows`: its answer holds the token's
    secret, once."""

    command: str
    method: str
    path: str
    params: tuple[tuple[str, str], ...]
    there: bool = False
    shows: bool = False
    otherwise: Step | None = None

    @property
    def line(self) -> str:
        """The command, with what is done where that fails."""
        return f"{self.command} || {self.otherwise.command}" if self.otherwise else self.command


def setup(version: str, scope: Scope, user: str, token: str) -> tuple[Step, ...]:
    """Everything that lets `user` with the API token `token` do what nestlab does in `scope`, and nothing else.

    Roles that exist are brought up to date. An SDN zone must be there already (`zone_steps` makes one)."""
    wanted, name = needed(version), f"{user}!{token}"
    steps = [_step("pool add", "POST", "/pools", {"poolid": scope.pool}, {"comment": "nestlab"}, there=True)]
    for template in dict.fromkeys(template for template, _ in scope.paths()):
        role, granted = ROLES[template], {"privs": ",".join(wanted[template])}
        modify = _step("role modify", "PUT", f"/access/roles/{role}", {}, granted, words=(role,))
        add = _step("role add", "POST", "/access/roles", {"roleid": role}, granted, there=True)
        steps.append(replace(add, otherwise=modify))
    steps.append(_step("user add", "POST", "/access/users", {"userid": user}, {"comment": "nestlab"}, there=True))
    made = f"/access/users/{user}/token/{token}"
    steps.append(_step("user token add", "POST", made, {}, {"privsep": "1"}, words=(user, token), shows=True))
    for template, path in scope.paths():
        granted = {"roles": ROLES[template], "users": user, "tokens": name}
        granted["propagate"] = "0" if template == SDN else "1"
        steps.append(_step("acl modify", "PUT", "/access/acl", {"path": path}, granted))
    return tuple(steps)


def setup_commands(
    version: str,
    pool: str,
    storages: Iterable[str],
    zones: Iterable[str],
    bridges: Iterable[str],
    user: str,
    token: str,
    *,
    images: Iterable[str] = (),
) -> tuple[str, ...]:
    """The same as command lines for root on a node. A role is added or, if it is there, modified."""
    scope = Scope(pool, tuple(storages), tuple(zones), tuple(bridges), tuple(images))
    return tuple(step.line for step in setup(version, scope, user, token))


def zone_steps(zone: str) -> tuple[Step, ...]:
    """Make an SDN zone for the networks of labs, and apply that."""
    params = {"zone": zone, "type": "simple"}
    create = f"pvesh create /cluster/sdn/zones {_options(params)}"
    made = Step(create, "POST", "/cluster/sdn/zones", tuple(params.items()), there=True)
    return made, Step("pvesh set /cluster/sdn", "PUT", "/cluster/sdn", ())


def _step(
    verb: str,
    method: str,
    path: str,
    named: Mapping[str, str],
    options: Mapping[str, str],
    *,
    words: Sequence[str] = (),
    there: bool = False,
    shows: bool = False,
) -> Step:
    """`named`: parameters that pveum takes as words; `words`: what the path names and pveum takes as words."""
    command = f"pveum {verb} {shlex.join([*words, *named.values()])} {_options(options)}"
    return Step(command, method, path, (*named.items(), *options.items()), there, shows)


def _options(params: Mapping[str, str]) -> str:
    return " ".join(f"--{key} {shlex.quote(value)}" for key, value in params.items())


@frozen
class Lack:
    """A privilege that is needed at a path and is not there. `why`: what nestlab would do with it."""

    path: str
    privilege: str
    why: str

    @property
    def sentence(self) -> str:
        return f"{self.privilege} is missing on {self.path}: nestlab could not {self.why}."


def missing(permissions: Mapping[str, Mapping[str, object]], version: str, scope: Scope) -> tuple[Lack, ...]:
    """Missing privileges, given `permissions` as GET /access/permissions answers: path -> privilege -> whether it holds
    below too.

    PVE lists there only paths with ACLs and members of pools; to be exact, ask for each path (`?path=/pool/lab`) and
    join the answers."""
    lacks: dict[tuple[str, str], Lack] = {}
    for template, path in scope.paths():
        held = _held(permissions, path)
        for name, why in sorted(reasons(version)[template].items()):
            if name not in held:
                lacks.setdefault((path, name), Lack(path, name, why))
    return tuple(lacks.values())


def _held(permissions: Mapping[str, Mapping[str, object]], path: str) -> set[str]:
    """What is held at a path: what is said of it, else what its nearest parent that is listed hands down."""
    if path in permissions:
        return set(permissions[path])
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        if path in permissions:
            return {name for name, down in permissions[path].items() if str(down) not in ("0", "False", "")}
    return set()


def explain(lacks: Sequence[Lack]) -> str:
    """All that lacks, a line for each path and what to do; "" when nothing does."""
    lines = []
    for path in dict.fromkeys(lack.path for lack in lacks):
        names = [lack for lack in lacks if lack.path == path]
        verb = "is" if len(names) == 1 else "are"
        lines.append(f"{', '.join(lack.privilege for lack in names)} {verb} missing on {path}: nestlab could not")
        lines += [f"  {lack.why}" for lack in names]
    return "\n".join(lines)


def grant(path: str, any_of: Sequence[str]) -> str:
    """The hint for a missing privilege at a path, as PVE's refusals name them."""
    wanted = any_of[0] if len(any_of) == 1 else f"one of {', '.join(any_of)}"
    machine = " (or on the pool that it is in)" if path.startswith("/vms/") else ""
    line = f"pveum acl modify {shlex.quote(path)} --roles ROLE --users USER@REALM --tokens 'USER@REALM!ID'"
    return (
        f"Grant a role with {wanted} on {path}{machine}, to the user and to its token: `{line}`. "
        "`nestlab pve setup` prints all that nestlab needs."
    )
