"""A `Lab` as the text of a lab file that says the same, everything written out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from nestlab.answers import Answers
from nestlab.lab.clusters import Cluster
from nestlab.lab.disks import Disk
from nestlab.lab.hardware import Hardware
from nestlab.lab.install import Install
from nestlab.lab.model import File, Image, Lab, Link, Machine, Segment, Setup, Vlan, format_size, plain
from nestlab.lab.places import Pve
from nestlab.lab.ports import Port
from nestlab.lab.pve_packages import PvePackages
from nestlab.lab.readiness import STILL
from nestlab.labfile.cloud_config import HEAD
from nestlab.labfile.nodes import resolve
from nestlab.labfile.ready import usual

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*")


def render(lab: Lab) -> str:
    """YAML that `parse_text` reads as an equal Lab (as long as the files that it names are there)."""
    lines = [f"lab: {_text(lab.name)}"]
    if lab.on is not None:
        lines.append(f"on: {_pve(lab.on) if isinstance(lab.on, Pve) else _text(lab.on.address)}")
    if lab.patience != 1:
        lines.append(f"patience: {lab.patience}")
    if lab.segments:
        lines.append("segments:")
        lines.extend(f"  {_text(each.name)}:{_segment(each)}" for each in lab.segments)
    if lab.clusters:
        lines.append("clusters:")
        lines.extend(f"  {_text(each.name)}: {_cluster(each)}" for each in lab.clusters)
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
    if segment.vlans:
        pairs.append(f"vlans: [{', '.join(map(_vlan, segment.vlans))}]")
    if segment.transparent:
        pairs.append("transparent: true")
    if segment.netboot is not None:
        netboot = segment.netboot
        said = {key: _text(value) for key, value in plain(netboot).items() if not key.endswith("_image")}
        for key, image in (("kernel", netboot.kernel_image), ("initrd", netboot.initrd_image)):
            said |= {key: f"{{{', '.join(_download(replace(image, format=None)))}}}"} if image is not None else {}
        pairs.append(f"netboot: {{{', '.join(f'{key}: {value}' for key, value in said.items())}}}")
    if segment.bridge is not None:
        pairs.append(f"bridge: {_text(segment.bridge)}")
    if segment.vlan is not None:
        pairs.append(f"vlan: {segment.vlan}")
    return f" {{{', '.join(pairs)}}}" if pairs else ""


def _cluster(cluster: Cluster) -> str:
    networks = ", ".join(f"{role}: {_text(segment)}" for role, segment in cluster.roles.items())
    pairs = [f"members: [{', '.join(map(_text, cluster.members))}]", f"networks: {{{networks}}}"]
    if cluster.qdevice is not None:
        pairs.append(f"qdevice: {_text(cluster.qdevice)}")
    return f"{{{', '.join(pairs)}}}"


def _vlan(vlan: Vlan) -> str:
    said = {"cidr": vlan.cidr, "cidr6": vlan.cidr6}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    return f"{{{', '.join([f'vlan: {vlan.vlan}', *pairs])}}}" if pairs else str(vlan.vlan)


def _machine(machine: Machine) -> Iterator[str]:
    yield f"{_text(machine.name)}:"
    if machine.hypervisor is not None:
        yield f"  hypervisor: {_text(machine.hypervisor)}"
    yield f"  image: {_image(machine.image)}"
    yield f"  cpus: {machine.cpus}"
    yield f"  memory: {_size(machine.memory)}"
    if machine.disk is not None:
        yield f"  disk: {_size(machine.disk)}"
    if machine.disks:
        yield f"  disks: {{{', '.join(map(_disk, machine.disks))}}}"
    if machine.cdroms:
        yield f"  cdroms: [{', '.join(map(_medium, machine.cdroms))}]"
    if machine.boot:
        yield f"  boot: [{', '.join(machine.boot)}]"
    if machine.links:
        yield f"  segments: {_links(machine.links)}"
    if machine.internet:
        yield "  internet: true"
    if machine.accel != "auto":
        yield f"  accel: {machine.accel}"
    if machine.cmdline:
        yield f"  cmdline: {_text(machine.cmdline)}"
    yield from (f"  {line}" for line in _hardware(machine.hardware))
    if machine.bus != "virtio":
        yield f"  bus: {machine.bus}"
    yield from _ready(machine)
    if machine.ssh_keys:
        yield f"  ssh_keys: [{', '.join(map(_text, machine.ssh_keys))}]"
    if machine.setup is not None:
        yield f"  setup: {_setup(machine.setup)}"
    if machine.ports:
        yield f"  ports: {_ports(machine.ports)}"
    if machine.container:
        yield "  container: true"
    if machine.ha:
        yield "  ha: true"
    if machine.node is not None:
        yield f"  node: {_text(machine.node)}"
    if machine.machines:
        yield "  machines:"
        for inner in machine.machines:
            for line in _machine(inner):
                yield "    " + line


def _hardware(hardware: Hardware) -> Iterator[str]:
    for name, value in plain(hardware).items():
        if isinstance(value, dict):
            yield f"{name}: {{{', '.join(f'{key}: {_scalar(each)}' for key, each in value.items())}}}"
        else:
            yield f"{name}: {_scalar(value)}"


def _scalar(value: object) -> str:
    return _text(value) if isinstance(value, str) else str(value).lower()


def _ready(machine: Machine) -> Iterator[str]:
    """Said where it is not what it is by default."""
    ready = machine.ready
    if ready == usual(machine.image, foreign=machine.foreign):
        return
    if ready.by == "port":
        yield f"  ready: {{port: {ready.port}}}"
    elif ready.by == "screen":
        yield f"  ready: {{screen: still{'' if ready.still == STILL else f', for: {ready.still}s'}}}"
    elif ready.by == "console":
        yield f"  ready: {{console: {_text(ready.pattern or '')}}}"
    else:
        yield f"  ready: {ready.by}"


def _size(size: int) -> str:
    text = format_size(size)
    return f"{text}B" if text[-1].isdigit() else text


def _disk(disk: Disk) -> str:
    pairs = [f"size: {_size(disk.size)}"] if disk.size else []
    said = {"file": disk.file, "format": disk.format, "bus": disk.bus, "serial": disk.serial}
    pairs += [f"{key}: {_text(value)}" for key, value in said.items() if value]
    pairs += ["ssd: true"] if disk.ssd else []
    pairs += _download(disk.image) if disk.image is not None else []
    return f"{_text(disk.name)}: {{{', '.join(pairs)}}}"


def _medium(medium: str | Image) -> str:
    return _text(medium) if isinstance(medium, str) else f"{{{', '.join(_download(replace(medium, format=None)))}}}"


def _download(image: Image) -> list[str]:
    """Where it is downloaded from, and what it is."""
    algorithm, _, digest = (image.checksum or "" if image.sums is None else "").partition(":")
    said = {"url": image.url, algorithm: digest or None, "sums": image.sums, "signed_by": image.signed_by}
    said |= {"format": image.format, "compression": image.compression or "none"}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    return [*pairs, *([f"max_size: {_size(image.max_size)}"] if image.max_size is not None else [])]


def _links(links: tuple[Link, ...]) -> str:
    if all(link == Link(link.segment) for link in links):
        return f"[{', '.join(_text(link.segment) for link in links)}]"
    return f"{{{', '.join(f'{_text(link.segment)}: {_link(link)}' for link in links)}}}"


def _link(link: Link) -> str:
    said = {"address": link.address, "address6": link.address6, "mac": link.mac}
    said |= {"card": link.card if link.card != "virtio" else None}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    pairs += [f"vlan: {link.vlan}"] if link.vlan is not None else []
    pairs += ["trunk: true"] if link.trunk else []
    return f"{{{', '.join(pairs)}}}"


def _install(install: Install) -> str:
    answers, usual = install.answers, Answers()
    said = {"system": install.family, "iso": install.iso, "mirror": install.mirror, "password": answers.password}
    said["firmware"] = install.firmware
    for key in ("locale", "keyboard", "timezone", "domain", "filesystem"):
        said[key] = getattr(answers, key) if getattr(answers, key) != getattr(usual, key) else None
    said["release"] = answers.suite if answers.suite != usual.suite else None
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    pairs += [f"iso: {_image(install.source)}"] if install.source is not None else []
    pairs += [f"disk: {_size(install.disk)}", f"memory: {_size(install.memory)}", f"cpus: {install.cpus}"]
    pairs += ["internet: true"] if install.internet else []
    for key in ("ssh_keys", "packages", "commands"):
        if items := getattr(answers, key):
            pairs.append(f"{key}: [{', '.join(map(_text, items))}]")
    if answers.extra:
        mapping = answers.extra.startswith("{") and install.family in ("ubuntu", "proxmox")
        pairs.append(f"extra: {answers.extra.replace('$', '$$') if mapping else _text(answers.extra)}")
    return f"{{{', '.join(pairs)}}}"


def _image(image: Image) -> str:
    if image == Image(base=image.base) and image.base is not None:
        return _text(image.base)
    said = {"from": image.base, "file": image.file, "mirror": image.mirror}
    said |= {"suite": image.suite, "kernel": image.kernel, "format": None if image.url else image.format}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    pairs += _packages(image.pve) if image.pve is not None else []
    pairs += _download(image) if image.url is not None else []
    if image.install is not None:
        pairs.append(f"install: {_install(image.install)}")
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


def _packages(packages: PvePackages) -> list[str]:
    digest = (packages.checksum or "").removeprefix("sha256:")
    said = {"url": packages.mirror, "suite": packages.suite, "component": packages.component}
    said |= {"keyring": packages.keyring, "sha256": digest or None}
    pairs = [f"{key}: {_text(value)}" for key, value in said.items() if value is not None]
    return [f"version: {packages.version}", f"pve_mirror: {{{', '.join(pairs)}}}"]


def _ports(ports: tuple[Port, ...]) -> str:
    if all(each.local is None for each in ports):
        return f"[{', '.join(str(each.port) for each in ports)}]"
    pairs = (f"{each.port}: {each.local}" if each.local is not None else f"{each.port}: null" for each in ports)
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
