"""Addresses of machines of the user's own, `ssh://[user@]host[:port]`, which hold no secret. Pure."""

from __future__ import annotations

import ipaddress
import re
import shlex
from urllib.parse import unquote

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

RIGHT = "Write ssh://[user@]host[:port], such as ssh://root@server.example.com:2222 or ssh://[2001:db8::1]."

_LOGIN = re.compile(r"[\w.][\w.+-]*")
"""A user that a lab file may name. The user's ssh configuration may put it into a command line for a shell
(`ProxyCommand … %r`)."""


@frozen
class Address:
    """An ssh address; parts that are left out (None) come from the ssh configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{self.port}' if self.port else ''}"

    @property
    def url(self) -> str:
        """The address as a lab file says it."""
        return f"ssh://{self}"

    @property
    def arguments(self) -> str:
        """The arguments with which ssh reaches it, for a shell."""
        port = ["-p", str(self.port)] if self.port else []
        return shlex.join([*port, f"{self.user}@{self.host}" if self.user else self.host])


def parse(url: str) -> Address:
    """The address that a url names. LabError if it is not of the form `ssh://[user@]host[:port]`."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() != "ssh":
        raise LabError(f"{_shown(url)} is not the ssh address of a machine.", hint=RIGHT)
    user, at, place = rest.removesuffix("/").rpartition("@")
    name = unquote(user)
    if ":" in user:  # not the url: a password is nothing to show
        what = "The ssh address has a password in it, which nestlab does not use."
        raise LabError(what, hint=f"Take it out. {RIGHT}")
    if at and (not name or name.startswith("-") or re.search(r"[\s/@:\x00-\x1f\x7f]", name)):
        raise LabError(f"{_shown(url)} has no usable user's name before the @.", hint=RIGHT)
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(.*))?", place)
    if match is None:
        raise LabError(f"{_shown(url)} is not clear: an IPv6 address goes in brackets.", hint=RIGHT)
    numeric, named, port = match.groups()
    return Address(_host(url, numeric, named), name or None, _port(url, port))


def _host(url: str, numeric: str | None, named: str) -> str:
    if numeric is not None:
        try:
            ipaddress.IPv6Address(numeric)
        except ValueError:
            what = f"{_shown(url)} has no IPv6 address in the brackets."
            raise LabError(what, hint=RIGHT) from None
        return numeric
    if not named:
        raise LabError(f"{_shown(url)} names no host.", hint=RIGHT)
    if not re.fullmatch(r"\w[\w.-]*", named):
        raise LabError(f"{_shown(url)}: {_shown(named)} is not a host's name.", hint=RIGHT)
    return named


def _port(url: str, port: str | None) -> int | None:
    if port is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise LabError(f"{_shown(url)}: {_shown(port)} is not a port from 1 to 65535.", hint=RIGHT)
    return int(port)


def _shown(text: str) -> str:
    text = re.sub(r":(?!//)[^@]*@", ":...@", text)  # a password
    return text if text.isprintable() and text else ascii(text)


def of_lab(url: str) -> Address:
    """As `parse`, for a url that stands in a lab file, which somebody else may have written."""
    found = parse(url)
    if found.user is not None and not _LOGIN.fullmatch(found.user):
        raise LabError(f"{_shown(url)} has no usable user's name before the @.", hint=RIGHT)
    return found
