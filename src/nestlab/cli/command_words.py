"""Splits the words of `ssh` and `exec` into nestlab's own and the command that is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nestlab.cli.narrow_help import FittedCommand

TAIL = "nestlab.tail"
"""Where a command line's context has the words of the command."""

CHOOSING = ("--all", "--on")
"""Options that say on which machines: then no word does."""


class WithCommand(FittedCommand):
    """A command of nestlab that runs another one: what follows the machine, or `--`, belongs to that, options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            args, tail = split(args, self._options(ctx), _is_lab, _is_machine)
            if tail is not None:
                ctx.meta[TAIL] = tail
        elif "--" in args:
            args = args[: args.index("--")]
        return super().parse_args(ctx, args)

    def _options(self, ctx: Any) -> Mapping[str, bool]:
        """By option, whether it takes a value."""
        found: dict[str, bool] = {}
        for each in self.get_params(ctx):
            if each.param_type_name == "option":
                valued = not (getattr(each, "is_flag", False) or getattr(each, "count", False))
                found |= dict.fromkeys((*each.opts, *each.secondary_opts), valued)
        return found


class WithShift(FittedCommand):
    """A command of nestlab that takes what begins with a minus and a digit, such as -1h, and is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, shifts_last(args))


def shifts_last(args: Sequence[str]) -> list[str]:
    """The words, of which those like -1h stand behind a `--`; as they are where there is one."""
    shifts = [] if "--" in args else [word for word in args if word[:1] == "-" and word[1:2].isdecimal()]
    return [*(word for word in args if word not in shifts), *(["--", *shifts] if shifts else [])]


def _is_lab(word: str) -> bool:
    from nestlab.cli.common import home

    return word in home().labs() or word.endswith((".yaml", ".yml"))


def _is_machine(word: str) -> bool:
    """Whether a word names machines of some lab."""
    from nestlab.cli import complete
    from nestlab.cli.common import home
    from nestlab.home.targets import matches

    paths = [path for lab in home().labs() for path in complete.paths(lab)]
    patterns = [each.rpartition(":")[2] for each in word.split(",")]
    return all(any(matches(path, pattern) for path in paths) for pattern in patterns)


def split(
    args: Sequence[str],
    options: Mapping[str, bool],
    is_lab: Callable[[str], bool],
    is_machine: Callable[[str], bool],
) -> tuple[list[str], list[str] | None]:
    """nestlab's own words, and those of the command (None: there is none). The command begins after `--`, or after the
    machine, which comes first or after a lab; where an option says on which machines, with the first word. Several
    machines may stand before a `--`."""
    own: list[str] = []
    words = 0
    wanted = 1
    at = 0
    while at < len(args):
        word = args[at]
        if word == "--":
            return own, list(args[at + 1 :])
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] in CHOOSING:
                wanted = 0
            own.append(word)
            at += 1
            if options.get(word) and at < len(args):
                own.append(args[at])
                at += 1
            continue
        if words >= wanted and not ("--" in args[at:] and is_machine(word)):
            return own, list(args[at:])
        if words == 0 and is_lab(word):
            wanted = 2
        own.append(word)
        words += 1
        at += 1
    return own, None
