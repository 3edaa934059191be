"""The states of a machine, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestlab.plan.steps import Seen


def said(seen: Seen | None) -> str:
    """What a machine's state is, as the rest of a sentence: `it died`, `it is stopped`."""
    return in_words(seen.state) if seen else "it is not there"


def in_words(state: str) -> str:
    return "it died" if state == "died" else f"it is {state}"
