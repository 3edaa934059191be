"""Machines that libvirt runs move between two real hypervisors: stopped, with what is on their disks, and started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moving_lab import machines, moving
from test_nested import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: move
segments: {wire: {cidr: 10.79.0.0/24}}
machines:
  hv1:
    hypervisor: libvirt
    segments: [wire]
    machines: {db: {image: debian, memory: 256M, segments: [wire]}}
  hv2:
    hypervisor: libvirt
    segments: [wire]
    machines: {other: {image: tiny, segments: [wire]}}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with moving(LAB) as found:
        yield found


def test_a_domain_moves_with_its_disk_and_leaves_none_behind(cli: Cli) -> None:
    cli.run("exec", "hv1/db", "--", "sh", "-c", "echo kept >/root/kept; sync")
    said = cli.error("migrate", "hv1/db", "hv2")
    assert "does not move while it runs" in said
    assert "--cold" in said
    cli.run("migrate", "hv1/db", "hv2", "--cold")
    assert machines(cli)["hv2/db"]["state"] == "running"
    assert cli.run("exec", "hv2/db", "--", "cat", "/root/kept").strip() == "kept"
    listed = [cli.run("exec", outer, "--", "virsh", "-q", "list", "--all", "--name") for outer in ("hv1", "hv2")]
    assert "nestlab-move-hv1.db" not in listed[0]
    assert "nestlab-move-hv2.db" in listed[1]


def test_home_again_it_is_as_the_lab_file_says(cli: Cli) -> None:
    cli.run("migrate", "hv2/db", "hv1", "--cold")
    assert cli.run("exec", "hv1/db", "--", "cat", "/root/kept").strip() == "kept"
    assert machines(cli)["hv1/db"]["state"] == "running"
