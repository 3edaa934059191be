"""A machine of a lab on a host that ssh reaches boots from its segment, with a real sshd and real firmware."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from nestlab.base.errors import Mistakes
from nestlab.labfile import parse_text
from remotes import known_server, needs_sshd, url

LAB = """
lab: wired
on: {url}
segments:
  wire: {{cidr: 10.77.0.0/24, netboot: {{image: tiny}}}}
machines:
  web:
    image: none
    memory: 256M
    boot: [network]
    segments: {{wire: {{address: 10.77.0.11}}}}
    ready: {{console: "Please press Enter"}}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    with (
        known_server(tmp_path, monkeypatch) as server,
        tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as here,
    ):
        yield Cli(Path(here), {"WHERE": url(server)})


@needs_sshd
@pytest.mark.guest
@pytest.mark.slow
def test_a_machine_there_boots_from_its_segment_and_the_log_says_what_it_got(cli: Cli) -> None:
    where = cli.env["WHERE"]
    file = cli.file(LAB.format(url=where))
    try:
        cli("up", file, "--no-verify", "--set", f"on={where}")
        assert cli.states("wired")["web"] == "running"
        log = cli.plain("logs", "web", "--netboot", "wire")
        assert "10.77.0.11, ipxe, told to load" in log
        assert "GET kernel: 200" in log
        assert "nothing to do" in cli("up", file, "--no-verify", "--set", f"on={where}")
    finally:
        cli("down", "wired", "--yes")


def test_a_folder_of_this_computer_is_not_sent_there(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/loader").write_bytes(b"x")
    served = f"{{files: {tmp_path}/boot, bios: loader}}"
    text = LAB.format(url="ssh://lab@server").replace("{image: tiny}", served)
    with pytest.raises(Mistakes, match="is not sent to the host") as caught:
        parse_text(text, environ={})
    assert caught.value.mistakes[0].key == "segments.wire.netboot.files"
