"""Commands and groups whose help fits the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from nestlab.base.wrap import fit
from nestlab.cli.exit_status import width
from nestlab.cli.lab_and_machine import joined


class FittedCommand(TyperCommand):
    """A command whose help has no line that is wider than the terminal."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined(self, ctx, args))

    def get_help(self, ctx: Any) -> str:
        return fit(super().get_help(ctx), width(sys.stdout))


class FittedGroup(TyperGroup):
    """A group of commands whose help has no such line."""

    def get_help(self, ctx: Any) -> str:
        return fit(super().get_help(ctx), width(sys.stdout))


class FittedTyper(typer.Typer):
    """A group of commands in which all help fits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=FittedGroup, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """See `typer.Typer.command`."""
        return super().command(name, **{"cls": FittedCommand, **settings})
