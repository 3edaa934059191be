"""A `Lab` as the text of a lab file that says the same, everything written out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nestlab.lab.model import File, Image, Lab, Link, Machine, Pve, Segment, Setup, format_size
from nestlab.labfile.cloud_config import HEAD
from nestlab.labfile.nodes import resolve

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*")


def render(lab: Lab) -> str:
    """YAML that `parse_text` reads as an equal Lab (as long as the files that it names are there)."""
    lines = [f"lab: {_text(lab.name)}"]
    if lab.on is not None:
        lines.append(f"on: {_pve(lab.on)}")
    if lab.patience != 1:
        lines.append(f"patience: {lab.patience}")
    if lab.segments:
        lines.append("segments:")
        lines.extend(f"  {_text(each.name)}:{_segment(each)}" for each in lab.segments)
    lines.append("machines:")
    for machine in lab.machines:
        lines.extend("  " + line for line in _machine(machine))
    return "\n".join(lines) + "\n"


def _pve(on: Pve) -> str:
    if on == Pve(on.address):
        return _text(on.address)
    said = {"pve": on.address, "pool": on.pool, "storage": on.storage, "images": on.images, "zone": on.zone}
    said |= {"bridge": on.bridge, "placement": on.placement, "cpu": on.cpu}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    if on.nodes:
        pairs.append(f"nodes: [{', '.join(map(_text, on.nodes))}]")
    return f"{{{', '.join(pairs)}}}"


def _segment(segment: Segment) -> str:
    said = {"cidr": segment.cidr, "cidr6": segment.cidr6}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    if segment.mtu != 1500:
        pairs.append(f"mtu: {segment.mtu}")
    if segment.bridge is not None:
        pairs.append(f"bridge: {_text(segment.bridge)}")
    if segment.vlan is not None:
        pairs.append(f"vlan: {segment.vlan}")
    return f" {{{', '.join(pairs)}}}" if pairs else ""


def _machine(machine: Machine) -> Iterator[str]:
    yield f"{_text(machine.name)}:"
    if machine.hypervisor is not None:
        yield f"  hypervisor: {_text(machine.hypervisor)}"
    yield f"  image: {_image(machine.image)}"
    yield f"  cpus: {machine.cpus}"
    yield f"  memory: {_size(machine.memory)}"
    if machine.disk is not None:
        yield f"  disk: {_size(machine.disk)}"
    if machine.links:
        yield f"  segments: {_links(machine.links)}"
    if machine.internet:
        yield "  internet: true"
    if machine.accel != "auto":
        yield f"  accel: {machine.accel}"
    if machine.cmdline:
        yield f"  cmdline: {_text(machine.cmdline)}"
    if machine.ssh_keys:
        yield f"  ssh_keys: [{', '.join(map(_text, machine.ssh_keys))}]"
    if machine.setup is not None:
        yield f"  setup: {_setup(machine.setup)}"
    if machine.container:
        yield "  container: true"
    if machine.node is not None:
        yield f"  node: {_text(machine.node)}"
    if machine.machines:
        yield "  machines:"
        for inner in machine.machines:
            for line in _machine(inner):
                yield "    " + line


def _size(size: int) -> str:
    text = format_size(size)
    return f"{text}B" if text[-1].isdigit() else text


def _links(links: tuple[Link, ...]) -> str:
    if all(link == Link(link.segment) for link in links):
        return f"[{', '.join(_text(link.segment) for link in links)}]"
    return f"{{{', '.join(f'{_text(link.segment)}: {_link(link)}' for link in links)}}}"


def _link(link: Link) -> str:
    said = {"address": link.address, "address6": link.address6, "mac": link.mac}
    return f"{{{', '.join(f'{key}: {_text(value)}' for key, value in said.items() if value is not None)}}}"


def _image(image: Image) -> str:
    if image == Image(base=image.base) and image.base is not None:
        return _text(image.base)
    said = {"from": image.base, "file": image.file, "format": image.format, "mirror": image.mirror}
    said |= {"suite": image.suite, "kernel": image.kernel}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    if image.user != "root":
        pairs.append(f"user: {_text(image.user)}")
    if image.packages:
        pairs.append(f"packages: [{', '.join(map(_text, image.packages))}]")
    if image.files:
        pairs.append(f"files: {{{', '.join(map(_file, image.files))}}}")
    if image.script is not None:
        pairs.append(f"script: {_text(image.script)}")
    if image.cloud_init is not None:
        config = f"{HEAD}\n{image.cloud_init}"
        pairs.append(f"cloud_init: {_text(config)}")
    return f"{{{', '.join(pairs)}}}"


def _setup(setup: Setup) -> str:
    pairs = [f"files: {{{', '.join(map(_file, setup.files))}}}"] if setup.files else []
    pairs += [f"commands: [{', '.join(map(_text, setup.commands))}]"] if setup.commands else []
    return f"{{{', '.join(pairs)}}}"


def _file(file: File) -> str:
    said = {"text": file.text, "source": file.source}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    if file.mode != 0o644:
        pairs.append(f"mode: 0o{file.mode:03o}")
    return f"{_text(file.path)}: {{{', '.join(pairs)}}}"


def _text(text: str) -> str:
    """A scalar that is read as this very text, between brackets too."""
    if _PLAIN.fullmatch(text) and isinstance(resolve(text), str):
        return text
    return f'"{"".join(map(_letter, text))}"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "$": "$$"}


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
