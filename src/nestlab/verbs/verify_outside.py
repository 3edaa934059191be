"""What is proven of a machine that nestlab does not log in to: what its QEMU and those around it show. Pure, but for
`look`.

That it is up, by what its `ready:` names; how its QEMU runs it; that a hypervisor's CPU shows vmx or svm. What only
somebody inside could tell is said to be open, and how to see it.
"""

from __future__ import annotations

import asyncio

from nestlab import kinds
from nestlab.base.proofs import Proof
from nestlab.lab.blueprint import Spec
from nestlab.verbs.nest import Nest

UNSEEN = "what it makes of its card is not seen from outside"


async def look(nest: Nest, spec: Spec) -> tuple[bool, str, str]:
    """Whether it is up; `vmx` or `svm` if it is to be a hypervisor and its CPU shows one; and who says so."""
    if not spec.machine.foreign:
        return await nest.is_up(spec.path), "", ""
    up, (flag, who) = await asyncio.gather(nest.is_up(spec.path), nest.shown(spec.path))
    return up, flag, who


def claims(spec: Spec) -> list[str]:
    """What is claimed of it, by name."""
    segments = [f"segment {nic.segment}" for nic in spec.nics if nic.addresses]
    return ["ready", "accelerated", *segments, *(["cpu", "inside"] if spec.machine.foreign else [])]


def of_ready(spec: Spec, *, up: bool) -> Proof:
    """That it is up. Where nothing is expected of it, nothing is proven."""
    ready = spec.machine.ready
    if not up:
        hint = f"`nestlab console {spec.path}` and `nestlab logs {spec.path}` show what it does"
        return Proof(spec.path, spec.level, "ready", False, ready.unseen, hint)
    if ready.by == "none":
        what = "its QEMU runs it, and nothing else is expected of it (`ready: none`)"
        return Proof(spec.path, spec.level, "ready", None, what, "`ready:` may say by what it is known to be up")
    seen = f"{ready.seen}: what it shows, see `nestlab screenshot {spec.path}`" if ready.by == "screen" else ready.seen
    return Proof(spec.path, spec.level, "ready", True, seen)


def of_segments(spec: Spec) -> list[Proof]:
    """Of its segments: open."""
    named = [nic.segment for nic in spec.nics if nic.addresses]
    why = "its addresses are its own to set: those of `nestlab plan` are kept free for it"
    return [Proof(spec.path, spec.level, f"segment {name}", None, UNSEEN, why) for name in named]


def of_foreign(spec: Spec, flag: str, who: str) -> list[Proof]:
    """What makes it a hypervisor, as far as that is seen: `flag` is what its CPU shows, as `who` says."""
    seen = f"its CPU shows {flag}, {who} says" if flag else f"its CPU shows neither vmx nor svm, {who} says"
    known = kinds.foreign().get(spec.machine.hypervisor or "")
    why = f"see there: {known.look}" if known else "see there, as its manual says"
    return [
        Proof(spec.path, spec.level, "cpu", bool(flag), seen, "" if flag else "its guests get no virtualization"),
        Proof(spec.path, spec.level, "inside", None, "nestlab does not look inside", why),
    ]
