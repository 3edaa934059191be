"""A preview of the changes of `--fix`, shown before the user agrees. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator

from nestlab.base.printable import one_line, printable
from nestlab.doctor.change_record import Record
from nestlab.doctor.finding import Change, Reload, Remedy, Run, SetParameter, Write


def show(remedies: Iterable[Remedy]) -> str:
    """Each remedy in a few lines (refused, notes, who is in the way), then one diff per file, then the commands in
    their order. "" when there is nothing at all. What the host said does nothing to a terminal."""
    found = tuple(remedies)
    changes = [change for remedy in found for change in remedy.changes]
    parts = ["\n".join(line for remedy in found for line in _remedy(remedy))]
    parts += [_diff(write) for write in _files(changes)]
    commands = [f"  {line}" for change in changes for line in _commands(change)]
    if commands:
        parts.append("\n".join(["Commands:", *commands]))
    return printable("\n\n".join(part for part in parts if part))


def show_undo(record: Record) -> str:
    """The changes that `--undo` would take back, a line each; "" if there are none."""
    lines = [f"  {'remove' if each.content is None else 'restore'} {path}" for path, each in record.files.items()]
    lines += [f"  {shlex.join(argv)}" for argv in record.commands if argv[0] != "grubby"]
    lines += [f"  load {module} again with nested={value}" for module, value in record.modules.items()]
    for name, value in record.parameters.items():
        module, _, own = name.partition(".")
        lines.append(f"  echo {value} > /sys/module/{module}/parameters/{own}")
    return printable("\n".join(["To take back, where it is not so already:", *lines])) if lines else ""


def _remedy(remedy: Remedy) -> Iterator[str]:
    if remedy.refused:
        yield f"{remedy.check}: not done. {remedy.refused}"
        if remedy.hint:
            yield f"  {remedy.hint}"
    elif remedy.staged:
        yield f"{remedy.check}: {remedy.staged}"
    elif any(isinstance(change, (Reload, SetParameter)) for change in remedy.changes):
        yield f"{remedy.check}: takes effect at once."
    else:
        yield f"{remedy.check}: counts from the next boot on."
    if remedy.holders:
        yield f"  In use by: {one_line(', '.join(remedy.holders))}."
    yield from (f"  Note: {note}" for note in remedy.notes)


def _files(changes: Iterable[Change]) -> tuple[Write, ...]:
    """One change per file: from what it held first to what it will hold at last."""
    merged: dict[str, Write] = {}
    for change in changes:
        if isinstance(change, Write):
            first = merged.get(change.path, change)
            merged[change.path] = Write(change.path, change.content, first.before, change.mode)
    return tuple(merged.values())


def _diff(write: Write) -> str:
    old, new = write.before, write.content
    names = ("/dev/null" if old is None else write.path, "/dev/null" if new is None else write.path)
    lines = difflib.unified_diff(_lines(old), _lines(new), *names)
    shown = []
    for line in lines:
        shown.append(line.rstrip("\n"))
        if not line.endswith("\n"):
            shown.append("\\ No newline at end of file")
    return "\n".join(shown)


def _lines(text: str | None) -> list[str]:
    """Like a file's lines: only a newline ends one."""
    return [f"{line}\n" for line in (text or "").split("\n")[:-1]] + [
        rest for rest in [(text or "").split("\n")[-1]] if rest
    ]


def _commands(change: Change) -> Iterator[str]:
    match change:
        case SetParameter(module, name, value, before):
            yield f"echo {value} > /sys/module/{module}/parameters/{name}    # now {before}"
        case Reload(module, options, before):
            load = shlex.join(["modprobe", module, *options])
            yield f"modprobe -r {module} && {load}    # now nested={before}"
        case Run(argv):
            yield shlex.join(argv)
        case Write():
            return
