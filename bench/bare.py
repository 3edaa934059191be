"""What the boot benches share: a machine on bare QEMU with an identity of its own, timed until ssh answers."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nestlab.engines.qemu.identity import archive
from nestlab.home import key_pairs
from nestlab.images.qemu_runtime import Runtime, Tool

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestlab"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
_PATIENCE = 180.0
_NETWORK = """#!/bin/sh
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
"""


def quiet(_: str) -> None:
    pass


def environment(tool: Tool) -> dict[str, str]:
    return {**os.environ, **tool.env}


@dataclass(frozen=True)
class Timing:
    """Seconds from the start of QEMU: of the clock, and of its processor time."""

    wall: float
    cpu: float


class Bare:
    """A work folder with keys and an identity, and machines that are started from it."""

    def __init__(self, folder: Path, tools: Runtime) -> None:
        self.folder, self.tools = folder, tools
        self.user, self.host = key_pairs.generate("bench"), key_pairs.generate("bench-host")
        self.key = folder / "key"
        self.key.touch(mode=0o600)
        self.key.write_text(self.user.private)
        self.identity = folder / "identity"
        self.identity.write_bytes(archive(self.members("bench")))

    def members(self, name: str) -> dict[str, tuple[bytes, int]]:
        """An identity's files."""
        return {
            "hostname": (name.encode() + b"\n", 0o644),
            "hosts": (f"127.0.0.1 localhost\n127.0.1.1 {name}\n".encode(), 0o644),
            "authorized_keys": (self.user.public.encode() + b"\n", 0o600),
            "ssh_host_ed25519_key": (self.host.private.encode(), 0o600),
            "dropbear_ed25519_host_key": (self.host.dropbear, 0o600),
            "network.sh": (_NETWORK.encode(), 0o755),
        }

    def overlay(self, root: Path) -> Path:
        """A fresh qcow2 disk over a root image."""
        disk = self.folder / "disk.qcow2"
        disk.unlink(missing_ok=True)
        words = ["create", "-q", "-f", "qcow2", "-b", str(root), "-F", "raw", str(disk)]
        subprocess.run([*self.tools.qemu_img.argv, *words], env=environment(self.tools.qemu_img), check=True)
        return disk

    def ssh(self, port: int, *command: str, key: Path | None = None, give: bytes | None = None) -> bytes | None:
        """What a command prints in the machine whose ssh is forwarded to a port here; None if it fails."""
        words = ["ssh", "-q", "-F", "none", "-i", str(key or self.key), "-p", str(port)]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=30"):
            words += ["-o", option]
        done = subprocess.run([*words, "root@127.0.0.1", *command], input=give or b"", stdout=subprocess.PIPE)
        return done.stdout if done.returncode == 0 else None

    @contextmanager
    def machine(self, words: Sequence[str], port: int, key: Path | None = None) -> Iterator[Timing]:
        """Starts QEMU, and yields when `ssh … true` has succeeded; ends QEMU after.

        A port that QEMU forwards is open at once, and QEMU then asks the guest ever more rarely: so the greeting of
        sshd is awaited by new connections, twice a second at least.
        """
        started = time.monotonic()
        process = subprocess.Popen(
            [*self.tools.qemu.argv, *words],
            env=environment(self.tools.qemu),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not _greeted(port) or self.ssh(port, "true", key=key) is None:
                if process.poll() is not None or time.monotonic() - started > _PATIENCE:
                    raise SystemExit(f"the machine did not come up:\n{self.console()[-2000:]}")
                time.sleep(0.02)
            yield Timing(time.monotonic() - started, cpu_of(process.pid))
        finally:
            process.kill()
            process.wait()

    def console(self) -> str:
        return (self.folder / "console").read_bytes().decode(errors="replace")


def _greeted(port: int) -> bool:
    """Whether an ssh server greets on a port of this host within half a second."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def cpu_of(pid: int) -> float:
    """Processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def drive(name: str, file: Path, serial: str, form: str = "raw") -> list[str]:
    """A virtio disk; raw ones are read-only."""
    mode = "readonly=on" if form == "raw" else "cache=unsafe,discard=unmap"
    return [
        *("-drive", f"if=none,id={name},file={file},format={form},{mode}"),
        *("-device", f"virtio-blk-pci,drive={name},serial={serial}"),
    ]


def card(port: int) -> list[str]:
    """A card whose ssh port is forwarded from this host's loopback."""
    user = f"user,id=m,hostfwd=tcp:127.0.0.1:{port}-:22"
    return ["-netdev", user, "-device", "virtio-net-pci,netdev=m,romfile="]


def median(timings: Sequence[Timing]) -> Timing:
    return Timing(statistics.median(t.wall for t in timings), statistics.median(t.cpu for t in timings))


@contextmanager
def workplace(parent: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nestlab-bench-", dir=parent) as folder:
        yield Path(folder)


def verdict(name: str, ratio: float, limit: float) -> None:
    print(f"{name} ratio={ratio:.2f} limit={limit} {'ok' if ratio <= limit else 'short'}")
