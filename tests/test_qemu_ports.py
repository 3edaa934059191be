"""Where ssh of a machine is forwarded: a port that another process has is no reason not to start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu import boot, booting
from nestlab.engines.qemu.argv import Launch
from nestlab.home.paths import Place
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost
from nestlab.lab.readiness import Ready
from test_qemu_argv import OUTER

TAKEN = "qemu-system-x86_64: -netdev user,id=mgmt: Could not set up host forwarding rule 'tcp:127.0.0.1:20022-:22'"


def nobody(port: int) -> SshHost:
    raise AssertionError(f"ssh is not to be tried at {port}")


async def start(root: Path, argv: Callable[[Launch], list[str]]) -> None:
    launch = replace(OUTER, paths=Place(str(root)).of("hv1"), kernel=None)
    Path(launch.paths.root).mkdir(parents=True)
    await boot.start(booting.Boot(LocalHost(), launch, argv, {}, "root", Ready("none")), nobody, lambda _: None)


async def test_a_port_that_another_process_has_makes_it_take_the_next(tmp_path: Path) -> None:
    tried: list[int] = []

    def argv(launch: Launch) -> list[str]:
        tried.append(launch.port)
        return ["sh", "-c", f'echo "{TAKEN}" >&2; exit 1'] if len(tried) < 3 else ["true"]

    await start(tmp_path, argv)
    assert len(set(tried)) == 3


async def test_a_qemu_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="QEMU did not start on this machine") as failed:
        await start(tmp_path, lambda launch: ["sh", "-c", "echo 'qemu: no such device' >&2; exit 1"])
    assert failed.value.detail == "  | qemu: no such device"
