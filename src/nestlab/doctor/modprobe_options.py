"""Module options as kmod reads them from modprobe.d and the kernel command line, with file and line. Pure.

Sources: modprobe.d(5) ("configuration directories and precedence" since kmod 33) and libkmod-config.c, which reads the
files sorted by name, then /proc/cmdline, and hands all options of a module to the kernel in that order; the kernel
sets a parameter once for each word, so the last wins. Parameter names, too, are compared with `-` as `_` (the kernel's
parameq). Built-in modules see the kernel command line only. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from nestlab.base.frozen import frozen
from nestlab.hosts.facts import Facts

DIRECTORIES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
"""From the strongest: its file hides those of the same name in the directories after it."""

CMDLINE = "/proc/cmdline"
GRUB = "/etc/default/grub"
KERNEL_CMDLINE = "/etc/kernel/cmdline"
"""The command line to come where systemd-boot or proxmox-boot-tool boots."""


@frozen
class Setting:
    """`value` verbatim, "" for a bare parameter (which switches a bool on); `line` counts from 1 (0: a command line).
    `module` and `parameter` with underscores."""

    module: str
    parameter: str
    value: str
    path: str
    line: int

    @property
    def where(self) -> str:
        """For people: `/etc/modprobe.d/kvm.conf line 3`."""
        return f"{self.path} line {self.line}" if self.line else self.path


@frozen
class Hurdle:
    """A setting that keeps a kvm module from being loaded. `blacklist` stops only automatic loading (by the CPU's
    alias); `install` runs `value` instead of loading; `module_blacklist` (kernel command line) stops every load."""

    module: str
    how: Literal["blacklist", "install", "module_blacklist"]
    value: str
    path: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.path} line {self.line}" if self.line else self.path


def settings(facts: Facts) -> tuple[Setting, ...]:
    """Options of kvm modules in the order in which modprobe applies them: files by name, then /proc/cmdline."""
    return (*_file_settings(facts), *_words((word, CMDLINE, 0) for word in facts.cmdline.split()))


def effective(facts: Facts, module: str, parameter: str) -> Setting | None:
    """The setting that wins when the module is loaded now; None: none, so the module's default counts."""
    return _last(facts, settings(facts), module, parameter)


def lasting(facts: Facts, module: str, parameter: str) -> Setting | None:
    """The setting that wins after a reboot: like `effective`, with the command line that the boot loader's
    configuration (GRUB, /etc/kernel/cmdline) has for the next boot above the running one."""
    return _last(facts, (*settings(facts), *planned(facts)), module, parameter)


def planned(facts: Facts) -> tuple[Setting, ...]:
    """Options of kvm modules in the boot loader's configuration: GRUB's first, then /etc/kernel/cmdline."""
    line = facts.files.get(KERNEL_CMDLINE, "")
    words = [*_grub(facts), *((word, KERNEL_CMDLINE, 1) for word in line.split())]
    return tuple(_words(words))


def hurdles(facts: Facts) -> tuple[Hurdle, ...]:
    """`blacklist` and `install` lines for kvm modules, and what the kernel command line says of the kind."""
    found = []
    for path, number, words in _lines(facts):
        if len(words) >= 2 and words[0] in ("blacklist", "install") and _ours(words[1]):
            how: Literal["blacklist", "install"] = "install" if words[0] == "install" else "blacklist"
            found.append(Hurdle(_plain(words[1]), how, " ".join(words[2:]), path, number))
    for word in facts.cmdline.split():
        key, _, value = word.partition("=")
        names = [_plain(name) for name in value.split(",") if _ours(name)]
        if key == "modprobe.blacklist":
            found += [Hurdle(name, "blacklist", "", CMDLINE, 0) for name in names]
        elif key == "module_blacklist":
            found += [Hurdle(name, "module_blacklist", "", CMDLINE, 0) for name in names]
    return tuple(found)


