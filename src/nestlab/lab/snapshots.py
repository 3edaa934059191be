"""A snapshot of a whole lab as a value: what was saved of each machine, when, and by what. Pure.

The manifest of a snapshot is compared with what would load it before anything is loaded: the state of one QEMU is not
always what another takes, and a CPU that is another one cannot be noticed by the guest later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from typing import Any, Literal

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.typed import check, parsed
from nestlab.lab.model import NAME, is_path, plain

FORMAT = 1

NAME_LIMIT = 40

MOST = 10_000
"""Machines, files of one, and the like."""

PARKED = "parked"
"""The name of the snapshot that `park` makes."""

_FILE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}(/[0-9A-Za-z.][0-9A-Za-z._-]{0,63})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@frozen
class Saved:
    """A file of a machine. `name`: in its folder of the snapshot; `digest`: see `home.snapshots.digest`; `size`: bytes
    that are written of it."""

    name: str
    digest: str = ""
    size: int = 0


@frozen
class Built:
    """What a running QEMU is: its version as it says it, and the words of its command line that decide what its state
    means. `devices`: the digest of its PCI devices and their places."""

    version: str = ""
    machine: str = ""
    cpu: str = ""
    accel: str = ""
    devices: str = ""


@frozen
class SavedMachine:
    """A machine on the lab's own host. `was`: what it did when it was saved; `memory`: the file with its memory and
    devices, where it ran and they were saved, `way`: how that is written (`engines.qemu.memory_file`); `pause`: seconds
    for which no instruction of it ran; `room`: what its QEMU can become (`engines.qemu.records.of_room`)."""

    path: str
    was: Literal["running", "paused", "off"] = "off"
    files: tuple[Saved, ...] = ()
    memory: str = ""
    built: Built = field(default_factory=Built)
    room: tuple[int, ...] = ()
    pause: float = 0.0
    way: Literal["plain", "mapped"] = "plain"


@frozen
class Ground:
    """The host: what a machine that runs on KVM depends on."""

    cpu: str = ""
    kernel: str = ""


@frozen
class Manifest:
    """`taken`: seconds since the epoch. `parent`: the snapshot that the lab went on from; `memory`: machines go on
    where they were, else they are off, and start from their disks. `inner`: machines inside others that were paused for
    it, by path; `stopped`: those that were stopped for it."""

    name: str
    lab: str
    taken: float
    parent: str = ""
    memory: bool = True
    nestlab: str = ""
    ground: Ground = field(default_factory=Ground)
    machines: tuple[SavedMachine, ...] = ()
    inner: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    papers: tuple[Saved, ...] = ()
    """Files about the lab as a whole."""
    nonces: Mapping[str, str] = field(default_factory=dict)
    """By machine: SHA-256 of a random number that is in its memory alone."""

    @property
    def running(self) -> tuple[SavedMachine, ...]:
        """Those whose memory it has."""
        return tuple(each for each in self.machines if each.memory)


@frozen
class Loads:
    """How often a snapshot was loaded, tests included, and how often that failed."""

    loads: int = 0
    failures: int = 0


@frozen
class Kept:
    """A snapshot that is there. `size`: bytes that it takes on the disk; `why`: why it cannot be used, if so."""

    name: str
    manifest: Manifest | None
    size: int = 0
    loads: Loads = field(default_factory=Loads)
    current: bool = False
    why: str = ""


def named(name: str) -> str:
    """The name itself. LabError where a snapshot cannot be called so."""
    if not NAME.fullmatch(name) or len(name) > NAME_LIMIT:
        hint = f"It has at most {NAME_LIMIT} of a-z, 0-9 and -, and starts with a letter."
        raise LabError(f"{name!r} is not the name of a snapshot.", hint=hint)
    if name == PARKED:
        raise LabError(f"{PARKED} is the name of what `nestlab park` makes.", hint="Give another name.")
    return name


def to_json(manifest: Manifest) -> bytes:
    return json.dumps({"format": FORMAT, **plain(manifest)}, indent=1).encode() + b"\n"


def from_json(text: bytes) -> Manifest:
    """The manifest. ValueError for everything else, also of a newer format."""
    data = parsed(text)
    if not isinstance(data, dict):
        raise ValueError("it is no manifest")
    known = data.get("format")
    if isinstance(known, int) and known > FORMAT:
        raise ValueError(f"its format is {known}, and this nestlab knows up to {FORMAT}")
    if known != FORMAT:
        raise ValueError("it is no manifest")
    found = Manifest(
        **_own(Manifest, data)
        | {
            "ground": Ground(**_own(Ground, data.get("ground", {}))),
            "machines": tuple(map(_machine, _rows(data.get("machines", [])))),
            "papers": tuple(map(_saved, _rows(data.get("papers", [])))),
            "inner": tuple(_rows(data.get("inner", []))),
            "stopped": tuple(_rows(data.get("stopped", []))),
            "nonces": dict(data.get("nonces", {})),
        }
    )
    check(found, Manifest, "the manifest")
    paths = [*(each.path for each in found.machines), *found.inner, *found.stopped, *found.nonces]
    if not all(map(is_path, paths)):
        raise ValueError("it names what is no machine")
    return found


def _machine(row: Any) -> SavedMachine:
    known = _own(SavedMachine, row)
    known["files"] = tuple(map(_saved, _rows(known.get("files", []))))
    known["built"] = Built(**_own(Built, known.get("built", {})))
    known["room"] = tuple(_rows(known.get("room", [])))
    found = SavedMachine(**known)
    if found.memory and found.memory not in {each.name for each in found.files}:
        raise ValueError(f"the memory of {found.path!r} is none of its files")
    return found


def _saved(row: Any) -> Saved:
    found = Saved(**_own(Saved, row))
    name, digest = str(found.name), str(found.digest)
    if not _FILE.fullmatch(name) or ".." in name or not _DIGEST.fullmatch(digest):
        raise ValueError("it names a file that no snapshot has")
    return found


def _own(kind: type, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"a {kind.__name__} is no object")
    known = {item.name for item in fields(kind)}
    return {name: value for name, value in row.items() if name in known}


def _rows(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError("it has no list where one belongs")
    return value


def differences(saved: Built, now: Built) -> tuple[str, ...]:
    """In what a QEMU would differ from the one that was saved, as far as both are known."""
    pairs = (
        ("QEMU", saved.version, now.version),
        ("the machine type", saved.machine, now.machine),
        ("the CPU", saved.cpu, now.cpu),
        ("the accelerator", saved.accel, now.accel),
    )
    found = [f"{what} was {one}, and is {other} now" for what, one, other in pairs if one and other and one != other]
    if saved.devices and now.devices and saved.devices != now.devices:
        found.append("its devices, or their places, are others")
    return tuple(found)


def ground_differs(saved: Manifest, now: Ground) -> tuple[str, ...]:
    """In what the host differs from that of a snapshot, where machines of it run on KVM: under emulation none of that
    matters."""
    if not any(each.built.accel == "kvm" for each in saved.running):
        return ()
    pairs = (("the CPU of the host", saved.ground.cpu, now.cpu), ("its kernel", saved.ground.kernel, now.kernel))
    return tuple(
        f"{what} was {one}, and is {other} now" for what, one, other in pairs if one and other and one != other
    )


def in_order(found: Iterable[Kept]) -> list[tuple[int, Kept]]:
    """As a tree: with the depth of each, parents before their children, these by age. A snapshot whose parent is gone
    stands at the top."""
    by_name = {each.name: each for each in found}
    children: dict[str, list[Kept]] = {}
    for each in sorted(by_name.values(), key=lambda kept: (kept.manifest.taken if kept.manifest else 0.0, kept.name)):
        parent = each.manifest.parent if each.manifest else ""
        children.setdefault(parent if parent in by_name and parent != each.name else "", []).append(each)
    rows: list[tuple[int, Kept]] = []
    todo = [(0, each) for each in reversed(children.pop("", []))]
    while todo:
        depth, each = todo.pop()
        rows.append((depth, each))
        todo += [(depth + 1, child) for child in reversed(children.pop(each.name, []))]
    rows += [(0, each) for rest in children.values() for each in rest]  # parents that are each other's children
    return rows
