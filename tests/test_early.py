"""Facts that were asked for early are the facts; where that went wrong they are asked for again."""

from __future__ import annotations

import pytest

from nestlab import early
from nestlab.hosts import LocalHost


async def test_facts_asked_early_are_those_asked_late() -> None:
    late = await LocalHost().facts()
    early.begin()
    host = LocalHost()
    found = await host.facts()
    assert (found.kernel, found.flags, found.kvm, found.uid) == (late.kernel, late.flags, late.kvm, late.uid)
    assert early.said(1.0) == "", "an answer is given once"


@pytest.mark.parametrize("command", [["/nowhere"], ["true"], ["false"]])
async def test_a_probe_that_failed_is_run_again(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "command", lambda: command)
    early.begin()
    assert (await LocalHost().facts()).kernel != ""


def test_a_probe_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "command", lambda: ["sleep", "60"])
    early.begin()
    assert early.said(0.1) == ""
