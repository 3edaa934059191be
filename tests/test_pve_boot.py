"""nestlab's images boot as a Proxmox VE boots them: SeaBIOS, virtio disks known by their serials, the agent as way in.

What PVE's qemu-server would put on QEMU's command line is written out here; no kernel is handed over.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nestlab.base.errors import Unreachable
from nestlab.engines.pve.boot_images import Role, Workshop, shape_of
from nestlab.engines.qemu.cargo import serial_of
from nestlab.engines.qemu.identity import archive, files
from nestlab.engines.qemu.scripts import CARGO
from nestlab.home import key_pairs
from nestlab.home.directories import Home
from nestlab.home.key_pairs import KeyPair
from nestlab.images.image_files import Cache, ImageFiles, key_of
from nestlab.images.qemu_runtime import Runtime, choose_qemu
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import MIB, Image, Machine
from nestlab.wire.qga import Agent
from waiting import VERY_LONG

pytestmark = [pytest.mark.guest, pytest.mark.slow]

CACHE = Home.of(os.environ, Path.home()).cache
OUT = "52:54:00:cc:00:01"
"""The card on a bridge with DHCP."""
WIRE = Nic("wire", "52:54:00:aa:00:01", 1500, ("10.77.0.11/24",))
BOOT = "menu=on,strict=on,reboot-timeout=1000"
PATIENCE = VERY_LONG


def quiet(_: str) -> None:
    pass


@dataclass(frozen=True)
class Guest:
    """A machine that was started: its process, its agent's socket, its serial console as a file."""

    process: subprocess.Popen[bytes]
    socket: str
    console: Path

    def run(self, *argv: str, timeout: float = 60.0) -> str:
        with Agent(self.socket, timeout=timeout) as agent:
            result = agent.run(argv)
        assert result.status == 0, (argv, result.stderr)
        return result.text.strip()

    def wait(self) -> float:
        """Seconds until the agent answers."""
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            assert self.process.poll() is None, self.told()
            try:
                with Agent(self.socket, timeout=5.0):
                    return time.monotonic() - start
            except Unreachable:
                time.sleep(0.2)
        raise AssertionError(f"no agent answers\n{self.told()}")

    def told(self) -> str:
        return self.console.read_text(errors="replace")[-2000:] if self.console.exists() else ""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as path:
        yield Path(path)


async def artifacts_of(base: str) -> ImageFiles:
    """The files of a built-in image, built if need be."""
    image, library = Image(base=base), Cache(CACHE)
    await library.build(key_of(image), image, quiet)
    return await library.artifacts(key_of(image), image)


async def disk(artifacts: ImageFiles, role: Role, folder: Path, runtime: Runtime, size: int = 0) -> Path:
    """What PVE makes of the file that is uploaded to it: a linked clone, made larger if it is to be."""
    source, target = await Workshop(CACHE).disk(artifacts, role, quiet), folder / f"{role}.qcow2"
    larger = [str(size)] if size else []
    words = ["create", "-q", "-f", "qcow2", "-b", str(source), "-F", "qcow2", str(target), *larger]
    started = await asyncio.create_subprocess_exec(
        *runtime.qemu_img.argv, *words, env={**os.environ, **runtime.qemu_img.env}
    )
    assert await started.wait() == 0
    return target


def spec_of(base: str, *nics: Nic) -> Spec:
    machine = Machine("hv1", image=Image(base=base), memory=1024 * MIB)
    return Spec("hv1", machine, nics, "10.0.2.0/24", "k", (), "d" * 40, hosts="127.0.0.1 localhost\n")


def identity(spec: Spec, folder: Path, *, dhcp: bool = False) -> Path:
    """The identity disk on a storage that rounds up to 4 MiB."""
    pair = key_pairs.generate("hv1")
    key = KeyPair(pair.private, pair.public, pair.dropbear)
    members = files(spec, host_key=key, authorized="", management_mac=None, dhcp_mac=OUT if dhcp else None)
    target = folder / "id.raw"
    target.write_bytes(archive(members).ljust(4 * MIB, b"\0"))
    return target


def argv(board: str, folder: Path, drives: dict[str, tuple[Path, str]], boots: int, *cards: str) -> list[str]:
    """As qemu-server composes it for `kvm: 0, cpu: max, agent: 1, serial0: socket, boot: order=virtioN`."""
    words = ["-M", board, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "1024", "-nodefaults"]
    words += ["-boot", BOOT, "-display", "none", "-vga", "std", "-device", "virtio-serial"]
    words += ["-chardev", f"socket,path={folder}/qga,server=on,wait=off,id=qga0"]
    words += ["-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"]
    words += ["-chardev", f"file,id=serial0,path={folder}/console", "-device", "isa-serial,chardev=serial0"]
    for number, (serial, (path, form)) in enumerate(drives.items()):
        first = ",bootindex=100" if number == boots else ""
        words += ["-drive", f"file={path},if=none,id=drive-virtio{number},format={form},cache=none,detect-zeroes=on"]
        words += ["-device", f"virtio-blk-pci,drive=drive-virtio{number},id=virtio{number}{first},serial={serial}"]
    return [*words, *cards]


