"""Notes on machines that are larger than the computer they are to run on. It may be another one: no mistake."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab.base.errors import Mistake
from nestlab.lab.model import Lab, format_size
from nestlab.lab.places import is_here
from nestlab.labfile.read import Section


def too_large(lab: Lab, root: Section, memory: int) -> Iterator[Mistake]:
    """Of a lab on this computer. `memory`: the bytes that this computer has; 0: not known."""
    machines = root.values.get("machines")
    if not is_here(lab.on) or not memory or not isinstance(machines, Section):
        return
    here = f"{memory / (1 << 30):.1f}G of this computer"
    larger = False
    for machine in lab.machines:
        if machine.memory > memory and machine.name in machines.keys:
            section = machines.values.get(machine.name)
            said = section.at.get("memory") if isinstance(section, Section) else None
            node = said or machines.keys[machine.name]
            key = f"machines.{machine.name}{'.memory' if said else ''}"
            larger = True
            yield node.mistake(f"{format_size(machine.memory)} is more than the {here}", key=key)
    together = sum(machine.memory for machine in lab.machines)
    if together > memory and not larger:
        what = f"its machines have {together / (1 << 30):.1f}G together, more than the {here}"
        yield root.keys["machines"].mistake(what, key="machines")
