"""Which room may import which: each room only itself and the rooms below it in TABLE."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import nestlab

TABLE = """
__main__
cli
testing
verbs
proxmox
install
engines
show
doctor
images
network
home
plan
hosts
wire
explain
labfile
guest
kinds
lab
answers
base
"""

PURE = """base answers lab labfile kinds guest plan explain doctor show
network.network_script images.initramfs images.recipes images.debian images.tiny hosts.facts
engines.libvirt.domain engines.libvirt.drift engines.libvirt.observed engines.libvirt.mark engines.libvirt.xml
engines.qemu.argv engines.qemu.observed engines.qemu.console engines.qemu.identity home.paths install.command
engines.pve.tags engines.pve.hardware engines.pve.cpu_types engines.pve.placement engines.pve.resources
engines.pve_node images.pve"""
IMPURE = """base.files base.holes base.locks base.paint base.processes base.temporary base.regular lab.blueprint_file
labfile.scalars labfile.load labfile.taken doctor.surgery.effects show.live"""
"""In those rooms, what reads or writes all the same."""
EFFECTS = {"asyncio", "fcntl", "os", "shutil", "signal", "socket", "subprocess", "tempfile", "threading"}
HEAVY = {"aiohttp", "asyncssh", "pycdlib", "pydantic", "qemu", "rich", "ruamel", "typer"}

ROOT = Path(nestlab.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
RANK = {room: rank for rank, line in enumerate(reversed(TABLE.strip().splitlines())) for room in line.split()}


def room_of(module: str) -> str:
    """The package that a module is in; "" if the table does not have it."""
    room = module.split(".")[0]
    return room if room in RANK else ""


def within(module: str, names: str) -> bool:
    """Whether a module is one of these, or in one of them."""
    return any(module == name or module.startswith(f"{name}.") for name in names.split())


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
    assert list(misplaced("plan", ["nestlab.verbs.nest.Nest", "nestlab.lab.model.Lab"])) == [
        "plan imports nestlab.verbs.nest.Nest"
    ]
    assert list(misplaced("wire.ssh", ["nestlab.hosts.ssh", "nestlab.wire.command_streams", "asyncssh"])) == [
        "wire.ssh imports nestlab.hosts.ssh"
    ]
    assert list(misplaced("unheard_of", [])) != []


def test_pure_rooms_import_nothing_that_has_effects() -> None:
    pure = [module for module in MODULES if within(named(module), PURE) and named(module) not in IMPURE.split()]
    tops = {module: {name.split(".")[0] for name in imports(MODULES[module])} for module in pure}
    assert {module: found & EFFECTS for module, found in tops.items() if found & EFFECTS} == {}
    listed = [*PURE.split(), *IMPURE.split()]
    assert [name for name in listed if not any(within(named(module), name) for module in MODULES)] == []


def test_only_the_package_and_its_program_are_loose_files() -> None:
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]


def test_every_room_says_what_lives_there() -> None:
    rooms = [ROOT / room for room in TABLE.split() if room != "__main__"]
    said = {room.name: ast.get_docstring(ast.parse((room / "__init__.py").read_text())) for room in rooms}
    assert [room for room, text in said.items() if not text] == []
    assert {path.name for path in ROOT.iterdir() if path.is_dir()} - {"__pycache__"} == set(said)


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    found = {}
    for module, path in MODULES.items():
        allowed = {"typer"} if room_of(module) == "cli" else set()
        heavy = {name.split(".")[0] for name in imports(path, top=True)} & HEAVY - allowed
        if heavy:
            found[module] = heavy
    assert found == {}


def test_no_name_of_a_package_is_that_of_a_module_in_it() -> None:
    """Importing `package.name` would put the module in the place of what the package calls so."""
    shadowed = []
    for module, path in MODULES.items():
        if not module.endswith("__init__"):
            continue
        own = {
            each.name for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef | ast.ClassDef)
        }
        own |= {each.name for each in ast.parse(path.read_text()).body if isinstance(each, ast.AsyncFunctionDef)}
        files = {each.stem for each in path.parent.iterdir()}
        shadowed += [f"{named(module)}.{name}" for name in sorted(own & files)]
    assert shadowed == []


def test_the_architecture_page_has_the_rooms_in_their_order() -> None:
    page = (ROOT.parent.parent / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE) == [room for room in TABLE.split() if room != "__main__"]


def _in_texts(file: Path) -> set[str]:
    """What programs import that stand in a file as texts."""
    texts = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
    found = set()
    for text in texts:
        if isinstance(text, str):
            for module, names in re.findall(r"^from (nestlab[.\w]*) import ([\w, ]+)$", text, re.MULTILINE):
                found |= {f"{module}.{name.strip()}" for name in names.split(",")}
    return found


def test_what_benchmarks_import_is_there() -> None:
    lost = []
    for bench in sorted((ROOT.parent.parent / "bench").iterdir()):
        if not bench.is_file() or not (bench.suffix == ".py" or "python" in bench.read_text().partition("\n")[0]):
            continue
        for name in {*imports(bench), *_in_texts(bench)}:
            module, _, attribute = name.rpartition(".")
            if name.startswith("nestlab.") and not hasattr(importlib.import_module(module), attribute):
                try:
                    importlib.import_module(name)
                except ImportError:
                    lost.append(f"{bench.name}: {name}")
    assert lost == []
