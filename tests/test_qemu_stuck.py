"""A machine whose kernel gets stuck while it boots is started again, by the real script that starts a QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from blueprints import draft, guest
from nestlab.base.errors import LabError
from nestlab.engines.qemu import boot as boots
from nestlab.engines.qemu.argv import Kernel, Launch
from nestlab.engines.qemu.booting import Boot
from nestlab.home.paths import MachinePaths
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost
from waiting import wait_until

STALL = """\
echo "[   $1] rcu: rcu_preempt kthread timer wakeup didn't happen for 5251 jiffies! g-1131 f0x0 RCU_GP_WAIT_FQS(5)"
echo "[   $1] rcu:     Possible timer handling issue on cpu=1 timer-softirq=$2"
"""
QEMU = f"""\
echo >> boots
stall() {{
{STALL}}}
[ "$(wc -l < boots)" -gt GOOD ] && {{ echo "nestlab: ready" >> console.log; while :; do sleep 0.2; done; }}
{{ stall 108.3 6; stall 129.3 SECOND; AFTER; }} >> console.log
while :; do sleep 0.2; done
"""
"""Boots until it stalls twice; from boot GOOD + 1 on all is well. It keeps its name, by which it is ended."""


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    wait_until(lambda: str(tmp_path) not in {_where(each) for each in Path("/proc").glob("[0-9]*/cwd")})


def _where(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


class Login:
    async def connect(self) -> None:
        pass


def booted(folder: Path, *, good: int = 0, second: int = 6, after: str = ":") -> Boot:
    spec = draft("x", guest("m"))["m"]
    launch = Launch("x", spec, MachinePaths(str(folder)), "tcg", 0, "52:54:00:00:00:01")
    launch = replace(launch, kernel=Kernel("vmlinux", "initrd"))
    qemu = QEMU.replace("GOOD", str(good)).replace("SECOND", str(second)).replace("AFTER", after)
    return Boot(LocalHost(), launch, lambda _: ["sh", "-c", qemu, "nestlab:x:m"], {}, "root")


async def boot(root: Path, **words: object) -> list[str]:
    """What it says while it boots, until it is up."""
    made, said = booted(root, **words), list[str]()  # type: ignore[arg-type]
    try:
        await boots.start(made, lambda port: cast("SshHost", Login()), said.append)
    finally:
        await boots._end(made)
    return said


async def test_a_machine_whose_cpu_lost_its_timer_is_started_again(tmp_path: Path) -> None:
    said = await boot(tmp_path, good=1)
    assert said == ["booting", "starting it again: its CPU 1 lost its timer", "booting", "waiting for ssh"]
    assert (tmp_path / "boots").read_text() == "\n\n"
    assert "timer wakeup didn't happen" in (tmp_path / "console.1.log").read_text(), "kept"


async def test_one_that_gets_stuck_each_time_is_given_up_with_its_console(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^m did not come up: its CPU 1 lost its timer\.\n") as error:
        await boot(tmp_path, good=10)
    assert "Possible timer handling issue" in error.value.detail
    assert (tmp_path / "boots").read_text() == "\n" * (1 + boots.RESTARTS)
    assert not (tmp_path / "pid").exists(), "it was ended"


async def test_one_that_is_only_late_goes_on(tmp_path: Path) -> None:
    said = await boot(tmp_path, good=10, second=7, after="echo 'nestlab: ready'")
    assert said == ["booting", "waiting for ssh"]
    assert (tmp_path / "boots").read_text() == "\n"
