"""What a plan says of hypervisors that nestlab does not work in: how their machines are made, and what is not seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nestlab import kinds
from nestlab.base.errors import LabError
from nestlab.hosts.host import Host
from nestlab.kinds import Foreign
from nestlab.lab.blueprint import Blueprint, Spec

IGNORE_MSRS = "/sys/module/kvm/parameters/ignore_msrs"

_VENDORS = {"kvm_intel": "intel", "kvm_amd": "amd"}
"""By KVM's module, the vendor of a CPU."""


async def notes(blueprint: Blueprint, paths: Collection[str], host: Host | None) -> tuple[str, ...]:
    """Of the machines that are made. `host`: the lab's own; None where it is no computer that nestlab can look at."""
    found: list[str] = []
    specs = [spec for spec in blueprint.specs if spec.path in paths and spec.machine.foreign]
    if not specs:
        return ()
    msrs = await _parameter(host) if host is not None else None
    provider = (await host.facts()).provider if host is not None else ""
    for spec in specs:
        made = kinds.foreign().get(spec.machine.hypervisor or "")
        if made is not None:
            found += of_machine(spec, made, msrs, _VENDORS.get(provider))
    return tuple(found)


def of_machine(spec: Spec, made: Foreign, msrs: str | None, vendor: str | None) -> Iterator[str]:
    """Sentences for a person. `msrs`: the parameter of the KVM below it, None where it is not known."""
    if chosen := "; ".join(_chosen(spec, made)):
        yield f"{spec.path} is {made.title}: {chosen}."
    yield f"nestlab does not look inside {spec.path}: that it can run guests shows there ({made.look})."
    for name, what in made.vendors.items():
        if vendor in (None, name):
            yield f"{spec.path}: {what}."
    if made.ignore_msrs and (msrs is None or msrs in ("N", "0")):
        where = "KVM of this host" if msrs is not None else "the KVM that runs it"
        how = "`nestlab doctor --fix ignore-msrs` switches it on" if msrs is not None else "switch it on there"
        seen = "does not ignore unknown registers (ignore_msrs=N)" if msrs else "must ignore unknown registers"
        yield f"{spec.path}: {where} {seen}; without that, {made.ignore_msrs}: {how}."


def _chosen(spec: Spec, made: Foreign) -> Iterator[str]:
    """What was chosen for it, and why; what the lab file says otherwise is the user's choice."""
    machine = spec.machine
    has = {name: getattr(machine, name, None) or getattr(machine.hardware, name, None) for name in made.keys}
    for name, wish in made.keys.items():
        if has[name] == wish.value:
            value = wish.value if isinstance(wish.value, str) else ("yes" if wish.value else "no")
            yield f"{name} {value} ({wish.why})"
    if made.card_why:
        yield f"card {made.card} ({made.card_why})"


async def _parameter(host: Host) -> str | None:
    try:
        return (await host.read(IGNORE_MSRS)).decode(errors="replace").strip()[:1] or None
    except (LabError, OSError):
        return None
