"""Sets a parameter on the kernel command line of the next boot, for each boot loader. Pure.

Sources: GRUB's manual ("Simple configuration": /etc/default/grub is a shell script that grub-mkconfig reads), Proxmox
VE's administration guide ("Editing the Kernel Commandline": GRUB_CMDLINE_LINUX_DEFAULT, or one line in
/etc/kernel/cmdline and `proxmox-boot-tool refresh`), grubby(8) (it also edits boot entries and /etc/default/grub).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from nestlab.doctor import modprobe_options
from nestlab.doctor.checks import questions
from nestlab.doctor.finding import Change, Run, Write
from nestlab.hosts.facts import Facts

PROXMOX = "/etc/kernel/proxmox-boot-uuids"
"""Its presence says that proxmox-boot-tool keeps the boot partitions."""

_MAKERS = (
    ("update-grub", ("update-grub",)),
    ("grub2-mkconfig", ("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg")),
    ("grub-mkconfig", ("grub-mkconfig", "-o", "/boot/grub/grub.cfg")),
)

_ASSIGNED = re.compile(r"\s*(?:export\s+)?(GRUB_CMDLINE_LINUX(?:_DEFAULT)?)\+?=")
_VALUE = re.compile(
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'#;$`\\]*))(?P<tail>\s*(?:\#.*)?)"""
)


def changes(facts: Facts, module: str, parameter: str, value: str) -> tuple[Change, ...]:
    """The changes that put `module.parameter=value` on the command line of the next boot, replacing another value.

    Empty when nestlab does not know how here, or when its edit would not win."""
    if "grubby" in facts.tools:
        return (Run(("grubby", "--update-kernel=ALL", f"--args={module}.{parameter}={value}")),)
    command = carrier(facts)
    if not command:
        return ()
    main = _main(facts, command[0] == "proxmox-boot-tool")
    if main not in facts.files:
        return ()
    texts = {
        path: facts.files[path]
        for path in (modprobe_options.GRUB, modprobe_options.KERNEL_CMDLINE)
        if path in facts.files
    }
    edited = {path: _edited(path, text, (module, parameter, value), path == main) for path, text in texts.items()}
    if edited[main] is None or any("\ufffd" in text for text in edited.values() if text is not None):
        return ()
    writes = tuple(
        Write(path, text, texts[path]) for path, text in edited.items() if text is not None and text != texts[path]
    )
    after = modprobe_options.lasting(written(facts, writes), module, parameter)
    if after is None or questions.accepts(module, after.value) != questions.accepts(module, value):
        return ()
    return (*writes, Run(command))


def carrier(facts: Facts) -> tuple[str, ...]:
    """The command that carries the boot loader's configuration to where it is booted from; () where none is known."""
    if PROXMOX in facts.files and "proxmox-boot-tool" in facts.tools:
        return ("proxmox-boot-tool", "refresh")
    return next((argv for tool, argv in _MAKERS if tool in facts.tools), ())


def written(facts: Facts, changed: tuple[Change, ...]) -> Facts:
    """The facts with files as these changes would leave them."""
    files: dict[str, str] = dict(facts.files)
    for change in changed:
        if isinstance(change, Write) and change.content is None:
            files.pop(change.path, None)
        elif isinstance(change, Write) and change.content is not None:
            files[change.path] = change.content
    kept: Mapping[str, str] = files
    return replace(facts, files=kept)


def _main(facts: Facts, proxmox: bool) -> str:
    """The file that the boot loader which booted this kernel reads: GRUB leaves BOOT_IMAGE= on the command line."""
    grub = "BOOT_IMAGE=" in facts.cmdline and modprobe_options.GRUB in facts.files
    return modprobe_options.KERNEL_CMDLINE if proxmox and not grub else modprobe_options.GRUB


_Word = tuple[str, str, str]


def _edited(path: str, text: str, word: _Word, add: bool) -> str | None:
    """The text with the word; without `add` only in place of another value. None: it is written too strangely."""
    return _grub(text, word, add) if path == modprobe_options.GRUB else _one_line(text, word, add)


def _one_line(text: str, word: _Word, add: bool) -> str:
    first, newline, rest = text.partition("\n")
    line = _put(first, word, add)
    return f"{line}{newline or chr(10)}{rest}" if line != first else text


def _grub(text: str, word: _Word, add: bool) -> str | None:
    """/etc/default/grub with the word in GRUB_CMDLINE_LINUX_DEFAULT, else in GRUB_CMDLINE_LINUX."""
    lines = text.split("\n")
    found = [(number, match[1]) for number, line in enumerate(lines) if (match := _ASSIGNED.match(line))]
    names = ("GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX")
    name = next((name for name in names if any(each == name for _, each in found)), "")
    if not name:
        end = "" if text.endswith("\n") or not text else "\n"
        return f'{text}{end}{names[0]}="{_joined(word)}"\n' if add else text
    last = max(number for number, each in found if each == name)
    for number, _ in found:
        line = _assignment(lines[number], word, add and number == last)
        if line is None and number == last:
            return None
        lines[number] = lines[number] if line is None else line
    return "\n".join(lines)


def _assignment(line: str, word: _Word, add: bool) -> str | None:
    """One assignment with the word in it, quoted as it was."""
    head = _ASSIGNED.match(line)
    value = _VALUE.fullmatch(line, head.end()) if head else None
    if head is None or value is None:
        return None
    inner = next((value[kind] for kind in ("double", "single", "bare") if value[kind] is not None), "")
    new = _put(inner, word, add)
    if new == inner:
        return line
    quote = "'" if value["single"] is not None else '"'
    return f"{head[0]}{quote}{new}{quote}{value['tail']}"


def _put(words: str, word: _Word, add: bool) -> str:
    """The words with this one in place of its other values, or at the end."""
    module, parameter, _ = word
    name = rf"{_either(module)}\.{_either(parameter)}"
    there = re.compile(rf"(?<!\S){name}(?:=[^\s\"']*)?(?!\S)")
    new, count = there.subn(_joined(word), words)
    if count or not add:
        return new
    return f"{words.rstrip()} {_joined(word)}".lstrip()


def _either(name: str) -> str:
    """A pattern for a name whose `_` may be written `-`."""
    return "[-_]".join(map(re.escape, re.split("[-_]", name)))


def _joined(word: _Word) -> str:
    return f"{word[0]}.{word[1]}={word[2]}"
