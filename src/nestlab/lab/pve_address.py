"""Addresses of a Proxmox VE (`pve://…`), which hold no secret. Pure.

`pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]` is its API over HTTPS, `pve+ssh://[USER@]HOST[:22]` pvesh on a node
over ssh, and `pve+local` pvesh on this machine.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

PORT = 8006

FORM = "pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]"
SSH_FORM = "pve+ssh://[USER@]HOST[:22]"
LOCAL = "pve+local"

_SSH = "pve+ssh://"
_USER = re.compile(r"[^\s:/@!]+@[A-Za-z][A-Za-z0-9._-]*")
_LOGIN = re.compile(r"[\w.][\w.+-]*")
"""A user of ssh. The user's ssh configuration may put it into a command line for a shell (`ProxyCommand … %r`)."""
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_SSH_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_][A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?/?", re.ASCII)

_HIDDEN = (
    re.compile(r"(?<=://)([^:=\n]*+[:=].*)(?=@)"),
    re.compile(r"""(?<![^\s"'{\[,])(?:[\w.-]+=)?+(?:[\w+.-]+://)?+([^\s:=]*+[:=]\S*)(?=@)"""),
    re.compile(r"""pve(?:\+ssh)?://[^\s:/@[]*:(?!\$|\d{1,5}(?:[/\s"',}]|$))([^\s"',}]+)"""),
    re.compile(r"""![A-Za-z][\w.-]*=([^\s"']+)"""),
    re.compile(r"""\b(?:password|passwd|secret|token)["']?\s*[:=]\s*([^\s{].*)""", re.IGNORECASE),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.+)"),
)
"""Patterns of secrets in a line: a : or = before an @, no port where one could be, the value after the name of an API
token, a value that is called a secret, and a private key."""


@frozen
class Place:
    """The address of a Proxmox VE's API, in parts. A part that the address leaves out is ""."""

    host: str
    port: int = PORT
    user: str = ""
    token_id: str = ""
    node: str = ""

    def __str__(self) -> str:
        port = "" if self.port == PORT else f":{self.port}"
        token = f"!{self.token_id}" if self.token_id else ""
        name = f"{quote(self.user, safe='@')}{token}@" if self.user else ""
        return f"pve://{name}{_bracketed(self.host)}{port}{'/' if self.node else ''}{self.node}"


@frozen
class Shell:
    """A node of a Proxmox VE where pvesh is run: over ssh, or (`host` is "") this machine. What the address leaves out
    (None) is the ssh configuration's to say."""

    host: str = ""
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"pve+{self.ssh}" if self.host else LOCAL

    @property
    def ssh(self) -> str:
        """The address of its sshd, `ssh://[USER@]HOST[:PORT]`; "" for this machine."""
        user = f"{quote(self.user)}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"ssh://{user}{_bracketed(self.host)}{port}" if self.host else ""


def is_user(text: str) -> bool:
    """Whether it is a user with a realm, such as `root@pam`."""
    return _USER.fullmatch(text) is not None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse(address: str) -> Place | Shell:
    """From an address of any of the three forms. LabError if it is none, or holds a secret (which the error does not
    show). What `str` makes of the answer is the same address, always written in the same way."""
    if address == LOCAL:
        return Shell()
    if address.startswith(_SSH):
        return _shell(address)
    return place(address)


def place(address: str) -> Place:
    """From an address that starts with `pve://`; LabError as by `parse`."""
    _checked(address)
    try:
        parts = urlsplit(address)
        port = parts.port or PORT
        host = parts.hostname or ""
    except ValueError:
        raise _wrong(address, "its host or port cannot be read") from None
    if parts.scheme != "pve":
        raise _wrong(address, "it does not start with pve://")
    name = unquote(parts.netloc.rpartition("@")[0])
    user, _, token_id = name.partition("!")
    if (name and not is_user(user)) or ("!" in name and not _ID.fullmatch(token_id)) or not name.isprintable():
        raise _wrong(address, f"{name!r} is no user with a realm, such as root@pam or lab@pve!nestlab")
    if not _HOST.fullmatch(host):
        raise _wrong(address, "it names no host")
    node = unquote(parts.path.strip("/"))
    if (node and not _NODE.fullmatch(node)) or parts.query or parts.fragment:
        raise _wrong(address, "after the host only the name of a node may follow")
    return Place(host, port, user, token_id, node)


def _shell(address: str) -> Shell:
    _checked(address)
    user, at, rest = address.removeprefix(_SSH).rpartition("@")
    name = unquote(user)
    if at and not _LOGIN.fullmatch(name):
        raise _wrong(address, "there is no usable user's name before the @", SSH_FORM)
    found = _SSH_PLACE.fullmatch(rest)
    if found is None or (found[3] and not 0 < int(found[3]) < 65536):
        raise _wrong(address, "its host or port cannot be read", SSH_FORM)
    return Shell(found[1] or found[2], name or None, int(found[3]) if found[3] else None)


def _checked(address: str) -> None:
    rest = unquote(address.partition("://")[2] or address)
    name = rest.rpartition("@")[0]
    if "=" in name or ":" in name or re.search(r"![^/?#]*=", rest):
        what = "An address of a Proxmox VE must not hold a secret: lab files and command lines are read by others."
        raise LabError(what, hint="Set NESTLAB_PVE_TOKEN=USER@REALM!ID=SECRET instead, and change that secret.")
    if not address.isprintable() or " " in address:
        raise _wrong(address, "there are blanks or control characters in it")


def _wrong(address: str, why: str, form: str = FORM) -> LabError:
    shown = re.sub(r"(?<=//).*@", "…@", address, flags=re.DOTALL)
    # What stands for a port and is none may be the password of a user without a host; a query may hold a token.
    shown = re.sub(r":(?!//|\d{1,5}(?:/|$)|[0-9A-Fa-f:.]*\]).*", ":…", shown, flags=re.DOTALL)
    shown = re.sub(r"=.*", "=…", shown, flags=re.DOTALL)
    return LabError(f"{shown!r} is no address of a Proxmox VE: {why}.", hint=f"Write it as {form}.")


def veiled(text: str) -> str:
    """The text with as many * in place of what looks like a secret: a password in an address, an API token's."""
    for pattern in _HIDDEN:
        text = pattern.sub(_stars, text)
    return text


def _stars(found: re.Match[str]) -> str:
    start, end = found.span(1)
    whole, before = found[0], start - found.start()
    return whole[:before] + "*" * (end - start) + whole[before + end - start :]
