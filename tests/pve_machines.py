"""Machines of a FakePve that really run: each is a QEMU with the disks, cards and options of its configuration.

Disks are made of what was uploaded, over HTTPS, in the format it has; a bridge or vnet is a segment of one switch; the
guest agent is the machine's own. Nothing but `qemu-server` itself stands in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.home.directories import Home
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Runtime, choose_qemu
from nestlab.network import switch_control
from nestlab.testing.fake_pve import Agent, FakePve, Guest
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.world import Volume
from nestlab.wire import qga
from pve_qemu import RealAgent
from waiting import LONG

CACHE = Home.of(os.environ, Path.home()).cache
GRACE = 40.0
"""Seconds that a machine gets to shut itself down."""


class PatientAgent(RealAgent):
    """Silent until it answers for the first time: then nobody waits for it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.answered = False

    def _ask(self, command: str, **arguments: Any) -> Any:
        if not self.answered:
            try:
                with qga.Agent(self.path, timeout=0.2) as agent:
                    agent.execute("guest-ping")
            except (Unreachable, LabError, OSError):
                raise died("QEMU guest agent is not running") from None
            self.answered = True
        return super()._ask(command, **arguments)


@dataclass
class Machine:
    """One that was started."""

    process: subprocess.Popen[bytes]
    folder: Path


class Machines:
    """See `nestlab.testing.fake_pve.world.Iron`. `folder`: a short path, for sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, Machine] = {}
        self.disks: dict[int, tuple[Volume, Path]] = {}
        self.runtime: Runtime = asyncio.run(choose_qemu("tcg", CACHE, lambda _: None))
        self.bridges: set[str] = set()
        self.number = 0

    def keep(self, data: bytes) -> str:
        self.number += 1
        path = self.folder / f"upload-{self.number}"
        path.write_bytes(data)
        return str(path)

    def start(self, guest: Guest, volumes: Mapping[str, Volume]) -> Agent:
        self.number += 1
        folder = self.folder / f"{guest.vmid}.{self.number}"
        folder.mkdir()
        disks = {key: self.disk(volume) for key, volume in volumes.items()}
        argv = [*self.runtime.qemu.argv, *self.words(guest.config, folder, disks)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                argv, env={**os.environ, **self.runtime.qemu.env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running[guest.vmid] = Machine(process, folder)
        deadline = time.monotonic() + LONG
        while not (folder / "qga").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise died(f"start failed: QEMU exited with code 1: {(folder / 'log').read_text()}")
            time.sleep(0.01)
        return PatientAgent(folder / "qga")

    def stop(self, vmid: int, *, gently: bool) -> None:
        machine = self.running.pop(vmid, None)
        if machine is None:
            return
        if gently:
            with contextlib.suppress(LabError, OSError), qga.Agent(f"{machine.folder}/qga", timeout=3) as agent:
                agent.execute("guest-shutdown")
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.process.wait(GRACE)
        machine.process.kill()
        machine.process.wait()

    def ended(self, vmid: int) -> bool:
        machine = self.running.get(vmid)
        return machine is not None and machine.process.poll() is not None

    def close(self) -> None:
        for vmid in list(self.running):
            self.stop(vmid, gently=False)
        if self.bridges:
            asyncio.run(switch_control.stop(self.folder))

    def console(self, vmid: int) -> str:
        return (self.running[vmid].folder / "console").read_text(errors="replace")

    def disk(self, volume: Volume) -> Path:
        """The volume as a file: a layer over what was imported, as large as PVE says."""
        known = self.disks.get(id(volume))
        size = str(-(-volume.size // 512) * 512)
        if known is None:
            self.number += 1
            path = self.folder / f"disk-{self.number}.qcow2"
            source = ["-b", volume.file, "-F", "qcow2"] if volume.file else []
            self.image("create", "-q", "-f", "qcow2", *source, str(path), size)
            known = self.disks[id(volume)] = (volume, path)
        else:
            self.image("resize", "-q", "--shrink", str(known[1]), size)
        return known[1]

    def image(self, *words: str) -> None:
        tool = self.runtime.qemu_img
        done = subprocess.run([*tool.argv, *words], env={**os.environ, **tool.env}, capture_output=True, text=True)
        if done.returncode:
            raise died(f"qemu-img: {done.stderr}")

    def words(self, config: Mapping[str, Any], folder: Path, disks: Mapping[str, Path]) -> list[str]:
        """As qemu-server composes it (PVE/QemuServer.pm, config_to_command), for what nestlab asks for."""
        assert str(config.get("kvm", 1)) == "0"
        board = str(config.get("machine", "pc"))
        words = ["-M", board, "-accel", "tcg,thread=multi", "-cpu", str(config["cpu"]), "-smp", str(config["cores"])]
        words += ["-m", str(config["memory"]), "-nodefaults", "-boot", "menu=on,strict=on,reboot-timeout=1000"]
        words += ["-display", "none", "-vga", "std", "-device", "virtio-serial"]
        words += ["-chardev", f"socket,path={folder}/qga,server=on,wait=off,id=qga0"]
        words += ["-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"]
        words += ["-chardev", f"file,id=serial0,path={folder}/console", "-device", "isa-serial,chardev=serial0"]
        order = str(config.get("boot", "")).removeprefix("order=").split(";")
        for key, path in disks.items():
            options = dict(part.split("=", 1) for part in str(config[key]).split(",")[1:] if "=" in part)
            first = f",bootindex={100 + order.index(key)}" if key in order else ""
            serial = f",serial={options['serial']}" if "serial" in options else ""
            only = ",readonly=on" if options.get("ro") == "1" else ""
            words += ["-drive", f"file={path},if=none,id=drive-{key},format=qcow2,cache=none,detect-zeroes=on{only}"]
            words += ["-device", f"virtio-blk-pci,drive=drive-{key},id={key}{first}{serial}"]
        return [*words, *self.cards(config)]

    def cards(self, config: Mapping[str, Any]) -> list[str]:
        words = []
        for key, value in sorted(config.items()):
            if re.fullmatch(r"net\d+", key):
                options = dict(part.split("=", 1) for part in str(value).split(","))
                link = (
                    f"user,id={key}" if options["bridge"].startswith("vmbr") else self.segment(options["bridge"], key)
                )
                words += ["-netdev", link, "-device", f"virtio-net-pci,mac={options['virtio']},netdev={key}"]
        return words

    def segment(self, bridge: str, key: str) -> str:
        self.bridges.add(bridge)
        asyncio.run(switch_control.ensure(self.folder, "pve", sorted(self.bridges), LocalHost()))
        path = switch_control.socket_path(self.folder, bridge)
        return f"stream,id={key},server=off,addr.type=unix,addr.path={path}"


@contextmanager
def running(pve: FakePve) -> Iterator[Machines]:
    """The machines of this FakePve really run, emulated, as on a node without KVM."""
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        machines = Machines(Path(folder))
        with pve.world.lock:
            pve.world.iron = machines
            for node in pve.world.nodes.values():
                node.kvm, node.nested, node.vendor, node.flags = False, False, "AuthenticAMD", "fpu lm sse2 hypervisor"
        try:
            yield machines
        finally:
            machines.close()
