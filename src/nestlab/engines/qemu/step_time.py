"""How long a step may take inside a hypervisor, whose root may have made any program there hang.

On the lab's own host a step takes as long as it takes: what hangs there is the user's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.steps import Boot, Clear, Create, Discard, Introduce, Remove, Step, Stop, Update

LOOK = 90.0
"""Nominal seconds for the machines inside a hypervisor to be told: three times what `observe` waits for one at rest."""

ASKED = 240.0
"""The same with what is asked besides (`verbs.nest.ASIDE`), also three times."""

LIMITS: dict[type[Step], float] = {
    Create: 600.0,
    Update: 600.0,
    Boot: 1200.0,
    Introduce: 90.0,
    Stop: 150.0,
    Remove: 60.0,
    Discard: 300.0,
    Clear: 60.0,
}
"""Nominal seconds. A boot has deadlines of its own (`wait`), twice where KVM was presumed in vain; a stop asks its
guest to end, and gives it a minute."""

COPIED = 1 << 20
"""Bytes of an image that are copied into a hypervisor in a second, at the least."""


@asynccontextmanager
async def in_time(library: ImageStore, host: Host, step: Step, blueprint: Blueprint) -> AsyncIterator[None]:
    """The step must be over when its time is, inside a hypervisor. Overdue, in that one's name. `library`: of images
    that may have to be copied there."""
    if not host.level:
        yield
        return
    more = sum(file.stat().st_size for file in await _images_of(library, step, blueprint)) / COPIED
    seconds = patience.allowed(LIMITS.get(type(step), LOOK) + more, host.slowness)
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        what = f"{host.path} did not {step.verb} {step.subject} within {patience.said(seconds)}."
        raise Overdue(what, hint=patience.LONGER) from None


@asynccontextmanager
async def within(seconds: float, slowness: float, what: str) -> AsyncIterator[None]:
    """The block must be over in so many nominal seconds. Overdue, which says `what` did not happen: a sentence without
    its time."""
    allowed = patience.allowed(seconds, slowness)
    try:
        async with asyncio.timeout(allowed) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise Overdue(f"{what} within {patience.said(allowed)}.", hint=patience.LONGER) from None


async def _images_of(library: ImageStore, step: Step, blueprint: Blueprint) -> list[Path]:
    """The image files that a step may have to copy to its host."""
    spec = blueprint.by_path().get(step.path)
    if spec is None or not isinstance(step, Create | Update | Boot):
        return []
    files: list[Path] = []
    for key in spec.images:
        with suppress(LabError):  # the step itself says so
            files += (await library.artifacts(key, blueprint.images[key])).files.values()
    return files
