"""A lab drawn: boxes in boxes for what runs in what, and a line from a machine to each segment that it is on, as text
for Mermaid or for Graphviz (DOT). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_interface

from nestlab.base.frozen import frozen
from nestlab.base.printable import hidden, one_line
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Lab, Machine, format_size, parent_of
from nestlab.lab.urls import name_in


@frozen
class Box:
    """A machine. `cards`: segments that it is on, each with its address there ("": not settled yet)."""

    path: str
    lines: tuple[str, ...]
    hypervisor: bool
    cards: tuple[tuple[str, str], ...]


@frozen
class Drawing:
    """`boxes`: outer ones first; `segments`: by name, with its network ("": not settled yet)."""

    lab: str
    boxes: tuple[Box, ...]
    segments: Mapping[str, str]

    def inside(self, path: str) -> list[Box]:
        return self._inside.get(path, [])

    @cached_property
    def _inside(self) -> dict[str, list[Box]]:
        found: dict[str, list[Box]] = {}
        for box in self.boxes:
            found.setdefault(parent_of(box.path), []).append(box)
        return found


def of_lab(lab: Lab) -> Drawing:
    """A lab as its file says: addresses and networks that it leaves open are not shown."""
    boxes = []
    for placed in lab.walk():
        cards = tuple((link.segment, _card(link.address, link.vlan, link.trunk)) for link in placed.machine.links)
        boxes.append(_box(placed.path, placed.machine, cards))
    return Drawing(lab.name, tuple(boxes), {each.name: each.cidr or "" for each in lab.segments})


def of_blueprint(blueprint: Blueprint) -> Drawing:
    """A lab as it was made, with the addresses that it was given."""
    boxes = []
    segments = {each.name: each.cidr or "" for each in blueprint.segments}
    for spec in blueprint.specs:
        cards = []
        for nic in (nic for nic in spec.nics if nic.addresses):
            cards.append((nic.segment, _card(nic.addresses[0].split("/")[0], nic.vlan, nic.trunk)))
            if nic.vlan is None:
                segments[nic.segment] = segments.get(nic.segment) or str(ip_interface(nic.addresses[0]).network)
        boxes.append(_box(spec.path, spec.machine, tuple(cards)))
    return Drawing(blueprint.lab, tuple(boxes), segments)


def _card(address: str | None, vlan: int | None, trunk: bool) -> str:
    """What stands at the line from a machine to a segment."""
    port = "trunk" if trunk else f"VLAN {vlan}" if vlan is not None else ""
    return " ".join(filter(None, (address, port)))


def _box(path: str, machine: Machine, cards: tuple[tuple[str, str], ...]) -> Box:
    given = machine.image
    image = given.base or (name_in(given.url) if given.url else (given.file or "").rpartition("/")[2])
    what = f"{machine.hypervisor} hypervisor" if machine.hypervisor else image
    what = f"container of {what}" if machine.container else what
    lines = (machine.name, f"{what}, {format_size(machine.memory)}")
    return Box(path, lines, machine.hypervisor is not None, cards)


def mermaid(drawing: Drawing) -> str:
    """For Markdown (GitHub, GitLab and many editors draw it) and mermaid.js."""
    ids = {box.path: f"m{number}" for number, box in enumerate(drawing.boxes)}
    wires = {name: f"s{number}" for number, name in enumerate(drawing.segments)}
    lines = [f"%% lab {one_line(drawing.lab)}", "flowchart TB", *_mermaid_boxes(drawing, "", ids, "  ")]
    for name, network in drawing.segments.items():
        lines.append(f"  {wires[name]}([{_html([f'segment {name}', network])}])")
    for box in drawing.boxes:
        for segment, address in box.cards:
            line = f"-- {_html([address])} ---" if address else "---"
            lines.append(f"  {ids[box.path]} {line} {wires[segment]}")
    return "\n".join(lines)


def _mermaid_boxes(drawing: Drawing, path: str, ids: Mapping[str, str], indent: str) -> Iterator[str]:
    for box in drawing.inside(path):
        label = f"{ids[box.path]}[{_html(box.lines)}]"
        if not drawing.inside(box.path):
            yield f"{indent}{label}"
            continue
        yield f"{indent}subgraph {label}"
        yield from _mermaid_boxes(drawing, box.path, ids, indent + "  ")
        yield f"{indent}end"


def _html(lines: Sequence[str]) -> str:
    """A quoted label. Mermaid takes characters as entities with a # for the &."""
    text = "<br/>".join("".join(_entity(letter) for letter in line) for line in lines if line)
    return f'"{text}"'


def _entity(letter: str) -> str:
    return f"#{ord(letter)};" if letter in '"<>&#`;\\' or hidden(letter) else letter


def dot(drawing: Drawing) -> str:
    """For Graphviz: `dot -Tsvg`."""
    ids = {box.path: f"m{number}" for number, box in enumerate(drawing.boxes)}
    wires = {name: f"s{number}" for number, name in enumerate(drawing.segments)}
    lines = [f"graph {_quoted([drawing.lab])} {{", "  compound=true;", "  node [shape=box];"]
    lines += _dot_boxes(drawing, "", ids, "  ")
    for name, network in drawing.segments.items():
        lines.append(f"  {wires[name]} [shape=ellipse, label={_quoted([f'segment {name}', network])}];")
    for box in drawing.boxes:
        # A line starts at a node; `ltail` cuts it off at the edge of the box that the node stands in.
        tail = f"ltail=cluster_{ids[box.path]}" if drawing.inside(box.path) else ""
        for segment, address in box.cards:
            settings = ", ".join(word for word in (tail, f"label={_quoted([address])}" if address else "") if word)
            lines.append(f"  {ids[box.path]} -- {wires[segment]}{f' [{settings}]' if settings else ''};")
    return "\n".join([*lines, "}"])


def _dot_boxes(drawing: Drawing, path: str, ids: Mapping[str, str], indent: str) -> Iterator[str]:
    for box in drawing.inside(path):
        name, label = ids[box.path], _quoted(box.lines)
        if not drawing.inside(box.path):
            yield f"{indent}{name} [label={label}];"
            continue
        yield f"{indent}subgraph cluster_{name} {{"
        yield f"{indent}  label={label};"
        yield f'{indent}  {name} [shape=point, style=invis, label=""];'
        yield from _dot_boxes(drawing, box.path, ids, indent + "  ")
        yield f"{indent}}}"


def _quoted(lines: Sequence[str]) -> str:
    escaped = (one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(escaped) + '"'
