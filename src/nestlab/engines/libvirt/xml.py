"""XML of libvirt's: written from values, and read from a host that may say anything. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat

LONGEST = 1 << 20
"""Letters of the longest XML of one domain that is read: libvirt's own have some thousand."""

DEEPEST = 64
"""Elements within one another that are read; those of a domain are less than ten deep."""


class Unreadable(ValueError):
    """It is no XML that libvirt writes."""


def element(name: str, /, text: str = "", *children: Element | None, **attributes: str | int | None) -> Element:
    """An element with its text, its children and its attributes, of which those that are None are left out."""
    made = Element(name, {key: str(value) for key, value in attributes.items() if value is not None})
    made.text = text or None
    made.extend([child for child in children if child is not None])
    return made


def written(root: Element) -> str:
    """The text of an element, indented, the same for the same element. Names may have prefixes, whose meaning stands in
    attributes (`xmlns:qemu`)."""
    _indent(root, "\n")
    return tostring(root, encoding="unicode") + "\n"


def parsed(text: str) -> Element:
    """The root of a document; names in a namespace are `{URI}name`. Unreadable for what is no XML, too long, too deep,
    or has a document type: nothing here defines entities, so none expands."""
    if len(text) > LONGEST:
        raise Unreadable(f"it is longer than {LONGEST >> 10} KiB")
    builder, depth = TreeBuilder(), 0
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise Unreadable(f"its elements are more than {DEEPEST} deep")
        builder.start(_name(name), {_name(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_name(name))

    def doctype(*_: object) -> None:
        raise Unreadable("it has a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise Unreadable(f"it is no XML: {error}") from error
    return builder.close()


def _name(name: str) -> str:
    return "{" + name if "}" in name else name


def _indent(parent: Element, before: str) -> None:
    children = list(parent)
    if not children:
        return
    parent.text = (parent.text or "").strip() + before + "  "
    for child in children:
        _indent(child, before + "  ")
        child.tail = before + "  "
    children[-1].tail = before
