"""Machines that really boot, reached as on a Proxmox VE: their own guest agent behind the fake one, ssh through it.

nestlab's embedded engine boots them; only its way in is not used.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from nestlab.engines.pve import consoles
from nestlab.engines.pve.connections import Door, host
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.testing.fake_pve import FakePve
from pve_qemu import VMID, RealAgent, client, started

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: reach
machines:
  hv: {hypervisor: kvm, memory: 1G}
  web: {image: debian, memory: 512M}
"""
DATA = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        cli = Cli(Path(folder))
        cli("up", cli.file(LAB), "--no-verify")
        yield cli
        cli("down", "reach", "--yes", status=None)


@pytest.mark.parametrize("path", ["hv", "web"])
async def test_a_booted_machine_is_a_host_through_its_own_agent(cli: Cli, tmp_path: Path, path: str) -> None:
    lab = cli.home / "labs" / "reach"
    with FakePve() as pve:
        started(pve, RealAgent(Place(str(lab)).of(path).agent))
        async with client(pve) as api:
            door = Door(api, "pve1", VMID, path)
            await door.wait(60)
            assert (await door.run(["hostname"])).text == f"{path}\n"
            assert b"kernel: Linux version" in await consoles.log(door)
            await door.write("/root/by-agent", DATA[:100_000])
            there = host(door, LabKeys(lab), path, "root", direct=False)
            begun = time.monotonic()
            assert (await there.read("/root/by-agent")) == DATA[:100_000]
            logged = time.monotonic()
            await there.write("/root/by-ssh", DATA)
            wrote = time.monotonic()
            assert (await there.read("/root/by-ssh")) == DATA
            read = time.monotonic()
            for _ in range(10):
                await there.run(["true"])
            ran = time.monotonic()
            async with consoles.following(there) as lines:
                assert b"Linux version" in await anext(lines)
            await there.close()
            left = await door.run(
                ["sh", "-c", "ls -d /run/nestlab-* /tmp/nestlab-*; ps ax | grep '[n]estlab-relay'"], check=False
            )
            assert left.stdout == b""
    print(
        f"\n{path}: login and 100 kB {logged - begun:.1f} s, 1 MiB there {wrote - logged:.1f} s, "
        f"back {read - wrote:.1f} s, a command {(ran - read) / 10 * 1000:.0f} ms"
    )
