"""Where the packages of a Proxmox VE come from, and whose signature they have. Pure.

Names and digests are those of Proxmox's documentation (pve-docs, pve-package-repos.adoc, of 2026-08)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nestlab.base.frozen import frozen

MIRROR = "http://download.proxmox.com/debian/pve"
COMPONENT = "pve-no-subscription"


@frozen
class Release:
    """A major version: the release of Debian that it is made on, and the keys that sign it."""

    suite: str
    keyring: str
    checksum: str
    """Of the keyring: `sha256:` or `sha512:`, whichever Proxmox publishes."""


RELEASES: Mapping[int, Release] = MappingProxyType(
    {
        9: Release(
            "trixie",
            "https://enterprise.proxmox.com/debian/proxmox-archive-keyring-trixie.gpg",
            "sha256:136673be77aba35dcce385b28737689ad64fd785a797e57897589aed08db6e45",
        ),
        8: Release(
            "bookworm",
            "https://enterprise.proxmox.com/debian/proxmox-release-bookworm.gpg",
            "sha512:7da6fe34168adc6e479327ba517796d4702fa2f8b4f0a9833f5ea6e6b48f6507"
            "a6da403a274fe201595edc86a84463d50383d07f64bdde2e3658108db7d6dc87",
        ),
    }
)
LATEST = max(RELEASES)


@frozen
class PvePackages:
    """A major version of Proxmox VE, and the repository that it comes from.

    `mirror`: a URL (http or https), or the absolute path of a repository on this computer. `suite`: None is Debian's.
    `keyring`: a URL or an absolute path; None: Proxmox's. `checksum`: of the keyring; None: that of Proxmox's, or, of a
    file on this computer, whatever it is when the image is made."""

    version: int = LATEST
    mirror: str = MIRROR
    suite: str | None = None
    component: str = COMPONENT
    keyring: str | None = None
    checksum: str | None = None

    @property
    def release(self) -> Release:
        return RELEASES[self.version]

    @property
    def debian(self) -> str:
        """The release of Debian it is made on."""
        return self.release.suite

    @property
    def suite_there(self) -> str:
        """The suite of its repository."""
        return self.suite or self.debian

    @property
    def keys(self) -> str:
        """Where the keyring is: a URL or an absolute path."""
        return self.keyring or self.release.keyring

    @property
    def keys_checksum(self) -> str | None:
        """`ALGORITHM:DIGEST` of the keyring; None where only the file tells."""
        return self.checksum if self.keyring is not None else self.release.checksum

    @property
    def here(self) -> bool:
        """Whether the repository is a folder on this computer."""
        return self.mirror.startswith("/")