def blocking(facts: Facts, module: str) -> Hurdle | None:
    """The setting that keeps `modprobe MODULE` from loading it: an `install` line that does not load it, or
    module_blacklist."""
    for hurdle in hurdles(facts):
        if hurdle.module == module and (hurdle.how == "module_blacklist" or _refuses(hurdle)):
            return hurdle
    return None


def files(facts: Facts) -> tuple[str, ...]:
    """The files of modprobe.d that count, in the order in which they are read."""
    chosen: dict[str, str] = {}
    for directory in DIRECTORIES:
        for path in facts.files:
            parent, _, name = path.rpartition("/")
            if parent == directory and name.endswith(".conf") and not name.startswith("."):
                chosen.setdefault(name, path)
    return tuple(chosen[name] for name in sorted(chosen, key=lambda name: name.encode(errors="replace")))


def _last(facts: Facts, found: tuple[Setting, ...], module: str, parameter: str) -> Setting | None:
    known = facts.kernel_modules.get(module)
    if known is not None and known.builtin:
        found = tuple(each for each in found if not each.path.startswith(DIRECTORIES))
    same = [each for each in found if (each.module, each.parameter) == (_plain(module), _plain(parameter))]
    return same[-1] if same else None


def _refuses(hurdle: Hurdle) -> bool:
    """An `install` command that loads the module itself names modprobe or insmod."""
    return hurdle.how == "install" and not re.search(r"modprobe|insmod", hurdle.value)


def _file_settings(facts: Facts) -> Iterator[Setting]:
    for path, number, words in _lines(facts):
        if len(words) < 3 or words[0] != "options" or not _ours(words[1]):
            continue
        for word in words[2:]:
            parameter, _, value = word.partition("=")
            yield Setting(_plain(words[1]), _plain(parameter), value.strip("\"'"), path, number)


def _lines(facts: Facts) -> Iterator[tuple[str, int, list[str]]]:
    """Path, number and words of each command, continued lines joined, without comments."""
    for path in files(facts):
        held, start = "", 0
        for number, line in enumerate(facts.files[path].split("\n"), 1):
            start = start or number
            if line.endswith("\\"):
                held += line[:-1]
                continue
            words = (held + line).split()
            if words and not words[0].startswith("#"):
                yield path, start, words
            held, start = "", 0
        if held.split() and not held.lstrip().startswith("#"):
            yield path, start, held.split()


_Word = tuple[str, str, int]


def _words(words: Iterator[_Word] | list[_Word]) -> Iterator[Setting]:
    """`module.parameter=value` of a kernel command line."""
    for word, path, line in words:
        name, _, value = word.strip("\"'").partition("=")
        module, dot, parameter = name.partition(".")
        if dot and parameter and _ours(module):
            yield Setting(_plain(module), _plain(parameter), value.strip("\"'"), path, line)


_ASSIGNED = re.compile(r"\s*(?:export\s+)?(GRUB_CMDLINE_LINUX(?:_DEFAULT)?)(\+?)=(.*)")


def _grub(facts: Facts) -> list[_Word]:
    """Words of the command line that GRUB's configuration makes: LINUX, then LINUX_DEFAULT (grub-mkconfig)."""
    held: dict[str, list[_Word]] = {"GRUB_CMDLINE_LINUX": [], "GRUB_CMDLINE_LINUX_DEFAULT": []}
    for path in sorted(path for path in facts.files if path == GRUB or path.startswith(f"{GRUB}.d/")):
        for number, line in enumerate(facts.files[path].splitlines(), 1):
            assigned = _ASSIGNED.fullmatch(line)
            if assigned is None:
                continue
            name, append, text = assigned.groups()
            words: list[_Word] = list(held[name]) if append else []
            for word in text.strip().strip("\"'").split():
                again = word in (f"${name}", f"${{{name}}}")
                words += held[name] if again else [(word, path, number)]
            held[name] = words
    return [*held["GRUB_CMDLINE_LINUX"], *held["GRUB_CMDLINE_LINUX_DEFAULT"]]


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _ours(name: str) -> bool:
    return _plain(name) == "kvm" or _plain(name).startswith("kvm_")
