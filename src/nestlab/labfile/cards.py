"""The cards of a machine, in either way of writing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nestlab.lab.model import Link
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section


def cards_said(given: Any, node: Node | None) -> list[tuple[str, Node, Any]]:
    """(segment, where it is named, what is said about it) in either way of writing."""
    if isinstance(given, list):
        return [(name, each, None) for each, name in given]
    if isinstance(given, Section):
        return [(name, given.at[name] if value else given.keys[name], value) for name, value in given.values.items()]
    return []


def link_of(segment: str, value: Any) -> Link:
    """A card as it is said: nothing, an address, or a mapping."""
    if isinstance(value, Section):
        said: Mapping[str, Any] = value.values
        return replace(Link(segment), **said)
    if isinstance(value, str):
        return Link(segment, address6=value) if ":" in value else Link(segment, address=value)
    return Link(segment)
