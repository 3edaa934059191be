"""A hypervisor with nothing inside: what it can is proven by a guest of nestlab's own, which leaves nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

import leaks
from command_line import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = "lab: empty\nmachines: {hv: {hypervisor: kvm}}\n"


def test_a_hypervisor_with_no_machines_is_proven_by_a_guest_that_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        try:
            assert "claims hold" in cli("up", cli.file(LAB))
            rows = json.loads(cli.plain("verify", "empty", "--json"))["proofs"]
            found = {each["claim"]: each["ok"] for each in rows}
            assert all(found[claim] for claim in ("cpu", "nested", "/dev/kvm", "cpuid", "guest"))
            assert cli.states("empty") == {"hv": "running"}
            left = "ls -d /var/lib/nestlab/labs/empty/m/* 2>/dev/null; pidof qemu-system-x86_64; :"
            assert cli.plain("exec", "hv", "--", "sh", "-c", left).strip() == ""
        finally:
            cli("down", "empty", "--yes")
        assert not [*(cli.home / "labs").glob("*")]
