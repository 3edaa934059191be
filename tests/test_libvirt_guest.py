"""The engine of a host's libvirt leads the life that every engine must lead, with a real libvirt in a real
hypervisor; and nothing of what others have in that libvirt is touched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import Cli
from engine_contract import Stage, live_through
from nestlab.engines.libvirt import scripts
from nestlab.home.directories import Home
from nestlab.hosts.local import LocalHost
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB, Image, Lab, Link, Machine, Segment
from nestlab.verbs import local
from nestlab.verbs.nest import Nest
from test_qemu_engine import kill_web, settled

pytestmark = [pytest.mark.guest, pytest.mark.slow]

WEB = Machine("web", image=Image(base="tiny"), memory=128 * MIB, links=(Link("wire"),))
HV = Machine("hv", hypervisor="libvirt", image=Image(base="libvirt"), memory=GIB, machines=(WEB,))
LAB = Lab("contract", segments=(Segment("wire", "10.78.0.0/24"),), machines=(HV,))
MOVED = replace(WEB, memory=160 * MIB, links=(Link("wire", address="10.78.0.99"),))


@contextlib.contextmanager
def no_more_domains() -> Iterator[None]:
    """libvirt suddenly takes no definition."""
    there = scripts.DEFINE
    scripts.DEFINE = "echo 'error: Failed to define domain' >&2; exit 1"
    try:
        yield
    finally:
        scripts.DEFINE = there


async def test_the_libvirt_engine_lives_through_the_contract() -> None:
    cache = Home.of(os.environ, Path.home()).cache
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        site = local.site(Home(Path(folder), cache))

        def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
            return Nest(blueprint, LocalHost(), site.on, site.inside, previous=previous)

        changed = settled(replace(LAB, machines=(replace(HV, machines=(MOVED,)),)))
        larger = replace(HV, memory=GIB + 64 * MIB, cmdline="loglevel=3", machines=(MOVED,))  # that takes a restart
        enlarged = settled(replace(LAB, machines=(larger,)))
        await live_through(Stage(settled(LAB), changed, enlarged, "hv/web", nest, no_more_domains, kill_web))


TEXT = """
lab: dom
segments: {wire: {cidr: 10.78.0.0/24}}
machines:
  hv:
    hypervisor: libvirt
    segments: [wire]
    machines:
      web: {image: tiny, segments: [wire]}
"""

THEIRS = "<domain type='qemu'><name>theirs</name><memory>65536</memory><os><type>hvm</type></os></domain>"
"""A domain that somebody made by hand."""

DOMAIN = "nestlab-dom-hv.web"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        cli = Cli(Path(home))
        try:
            cli("up", cli.file(TEXT), "--no-verify")
            yield cli
        finally:
            cli("down", "dom", "--yes")


def virsh(cli: Cli, *words: str) -> str:
    return cli("exec", "hv", "--", "virsh", "-q", *words).text


def test_kvm_is_proven_inside_and_the_machine_is_a_domain(cli: Cli) -> None:
    verdict = json.loads(cli.plain("verify", "dom", "--json"))
    held = {proof["claim"] for proof in verdict["proofs"] if proof["path"] == "hv" and proof["ok"]}
    assert {"cpu", "nested", "/dev/kvm", "cpuid", "guest"} <= held
    assert re.search(rf"{DOMAIN}\s+running", virsh(cli, "list", "--all"))
    assert "type='kvm'" in virsh(cli, "dumpxml", DOMAIN)
    assert cli("exec", "hv/web", "--", "hostname").text.strip() == "web"
    assert "nestlab: ready" in cli("logs", "hv/web").text


def test_a_domain_made_by_hand_stays_and_a_change_by_hand_is_told_and_set_back(cli: Cli) -> None:
    cli("exec", "hv", "--", "sh", "-c", f'echo "{THEIRS}" >/root/theirs.xml && virsh -q define /root/theirs.xml')
    virsh(cli, "setvcpus", DOMAIN, "3", "--config", "--maximum")
    assert "vcpu is 3, wanted 1 (changed by hand)" in cli("plan", str(cli.home / "lab.yaml"), status=None).text
    done = cli("up", str(cli.home / "lab.yaml"), "--no-verify").text
    assert "vcpu is 3, wanted 1" in done
    assert "placement='static'>1<" in virsh(cli, "dumpxml", "--inactive", DOMAIN)
    assert "theirs" in virsh(cli, "list", "--all")


def test_it_stops_starts_and_is_killed_as_any_machine(cli: Cli) -> None:
    cli("stop", "hv/web")
    assert re.search(rf"{DOMAIN}\s+shut off", virsh(cli, "list", "--all"))
    cli("start", "hv/web")
    virsh(cli, "undefine", DOMAIN)
    cli("restart", "hv/web")
    assert DOMAIN in virsh(cli, "list", "--all", "--persistent")
    cli("kill", "hv/web")
    assert cli.states("dom")["hv/web"] in ("killed", "died")


def test_what_is_removed_leaves_no_domain_and_nothing_of_others_is_touched(cli: Cli) -> None:
    without = TEXT.replace("      web: {image: tiny, segments: [wire]}\n", "      other: {image: tiny}\n")
    cli("up", cli.file(without), "--no-verify", "--replace")
    listed = virsh(cli, "list", "--all")
    assert DOMAIN not in listed
    assert "nestlab-dom-hv.other" in listed
    assert "theirs" in listed
