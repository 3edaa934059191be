"""Scalars of a lab file to typed values. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from nestlab.base import regular
from nestlab.base.did_you_mean import meant
from nestlab.base.errors import LabError
from nestlab.lab import libvirt_address, ssh_address
from nestlab.lab.model import NAME, format_size, parse_size
from nestlab.lab.pve_address import parse
from nestlab.labfile.nodes import Scalar, found, resolve, shortened
from nestlab.labfile.shapes import (
    Address,
    Boolean,
    Choice,
    Cidr,
    GuestPath,
    Integer,
    Leaf,
    LocalPath,
    Mac,
    Mode,
    Name,
    PveAddress,
    Reference,
    Repository,
    Size,
    SshKey,
    Text,
    UrlOrPath,
)

URL = r"https?://[!-~]+"

AS_TEXT = "Put it in quotes if it is meant as text"


class Wrong(Exception):
    """The scalar is not of the shape; `what` and `hint` as in a Mistake."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def leaf(shape: Leaf, node: Scalar) -> Any:
    """The value in nestlab's form (sizes in bytes, paths absolute, addresses as `ipaddress` writes them), or Wrong."""
    return _READERS[type(shape)](shape, node)


def _expected(shape: Leaf, node: Scalar, hint: str = "") -> Wrong:
    if not hint and not node.plain and isinstance(node.value, str) and not isinstance(resolve(node.text), str):
        try:
            leaf(shape, Scalar(node.source, 0, 0, resolve(node.text), node.text, True))
        except Wrong:
            pass
        else:
            hint = f"Leave out the quotes: {node.text}"
    return Wrong(f"found {found(node)}, expected {shape.words}", hint)


def _string(shape: Leaf, node: Scalar) -> str:
    if isinstance(node.value, str):
        return node.value
    hint = "" if node.value is None else f'{AS_TEXT}: "{node.text}"'
    raise Wrong(f"found {found(node)}, expected {shape.words}", hint)


def _text(shape: Text, node: Scalar) -> str:
    text = _string(shape, node)
    if shape.limit is not None and len(text) > shape.limit:
        raise Wrong(f"it has {len(text)} letters, expected {shape.words}", f"Use at most {shape.limit}.")
    if shape.whole:
        _only_whole(shape, node)
    if shape.pattern is not None and not re.fullmatch(shape.pattern, text):
        raise _expected(shape, node)
    return text


def _integer(shape: Integer, node: Scalar) -> int:
    value = node.value
    if isinstance(value, int) and not isinstance(value, bool) and shape.low <= value <= shape.high:
        return value
    raise _expected(shape, node, shape.why if isinstance(value, int) else "")


def _size(shape: Size, node: Scalar) -> int:
    value = node.value
    if (isinstance(value, int | float) and not isinstance(value, bool)) or _unitless(value):
        shown = shortened(node.text)[1:-1]
        whole = isinstance(value, int) and value > 0 and len(node.text) < 8
        like = f"{value}M" if whole and value in range(shape.low >> 20, 1 << 20) else "512M"
        raise Wrong(f"found {shown} without a unit, expected {shape.words}", f"Say the unit, as in {like} or 4G.")
    if not isinstance(value, str):
        raise _expected(shape, node)
    try:
        size = parse_size(value)
    except ValueError:
        raise _expected(shape, node, "Write a number and K, M, G or T, as in 512M or 4G.") from None
    if size < shape.low:
        raise Wrong(f"{value} is too little, expected {shape.words}", f"Give at least {format_size(shape.low)}.")
    if size > shape.high:
        raise Wrong(f"{value} is too much, expected {shape.words}", f"Give at most {format_size(shape.high)}.")
    return size


def _unitless(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value))


def _boolean(shape: Boolean, node: Scalar) -> bool:
    if isinstance(node.value, bool):
        return node.value
    right = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(node.text.lower(), "")
    raise _expected(shape, node, f"YAML 1.2 writes it {right}." if right else "")


def _choice(shape: Choice, node: Scalar) -> str:
    if isinstance(node.value, str) and node.value in shape.values:
        return node.value
    other = shape.others.get(node.text.lower())
    raise _expected(shape, node, "" if node.value is None else other or meant(node.text, shape.values))


def _mode(shape: Mode, node: Scalar) -> int:
    if re.fullmatch(r"0o[0-7]{3,4}", node.text) and isinstance(node.value, int):
        return node.value
    digits = re.fullmatch(r"0?([0-7]{3,4})", node.text)
    hint = f"YAML 1.2 writes octal numbers with 0o: 0o{digits[1]}" if digits else ""
    raise Wrong(f"found {found(node)}, expected {shape.words}", hint)


