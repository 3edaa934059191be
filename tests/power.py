"""What a power cut, a full disk or a SIGKILL at any write of state leaves: the calls that nestlab makes, recorded.

The model is the strict one of fsync(2): of a file is kept what was there when it was last synced, of a directory the
names that it had when it was last synced; what came after may be kept or lost, each by itself. Only a rename is one
thing, as on every file system with a journal: a folder has its old name or its new one.
"""

# ruff: noqa: PTH100, PTH115, PTH118 - the calls themselves are what is watched
from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nestlab.base import files

Image = Mapping[str, bytes | str | None]
"""A tree after a cut: content by path, None for directories, a text for the target of a link."""

Gate = Callable[[str, str], None]
"""Called before each call that changes the disk, with its name and path; what it raises is what the call does."""


@dataclass(eq=False)
class File:
    now: bytes = b""
    kept: bytes = b""
    mode: int = 0o600


@dataclass(eq=False)
class Folder:
    now: dict[str, Node] = field(default_factory=dict)
    kept: dict[str, Node] = field(default_factory=dict)
    mode: int = 0o700


Node = File | Folder | str


class Disk:
    """The tree below `root`, as it is and as it is kept. `gate` is asked before each call that changes it, `done`
    called after it; `versions` are all contents that a path ever had under its own name. `others_keep`: what is done by
    programs and calls that are not recorded counts as kept; else it is lost until somebody syncs it."""

    def __init__(
        self,
        root: Path,
        gate: Gate = lambda *_: None,
        done: Callable[[], None] = lambda: None,
        *,
        others_keep: bool = True,
    ) -> None:
        self.root = root
        self.gate = gate
        self.done = done
        self.versions: dict[str, set[bytes]] = {}
        self.tied: dict[tuple[int, str], tuple[int, str]] = {}
        """The name that a folder has got, by the one that it had."""
        self._lock = threading.RLock()
        self._top = Folder()
        self._open: dict[int, Node] = {}
        self._others_keep = True  # what is there already
        self.adopt()
        self._others_keep = others_keep

    # -- what a cut leaves

    def images(self, seeds: int = 3) -> Iterator[Image]:
        """Trees that a cut may leave now: nothing, all names and no content, all, and some of what is not synced."""
        yield self._image(lambda: False, lambda: False)
        yield self._image(lambda: True, lambda: False)
        yield self._image(lambda: True, lambda: True)
        for seed in range(seeds):
            dice = random.Random(seed)
            yield self._image(lambda: dice.random() < 0.5, lambda: dice.random() < 0.5)  # noqa: B023

    def _image(self, name: Callable[[], bool], content: Callable[[], bool]) -> Image:
        found: dict[str, bytes | str | None] = {}
        contents: dict[int, bytes] = {}
        choices: dict[tuple[int, str], bool] = {}

        def walk(folder: Folder, path: str) -> None:
            for each in sorted({*folder.now, *folder.kept}):
                before, after = folder.kept.get(each), folder.now.get(each)
                key = self.tied.get((id(folder), each), (id(folder), each))
                node = after if before is after or choices.setdefault(key, name()) else before
                where = f"{path}/{each}" if path else each
                if isinstance(node, Folder):
                    found[where] = None
                    walk(node, where)
                elif isinstance(node, File):
                    found[where] = contents.setdefault(id(node), node.now if content() else node.kept)
                elif node is not None:
                    found[where] = node

        walk(self._top, "")
        return found

    # -- what is done

    def adopt(self) -> None:
        """What was done that is not recorded."""
        _adopt(self._top, self.root, kept=self._others_keep)

    def node(self, path: str) -> tuple[Folder, str]:
        folder, parts = self._top, Path(path).relative_to(self.root).parts
        for each in parts[:-1]:
            inner = folder.now[each]
            assert isinstance(inner, Folder), path
            folder = inner
        return folder, parts[-1] if parts else ""

    def at(self, path: str) -> Node:
        folder, name = self.node(path)
        return folder.now[name] if name else folder

    def covers(self, path: str) -> bool:
        return Path(path).is_relative_to(self.root)

    @contextmanager
    def call(self, name: str, path: str) -> Iterator[bool]:
        """Around a call: whether it is one on this disk, and to be recorded."""
        if not self.covers(path):
            yield False
            return
        with self._lock:
            self.adopt()
            self.gate(name, path)
            yield True
            for each, data in self._named():
                self.versions.setdefault(each, set()).add(data)
            self.done()

    def _named(self) -> Iterator[tuple[str, bytes]]:
        for path, data in self._image(lambda: True, lambda: True).items():
            if isinstance(data, bytes):
                yield path, data

    def opened(self, descriptor: int, path: str) -> None:
        folder, name = self.node(path)
        if name and name not in folder.now:
            folder.now[name] = File()
        self._open[descriptor] = self.at(path)

    def written(self, descriptor: int) -> None:
        node = self._open.get(descriptor)
        if isinstance(node, File):
            node.now = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def synced(self, descriptor: int) -> None:
        node = self._open.get(descriptor)
        if isinstance(node, File):
            node.kept = node.now
        elif isinstance(node, Folder):
            node.kept = dict(node.now)

    def synced_all(self) -> None:
        def walk(folder: Folder) -> None:
            folder.kept = dict(folder.now)
            for node in folder.now.values():
                if isinstance(node, Folder):
                    walk(node)
                elif isinstance(node, File):
                    node.kept = node.now

        walk(self._top)


