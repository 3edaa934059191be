"""The checks, by layer: each a pure function of facts and wishes. Importing this package registers all of them."""

from __future__ import annotations

from nestlab.doctor.checks import (
    capacity,
    cpu,
    cpu_model,
    device,
    guests,
    kernel,
    lasting,
    module,
    place,
    proof,
    security,
)
from nestlab.doctor.checks.register import checks

__all__ = [
    "capacity",
    "checks",
    "cpu",
    "cpu_model",
    "device",
    "guests",
    "kernel",
    "lasting",
    "module",
    "place",
    "proof",
    "security",
]
