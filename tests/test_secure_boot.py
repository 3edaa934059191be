"""Secure Boot for real: Debian's own shim, GRUB and kernel start under it, and what nobody signed does not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import signed_disk
from command_line import Cli

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: sealed-debian
machines:
  {name}: {{image: {{file: {disk}, user: debian}}, firmware: secure, memory: {memory}}}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        made = Cli(Path(folder))
        yield made
        made("down", "sealed-debian", "--yes", status=None)


@pytest.fixture(scope="module")
def disks(cli: Cli) -> signed_disk.Disks:
    return signed_disk.build(cli.home)


@pytest.fixture(autouse=True)
def alone(cli: Cli) -> Iterator[None]:
    yield
    cli("down", "sealed-debian", "--yes", status=None)


def test_a_debian_with_shim_boots_and_says_that_secure_boot_is_on(cli: Cli, disks: signed_disk.Disks) -> None:
    cli("up", cli.file(LAB.format(name="debian", disk=disks.signed, memory="768M")))
    assert "SecureBoot enabled" in cli.plain("exec", "debian", "--", "mokutil", "--sb-state")
    variable = "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    assert cli.plain("exec", "debian", "--", "sh", "-c", variable).split()[-1] == "1"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("first", "Secure Boot refuses what is on its disk, which is not signed with a key that its firmware knows"),
        ("second", "Secure Boot refuses what its boot loader is to start, which is not signed by its distribution"),
    ],
)
def test_the_same_with_an_unsigned_loader_is_refused(cli: Cli, disks: signed_disk.Disks, name: str, why: str) -> None:
    file = cli.file(LAB.format(name=name, disk=getattr(disks, name), memory="256M"))
    said = cli("up", file, "--no-verify", status=2)
    assert f"{name} did not come up: {why}" in said
    assert "install the signed shim" in said
    assert cli.states("sealed-debian") == {name: "died"}
