"""What an installation is told, whatever installer asks."""

from __future__ import annotations

import re
import shlex
from typing import Literal

from nestlab.base.frozen import frozen

Filesystem = Literal["ext4", "xfs", "btrfs", "zfs"]

LOCALE = re.compile(r"[a-z]{2,3}_[A-Z]{2}(\.UTF-8)?")
"""With its country: without one Debian's installer asks for the continent."""
KEYBOARD = re.compile(r"[a-z]{2}(-[a-z]{2,10})?")
TIMEZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
DOMAIN = re.compile(r"(?=.{1,190}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")

HOST_NAME = "nestlab"
"""What an installed image calls itself. Each machine made from it gets its own name before its services start."""


@frozen
class Answers:
    """What an installation is told. Passwords are crypt(3) hashes; None: nobody logs in with one."""

    locale: str = "en_US.UTF-8"
    keyboard: str = "us"
    timezone: str = "UTC"
    domain: str = "lab.internal"
    filesystem: Filesystem = "ext4"
    suite: str = "trixie"
    """Debian's release. Its installer is not asked to find out: it would try the names of all."""
    password: str | None = None
    """The hash of root's password, or of the user's where there is one."""
    user: str = "root"
    ssh_keys: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """Scripts of POSIX sh that run as root in the installed system before the installer ends."""
    extra: str = ""
    """What else the installer reads, in its own words: lines of a preseed or a kickstart, or a mapping as JSON that is
    merged into an autoinstall or an answer.toml."""

    @property
    def country(self) -> str:
        """Two letters, from the locale: `us` of `en_US.UTF-8`."""
        return self.locale.partition("_")[2][:2].lower()

    @property
    def fqdn(self) -> str:
        return f"{HOST_NAME}.{self.domain}"


@frozen
class ServerAddress:
    """The answer server as the installer sees it. `url` ends in a secret of this installation: `http://10.0.2.4/…`.

    `log`: an address and port that takes lines of the installer's log over TCP. `mirror`: the host name and the path of
    a mirror of the distribution's packages behind the same address; None: there is none there. `origin`: its real URL,
    which an installed system is left with: behind this address there is nothing once the installer is done. `outward`:
    whether the installer has a way out of its own.
    """

    url: str
    log: tuple[str, int]
    tls_url: str = ""
    """The same over TLS, for installers that pin a certificate."""
    fingerprint: str = ""
    """SHA-256 of its certificate: 32 pairs of upper-case hex digits with colons."""
    token: str = ""
    """What an installer shows the server: `NAME:SECRET`."""
    mirror: tuple[str, str] | None = None
    origin: str = ""
    outward: bool = False
    name_server: str = "10.0.2.3"

    def sources(self, root: str) -> str:
        """A shell command that puts the real mirror into apt's sources of a system below `root`; `:` without one."""
        if self.mirror is None:
            return ":"
        here, there = (url.rstrip("/") for url in (f"http://{''.join(self.mirror)}", self.origin))
        wanted, given = re.sub(r"[][.*$\\]", r"[\g<0>]", here), re.sub(r"[&\\]", r"\\\g<0>", there)
        files = f"{root}/etc/apt/sources.list {root}/etc/apt/sources.list.d/*"
        return f'for f in {files}; do [ ! -f "$f" ] || sed -i {shlex.quote(f"s {wanted} {given} g")} "$f"; done'

    def stage(self, name: str) -> str:
        """What is fetched to say how far the installation is."""
        return f"{self.url}/stage/{name}"
