"""How domains and networks of nestlab's are known: by an element of their metadata; and their names. Pure."""

from __future__ import annotations

import hashlib
import re
import uuid
from xml.etree.ElementTree import Element

from nestlab.base.frozen import frozen
from nestlab.engines.libvirt.xml import element

NAMESPACE = "urn:nestlab:libvirt:1"
"""libvirt keeps an element of metadata by its namespace (formatdomain, General metadata)."""

_NAME_LIMIT = 80
"""Letters of a domain's name: files of libvirt's have it in their names, and a unix socket's path 107 bytes."""

_OWNER = re.compile(r"[0-9a-f]{32}")


@frozen
class Mark:
    """Whose it is. `owner`: a digest of the lab's public key, which no other lab has, one of the same name on another
    computer neither. `path`: of a machine; "" for a network."""

    owner: str
    lab: str
    path: str = ""
    digest: str = ""


def owner_of(public_key: str) -> str:
    """32 hex digits for a lab, by the public half of its ssh key."""
    return hashlib.sha256(" ".join(public_key.split()[:2]).encode()).hexdigest()[:32]


def metadata(mark: Mark) -> Element:
    """The element `metadata` of a domain or a network."""
    said = {"owner": mark.owner, "lab": mark.lab, "path": mark.path or None, "digest": mark.digest or None}
    return element("metadata", "", element("nestlab:made", "", **{"xmlns:nestlab": NAMESPACE}, **said))


def mark_of(root: Element) -> Mark | None:
    """The mark in the XML of a domain or a network; None where it is not nestlab's."""
    made = root.find(f"metadata/{{{NAMESPACE}}}made")
    if made is None or not _OWNER.fullmatch(made.get("owner", "")):
        return None
    return Mark(made.get("owner", ""), made.get("lab", ""), made.get("path", ""), made.get("digest", ""))


def domain_name(lab: str, path: str) -> str:
    """The name of a machine's domain: `nestlab-pair-hv1.web`, with a digest where that is too long. libvirt's names
    have no slash."""
    name = f"nestlab-{lab}-{path.replace('/', '.')}"
    if len(name) <= _NAME_LIMIT:
        return name
    return f"{name[: _NAME_LIMIT - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def domain_uuid(lab: str, path: str) -> str:
    """The UUID of a machine's domain, which it keeps for as long as it is called so."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"domain {lab}:{path}".encode()).digest()[:16], version=4))
