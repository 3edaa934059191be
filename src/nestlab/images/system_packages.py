"""System packages that nestlab lacks here, and this distribution's command that installs them.

Images (and nestlab's own QEMU, where the system's is not good enough) are made from Debian packages by mmdebstrap;
nothing else of the system is needed. Pure, apart from `look`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/etc/apt/trusted.gpg.d/debian-archive-trixie-stable.asc"),
)
"""Where the keys that sign Debian's packages are, by distribution and age."""


@frozen
class Manager:
    """A package manager: `install` precedes the names; `names` differ from Debian's ("" : it comes with the base
    system); `elsewhere`: packages that the distribution does not have, and where they are."""

    install: str
    names: Mapping[str, str]
    elsewhere: Mapping[str, str]


@frozen
class Need:
    """A package, by Debian's name, and what it is for."""

    package: str
    why: str


MMDEBSTRAP = Need("mmdebstrap", "makes images from Debian packages")
UIDMAP = Need("uidmap", "lets an ordinary user do that (newuidmap)")
MOUNT = Need("mount", "gives mmdebstrap's chroot its /proc; the smallest containers lack it")
KEYRING = Need("debian-archive-keyring", "checks that the packages are Debian's")

_MOUNT = {"mount": "util-linux"}
_PERL = "mmdebstrap is a Perl script that needs apt and dpkg: put Debian's into your PATH"

APT = Manager("apt install", {}, {})
DNF = Manager("dnf install", {"uidmap": "shadow-utils", "debian-archive-keyring": "debian-keyring", **_MOUNT}, {})
PACMAN = Manager(
    "pacman -S",
    {"uidmap": "shadow", **_MOUNT},
    {"mmdebstrap": "from the AUR (for instance `paru -S mmdebstrap`)"},
)
ZYPPER = Manager(
    "zypper install", {"uidmap": "shadow", **_MOUNT}, {"mmdebstrap": _PERL, "debian-archive-keyring": _PERL}
)
APK = Manager("apk add", {"uidmap": "shadow-uidmap"}, {"mmdebstrap": _PERL})

MANAGERS: Mapping[str, Manager] = {
    **dict.fromkeys(("debian", "ubuntu"), APT),
    "fedora": DNF,
    "arch": PACMAN,
    **dict.fromkeys(("opensuse", "suse", "sles"), ZYPPER),
    "alpine": APK,
}
"""By ID or ID_LIKE of os-release."""


def parse_release(text: str) -> dict[str, str]:
    """The fields of an os-release file (os-release(5)); lines that are none are skipped."""
    import shlex

    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            fields[name] = "".join(shlex.split(value))
        except ValueError:
            fields[name] = value
    return fields


def manager(release: Mapping[str, str]) -> Manager | None:
    """The package manager of a distribution, None for one that is not known."""
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        known = MANAGERS.get(name) or MANAGERS.get(name.partition("-")[0])
        if known:
            return known
    return None


def commands(needs: tuple[Need, ...], release: Mapping[str, str], *, root: bool) -> list[str]:
    """Lines that say how to get what is missing: a command to copy, and where else to look."""
    known = manager(release)
    if known is None:
        names = ", ".join(need.package for need in needs)
        return [f"Install {names} (Debian's names) with this distribution's package manager."]
    here = [known.names.get(need.package, need.package) for need in needs if need.package not in known.elsewhere]
    lines = [f"{'' if root else 'sudo '}{known.install} {' '.join(here)}"] if here else []
    for text in dict.fromkeys(known.elsewhere.values()):
        there = [need.package for need in needs if known.elsewhere.get(need.package) == text]
        if there:
            lines.append(f"{', '.join(there)}: {text}")
    return lines


def look(
    *, root: bool | None = None, path: str | None = None, keyrings: tuple[Path, ...] = KEYRINGS
) -> tuple[Need, ...]:
    """The packages that building images lacks on this machine. `root`, `path` (a PATH): by default this process's."""
    found = path if path is not None else os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    as_root = os.geteuid() == 0 if root is None else root
    needs = []
    if not shutil.which("mmdebstrap", path=found):
        needs.append(MMDEBSTRAP)
    if not as_root and not (shutil.which("newuidmap", path=found) and shutil.which("newgidmap", path=found)):
        needs.append(UIDMAP)
    if not shutil.which("mount", path=found):
        needs.append(MOUNT)
    if not any(keyring.exists() for keyring in keyrings):
        needs.append(KEYRING)
    return tuple(needs)


def keyring(keyrings: tuple[Path, ...] = KEYRINGS) -> Path | None:
    """The keys that sign Debian's packages, as one file. Debian's apt trusts it anyway; on Ubuntu it is only there, and
    mmdebstrap finds it by itself only where gpg is installed."""
    return next((path for path in keyrings if path.suffix in (".gpg", ".pgp") and path.exists()), None)


def release_here() -> dict[str, str]:
    """This machine's os-release, empty where there is none."""
    for place in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if place.is_file():
            return parse_release(place.read_text(errors="replace"))
    return {}


def lacking(needs: tuple[Need, ...], release: Mapping[str, str], *, root: bool) -> LabError:
    """The error that says which packages are missing, what for, and the command."""
    verb = "is" if len(needs) == 1 else "are"
    names = " and ".join(need.package for need in needs)
    detail = "\n".join(f"  {need.package}: {need.why}" for need in needs)
    lines = commands(needs, release, root=root)
    return LabError(f"{names} {verb} not installed here.", hint="Install with: " + "\n".join(lines), detail=detail)
