"""A lab on a libvirt of this machine leads the life that every engine must lead, with a real libvirtd and real guests,
level 2 among them; and nothing of what others have in that libvirt is touched."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import libvirtd
from command_line import Cli
from engine_contract import Stage, live_through
from libvirtd import virsh
from nestlab.home.directories import Home
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB
from nestlab.lab.places import Libvirt
from nestlab.verbs import local
from nestlab.verbs.nest import Nest
from test_qemu_engine import HV, LAB, MOVED, kill_web, no_qemu_inside, settled

pytestmark = [pytest.mark.guest, pytest.mark.slow]

ON = Libvirt("qemu:///system")


@pytest.fixture(scope="module", autouse=True)
def libvirt(qemu_tool: Tool) -> Iterator[None]:
    with libvirtd.running(qemu_tool):
        yield


async def test_the_engine_of_a_labs_own_level_lives_through_the_contract() -> None:
    cache = Home.of(os.environ, Path.home()).cache
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        home = Home(Path(folder), cache)
        site = local.site(home)
        lab = replace(LAB, name="nlcontract", on=ON)
        platform = site.platform(home.lab(lab.name), ON)

        def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
            return Nest(blueprint, LocalHost(), platform.on, site.inside, previous=previous)

        changed = settled(replace(lab, machines=(replace(HV, machines=(MOVED,)),)))
        larger = replace(HV, memory=GIB + 64 * MIB, cmdline="loglevel=3", machines=(MOVED,))
        enlarged = settled(replace(lab, machines=(larger,)))
        await live_through(Stage(settled(lab), changed, enlarged, "hv/web", nest, no_qemu_inside, kill_web))
        assert "nlcontract" not in virsh("list", "--all") + virsh("net-list", "--all")


TEXT = """
lab: nlsys
on: qemu:///system
segments: {wire: {cidr: 10.78.0.0/24}}
machines:
  a: {image: tiny, segments: [wire]}
  b: {image: tiny, segments: [wire]}
"""

THEIRS = "<domain type='qemu'><name>{}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
"""A domain that somebody made by hand."""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        try:
            cli("up", cli.file(TEXT))
            yield cli
        finally:
            cli("down", "nlsys", "--yes")
            assert "nlsys" not in virsh("list", "--all") + virsh("net-list", "--all")


def lab(cli: Cli) -> str:
    return str(cli.home / "lab.yaml")


def test_machines_are_domains_of_the_user_on_a_network_of_the_labs(cli: Cli) -> None:
    assert re.search(r"nestlab-nlsys-a\s+running", virsh("list"))
    assert "nestlab-nlsys.wire" in virsh("net-list")
    assert f"+{os.getuid()}:+{os.getgid()}" in virsh("dumpxml", "nestlab-nlsys-a")
    assert "ready" in cli("logs", "a").text
    assert cli("exec", "a", "--", "ping", "-c", "1", "-W", "60", "b").status == 0
    assert all(each.stat().st_uid == os.getuid() for each in cli.home.rglob("*"))


def test_what_changed_by_hand_is_told_and_set_back_and_a_card_that_was_taken_out_is_back(cli: Cli) -> None:
    mac = re.findall(r"mac address='([^']+)'", virsh("dumpxml", "nestlab-nlsys-a"))[0]
    virsh("setmaxmem", "nestlab-nlsys-a", "256M", "--config")
    virsh("detach-interface", "nestlab-nlsys-b", "network", "--config")
    told = cli("plan", lab(cli), status=None).text
    assert "memory is 262144, wanted" in told
    assert "is not there any more" in told
    cli("up", lab(cli))
    assert "0 steps" in cli("plan", lab(cli)).text or "nothing to do" in cli("plan", lab(cli)).text
    assert "262144" not in virsh("dumpxml", "--inactive", "nestlab-nlsys-a")
    assert mac in virsh("dumpxml", "--inactive", "nestlab-nlsys-a")


def test_it_stops_starts_is_cut_off_and_killed_and_gets_files_as_any_machine(cli: Cli) -> None:
    cli("stop", "a")
    assert re.search(r"nestlab-nlsys-a\s+shut off", virsh("list", "--all"))
    cli("start", "a")
    (cli.home / "file").write_text("here")
    cli("cp", str(cli.home / "file"), "a:/root/file")
    assert cli("exec", "a", "--", "cat", "/root/file").text.strip() == "here"
    cli("cut", "a", "wire")
    assert "no-carrier" in cli("exec", "a", "--", "ip", "link").text.lower()
    cli("heal", "nlsys")
    refused = cli("impair", "wire", "--delay", "40ms", status=2).text
    assert "cannot be impaired" in refused
    cli("kill", "a")
    assert cli.states("nlsys")["a"] in ("killed", "died")
    cli("start", "a")
    cli("restart", "b")
    assert cli.states("nlsys") == {"a": "running", "b": "running"}


def test_a_network_that_somebody_destroyed_is_made_again_and_machines_that_run_are_on_it(cli: Cli) -> None:
    virsh("net-destroy", "nestlab-nlsys.wire")
    assert cli.steps(lab(cli)) == ["connect wire"]
    assert "proven: all" in cli("up", lab(cli)).text


def test_others_domains_and_networks_of_the_labs_names_are_refused_and_stay(cli: Cli) -> None:
    other = TEXT.replace("nlsys", "nlother")
    virsh("define", "/dev/stdin", text=THEIRS.format("nestlab-nlother-a"))
    virsh("net-create", "/dev/stdin", text="<network><name>nestlab-nlother.wire</name><bridge/></network>")
    before = virsh("dumpxml", "nestlab-nlother-a"), virsh("net-dumpxml", "nestlab-nlother.wire")
    try:
        assert "Somebody else's is in its place" in cli("up", cli.file(other, "other"), status=2).text
        assert (virsh("dumpxml", "nestlab-nlother-a"), virsh("net-dumpxml", "nestlab-nlother.wire")) == before
        virsh("net-destroy", "nestlab-nlother.wire")
        assert "Somebody else's is in its place" in cli("up", str(cli.home / "other.yaml"), status=2).text
        cli("down", "nlother", "--yes")
        assert virsh("dumpxml", "nestlab-nlother-a") == before[0]
    finally:
        virsh("undefine", "nestlab-nlother-a")
        virsh("net-destroy", "nestlab-nlother.wire", check=False)


SEALED = """
lab: nlsealed
on: qemu:///system
machines:
  one: {image: tiny, firmware: uefi, tpm: true}
"""


def test_a_machine_has_uefi_and_a_tpm_whose_state_outlives_a_restart_and_goes_with_it(cli: Cli) -> None:
    cli("up", cli.file(SEALED, "sealed"), "--no-verify")
    try:
        assert "runtime" in cli("exec", "one", "--", "ls", "/sys/firmware/efi").text
        assert cli("exec", "one", "--", "cat", "/sys/class/tpm/tpm0/tpm_version_major").text.strip() == "2"
        kept = {each.name for each in cli.home.rglob("*") if each.name in ("uefi.fd", "tpm2-00.permall")}
        assert kept == {"uefi.fd", "tpm2-00.permall"}
        cli("restart", "one")
        assert "runtime" in cli("exec", "one", "--", "ls", "/sys/firmware/efi").text
        assert "nothing to do" in cli("plan", str(cli.home / "sealed.yaml"), status=None).text
    finally:
        cli("down", "nlsealed", "--yes")
    assert "nlsealed" not in virsh("list", "--all")
