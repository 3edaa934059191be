"""Suggestions for misspelt words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache


def meant(word: str, known: Iterable[str], *, misnomers: Mapping[str, str] | None = None, listed: bool = False) -> str:
    """A sentence such as "Did you mean `memory`?"; `listed`: else one that lists what there is; or "".

    `misnomers`: other names -> the known one.
    """
    options = tuple(known)
    right = (misnomers or {}).get(word.lower()) or _closest(word[:80], options)
    if right:
        return f"Did you mean `{right}`?"
    if listed and options:
        more = f" and {len(options) - 12} more" if len(options) > 12 else ""
        return f"There is {', '.join(f'`{option}`' for option in options[:12])}{more}."
    return ""


@lru_cache(maxsize=256)
def _closest(word: str, options: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(word.lower(), options[:5000], n=1, cutoff=0.6)
    return close[0] if close else ""
