"""The outcome of changing a host or taking it back, and the errors that both have."""

from __future__ import annotations

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.doctor.reload_scripts import Reloaded


@frozen
class Outcome:
    """The changes that were made, in sentences. `staged`: what takes effect only after a reboot; `left`: what was not
    touched because somebody else changed it, and what to do."""

    changed: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Nothing was to do."""
        return not (self.changed or self.staged or self.left)


def gone(module: str, result: Reloaded) -> LabError:
    """The error for a module that is not loaded any more, or not yet."""
    if result.state == "late":
        what = f"Loading {module} again has not ended yet; it goes on by itself."
        return LabError(what, hint="Look at the host in a minute, and run the same command again.")
    hint = f"Load it by hand (modprobe {module}), or take everything back with --undo; the kernel's messages say why."
    return LabError(f"{module} could not be loaded again: there is no KVM now.", hint=hint, detail=result.said)


def cut_off(error: Unreachable) -> Unreachable:
    """The error for a host that does not answer any more, with what to do then."""
    hint = "What was begun is recorded there: run the same command again to finish, or --undo to take it back."
    return Unreachable(error.what, hint=hint, detail=error.detail)
