"""How it is known that a machine is up, as a value, and what its lab file may then not say. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nestlab.lab.console_pattern import compiled
from nestlab.lab.model import NO_IMAGE, Image, is_medium
from nestlab.lab.readiness import LONGEST_STILL, STILL, Ready
from nestlab.labfile.network import Complaint
from nestlab.labfile.read import Section

WAYS = ("port", "console", "screen")

AFTER_LOGIN = ("setup", "ssh_keys")
"""Keys of a machine that need a login."""


def usual(image: Image, *, foreign: bool) -> Ready:
    """Of a machine whose lab file does not say it: nobody can log in to a medium, or to a system of somebody else's."""
    return Ready("none") if foreign or is_medium(image) or image.base == NO_IMAGE else Ready()


def read(given: Any) -> Ready | None:
    """The value of a `ready:`; None where it is wrong."""
    if isinstance(given, str):
        return Ready(given)  # type: ignore[arg-type]
    if not isinstance(given, Section):
        return None
    if "port" in given.values:
        return Ready("port", port=given.values["port"])
    if "screen" in given.values:
        return Ready("screen", still=_seconds(given.values.get("for")))
    pattern = given.values.get("console")
    return Ready("console", pattern=pattern) if pattern is not None else None


def of_ready(given: Any) -> Iterator[Complaint]:
    """Mistakes in a `ready:` itself."""
    if not isinstance(given, Section):
        return
    said = [f"`{key}`" for key in WAYS if key in given.at]
    if len(said) != 1:
        ways = "it says none of `port`, `console` and `screen`"
        what = f"{' and '.join(said)} exclude each other" if said else ways
        yield given.node, given.key, what, "Say one of them, or `ready: ssh`, `ready: agent` or `ready: none`."
    elif "for" in given.at and "screen" not in given.at:
        yield given.keys["for"], f"{given.key}.for", "`for` belongs to `screen: still`", "Leave it out."
    elif _seconds(given.values.get("for")) > LONGEST_STILL:
        what = f"a screen is looked at for {LONGEST_STILL} s at most"
        yield given.at["for"], f"{given.key}.for", what, "Say `2m` or less."
    elif "console" in given.values:
        try:
            compiled(given.values["console"])
        except ValueError as error:
            hint = "See `ready` in docs/labfile.md for what it may have in it."
            what = f"this is no regular expression that a console is searched for: {error}"
            yield given.at["console"], f"{given.key}.console", what, hint


def _seconds(said: str | None) -> int:
    return STILL if said is None else int(said[:-1]) * (60 if said[-1] == "m" else 1)


def without_screen(section: Section, ready: Ready, *, screen: bool) -> Iterator[Complaint]:
    """The mistake of a machine that is up by a screen that it does not have. What stands in `defaults` counts too."""
    if ready.by == "screen" and not screen:
        name = section.key.rpartition(".")[2]
        own = "ready" in section.at
        place = section.keys["ready"] if own else section.node
        what = f"`{ready.said}` needs a screen, and {name} has none"
        yield place, f"{section.key}.ready", what, "Give it one: `display: true`."


def of_machine(
    section: Section, ready: Ready, *, nests: bool, container: bool, kind: str | None
) -> Iterator[Complaint]:
    """Mistakes in what a machine says beside how it is known to be up. What stands in `defaults` is passed over."""
    name = section.key.rpartition(".")[2]
    if container:
        if "ready" in section.at:
            what = "`ready` means nothing here: Proxmox VE tells when a container runs, and nothing asks one"
            yield section.keys["ready"], f"{section.key}.ready", what, "Leave it out."
        return
    if nests and not_ssh(section):
        what = f"nestlab works in {name}, a hypervisor of kind {kind}, and logs in to it for that"
        hint = "Leave `ready` out, or say `hypervisor: other`: then nestlab does not work in it."
        yield section.keys["ready"], f"{section.key}.ready", what, hint
        return
    if ready.by == "ssh":
        return
    for key in AFTER_LOGIN:
        if key in section.at:
            why = "" if "ready" in section.at else ", which is its default here"
            what = f"`{key}` needs a login, and nestlab does not log in to {name} (`{ready.said}`{why})"
            yield section.keys[key], f"{section.key}.{key}", what, f"Leave `{key}` out, or say `ready: ssh`."


def not_ssh(section: Section) -> bool:
    """Whether a machine says that it is known to be up by something else than ssh."""
    return "ready" in section.values and section.values["ready"] != "ssh"
