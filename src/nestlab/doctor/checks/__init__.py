"""The checks, by layer: each a pure function of facts and wishes. Importing this package registers all of them."""

from __future__ import annotations

from nestlab.doctor.checks import (
    after_reboot,
    capacity,
    cpu,
    cpu_model,
    device,
    guests,
    kernel,
    module,
    proof,
    runs_in,
    security,
)
from nestlab.doctor.checks.register import checks

__all__ = [
    "after_reboot",
    "capacity",
    "checks",
    "cpu",
    "cpu_model",
    "device",
    "guests",
    "kernel",
    "module",
    "proof",
    "runs_in",
    "security",
]
