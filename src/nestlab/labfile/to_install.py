"""Parsed values of `install:` to how an image is installed, with what its installer would refuse said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from nestlab.answers import Answers, mistakes
from nestlab.lab.install import GIB, Install
from nestlab.lab.model import Image
from nestlab.labfile.disk_image import of_iso
from nestlab.labfile.network import Complaint
from nestlab.labfile.read import Section

_PLAIN = ("locale", "keyboard", "timezone", "domain", "filesystem", "password")


def around(section: Section) -> Iterator[Complaint]:
    """Keys of an image that mean nothing beside `install`."""
    for name in section.at:
        if name not in ("install", "user", "cloud_init"):
            hint = "Leave it out, or take `install` away: an installed image is what its installer makes."
            yield section.keys[name], f"{section.key}.{name}", f"`{name}` means nothing with `install`", hint


def installed(
    section: Section, complain: Callable[[Iterable[Complaint]], None], read: Callable[[Section], Image | None]
) -> Image | None:
    """The image that is installed; None where something is wrong with it. `read`: reads what is said of another."""
    inner, user = section.values.get("install"), section.values.get("user", "root")
    if not isinstance(inner, Section) or (install := to_install(inner, user)) is None:
        return None
    if isinstance(medium := inner.values.get("iso"), Section):
        source = read(medium)
        if source is None:
            return None
        complain(_unfit(medium, source))
        install = replace(install, source=replace(source, name=None, said=None))
    complain(complaints(inner, install))
    said = f"{section.node.source.name}:{section.keys['install'].line}"
    return Image(user=user, cloud_init=section.values.get("cloud_init"), install=install, said=said)


def to_install(section: Section, user: str) -> Install | None:
    """None where it does not say whose installer it is. `user`: who logs in to the image."""
    given = section.values
    if "system" not in given:
        return None
    return Install(
        family=given["system"],
        answers=Answers(
            **{key: given[key] for key in _PLAIN if key in given},
            user=user,
            suite=given.get("release", "trixie"),
            ssh_keys=tuple(dict.fromkeys(_keys(given.get("ssh_keys")))),
            packages=tuple(dict.fromkeys(name for _, name in given.get("packages", ()))),
            commands=tuple(command for _, command in given.get("commands", ())),
            extra=given.get("extra", ""),
        ),
        iso=iso if isinstance(iso := given.get("iso"), str) else None,
        mirror=given.get("mirror"),
        disk=given.get("disk", 8 * GIB),
        memory=given.get("memory", GIB),
        cpus=given.get("cpus", 1),
        internet=given.get("internet", False),
        firmware=given.get("firmware"),
    )


def complaints(section: Section, install: Install) -> Iterator[Complaint]:
    """What cannot be installed so, before anything boots."""
    key, family = section.key, install.family
    if "iso" not in section.at and family != "debian":
        hint = "Say `iso:` with its path; only Debian's installer comes from packages."
        yield section.node, key, f"`system: {family}` needs the installer's ISO", hint
    if install.iso is not None and (fault := of_iso(install.iso)) is not None:
        yield section.at["iso"], f"{key}.iso", *fault
    if "iso" in section.at and "release" in section.at:
        hint = "Leave it out: the ISO is of one release."
        yield section.keys["release"], f"{key}.release", "`release` means nothing with `iso`", hint
    for name, what, hint in mistakes(family, install.answers):
        at = section.at.get(name, section.node)
        yield at, f"{key}.{name}" if name in section.at else key, f"{name}: {what}", hint


def _unfit(section: Section, source: Image) -> Iterator[Complaint]:
    """Why an image is no ISO to install from."""
    if source.url is None:
        hint = "Say its path as it is (`iso: ./a.iso`), or `iso: {url: …, sha256: …}`."
        yield section.node, section.key, "what is said is no download", hint
    elif source.format != "iso":
        yield section.node, section.key, "it is no ISO by its name", "Add `format: iso` if it is one."
    elif source.checksum is None:
        yield section.node, section.key, "its checksum is not said", "Say its `sha256` or `sha512`."


def _keys(given: Any) -> Iterator[str]:
    if isinstance(given, list):
        for _, some in given:
            yield from some
    else:
        yield from given or ()
