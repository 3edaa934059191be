"""Machines without an image boot from their segment, for real: by BIOS, by UEFI, and inside an emulated hypervisor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab.network import netboot_control

pytestmark = pytest.mark.guest

HEAD = """
lab: wired
segments:
  wire: {cidr: 10.77.0.0/24, netboot: {image: tiny}}
machines:
"""
MACHINE = """\
web:
    image: none
    MORE
    boot: [network]
    segments: {wire: {address: 10.77.0.11}}
    ready: {console: "Please press Enter"}
"""


def booted(machines: str, path: str, client: str) -> None:
    """It comes up, nothing is to do afterwards, and the log says what it was given."""
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        file = cli.file(HEAD + machines)
        assert "boots from segment wire: the image tiny, from 10.77.0.1" in cli("plan", file)
        cli("up", file)
        assert cli.states("wired")[path] == "running"
        assert "nothing to do" in cli("up", file, "--no-verify")
        assert "Please press Enter" in cli.plain("logs", path)
        switch = Path(folder) / "labs/wired/switch"
        log = netboot_control.log_of(switch, "wire").read_text()
        for line in (f"10.77.0.11, {client}, told to load", "GET kernel: 200", "GET initrd: 200"):
            assert line in log
        assert "GET kernel: 200" in cli.plain("logs", path, "--netboot", "wire")
        cli("down", "wired", "--yes")
        assert not netboot_control.serves(switch, "wire")


def test_a_machine_without_an_image_boots_from_its_segment_by_bios() -> None:
    booted("  " + MACHINE.replace("MORE", "memory: 256M"), "web", "ipxe")


@pytest.mark.slow
def test_a_machine_without_an_image_boots_from_its_segment_by_uefi() -> None:
    booted("  " + MACHINE.replace("MORE", "memory: 512M\n    firmware: uefi"), "web", "uefi")


@pytest.mark.slow
def test_a_machine_inside_a_hypervisor_boots_from_the_segment_as_one_outside_does() -> None:
    inner = "      " + MACHINE.replace("MORE", "memory: 256M").replace("\n    ", "\n        ")
    outer = "  hv:\n    hypervisor: kvm\n    memory: 1G\n    segments: [wire]\n    machines:\n"
    booted(outer + inner, "hv/web", "ipxe")
