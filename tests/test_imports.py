"""Which room may import which: each line of TABLE only itself's folder and the lines below it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import nestlab

TABLE = """
__main__
cli
local migrate
session proxmox
live logs verify apply leftovers shelf pvesetup
nest library ground
engines.qemu.engine engines.pve engines.fake fakepve
engines.qemu.making
engines.qemu.setting
vault
engines.qemu
images runtime switches hosts copy terminal
engines survey debstrap origin doctor.examine doctor.surgery doctor.remote
host
wire cache early files home journal keys lock packages store unpack which switch
progress
render schema seed doctor.report
labfile planner tree addresses capacity network_script
changes kinds events paint proofs recipes initramfs privileges
doctor
blueprint plan
names guest bootdisk pveaddress
model facts errors probe printable switchport
"""

PURE = """model facts errors printable plan blueprint names planner changes kinds events paint proofs render tree
addresses capacity network_script initramfs doctor pveaddress labfile.pve
engines.qemu.argv engines.qemu.look engines.qemu.console engines.qemu.identity
engines.pve.marks engines.pve.hardware engines.pve.processors engines.pve.placement engines.pve.survey"""
EFFECTS = {"asyncio", "fcntl", "os", "shutil", "signal", "socket", "subprocess", "tempfile", "threading"}
HEAVY = {"aiohttp", "asyncssh", "pycdlib", "pydantic", "qemu", "rich", "ruamel", "typer"}

ROOT = Path(nestlab.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
RANK = {room: rank for rank, line in enumerate(reversed(TABLE.strip().splitlines())) for room in line.split()}


def room_of(module: str) -> str:
    """The longest prefix of a module's name that the table has."""
    parts = module.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in RANK), "")


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """What a file imports, by full name; with `top` only what is imported as soon as the file is."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(module: str) -> str:
    return module.removesuffix(".__init__")


def misplaced(module: str, names: Iterable[str]) -> Iterator[str]:
    """The imports of a module that its line of TABLE does not allow."""
    room = room_of(module)
    if not room:
        yield f"{module} is in no line of TABLE: put it where all it imports is below it"
        return
    for name in names:
        other = room_of(name.removeprefix("nestlab.")) if name.startswith("nestlab.") else room
        if other and other != room and RANK[other] >= RANK[room]:
            yield f"{module} imports {name}"


def test_rooms_import_only_what_is_below_them() -> None:
    modules = {named(module): path for module, path in MODULES.items() if module != "__init__"}
    assert [wrong for module, path in modules.items() for wrong in misplaced(module, imports(path))] == []


def test_an_import_from_above_is_found() -> None:
    assert list(misplaced("plan", ["nestlab.nest.Nest", "nestlab.model.Lab"])) == ["plan imports nestlab.nest.Nest"]
    assert list(misplaced("wire.ssh", ["nestlab.hosts", "nestlab.wire.flow", "asyncssh"])) == [
        "wire.ssh imports nestlab.hosts"
    ]
    assert list(misplaced("unheard_of", [])) != []


def test_pure_rooms_import_nothing_that_has_effects() -> None:
    pure = [module for module in MODULES if {room_of(named(module)), module} & set(PURE.split())]
    tops = {module: {name.split(".")[0] for name in imports(MODULES[module])} for module in pure}
    assert {module: found & EFFECTS for module, found in tops.items() if found & EFFECTS} == {}
    assert len(pure) >= len(PURE.split()), "PURE names modules that are not there"


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    found = {}
    for module, path in MODULES.items():
        allowed = {"typer"} if room_of(module) == "cli" else set()
        heavy = {name.split(".")[0] for name in imports(path, top=True)} & HEAVY - allowed
        if heavy:
            found[module] = heavy
    assert found == {}
