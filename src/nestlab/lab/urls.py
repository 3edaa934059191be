"""URLs that images are downloaded from. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, unquote, urlsplit


def name_in(url: str) -> str:
    """The file name in a URL, without what follows a `?` (it may be somebody's secret)."""
    return unquote(urlsplit(url).path.rpartition("/")[2]) or urlsplit(url).hostname or "?"


def shown_url(url: str) -> str:
    """A URL for people: without what follows a `?`, and without a user and password. A path is shown as it is."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?…' if parts.query else ''}"


def is_url(place: str) -> bool:
    """Whether `sums` is a URL, and no path."""
    return place.startswith(("http://", "https://"))


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this computer, by what is written in it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fault_of(url: str) -> tuple[str, str] | None:
    """What is wrong with a URL, and what to do."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "it is no URL that has a host", "Write it as a browser shows it: https://HOST/PATH"
    if "@" in parts.netloc:
        hint = "Leave them out: a lab file is no place for a password. A file in ~/.netrc is read."
        return "it has a user or a password in it", hint
    if parts.fragment:
        return "it has a `#` in it, which no server is told", "Leave out what follows it."
    return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts
