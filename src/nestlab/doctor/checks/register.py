"""The register of all checks."""

from __future__ import annotations

from typing import NamedTuple

from nestlab.doctor.finding import Finding, Layer, Register

checks = Register()
"""All checks, in the order of their layers; within one, in the order in which they stand in its file."""


class Voice(NamedTuple):
    """Makes the findings of one check."""

    name: str
    layer: Layer

    def ok(self, seen: str) -> Finding:
        return Finding(self.name, self.layer, "ok", seen)

    def note(self, seen: str, why: str, do: str, *commands: str, fixable: bool = False) -> Finding:
        """Worth knowing; also what a check says that cannot know."""
        return Finding(self.name, self.layer, "note", seen, why, do, commands, fixable)

    def warn(self, seen: str, why: str, do: str, *commands: str, fixable: bool = False) -> Finding:
        return Finding(self.name, self.layer, "warn", seen, why, do, commands, fixable)

    def fail(self, seen: str, why: str, do: str, *commands: str, fixable: bool = False) -> Finding:
        """Nesting does not work as long as this is so."""
        return Finding(self.name, self.layer, "fail", seen, why, do, commands, fixable)
