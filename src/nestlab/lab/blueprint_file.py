"""A blueprint as JSON, and in a file: what a lab was last made from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nestlab.answers import Answers
from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.typed import check, names, parsed
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.clusters import Cluster
from nestlab.lab.disks import Disk
from nestlab.lab.hardware import Hardware, Smbios, Topology
from nestlab.lab.install import Install
from nestlab.lab.model import File, Image, Link, Machine, Segment, Setup, Vlan, plain
from nestlab.lab.netboot import Netboot
from nestlab.lab.places import place_of
from nestlab.lab.ports import Port
from nestlab.lab.pve_packages import PvePackages
from nestlab.lab.readiness import Ready

FORMAT = 1
"""Grows when an older nestlab could not read what is written: in this file, or in any other of a lab's directory, which
nothing reads before this one."""


names(Install, Image=Image)
names(Netboot, Image=Image)
names(Disk, Image=Image)


class Newer(ValueError):
    """A newer nestlab wrote it."""


def blueprint_to_json(blueprint: Blueprint) -> str:
    """JSON that `blueprint_from_json` reads. Texts of /etc/hosts stand in it once, as most machines share one."""
    texts: dict[str, int] = {}
    specs = []
    for spec in blueprint.specs:
        data = plain(spec)
        data.pop("hosts", None)
        specs.append(data | {"hosts": texts.setdefault(spec.hosts, len(texts))})
    images = {key: plain(image) for key, image in blueprint.images.items()}
    data = {"format": FORMAT, "lab": blueprint.lab, "segments": plain(blueprint.segments), "specs": specs}
    if blueprint.on is not None:
        data["on"] = plain(blueprint.on)
    if blueprint.patience != 1:
        data["patience"] = blueprint.patience
    if blueprint.clusters:
        data["clusters"] = plain(blueprint.clusters)
    return json.dumps(data | {"images": images, "hosts": list(texts)}, separators=(",", ":"))


@lru_cache(maxsize=2)  # a lab's two files say the same, as a rule
def blueprint_from_json(text: str) -> Blueprint:
    """The blueprint. ValueError for anything else; Newer for one of a newer format, or with fields that this nestlab
    does not know."""
    data = parsed(text)
    known = data.get("format") if isinstance(data, dict) else None
    if isinstance(known, int) and known > FORMAT:
        raise Newer(f"its format is {known}, and this nestlab knows up to {FORMAT}")
    if known != FORMAT:
        raise ValueError("it is not a blueprint in a format that this nestlab knows")
    try:
        found = Blueprint(
            data["lab"],
            tuple(map(_segment, data["segments"])),
            tuple(_spec(each, data["hosts"]) for each in data["specs"]),
            MappingProxyType({key: _image(each) for key, each in data["images"].items()}),
            place_of(data["on"]) if data.get("on") is not None else None,
            max(1, int(data.get("patience", 1))),
            tuple(Cluster(**_tuples(each, "members", "links")) for each in data.get("clusters", ())),
        )
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise Newer(f"it says `{unknown[1]}`, which this nestlab does not know") from error
        raise ValueError(f"it is not a whole blueprint ({error})") from error
    check(found, Blueprint, "blueprint")
    if lost := {spec.image for spec in found.specs} - found.images.keys():
        raise ValueError(f"it lacks the image {min(lost)}")
    known = {"", *(spec.path for spec in found.specs)}
    if lost := {spec.parent for spec in found.specs} - known:
        raise ValueError(f"it lacks the machine {min(lost)}")
    if lost := {path for each in found.clusters for path in each.members} - known:
        raise ValueError(f"it lacks the machine {min(lost)}, a member of a cluster")
    return found


def renamed(blueprint: Blueprint, lab: str) -> Blueprint:
    """The same machines in a lab of another name, which only the names that they call each other by tell."""
    if blueprint.lab == lab:
        return blueprint
    name = re.compile(rf"(?m)^(\S+ \S+)\.{re.escape(blueprint.lab)}\.internal(?= )")
    texts = {text: name.sub(rf"\1.{lab}.internal", text) for text in {spec.hosts for spec in blueprint.specs}}
    return replace(blueprint, lab=lab, specs=tuple(replace(spec, hosts=texts[spec.hosts]) for spec in blueprint.specs))


def load(path: Path, lab: str) -> Blueprint | None:
    """The blueprint in a file of a lab, under the name that the lab has now; None if there is no such file. LabError
    if it cannot be read."""
    try:
        return renamed(blueprint_from_json(path.read_text(encoding="utf-8")), lab)
    except FileNotFoundError:
        return None
    except Newer as error:
        hint = "Use that nestlab, or a newer one, for this lab; nothing was changed."
        raise LabError(f"A newer nestlab was at work on lab {lab} ({path}): {error}.", hint=hint) from error
    except (OSError, ValueError) as error:
        hint = "Move the file away; `nestlab up` with the lab file writes it again."
        raise LabError(f"{path} cannot be read: {error}.", hint=hint) from error


def save(path: Path, blueprint: Blueprint) -> None:
    """Replace the file (0600) at once, or not at all; one that is the same already is left alone, so that a full disk
    does not keep a lab from being taken down. LabError if it cannot be written."""
    files.replace_changed({path: (blueprint_to_json(blueprint).encode(), 0o600)})


def _segment(data: Mapping[str, Any]) -> Segment:
    rest = {**data, "vlans": tuple(Vlan(**each) for each in data.get("vlans", ()))}
    return Segment(**rest | ({"netboot": _netboot(rest["netboot"])} if rest.get("netboot") is not None else {}))


def _netboot(data: Mapping[str, Any]) -> Netboot:
    rest: dict[str, Any] = {key: _image(value) if key.endswith("_image") else value for key, value in data.items()}
    return Netboot(**rest)


def _spec(data: Mapping[str, Any], texts: list[str]) -> Spec:
    rest = dict(data)
    rest["machine"] = _machine(rest["machine"])
    rest["nics"] = tuple(Nic(**_tuples(each, "addresses")) for each in rest.get("nics", ()))
    rest["cargo"] = tuple(rest.get("cargo", ()))
    rest["hosts"] = texts[rest["hosts"]]
    rest["setup"] = tuple(rest.get("setup", ()))
    rest["files"] = tuple(rest.get("files", ()))
    return Spec(**rest)


def _machine(data: Mapping[str, Any]) -> Machine:
    rest = dict(data)
    if "image" in rest:
        rest["image"] = _image(rest["image"])
    rest["links"] = tuple(Link(**each) for each in rest.get("links", ()))
    rest["ports"] = tuple(Port(**each) for each in rest.get("ports", ()))
    rest["ssh_keys"] = tuple(rest.get("ssh_keys", ()))
    if rest.get("setup") is not None:
        setup = _tuples(rest["setup"], "commands")
        rest["setup"] = Setup(**setup | {"files": tuple(File(**each) for each in setup.get("files", ()))})
    if "hardware" in rest:
        rest["hardware"] = _hardware(rest["hardware"])
    if "ready" in rest:
        rest["ready"] = Ready(**rest["ready"])
    rest["machines"] = tuple(_machine(each) for each in rest.get("machines", ()))
    rest["disks"] = tuple(_disk(each) for each in rest.get("disks", ()))
    rest["cdroms"] = tuple(each if isinstance(each, str) else _image(each) for each in rest.get("cdroms", ()))
    rest["boot"] = tuple(rest.get("boot", ()))
    return Machine(**rest)


def _disk(data: Mapping[str, Any]) -> Disk:
    return Disk(**{**data, **({"image": _image(data["image"])} if data.get("image") else {})})


def _hardware(data: Mapping[str, Any]) -> Hardware:
    rest = dict(data)
    for name, kind in (("topology", Topology), ("smbios", Smbios)):
        if rest.get(name) is not None:
            rest[name] = kind(**rest[name])
    return Hardware(**rest)


def _image(data: Mapping[str, Any]) -> Image:
    rest = _tuples(data, "packages", "drivers", "words")
    rest["files"] = tuple(File(**each) for each in rest.get("files", ()))
    rest |= {"pve": PvePackages(**rest["pve"])} if rest.get("pve") is not None else {}
    if rest.get("install") is not None:
        rest["install"] = _install(rest["install"])
    return Image(**rest)


def _install(data: Mapping[str, Any]) -> Install:
    rest = dict(data)
    rest["answers"] = Answers(**_tuples(rest.get("answers", {}), "ssh_keys", "packages", "commands"))
    if rest.get("source") is not None:
        rest["source"] = _image(rest["source"])
    return Install(**rest)


def _tuples(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(value) if name in names else value for name, value in data.items()}
