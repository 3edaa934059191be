"""What of a domain is not as nestlab defined it, key by key. Pure.

libvirt adds to a definition what it decides itself: addresses, aliases, controllers, defaults. So all that nestlab said
must be there as it was said, and of what is there besides only devices count that nobody but a person adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from nestlab.base.printable import one_line
from nestlab.plan.steps import Drift

_APART = frozenset({"metadata", "title"})
"""Elements that decide nothing of the machine."""

_SETTLED = frozenset({("cpu", "check"), ("cpu", "match"), ("genid", "")})
"""Attributes (and the text, "") that libvirt itself decides when a domain starts."""

_BOARDS = {"pc": "pc-i440fx-", "q35": "pc-q35-"}
"""Names of machine types for which libvirt has the newest version's."""

_ADDED = ("disk", "interface", "hostdev", "filesystem", "redirdev", "shmem")
"""Devices that libvirt adds to no domain by itself."""

_MOST, _SHOWN = 20, 80
"""Changes of one domain that are told, and letters of one value."""


def changes(wanted: Element, defined: Element, running: Element | None = None) -> tuple[Drift, ...]:
    """What is not as it is `wanted`, in the definition of now and, of a machine that runs, in what runs: the first can
    be set back while it does."""
    now = list(_differences(wanted, running, "")) if running is not None else []
    next_start = [what for what in _differences(wanted, defined, "") if what not in now]
    found = [Drift(what) for what in now] + [Drift(what, live=running is not None) for what in next_start]
    return tuple(found[:_MOST])


def _differences(wanted: Element, there: Element, where: str) -> Iterator[str]:
    """`where`: what a person looks for, "" for the domain itself."""
    tag = _plain(wanted.tag)
    for key, value in wanted.attrib.items():
        if key.startswith("xmlns") or (tag, key) in _SETTLED:
            continue
        now = there.get(key)
        if now != value and not (key == "machine" and (now or "").startswith(_BOARDS.get(value, "\0"))):
            yield f"{where} {key} is {_said(now)}, wanted {_said(value)}".strip()
    text = (wanted.text or "").strip()
    if text and (there.text or "").strip() != text and (tag, "") not in _SETTLED:
        yield f"{where} is {_said((there.text or '').strip())}, wanted {_said(text)}"
    known, asked = _by_key(there), _by_key(wanted)
    for name, child in asked.items():
        if _plain(child.tag) in _APART:
            continue
        title = _titled(child, where)
        if name in known:
            yield from _differences(child, known[name], title)
        else:
            yield f"{title} is not there any more"
    if tag == "devices":
        added = sorted(_titled(known[name], "") for name in known.keys() - asked.keys() if name[0] in _ADDED)
        yield from (f"{title} was added" for title in added)


def _by_key(parent: Element) -> dict[tuple[str, str], Element]:
    """The children by what they are: by the name that their device has, else by their turn among those of their
    kind."""
    found: dict[tuple[str, str], Element] = {}
    turns: dict[str, int] = {}
    for child in parent:
        tag = _plain(child.tag)
        name = _name(child)
        if not name:
            turns[tag] = turns.get(tag, 0) + 1
            name = f"#{turns[tag]}"
        found.setdefault((tag, name), child)
    return found


def _name(child: Element) -> str:
    match _plain(child.tag):
        case "disk":
            return _of(child, "target", "dev")
        case "interface":
            return _of(child, "mac", "address").lower()
        case "controller":
            return f"{child.get('type')} {child.get('index')}"
        case "seclabel":
            return child.get("model", "")
        case "timer" | "feature":
            return child.get("name", "")
    return ""


def _titled(child: Element, where: str) -> str:
    """`disk vda`; of what is in an element also that, but for `devices`."""
    tag = _plain(child.tag)
    return one_line(f"{where} {'' if tag == 'devices' else tag} {_name(child)}".strip())[:_SHOWN]


def _of(parent: Element, child: str, key: str) -> str:
    found = parent.find(child)
    return found.get(key, "") if found is not None else ""


def _plain(tag: str) -> str:
    """`commandline` of `{URI}commandline`, and of `qemu:commandline`, as nestlab writes it."""
    return tag.rpartition("}")[2].rpartition(":")[2]


def _said(value: str | None) -> str:
    return one_line(value)[:_SHOWN] if value else "not said"
