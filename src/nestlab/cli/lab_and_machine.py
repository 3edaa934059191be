"""`logs LAB MACHINE` is `logs LAB:MACHINE`: a command that takes one machine takes its lab before it, too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any


def joined(command: Any, ctx: Any, args: list[str]) -> list[str]:
    """The words of a command line, where a lab and a machine of it are one if they are one word too many."""
    params = command.get_params(ctx)
    arguments = [each for each in params if each.param_type_name == "argument"]
    if ctx.resilient_parsing or "--" in args or not any(each.metavar == "MACHINE" for each in arguments):
        return args
    if any(each.nargs != 1 for each in arguments):
        return args
    valued = {
        word
        for each in params
        if each.param_type_name == "option" and not (each.is_flag or each.count)
        for word in (*each.opts, *each.secondary_opts)
    }
    return join(args, valued, len(arguments), _paths)


def join(args: list[str], valued: Collection[str], most: int, paths: Callable[[str], Sequence[str]]) -> list[str]:
    """`valued`: options that take the next word; `most`: words that the command takes; `paths`: the machines of a
    lab."""
    words = [at for at, word in enumerate(args) if word[:1] != "-" and (at == 0 or args[at - 1] not in valued)]
    if len(words) != most + 1 or words[1] != words[0] + 1:
        return args
    lab, machine = args[words[0]], args[words[1]]
    if machine not in paths(lab):
        return args
    return [*args[: words[0]], f"{lab}:{machine}", *args[words[1] + 1 :]]


def _paths(lab: str) -> Sequence[str]:
    from nestlab.cli import complete
    from nestlab.cli.common import home

    return list(complete.paths(lab)) if lab in home().labs() else []
