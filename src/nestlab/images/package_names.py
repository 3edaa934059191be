"""The names of all packages that a mirror has for a release of Debian, virtual ones too: kept in the cache, so that a
name that no package has is found before anything is made of it.

They are of the lists that apt checks the signature of. A kept list is bounded and is read as names and nothing else:
what does not look like one is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from nestlab.base import regular
from nestlab.base.did_you_mean import slips
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.home.cache import making, remove
from nestlab.images.recipes import BUILTIN, KERNELS
from nestlab.lab.model import Image

PLACE = "package-names"
FRESH = 3600.0
"""Seconds for which a list need not be asked for again."""
KEPT = 7 * 86400.0
"""Seconds after which a list says nothing any more."""

_LAYOUT = 1
_FILE = "names.z"
_PACKED, _PLAIN, _MOST = 4 << 20, 16 << 20, 400_000
"""Bytes of a kept list, packed and unpacked, and names in it: Debian's has 3.4 MB and 134,000 of them."""
_NAME = re.compile(rb"[a-z0-9][a-z0-9+.-]{1,99}")
_LONGEST = 60
_NEAR = 2000
"""Letters of a name for which others are looked for, and how many of those are compared letter by letter."""

# Hooks run outside the chroot, which is empty but for apt's lists. A Provides: names virtual packages, with versions.
_TELL = r"""set -eu
for list in "$1"/var/lib/apt/lists/*_Packages*; do
    /usr/lib/apt/apt-helper cat-file "$list"
done | awk '
    /^Package: / { print $2 }
    /^Provides: / { sub(/^Provides: /, ""); gsub(/ *\([^)]*\)/, ""); gsub(/ *, */, "\n"); print }
' | sort -u | head -c %d >"$names_outlet"
"""


@frozen
class Archive:
    """Where packages come from: a release (`trixie`) and its mirror, None for the one that mmdebstrap chooses."""

    suite: str
    mirror: str | None

    def folder(self, cache: Path) -> Path:
        """Where its names are kept."""
        text = json.dumps([_LAYOUT, self.suite, self.mirror])
        return cache / PLACE / hashlib.sha256(text.encode()).hexdigest()[:32]


@frozen
class Names:
    """The names that an archive had, `age` seconds ago."""

    known: frozenset[str]
    age: float


Fetch = Callable[[Archive, Path, Say], Awaitable[None]]
"""Brings the names of an archive into the cache."""


def archive_of(image: Image) -> Archive | None:
    """Where the packages that are added to an image come from; None for one to which none are, and for one that has
    packages of others than Debian (`pve`)."""
    base = BUILTIN.get(image.base or "")
    if base is None or image.foreign or base.archives or not wanted(image):
        return None
    return Archive(image.suite or base.suite, image.mirror if image.mirror is not None else base.mirror)


def wanted(image: Image) -> tuple[str, ...]:
    """The packages that the lab file names for an image, its kernel's among them."""
    kernel = image.kernel if image.kernel and image.kernel not in KERNELS else None
    return (*image.packages, *([kernel] if kernel else []))


def load(archive: Archive, cache: Path) -> Names | None:
    """The names that are kept; None where there are none, or they cannot be read, or are older than `KEPT`."""
    path = archive.folder(cache) / _FILE
    with contextlib.suppress(OSError, zlib.error):
        age = time.time() - path.stat().st_mtime
        packed = regular.read(path, _PACKED)
        text = zlib.decompressobj().decompress(packed, _PLAIN)
        names = _names(text)
        if names and -FRESH < age <= KEPT:
            return Names(frozenset(names), max(age, 0.0))
    return None


def outdated(cache: Path) -> Iterator[Path]:
    """The folders of lists that say nothing any more."""
    now = time.time()
    for folder in sorted((cache / PLACE).glob("[0-9a-f]*/")):
        with contextlib.suppress(OSError):
            if now - folder.stat().st_mtime > KEPT:
                yield folder


def keep(text: bytes, folder: Path) -> None:
    """Writes names, one a line, into the folder of an archive that is being made."""
    (folder / _FILE).write_bytes(zlib.compress(b"\n".join(each.encode() for each in sorted(_names(text))), 9))


async def fetch(archive: Archive, cache: Path, say: Say) -> None:
    """Asks the mirror for its lists (some 10 MB) and keeps their names, in place of older ones. LabError where that
    fails."""
    from nestlab.images.mmdebstrap import disk_errors, mmdebstrap

    what = f"The list of Debian's packages ({archive.suite})"
    folder = archive.folder(cache)
    remove(folder)
    with disk_errors(what, cache):
        async with making(folder, say, f"the list of packages of {archive.suite}") as partial:
            if partial is None:
                return
            say(f"reading the names of {archive.suite}'s packages")
            found = partial / "names"
            with _outlet(found) as descriptor:
                await mmdebstrap(
                    [
                        "--variant=custom",
                        "--format=null",
                        '--aptopt=Acquire::Languages "none"',
                        f"--customize-hook={_TELL.strip() % _PLAIN}",
                        archive.suite,
                        "-",
                        *([archive.mirror] if archive.mirror else []),
                    ],
                    what=what,
                    folder=partial,
                    say=say,
                    descriptors=[descriptor],
                    variables={"names_outlet": f"/proc/self/fd/{descriptor}"},
                )
            keep(regular.read(found, _PLAIN), partial)
            found.unlink()


@contextlib.contextmanager
def _outlet(path: Path) -> Iterator[int]:
    """A descriptor of a new file that a hook may open again. Above all that mmdebstrap opens."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o666)  # for the root of a user namespace, which has no other way to it
        descriptor = fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, 100)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def nearest(word: str, known: Iterable[str]) -> str:
    """The name that was probably meant: with the fewest slips of the fingers, one for each three letters at most; else
    the shortest that ends in it (`default-mysql-server`) or begins with it; "" if there is none."""
    if len(word) > _LONGEST:
        return ""
    most = len(word) // 3
    letters = set(word)
    near, longer = [], []
    for name in known:
        if abs(len(name) - len(word)) <= most and len(letters ^ set(name)) <= 2 * most:
            near.append((abs(len(name) - len(word)) + len(letters ^ set(name)), name))
        if len(word) > 2 and (name.startswith(word) or name.endswith(f"-{word}")):
            longer.append((len(name), name))
    counted = [(slips(word, name, most), name[:1] != word[:1], name) for _, name in sorted(near)[:_NEAR]]
    count, _, name = min(counted, default=(most + 1, True, ""))
    return name if count <= most else min(longer, default=(0, ""))[1]


def _names(text: bytes) -> set[str]:
    """What looks like names, of the first lines."""
    lines = text.split(b"\n", _MOST)[:_MOST]
    return {line.decode() for line in lines if _NAME.fullmatch(line)}
