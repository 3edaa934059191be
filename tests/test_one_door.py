"""State is written through one door, `base.files`: what the sources do with files, read from them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nestlab

ROOT = Path(nestlab.__file__).parent

DOOR = "base.files"

ELSEWHERE = {
    "cli.exit_status": "the report of a crash of nestlab's, which nothing reads again",
    "cli.watching": "a capture goes where the user says, while it comes",
    "engines.pve.boot_images": "inside an entry of the cache that is being made: `cache.making` syncs it whole",
    "engines.qemu.container_runner": "what lives as long as a container in a hypervisor, in memory; a console",
    "engines.qemu.container_sockets": "the same",
    "hosts.probe": "/dev/kvm is opened, which changes nothing",
    "hosts.unpack": "what `nestlab cp` brings",
    "engines.qemu.sparse_copy": "inside an entry of the cache that is being made",
    "home.directories": "a link, which is synced; who makes it first has made it",
    "home.cache": "lock files, which hold nothing",
    "home.journal": "a journal grows by lines; a line cut off is left out, and its end is synced",
    "home.lock": "a lock file: what it says counts only while the kernel holds the lock",
    "images.boot_disk": "inside an entry of the cache that is being made",
    "images.fetch": "inside an entry of the cache that is being made",
    "images.make_disk": "inside an entry of the cache that is being made",
    "images.unpack": "inside an entry of the cache that is being made, as a process of its own",
    "images.debian_files": "inside an entry of the cache that is being made",
    "images.image_builder": "inside an entry of the cache that is being made",
    "images.package_names": "inside an entry of the cache that is being made",
    "images.qemu_runtime": "inside an entry of the cache that is being made",
    "install.certificate": "there only until OpenSSL has read it, inside an entry of the cache that is being made",
    "install.runner": "what lives as long as an installation in a hypervisor; a console",
    "install.stage": "inside an entry of the cache that is being made",
    "install.medium": "inside an entry of the cache that is being made",
    "install.relay": "a lock file, which holds nothing",
    "network.daemon": "the pid file is a lock, and the log is no state",
    "network.switch_control": "a lock file, which holds nothing",
    "verbs.copy": "what `nestlab cp` brings",
    "wire.download": "what came of a download is checked as a whole, and synced by who publishes it",
}
"""Modules that write files by themselves, and why that needs no care for the power."""

METHODS = {"write_text", "write_bytes", "rename", "touch", "symlink_to", "hardlink_to", "link_to"}
FUNCTIONS = {"rename", "replace", "renames", "link", "symlink", "truncate", "mkstemp", "copyfile", "copy"}
FUNCTIONS |= {"copy2", "move", "copytree", "NamedTemporaryFile"}
LIBRARIES = {"os", "shutil", "tempfile"}
WRITES = {"O_WRONLY", "O_RDWR", "O_CREAT"}


def test_nothing_but_the_door_writes_files() -> None:
    found = {module: [*writes(path)] for module, path in modules().items() if module != DOOR}
    assert {module: lines for module, lines in found.items() if lines and module not in ELSEWHERE} == {}


def test_every_exception_is_still_one() -> None:
    found = {module for module, path in modules().items() if any(writes(path))}
    assert ELSEWHERE.keys() - found == set()
    assert DOOR in found


def test_every_way_to_write_a_file_is_seen() -> None:
    ways = [
        "Path(x).write_text(y)",
        "Path(x).write_bytes(y)",
        "temporary.replace(path)",
        "a.rename(b)",
        "os.rename(a, b)",
        "os.replace(a, b)",
        "shutil.move(a, b)",
        "tempfile.mkstemp(dir=a)",
        "open(a, 'w')",
        "a.open('ab')",
        "a.open(mode='x')",
        "os.open(a, os.O_WRONLY | os.O_CREAT)",
        "flags = os.O_RDWR | os.O_CREAT\nos.open(a, flags)",
        "link.symlink_to(a)",
        "a.touch()",
    ]
    assert [way for way in ways if not [*_writes(ast.parse(way))]] == []
    harmless = ["text.replace('a', 'b')", "open(a)", "a.open('rb')", "os.open(a, os.O_RDONLY)", "replace(spec, x=1)"]
    assert [way for way in harmless if [*_writes(ast.parse(way))]] == []


def modules() -> dict[str, Path]:
    """By name, but for the stand-ins for tests, which keep nothing."""
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
    return {name: path for name, path in found.items() if not name.startswith("testing.")}


def writes(path: Path) -> Iterator[str]:
    """The places where a file writes files, or gives them names."""
    return _writes(ast.parse(path.read_text(encoding="utf-8")))


def _writes(tree: ast.AST) -> Iterator[str]:
    flags = {
        each.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _has_flags(node.value)
        for each in node.targets
        if isinstance(each, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_write(node, flags):
            yield f"{node.lineno}: {ast.unparse(node)[:100]}"


def _has_flags(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr in WRITES for each in ast.walk(node))


def _is_write(call: ast.Call, flags: set[str]) -> bool:
    named = call.func
    if isinstance(named, ast.Name):
        return named.id == "open" and _mode_writes(call, 1)
    if not isinstance(named, ast.Attribute):
        return False
    if isinstance(named.value, ast.Name) and named.value.id in LIBRARIES:
        if named.attr == "open":
            named_flags = any(isinstance(each, ast.Name) and each.id in flags for each in call.args)
            return named_flags or _has_flags(call)
        return named.attr in FUNCTIONS
    if named.attr in ("replace", "rename"):  # of a path: a text's takes two arguments
        return len(call.args) == 1 and not call.keywords
    if named.attr == "open":
        return _mode_writes(call, 0) and not any(each.arg == "fileobj" for each in call.keywords)
    return named.attr in METHODS


def _mode_writes(call: ast.Call, at: int) -> bool:
    given = [*call.args[at : at + 1], *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)