def _name(shape: Name, node: Scalar) -> str:
    from nestlab.labfile.fields import RESERVED

    text = _string(shape, node)
    if len(text) > shape.limit:
        what = f"the name {shortened(text)} has {len(text)} letters"
        raise Wrong(what, f"The name of a {shape.of} has at most {shape.limit}.")
    if text in RESERVED:
        raise Wrong(f"the name {text} has a meaning of its own on every machine", "Choose another.")
    if not NAME.fullmatch(text):
        bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        tidy = re.sub(r"[^a-z0-9]+", "-", bare.lower()).strip("-")
        hint = f"Did you mean `{tidy}`?" if NAME.fullmatch(tidy) else ""
        rule = "lower-case letters, digits and dashes, first a letter, last no dash"
        raise Wrong(f"{shortened(text)} is no name for the {shape.of}: {rule}", hint)
    return text


def _reference(shape: Reference, node: Scalar) -> str:
    return _string(shape, node)


def _local_path(shape: LocalPath, node: Scalar) -> str:
    text = _string(shape, node)
    if not text or not text.isprintable():
        raise _expected(shape, node)
    _leads_nowhere(node)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise Wrong(f"{text}: {error}", "Write the path in full.") from error
    return os.path.normpath(node.source.directory / path)


def _url_or_path(shape: UrlOrPath, node: Scalar) -> str:
    text = _string(shape, node)
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return _local_path(LocalPath(), node)
    _only_whole(shape, node)
    if not re.fullmatch(URL, text):
        raise _expected(shape, node)
    return text


def _repository(shape: Repository, node: Scalar) -> str:
    text = _string(shape, node)
    if not (here := re.fullmatch(r"(?:file|copy):/*(/[^/].*)", text)):
        return _url_or_path(UrlOrPath(), node).rstrip("/")
    _only_whole(shape, node)
    return os.path.normpath(here[1])


def _leads_nowhere(node: Scalar) -> None:
    """Wrong where a file decides in which folder the value of a variable is looked for: what is looked for in a folder
    of the network is told to whoever serves it."""
    anywhere = node.text.startswith(("/", "~")) or ".." in node.text.split("/")
    for each in node.inserted:
        at_its_start = each.start == 0 and node.text.startswith("/")
        if anywhere and not at_its_start:
            what = f"the variable {each.name} stands inside of a path that leads out of this file's folder"
            raise Wrong(what, "A variable may be the beginning of a path and say where it is, such as ${DIR}/disk.raw.")


def _only_whole(shape: Leaf, node: Scalar) -> None:
    """Wrong where a variable is a part of an address: the name of its host is told to whoever answers for it."""
    if node.inserted and not node.whole:
        what = f"the variable {node.inserted[0].name} is only a part of {shape.words}"
        raise Wrong(what, "Let one variable hold all of it, such as ${WHERE} or ${WHERE:-…}.")


_PUBLIC = re.compile(r"((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+) +([A-Za-z0-9+/]+={0,2})(?: +([ -~]*))?")
_KEYS_LIMIT = 1 << 16


def _ssh_key(shape: SshKey, node: Scalar) -> tuple[str, ...]:
    """Without options: who may log in, not how. All keys of the file, where one is named."""
    text = _string(shape, node).strip()
    if "PRIVATE KEY" in text:
        raise Wrong(
            "a private key stands here", "Take it out, and use another from now on; name the .pub file instead."
        )
    if _PUBLIC.fullmatch(text):
        return (_public(text, "it"),)
    path = Path(_local_path(LocalPath(), node))
    try:
        status = regular.check(path)
        said = _content(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        if "ssh-" in text:
            raise _expected(shape, node, "Write it as in a .pub file: ssh-ed25519 AAAA… NAME.") from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "Paths are relative to the lab file that names them. `ssh-keygen -t ed25519` makes a key."
        raise Wrong(f"{path} cannot be read: {reason}", hint) from None
    if "PRIVATE KEY" in said:
        raise Wrong(f"{path} is a private key", f"Name its public part: {node.text}.pub")
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise Wrong(f"there is no key in {path}", "Name a .pub file.")
    return tuple(_public(line, str(path)) for line in lines)


@lru_cache(maxsize=256)
def _content(path: Path, changed: int, size: int) -> str:
    """Of a file of keys, which many machines may name; `changed` and `size` tell that it is still the same."""
    return regular.read(path, _KEYS_LIMIT).decode("utf-8", "replace")


def _public(line: str, where: str) -> str:
    match = _PUBLIC.fullmatch(line)
    try:
        # RFC 4253, section 6.6: a key begins with the length of its type's name, and that name.
        data = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        data = b""
    head = len(match[1]).to_bytes(4) + match[1].encode() if match else b"?"
    if match is None or not data.startswith(head):
        raise Wrong(f"{where} is no public ssh key", "It is one line, as in a .pub file: ssh-ed25519 AAAA… NAME.")
    return " ".join(part for part in match.groups() if part).strip()


def _guest_path(shape: GuestPath, node: Scalar) -> str:
    text = _string(shape, node)
    if not text.startswith("/") or not text.isprintable() or posixpath.normpath(text) != text or text in ("/", "//"):
        raise _expected(shape, node, "Write it from the root, with no . or .. and no / at its end: /etc/motd")
    return text


def _cidr(shape: Cidr, node: Scalar) -> str:
    text = _string(shape, node)
    try:
        inside = ipaddress.ip_interface(text)
    except ValueError:
        raise _expected(shape, node) from None
    network = inside.network
    if network.version != shape.version:
        other = "cidr6" if network.version == 6 else "cidr"
        raise _expected(shape, node, f"An IPv{network.version} network belongs under `{other}`.")
    if "/" not in text:
        raise Wrong(f"{text} is an address, expected {shape.words}", "Say how long the prefix is: add /24 or /64.")
    if inside.ip != network.network_address:
        raise Wrong(f"{text} is an address in a network, not a network", f"The network is {network}.")
    if shape.version == 4 and not 8 <= network.prefixlen <= 30:
        raise Wrong(f"{text} leaves no room or too much", "Take a prefix from /8 to /30; /24 is usual.")
    if shape.version == 6 and not 16 <= network.prefixlen <= 64:
        raise Wrong(f"{text} is no network for hosts: IPv6 wants a /64", "Take a prefix from /16 to /64; /64 is usual.")
    if _is_special(network):
        raise Wrong(f"{text} has a meaning of its own in every machine", f"Take {_USUAL[shape.version]}.")
    return str(network)


_USUAL = {4: "one of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16", 6: "one of fd00::/8"}
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/16", "fe80::/9", "ff00::/8")
)


