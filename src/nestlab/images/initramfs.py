"""An initramfs as newc cpio bytes, and the order in which its modules are inserted. Pure."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from nestlab.base.frozen import frozen

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


@frozen
class Entry:
    """One member of the archive. `mode` is a whole st_mode; `path` is relative to the root, without `./`."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    def at(self, path: str) -> Entry:
        """The same member under another path."""
        return replace(self, path=path)


def directory(path: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | mode, data)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device: `dev/console` must exist before devtmpfs is mounted, or PID 1 has no output."""
    return Entry(path, stat.S_IFCHR | mode, device=(major, minor))


def cpio(entries: Iterable[Entry]) -> bytes:
    """A newc archive the kernel unpacks: parents are added before children, everything belongs to root, time 0.

    The same entries give the same bytes. Later entries of the same path replace earlier ones.
    """
    members = _with_parents(entries)
    parts = [_member(number, entry) for number, entry in enumerate(members, start=1)]
    parts.append(_member(0, Entry(_TRAILER, 0)))
    archive = b"".join(parts)
    return archive + bytes(-len(archive) % 512)


def module_order(dependencies: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """Paths of the modules to insert, in an order in which each finds what it needs.

    `dependencies` is the text of modules.dep; `wanted` are module names (`-` and `_` are the same letter).
    Names that modules.dep does not know are left out: they are built into the kernel, or absent from it.
    """
    needs = _parse(dependencies)
    by_name = {module_name(path): path for path in needs}
    order: dict[str, None] = {}

    def visit(path: str) -> None:
        if path not in order:
            for needed in needs.get(path, ()):
                visit(needed)
            order[path] = None

    for name in wanted:
        path = by_name.get(name.replace("-", "_"))
        if path is not None:
            visit(path)
    return tuple(order)


def module_name(path: str) -> str:
    """`kernel/drivers/block/virtio-blk.ko.xz` -> `virtio_blk`, as /proc/modules spells it."""
    name = PurePosixPath(path).name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def _parse(dependencies: str) -> Mapping[str, tuple[str, ...]]:
    lines = (line.partition(":") for line in dependencies.splitlines() if ":" in line)
    return {path.strip(): tuple(rest.split()) for path, _, rest in lines}


def _with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    members: dict[str, Entry] = {}
    for entry in entries:
        for parent in reversed(PurePosixPath(entry.path).parents[:-1]):
            members.setdefault(str(parent), directory(str(parent)))
        members[entry.path] = entry
    yield from members.values()


def _member(number: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return header + bytes(-len(header) % 4) + entry.data + bytes(-len(entry.data) % 4)
