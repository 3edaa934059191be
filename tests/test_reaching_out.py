"""Two real machines try to reach the host and what is behind it: one without `internet`, one with it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from lab_up import lab_up
from nestlab.home.paths import Place

pytestmark = pytest.mark.guest

LAB = """
lab: out
machines:
  shut: {image: tiny, memory: 128M}
  open: {image: tiny, memory: 128M, internet: true}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        yield found


@pytest.fixture
def service() -> Iterator[socket.socket]:
    """A service of the host's, on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def root(cli: Cli, machine: str) -> Path:
    return Path(Place(str(cli.home / "labs" / "out")).of(machine).root)


def cmdline(cli: Cli, machine: str) -> list[str]:
    pid = int((root(cli, machine) / "pid").read_text())
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def gateway(cli: Cli, machine: str) -> str:
    (user,) = [word for word in cmdline(cli, machine) if word.startswith("user,id=mgmt")]
    return next(word for word in user.split(",") if word.startswith("host=")).removeprefix("host=")


def tried(cli: Cli, machine: str, service: socket.socket, addresses: list[str]) -> int:
    """How often these addresses led to the service, when root of the machine sends packets out by its card."""
    port, by = service.getsockname()[1], gateway(cli, machine)
    network = by.rpartition(".")[0]
    lines = [
        f"card=$(ip -o -4 addr | sed -n 's/^[0-9]*: \\([a-z0-9]*\\) .*inet {network}.*/\\1/p')",
        "ip link set lo down",
        f"ip route add default via {by} dev $card 2>/dev/null",
    ]
    for address in addresses:
        lines.append(f"ip route replace {address} via {by} dev $card 2>/dev/null")
        lines.append(f"echo hello | timeout 5 nc -w 4 {address} {port}")
    cli("exec", machine, "--", "sh", "-c", "; ".join((*lines, "true")))
    count = 0
    while True:
        try:
            connection, _ = service.accept()
        except BlockingIOError:
            return count
        with connection:
            count += 1


def test_without_internet_a_machine_reaches_neither_the_host_nor_anything_behind_it(
    cli: Cli, service: socket.socket
) -> None:
    network = gateway(cli, "shut").rpartition(".")[0]
    every = [f"{network}.{last}" for last in (1, 2, 3, 4)] + ["127.0.0.1", "127.1.2.3"]
    assert tried(cli, "shut", service, every) == 0
    ask = f"timeout 5 nslookup example.org {network}.3 && echo answered; true"
    assert "answered" not in cli("exec", "shut", "--", "sh", "-c", ask)


def test_with_internet_the_hosts_own_services_are_within_reach_as_the_page_on_security_says(
    cli: Cli, service: socket.socket
) -> None:
    assert tried(cli, "open", service, [gateway(cli, "open")]) == 1


def test_their_qemus_filter_system_calls(cli: Cli) -> None:
    for machine in ("shut", "open"):
        pid = int((root(cli, machine) / "pid").read_text())
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2\n" in status
        assert "on,obsolete=deny,resourcecontrol=deny,elevateprivileges=deny,spawn=deny" in cmdline(cli, machine)


def test_forwards_are_on_the_hosts_loopback_alone_and_sockets_are_the_owners(cli: Cli) -> None:
    for machine in ("shut", "open"):
        (user,) = [word for word in cmdline(cli, machine) if word.startswith("user,id=mgmt")]
        forwards = [word for word in user.split(",") if word.startswith("hostfwd=")]
        port = json.loads((root(cli, machine) / "boot").read_text())["port"]
        assert [word.partition("-")[0] for word in forwards] == [f"hostfwd=tcp:127.0.0.1:{port}"]
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert [line[1] for line in listening if line[3] == "0A" and line[1].endswith(f":{port:04X}")] == [
            f"0100007F:{port:04X}"
        ]
        assert (cli.home / "labs" / "out").stat().st_mode & 0o077 == 0
