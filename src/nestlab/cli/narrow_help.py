"""Commands and groups whose help fits the terminal, and which name what a mistyped word may mean, if anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from nestlab.base.did_you_mean import closest, meant
from nestlab.base.printable import brief
from nestlab.base.wrap import fit
from nestlab.cli.exit_status import width
from nestlab.cli.lab_and_machine import joined
from nestlab.cli.verbs_of_others import MISNOMERS


class FittedCommand(TyperCommand):
    """A command whose help has no line that is wider than the terminal."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, joined(self, ctx, args))
        except Exception as error:
            if hasattr(error, "possibilities"):  # it is about an option that is not known
                self._hint(ctx, error)
            raise

    def _hint(self, ctx: Any, error: Any) -> None:
        known = tuple(word for each in self.get_params(ctx) for word in (*each.opts, *each.secondary_opts))
        near = closest(error.option_name, known)
        error.possibilities = [near] if near else None
        if not near and "--set" in known:
            error.message += ". A key of the lab file is changed by --set KEY=VALUE"

    def get_help(self, ctx: Any) -> str:
        return fit(super().get_help(ctx), width(sys.stdout))


class FittedGroup(TyperGroup):
    """A group of commands whose help has no such line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        word = args[0] if args else ""
        if word and not ctx.resilient_parsing and word[:1] != "-" and self.get_command(ctx, word) is None:
            names = self.list_commands(ctx)
            hint = meant(word, names, misnomers={each: verb for each, verb in MISNOMERS.items() if verb in names})
            ctx.fail(f"No such command '{brief(word)}'.{f' {hint}' if hint else ''}")
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: Any) -> str:
        return fit(super().get_help(ctx), width(sys.stdout))


class FittedTyper(typer.Typer):
    """A group of commands in which all help fits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=FittedGroup, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """See `typer.Typer.command`."""
        return super().command(name, **{"cls": FittedCommand, **settings})
