"""The families of installers, and what each is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Literal, get_args

from nestlab.answers import autoinstall, kickstart, preseed, proxmox
from nestlab.answers.model import DOMAIN, KEYBOARD, LOCALE, TIMEZONE, Answers, ServerAddress
from nestlab.base.frozen import frozen

Family = Literal["debian", "ubuntu", "redhat", "proxmox"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Mistake = tuple[str, str, str]
"""The key that is wrong, what is wrong with it, what to do."""


@frozen
class Answered:
    """What an installer is given. `cmdline`: words for its kernel. `files`: texts by their path below the server's URL.
    `medium`: files that its ISO needs beside its own, by path."""

    cmdline: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    medium: Mapping[str, str] = field(default_factory=dict)


def answered(family: Family, answers: Answers, server: ServerAddress, disk: str) -> Answered:
    """What the installer of a family is answered. `disk`: the serial number of the disk to install on."""
    match family:
        case "debian":
            files = {"preseed.cfg": preseed.text(answers, server, disk)}
            files["authorized_keys"] = "".join(f"{key}\n" for key in answers.ssh_keys)
            return Answered(preseed.cmdline(answers, server), files)
        case "ubuntu":
            files = {"user-data": autoinstall.text(answers, server, disk), "meta-data": "{}\n", "vendor-data": ""}
            return Answered(autoinstall.cmdline(server), files)
        case "redhat":
            return Answered(kickstart.cmdline(server), {"ks.cfg": kickstart.text(answers, server, disk)})
        case "proxmox":
            return Answered(
                proxmox.CMDLINE,
                {"answer": proxmox.text(answers, server, disk)},
                proxmox.medium(answers, server),
            )


_RULES: Mapping[Family, Callable[[Answers], Iterator[Mistake]]] = {
    "debian": preseed.mistakes,
    "ubuntu": autoinstall.mistakes,
    "redhat": kickstart.mistakes,
    "proxmox": proxmox.mistakes,
}


def mistakes(family: Family, answers: Answers) -> Iterator[Mistake]:
    """What the installer would refuse, or would stop to ask."""
    for key, value, pattern, such in (
        ("locale", answers.locale, LOCALE, "en_US.UTF-8"),
        ("keyboard", answers.keyboard, KEYBOARD, "us or de-ch"),
        ("timezone", answers.timezone, TIMEZONE, "Europe/Vienna"),
        ("domain", answers.domain, DOMAIN, "lab.internal"),
    ):
        if not pattern.fullmatch(value):
            yield key, f"{value!r} is none", f"Write it such as {such}."
    yield from _RULES[family](answers)