@asynccontextmanager
async def started(
    base: str,
    board: str,
    folder: Path,
    spec: Spec,
    *cards: str,
    dhcp: bool = False,
    rootless: bool = False,
    cargo: ImageFiles | None = None,
) -> AsyncIterator[Guest]:
    """The machine runs while the context is open. `cargo`: an image whose kernel it is handed."""
    artifacts, runtime = await artifacts_of(base), await choose_qemu("tcg", CACHE, quiet)
    shape = shape_of(artifacts)
    drives = {}
    for number, (role, serial) in enumerate(shape.drives):
        size = artifacts.size + 1024 * MIB if role == "root" else 0
        drives["nothing" if rootless and not number else serial] = (
            await disk(artifacts, role, folder, runtime, size),
            "qcow2",
        )
    drives["nestlab-id"] = (identity(spec, folder, dhcp=dhcp), "raw")
    if cargo is not None:
        drives[serial_of(cargo.key, "boot")] = (await disk(cargo, "boot", folder, runtime), "qcow2")
    command = [*runtime.qemu.argv, *argv(board, folder, drives, shape.boots or 0, *cards)]
    environment = {**os.environ, **runtime.qemu.env}
    process = await asyncio.to_thread(subprocess.Popen, command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield Guest(process, f"{folder}/qga", folder / "console")
    finally:
        process.kill()
        process.wait()


def card(number: int, mac: str, kind: str) -> tuple[str, ...]:
    device = f"virtio-net-pci,mac={mac},netdev=net{number},id=net{number}"
    return ("-netdev", f"{kind},id=net{number}", "-device", device)


def wire(folder: Path) -> tuple[str, ...]:
    """A segment: a network where nobody answers."""
    return card(0, WIRE.mac, f"dgram,local.type=unix,local.path={folder}/a,remote.type=unix,remote.path={folder}/b")


async def test_a_hypervisor_boots_from_its_disks_and_its_agent_opens_kvm(folder: Path) -> None:
    bridged = replace(WIRE, bridge=True)
    cargo = await artifacts_of("tiny")
    async with started("kvm", "q35", folder, spec_of("kvm", bridged), *wire(folder), cargo=cargo) as guest:
        seconds = await asyncio.to_thread(guest.wait)
        print(f"the agent answered after {seconds:.1f} s")
        assert int(guest.run("grep", "-c", "-w", "svm", "/proc/cpuinfo")) == 1
        until = "for i in $(seq 300); do [ -e /dev/kvm ] && break; sleep 0.2; done; exec 3<>/dev/kvm && echo open"
        assert guest.run("sh", "-c", until, timeout=VERY_LONG) == "open"
        assert guest.run("hostname") == "hv1"
        assert "10.77.0.11/24" in guest.run("ip", "-o", "-4", "address", "show", "dev", "br-wire")
        assert guest.run("cat", "/etc/hosts") == "127.0.0.1 localhost"
        grown = "for i in $(seq 300); do set -- $(stat -fc '%b %S' /); [ $(($1 * $2 >> 20)) -gt 16600 ] && break;"
        assert (
            int(guest.run("sh", "-c", f"{grown} sleep 0.2; done; echo $(($1 * $2 >> 20))", timeout=VERY_LONG)) > 16600
        )
        serial = serial_of(cargo.key, "boot")
        disks = guest.run("sh", "-c", CARGO, "cargo", "/run/x", serial).splitlines()
        assert [line.split()[0] for line in disks] == ["root", "boot", "nestlab-id", serial]
        assert guest.run("ls", f"/run/x/{serial}").split() == ["initrd", "kernel"]
        assert guest.run("systemctl", "list-units", "--failed", "--no-legend") == ""


async def test_a_guest_with_a_card_on_a_bridge_gets_its_address_there_by_dhcp(folder: Path) -> None:
    cards = (*wire(folder), *card(1, OUT, "user"))
    async with started("debian", "pc", folder, spec_of("debian", WIRE), *cards, dhcp=True) as guest:
        await asyncio.to_thread(guest.wait)
        leased = "for i in $(seq 300); do ip -4 -o address show | grep -F 10.0.2.15/24 && break; sleep 0.2; done"
        assert "10.0.2.15/24" in guest.run("sh", "-c", leased, timeout=VERY_LONG)
        assert "default via 10.0.2.2" in guest.run("sh", "-c", "sleep 1; ip route show default")
        assert guest.run("cat", "/etc/resolv.conf") == "nameserver 10.0.2.3"
        assert "10.77.0.11/24" in guest.run("ip", "-o", "-4", "address", "show")
        assert guest.run("systemctl", "is-active", "nestlab-dhcp", "ssh", "qemu-guest-agent").split() == ["active"] * 3


async def test_a_machine_that_cannot_boot_says_so_and_turns_itself_off(folder: Path) -> None:
    async with started("debian", "pc", folder, spec_of("debian"), rootless=True) as guest:
        assert await asyncio.to_thread(guest.process.wait, 120) == 0
        assert "nestlab: cannot boot: no drive has the serial root" in guest.told()


async def test_the_smallest_image_boots_without_a_disk_of_its_own_and_is_reached_on_the_bridge(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cards = card(0, OUT, f"user,hostfwd=tcp:127.0.0.1:{port}-:22")
    async with started("tiny", "pc", folder, spec_of("tiny"), *cards, dhcp=True) as guest:
        greeting = b""
        for _ in range(300):
            assert guest.process.poll() is None, guest.told()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                greeting = await asyncio.wait_for(reader.read(8), VERY_LONG)
                writer.close()
            except (OSError, TimeoutError):
                greeting = b""
            if greeting:
                break
            await asyncio.sleep(0.2)
        assert greeting == b"SSH-2.0-", guest.told()