def _adopt(folder: Folder, place: Path, *, kept: bool) -> None:
    there = {each.name: each for each in os.scandir(place)} if place.is_dir() else {}
    for name in [name for name in folder.now if name not in there]:
        folder.now.pop(name)
        if kept:
            folder.kept.pop(name, None)
    for name, entry in there.items():
        node = folder.now.get(name)
        if entry.is_symlink():
            new: Node | None = os.readlink(entry.path) if node is None else None
        elif entry.is_dir():
            new = None if isinstance(node, Folder) else Folder(mode=entry.stat().st_mode & 0o777)
            inner = new or node
            assert isinstance(inner, Folder)
            _adopt(inner, Path(entry.path), kept=kept)
        elif entry.is_file():
            new = _adopted(node, Path(entry.path), kept=kept)
        else:
            continue
        if new is not None:
            folder.now[name] = new
            if kept:
                folder.kept[name] = new


def _adopted(node: Node | None, path: Path, *, kept: bool) -> File | None:
    """A file that is new; None where it was there, with what it has now."""
    data = path.read_bytes()
    found = node if isinstance(node, File) else File()
    if found.now != data:
        found.now = data
        found.kept = data if kept else found.kept
    found.mode = stat.S_IMODE(path.stat().st_mode)
    return None if found is node else found


def put(image: Image, root: Path) -> None:
    """Make a tree as a cut left it, private as nestlab makes it."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o700, parents=True)
    for path, data in image.items():
        if data is None:
            (root / path).mkdir(mode=0o700)
        elif isinstance(data, str):
            (root / path).symlink_to(data)
        else:
            (root / path).write_bytes(data)
            (root / path).chmod(0o600)


@contextmanager
def recorded(disk: Disk, patch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """While the context is open, the disk sees what this process does to it."""
    real = {name: getattr(os, name) for name in (*_CHANGES, "open", "close", "fsync")}

    def path_of(path: Any, descriptor: int | None) -> str:
        text = os.fspath(path) if not isinstance(path, int) else os.readlink(f"/proc/self/fd/{path}")
        if descriptor is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), text)
        return os.path.abspath(text)

    def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = path_of(path, dir_fd)
        makes = bool(flags & os.O_CREAT) and not os.path.lexists(where)
        with disk.call("create" if makes else "", where) if makes else _nothing() as ours:
            descriptor: int = real["open"](path, flags, mode, dir_fd=dir_fd)
            if ours or (disk.covers(where) and os.path.lexists(where)):
                if not ours:
                    disk.adopt()
                disk.opened(descriptor, where)
            return descriptor

    def closing(descriptor: int) -> None:
        disk._open.pop(descriptor, None)
        real["close"](descriptor)

    def syncing(descriptor: int) -> None:
        with disk.call("fsync", path_of(descriptor, None)):
            real["fsync"](descriptor)
            disk.synced(descriptor)

    def writing(name: str) -> Callable[..., Any]:
        def call(descriptor: int, *words: Any) -> Any:
            if descriptor not in disk._open:
                return real[name](descriptor, *words)
            with disk.call(name, path_of(descriptor, None)):
                done = real[name](descriptor, *words)
                disk.written(descriptor)
                return done

        return call

    patch.setattr(os, "open", opening)
    patch.setattr(os, "close", closing)
    patch.setattr(os, "fsync", syncing)
    for name in ("write", "pwrite", "ftruncate"):
        patch.setattr(os, name, writing(name))
    for name in ("rename", "replace", "link"):
        patch.setattr(os, name, _moving(disk, name, real[name], path_of))
    for name in ("mkdir", "rmdir", "unlink", "remove"):
        patch.setattr(os, name, _naming(disk, name, real[name], path_of))

    def syncing_all(place: Path) -> None:
        with disk.call("syncfs", str(place)):
            disk.synced_all()

    patch.setattr(files, "sync_file_system", syncing_all)
    yield disk


_CHANGES = ("write", "pwrite", "ftruncate", "rename", "replace", "link", "mkdir", "rmdir", "unlink", "remove")


@contextmanager
def _nothing() -> Iterator[bool]:
    yield False


def _moving(disk: Disk, name: str, real: Callable[..., Any], path_of: Callable[..., str]) -> Callable[..., Any]:
    def call(source: Any, target: Any, **words: Any) -> None:
        one, other = path_of(source, words.get("src_dir_fd")), path_of(target, words.get("dst_dir_fd"))
        with disk.call(name, other) as ours:
            real(source, target, **words)
            if ours:
                (folder, old), (into, new) = disk.node(one), disk.node(other)
                if isinstance(folder.now[old], Folder):
                    disk.tied[id(folder), old] = (id(into), new)
                into.now[new] = folder.now[old] if name == "link" else folder.now.pop(old)

    return call


def _naming(disk: Disk, name: str, real: Callable[..., Any], path_of: Callable[..., str]) -> Callable[..., Any]:
    def call(path: Any, *words: Any, dir_fd: int | None = None, **more: Any) -> None:
        where = path_of(path, dir_fd)
        if dir_fd is not None:
            more["dir_fd"] = dir_fd
        if (name == "mkdir") == os.path.lexists(where):
            real(path, *words, **more)  # fails, and changes nothing
            return
        with disk.call(name, where) as ours:
            real(path, *words, **more)
            if ours:
                folder, last = disk.node(where)
                if name == "mkdir":
                    folder.now[last] = Folder()
                else:
                    folder.now.pop(last, None)  # a socket is no part of the tree

    return call


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
