"""A blueprint as JSON, and in a file: what a lab was last made from."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.model import File, Image, Link, Machine, Pve, Segment, Setup, plain

FORMAT = 1
"""Grows when an older nestlab could not read what is written."""


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
    return json.dumps(data | {"images": images, "hosts": list(texts)}, separators=(",", ":"))


def blueprint_from_json(text: str) -> Blueprint:
    """The blueprint. ValueError for anything else, also of a newer format."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("it is not a blueprint in a format that this nestlab knows")
    try:
        return Blueprint(
            data["lab"],
            tuple(Segment(**each) for each in data["segments"]),
            tuple(_spec(each, data["hosts"]) for each in data["specs"]),
            MappingProxyType({key: _image(each) for key, each in data["images"].items()}),
            Pve(**_tuples(data["on"], "nodes")) if data.get("on") is not None else None,
            max(1, int(data.get("patience", 1))),
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"it is not a whole blueprint ({error})") from error


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
    except (OSError, ValueError) as error:
        hint = "Move the file away; `nestlab up` with the lab file writes it again."
        raise LabError(f"{path} cannot be read: {error}.", hint=hint) from error


def save(path: Path, blueprint: Blueprint) -> None:
    """Replace the file (0600) at once, or not at all; one that is the same already is left alone, so that a full disk
    does not keep a lab from being taken down. LabError if it cannot be written."""
    temporary = None
    text = blueprint_to_json(blueprint)
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.rename(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise LabError(f"{path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error


def _spec(data: Mapping[str, Any], texts: list[str]) -> Spec:
    rest = dict(data)
    rest["machine"] = _machine(rest["machine"])
    rest["nics"] = tuple(Nic(**_tuples(each, "addresses")) for each in rest.get("nics", ()))
    rest["cargo"] = tuple(rest.get("cargo", ()))
    rest["hosts"] = texts[rest["hosts"]]
    rest["setup"] = tuple(rest.get("setup", ()))
    return Spec(**rest)


def _machine(data: Mapping[str, Any]) -> Machine:
    rest = dict(data)
    if "image" in rest:
        rest["image"] = _image(rest["image"])
    rest["links"] = tuple(Link(**each) for each in rest.get("links", ()))
    rest["ssh_keys"] = tuple(rest.get("ssh_keys", ()))
    if rest.get("setup") is not None:
        setup = _tuples(rest["setup"], "commands")
        rest["setup"] = Setup(**setup | {"files": tuple(File(**each) for each in setup.get("files", ()))})
    rest["machines"] = tuple(_machine(each) for each in rest.get("machines", ()))
    return Machine(**rest)


def _image(data: Mapping[str, Any]) -> Image:
    rest = _tuples(data, "packages")
    rest["files"] = tuple(File(**each) for each in rest.get("files", ()))
    return Image(**rest)


def _tuples(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(value) if name in names else value for name, value in data.items()}
