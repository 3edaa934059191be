"""Whether the setup of a machine is due, and why. Pure."""

from __future__ import annotations

from nestlab.lab.blueprint import Spec
from nestlab.lab.setup_stamps import done
from nestlab.plan.steps import Seen


def why_set_up(spec: Spec, seen: Seen | None, *, anew: bool, starts: bool) -> str:
    """Why a machine's setup is due, or may be: one that does not run cannot be asked. "" if it is not.

    `anew`: it is made anew; `starts`: it is started."""
    if not spec.setup:
        return ""
    if seen is None or anew or seen.state == "broken":
        return "its setup is to be done"
    if starts or seen.setup is None:
        return "its setup, unless that was done before"
    so_far = done(seen.setup, spec.setup)
    if so_far == len(spec.setup):
        return ""
    if so_far < len(seen.setup):
        return "its setup changed"
    if not so_far:
        return "its setup is to be done"
    return f"{len(spec.setup) - so_far} of {len(spec.setup)} steps of its setup are left"