def _is_special(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return any(network.version == each.version and network.overlaps(each) for each in _SPECIAL)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _address(shape: Address, node: Scalar) -> str:
    text = _string(shape, node)
    if "/" in text:
        raise _expected(shape, node, "The length of the prefix is that of the segment: leave it out.")
    try:
        address = _parsed(text)
    except ValueError:
        raise _expected(shape, node) from None
    if "%" in text:
        raise _expected(shape, node, "Leave out the % and what follows.")
    if shape.version not in (None, address.version):
        other = "address6" if address.version == 6 else "address"
        raise _expected(shape, node, f"An IPv{address.version} address belongs under `{other}`.")
    return str(address)


def _mac(shape: Mac, node: Scalar) -> str:
    text = _string(shape, node).lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise _expected(shape, node)
    if int(text[:2], 16) & 1:
        raise Wrong(f"{text} is a multicast address", "The first two digits must be an even number, as in 52.")
    if text == "00:00:00:00:00:00":
        raise Wrong(f"{text} belongs to nobody", "Take one such as 52:54:00:12:34:56.")
    return text


def _pve_address(shape: PveAddress, node: Scalar) -> str:
    text = _string(shape, node)
    _only_whole(shape, node)
    if text == "local":
        if not shape.local:
            raise Wrong(
                "`local` is no Proxmox VE", "For this computer say `on: local`, or `pve+local` if it is a node."
            )
        return text
    scheme = text.partition(":")[0].lower()
    if scheme in ("ssh", "qemu", "qemu+ssh"):
        if not shape.local:
            raise Wrong(f"{scheme}: is no Proxmox VE", "A node of one is reached by pve+ssh://[USER@]HOST.")
        try:
            return ssh_address.of_lab(text).url if scheme == "ssh" else libvirt_address.of_lab(text)
        except LabError as error:
            raise Wrong(error.what.removesuffix("."), error.hint) from None
    if scheme in ("qemu+tcp", "qemu+tls", "libvirt"):
        what = f"{scheme}: is not supported: a lab runs here, on a host that ssh reaches, or on a Proxmox VE"
        raise Wrong(what, f"{libvirt_address.RIGHT} With ssh://[USER@]HOST nestlab's own engine works there.")
    if not scheme.startswith("pve"):
        raise _expected(shape, node, "" if "://" in text else meant(text, ("local",) * shape.local))
    try:
        return str(parse(text))
    except LabError as error:
        raise Wrong(error.what.removesuffix("."), error.hint) from None


_READERS: dict[type, Callable[..., Any]] = {
    Text: _text,
    Integer: _integer,
    Size: _size,
    Boolean: _boolean,
    Choice: _choice,
    Mode: _mode,
    Name: _name,
    Reference: _reference,
    LocalPath: _local_path,
    UrlOrPath: _url_or_path,
    Repository: _repository,
    SshKey: _ssh_key,
    GuestPath: _guest_path,
    Cidr: _cidr,
    Address: _address,
    Mac: _mac,
    PveAddress: _pve_address,
}
