"""A change keeps what is on a disk: on a real machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli

pytestmark = pytest.mark.guest

LAB = """
lab: changes
machines:
  hv: {{image: kvm, memory: {memory}, disk: {disk}}}
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = Cli(tmp_path)
    yield made
    made("down", "changes", "--yes", status=None)


def test_memory_and_a_larger_disk_keep_what_was_written_and_a_smaller_one_is_asked_for(cli: Cli) -> None:
    def up(memory: str, disk: str, *words: str, status: int = 0) -> str:
        return cli("up", cli.file(LAB.format(memory=memory, disk=disk)), "--no-verify", *words, status=status).text

    def said(command: str) -> str:
        return cli.plain("exec", "hv", "--", "sh", "-c", command).strip()

    up("512M", "16G")
    said("echo precious >/root/kept")
    small = int(said("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    first = cli.machines("changes")["hv"]["pid"]
    assert "live: memory 512M -> 640M" in up("640M", "16G")
    assert int(said("awk '/MemTotal/ {print $2}' /proc/meminfo")) > small + 100_000
    assert cli.machines("changes")["hv"]["pid"] == first
    assert "restart: memory 640M -> 448M; its disk is kept" in up("448M", "16G")
    assert said("cat /root/kept") == "precious"
    started = cli.machines("changes")["hv"]["pid"]
    assert started != first
    assert "live: disk 16G -> 20G" in up("448M", "20G")
    assert cli.machines("changes")["hv"]["pid"] == started
    assert int(said("cat /sys/block/vda/size")) == (20 << 30) // 512
    assert int(said("df --output=size -k / | tail -1")) > 18 << 20
    refused = up("448M", "17G", status=2)
    assert "disk 20G -> 17G, and no disk gets smaller; its disk with" in refused
    assert "--replace" in refused
    assert said("cat /root/kept") == "precious"
    up("448M", "17G", "--replace")
    assert said("cat /root/kept 2>&1 || true").endswith("No such file or directory")
