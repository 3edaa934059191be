"""Checksums as `ALGORITHM:DIGITS`, and the files in which vendors publish them. Pure.

Two ways of writing are read, those of coreutils: `DIGITS  NAME` (or ` *NAME`), and with `--tag`
`SHA256 (NAME) = DIGITS`, which Fedora and the BSDs use. Other lines say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LENGTHS = {64: "sha256", 128: "sha512"}
"""Hex digits of the checksums that prove something. MD5 (32) and SHA-1 (40) do not any more."""

LIMIT = 4 << 20
"""Bytes of the largest checksum file. (Debian's for all installer images has 40 KiB.)"""

_PLAIN = re.compile(r"\\?([0-9A-Fa-f]{32,128})[ \t]+\*?(\S.*)")
_TAGGED = re.compile(r"([A-Za-z0-9-]+) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,128})")


class Lacking(ValueError):
    """The file does not say it; `args` are what is wrong and what to do."""


def find(text: str, name: str) -> str:
    """The checksum of a file in a checksum file, the strongest that is there. Lacking if there is none, or two."""
    strong: dict[int, set[str]] = {}
    weak = False
    names = set()
    for digits, path in _lines(text):
        base = path.rpartition("/")[2]
        names.add(base)
        if base != name:
            continue
        if len(digits) in LENGTHS:
            strong.setdefault(len(digits), set()).add(digits.lower())
        else:
            weak = True
    if not strong:
        if weak:
            raise Lacking(f"it has only a weak checksum of {name}", "Name the file with SHA-256 or SHA-512 sums.")
        like = f"It names {', '.join(sorted(names)[:5])}{', …' * (len(names) > 5)}." if names else "It names no file."
        raise Lacking(f"it does not name {name}", like)
    length, found = max(strong.items())
    if len(found) > 1:
        raise Lacking(f"it has {len(found)} different checksums of files called {name}", "Say `sha256:` or `sha512:`.")
    return f"{LENGTHS[length]}:{found.pop()}"


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        line = line.strip()
        if found := _TAGGED.fullmatch(line):
            if found[1].upper().replace("-", "") in ("SHA256", "SHA512"):
                yield found[3], found[2]
        elif found := _PLAIN.fullmatch(line):
            yield found[1], found[2]
