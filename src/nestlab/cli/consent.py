"""What a person agrees to before a lab is changed: at the terminal, or beforehand by an option."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.cli.common import home, own_lab
from nestlab.cli.exit_status import answered, on_terminal, show

if TYPE_CHECKING:
    from nestlab.home.labs import Origin
    from nestlab.lab.model import Lab
    from nestlab.plan.steps import Plan


@frozen
class Consent:
    """What a person agreed to beforehand: that disks are deleted, that a lab is taken over by another file, and that
    machines get what others here may not read."""

    replace: bool = False
    adopt: bool = False
    private: bool = False


def agree(todo: Plan, option: str, *, as_json: bool) -> None:
    """LabError unless nothing is deleted, or the person at the terminal agrees. `option`: what agrees beforehand."""
    losses = todo.losses
    if not losses:
        return
    names = ", ".join(change.path for change in losses[:8]) + (", …" if len(losses) > 8 else "")
    if not as_json and on_terminal():
        if answered(f"Delete what is on {names}?"):
            return
        raise LabError("Nothing was changed.", hint="The lab is as it was.")
    reasons = "\n".join(f"{change.path}: {change.why}" for change in losses[:8])
    how = f"`{option}` agrees to it" if option else "`nestlab up --replace` agrees to it"
    raise LabError(f"This would delete what is on {names}; nothing was changed.", hint=f"{reasons}\n{how}.")


def own(lab: Lab, source: Origin, consent: Consent) -> None:
    """LabError where the lab of this name is another file's, or the lab of this file was renamed since."""
    from nestlab.home import former_names

    now = former_names.called_now(home(), lab.name, source.file)
    if now is not None:
        what = f"Lab {lab.name} was renamed to {now}, and {source.file} still calls it {lab.name}."
        hint = f"Write `lab: {now}` there (or give --set lab={now}). Another lab called {lab.name} needs another file."
        raise LabError(what, hint=hint)
    if not consent.adopt:
        hint = f"Call this one otherwise (`lab:` in {source.file}), or let it take over that lab: --adopt"
        own_lab(lab.name, source.file, hint)


def may_take(lab: Lab, consent: Consent, *, as_json: bool) -> None:
    """Tell what machines get of this computer. LabError unless it is all for everybody to read, or agreed to."""
    from nestlab.home import consents
    from nestlab.show import taken

    if not lab.taken:
        return
    before = consents.load(home().existing(lab.name))
    asked = [] if consent.private else [each for each in lab.taken if each.private and each.what not in before]
    if not as_json:
        for line in taken.lines(lab.taken):
            show(f"note: {line}")
    if not asked or (not as_json and on_terminal() and answered("Give its machines what others here may not read?")):
        return
    what = f"Lab {lab.name} gives its machines what others here may not read: {taken.listed(asked)}."
    hint = "Nothing was changed. If it is meant, `nestlab up --private` agrees to it, once for this lab."
    raise LabError(what, hint=hint)
