"""The user-data for cloud-init that a lab file says, be it in place or in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nestlab.labfile.compose import Intake, Unusable, compose
from nestlab.labfile.load import read
from nestlab.labfile.nodes import Items, Node, Pairs, Scalar, found
from nestlab.labfile.scalars import Wrong, leaf
from nestlab.labfile.shapes import LocalPath
from nestlab.labfile.source import Source

HEAD = "#cloud-config"

OURS = {
    "hostname": "it is the machine's name",
    "fqdn": "it is the machine's name",
    "preserve_hostname": "the machine is called by its name",
    "manage_etc_hosts": "nestlab writes /etc/hosts, with the names of the whole lab",
    "ssh_keys": "the host keys are those that nestlab knows the machine by",
    "ssh_deletekeys": "the host keys are those that nestlab knows the machine by",
    "disable_root": "the image's `user` says who logs in",
    "network": "the cards are those of its `segments`",
}
"""What nestlab itself says to cloud-init, and why nobody else does."""


def file_of(node: Node) -> str | None:
    """The absolute path of the file that is named; None where the cloud-config stands in place. Wrong as by `leaf`."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value.strip():
        return None
    if "\n" in node.value or node.value.startswith("#"):
        return None
    return str(leaf(LocalPath(), node))


def cloud_config(node: Node, intake: Intake | None = None) -> str:
    """The cloud-config as JSON: of a mapping, of a text that begins with its head, or of the file that is named.
    Wrong where it is none. What is read is taken off the `intake`."""
    if isinstance(node, Scalar):
        node = _of_text(node, intake)
    if not isinstance(node, Pairs):
        raise Wrong(f"found {found(node)}, expected a mapping, or the path of a file with one")
    for key, (name, _) in node.pairs.items():
        if key in OURS:
            raise Wrong(f"line {name.line} says `{key}`, which is nestlab's to say: {OURS[key]}", "Leave it out.")
    return json_of(node)


def json_of(node: Pairs) -> str:
    """A mapping as JSON. Wrong where it cannot be said so."""
    try:
        return json.dumps(_plain(node), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise Wrong("it holds a number that is not finite", "Nobody has a use for one.") from None


def _of_text(node: Scalar, intake: Intake | None) -> Node:
    if not isinstance(node.value, str) or not node.value.strip():
        raise Wrong(f"found {found(node)}, expected a mapping, or the path of a file with one")
    path = file_of(node)
    if path is None:
        name = "the text"
        source = Source(node.source.name, node.value, node.source.directory)
    else:
        name = node.value
        try:
            source = read(Path(path), node.value)
        except Unusable as unusable:
            what = unusable.mistake.what
            raise Wrong(f"{name}: {what}", unusable.mistake.hint.replace("lab file", "file")) from None
    if not source.text.startswith(HEAD):
        what = f"{name} does not begin with {HEAD}"
        raise Wrong(what, "A script belongs under `runcmd:` of a cloud-config; other forms of user-data are not taken.")
    root, mistakes = compose(source, None, intake=intake)
    if mistakes or root is None:
        told = f", line {mistakes[0].line}: {mistakes[0].what}" if mistakes else ": there is nothing in it"
        raise Wrong(f"{name}{told}", mistakes[0].hint if mistakes else f"Write a mapping below {HEAD}.")
    return root


def _plain(node: Node) -> Any:
    match node:
        case Pairs():
            return {key: _plain(value) for key, (_, value) in node.pairs.items()}
        case Items():
            return [_plain(each) for each in node.items]
        case Scalar():
            return node.value
    raise TypeError(f"no value for {node}")
