"""Ports of a lab on a host that ssh reaches lead from this computer for good, with a real sshd and guest."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from nestlab.network import port_keeping
from remotes import known_server, needs_sshd, url
from waiting import LONG, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow, needs_sshd]

LAB = """
lab: far
on: {url}
machines:
  box: {{image: tiny, ports: {{22: {port}}}}}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    with (
        known_server(tmp_path, monkeypatch) as server,
        tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as here,
    ):
        yield Cli(Path(here), {"WHERE": url(server)})


def banner(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LONG) as client:
            return client.recv(4)
    except OSError:
        return b""


def test_a_port_of_the_lab_file_and_one_that_is_kept_lead_to_a_machine_there(cli: Cli) -> None:
    port = port_keeping.any_port(0)
    file = cli.file(LAB.format(url=cli.env["WHERE"], port=port))
    try:
        cli("up", file, "--no-verify", "--set", f"on={cli.env['WHERE']}")
        assert banner(port) == b"SSH-"
        other = port_keeping.any_port(0)
        cli("forward", "box", "22", str(other), "--keep")
        assert banner(other) == b"SSH-"
        cli("restart", "box")
        wait_until(lambda: banner(port) == b"SSH-")
        cli("unforward", "box", "22")
        wait_until(lambda: banner(other) == b"")
        assert banner(port) == b"SSH-"
    finally:
        cli("down", "far", "--yes")
    wait_until(lambda: banner(port) == b"")
