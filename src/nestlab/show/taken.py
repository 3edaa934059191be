"""What a lab file takes from this computer for its machines, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nestlab.base.printable import one_line
from nestlab.lab.model import Taken

MOST = 20
"""Files and variables that are named one by one."""


def lines(found: Sequence[Taken]) -> list[str]:
    """One line for each, those first that not everybody may read."""
    order = sorted(found, key=lambda each: not each.private)
    shown = [f"its machines get {_what(each)} ({one_line(each.key)}){_whose(each)}" for each in order[:MOST]]
    return shown + [f"its machines get {len(order) - MOST} more files and variables"] * (len(order) > MOST)


def listed(found: Sequence[Taken]) -> str:
    """All in one sentence, as far as it stays one."""
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return ", ".join(_what(each) for each in found[:6]) + more


def data(found: Sequence[Taken]) -> list[dict[str, object]]:
    """As JSON data."""
    return [{"what": each.what, "key": each.key, "private": each.private} for each in found]


def _what(each: Taken) -> str:
    if each.what.startswith("$"):
        return one_line(each.what)
    kind = "folder" if each.what.endswith("/") else "file"
    return f"the {kind} {one_line(each.what)}"


def _whose(each: Taken) -> str:
    if not each.private:
        return ""
    if each.what.startswith("$"):
        return ", which is named like a secret"
    if each.what.endswith("/"):
        return ", and all that is in it, which others here may not be able to read"
    return ", which others here may not read"
