"""The cost of a restart for machines that run although their images are gone from the cache. Pure."""

from __future__ import annotations

from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.plan.steps import Build, Observed, Plan


def restart_cost(blueprint: Blueprint, observed: Observed, todo: Plan) -> str:
    """A sentence about the images that must be built before a machine on the lab's host can start again; "" if there
    are none. Those that the plan builds anyway do not count."""
    planned = {step.image for step in todo.steps if isinstance(step, Build)}
    users: dict[str, list[str]] = {}
    for spec in blueprint.children(""):
        seen = observed.machines.get(spec.path)
        if seen is None or seen.state not in ("running", "paused"):
            continue
        for key in dict.fromkeys(spec.images):
            if key not in observed.images | planned and not blueprint.images[key].foreign:
                users.setdefault(key, []).append(spec.path)
    if not users:
        return ""
    named = "; ".join(f"{_name(blueprint.images[key])} of {', '.join(paths[:4])}" for key, paths in users.items())
    return (
        f"no longer in the cache: image {named}. What runs goes on; before it starts again its image is built again, "
        "and its disk, which holds only what differs from the image, fits only if that comes out the same."
    )


def _name(image: Image) -> str:
    return image.base or "?"
