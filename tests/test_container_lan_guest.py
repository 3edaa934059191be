"""Containers in two real hypervisors: on VLANs, captured, reached at 127.0.0.1, and entered by their consoles.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import UP_TO, Cli
from lab_up import lab_up
from nestlab.network.pcap import Records
from waiting import LONG, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: lans
segments:
  lan: {vlans: [10, 20]}
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    segments: [lan]
    machines:
      a: {container: true, image: tiny, segments: {lan: {vlan: 10}}, ports: [8000]}
      b: {container: true, image: tiny, segments: {lan: {vlan: 20}}}
      c: {container: true, image: tiny, segments: [lan]}
  hv2:
    hypervisor: kvm
    memory: 768M
    segments: [lan]
    machines:
      a: {container: true, image: tiny, segments: {lan: {vlan: 10}}}
      vm: {image: tiny, segments: {lan: {vlan: 20}}}
"""
TAG_10 = b"\x81\x00\x00\x0a"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        yield found


def sh(cli: Cli, machine: str, script: str) -> str:
    return cli.plain("exec", machine, "--", "sh", "-c", script)


def frames(file: Path) -> list[bytes]:
    return [frame for _, frame in Records().feed(file.read_bytes())] if file.exists() else []


def test_up_again_has_nothing_to_do_and_every_claim_is_proven(cli: Cli) -> None:
    assert cli.steps(cli.file(LAB)) == []
    assert "proven" in cli("verify", "lans")


def test_containers_reach_who_is_on_their_vlan_in_another_hypervisor_and_nobody_else(cli: Cli) -> None:
    """All take addresses of one network on top, in their VLANs and without one."""
    cards = {"hv1/b": "eth0", "hv1/c": "eth0", "hv2/a": "eth0", "hv2/vm": "eth1", "hv2": "br-lan"}
    for number, (machine, card) in enumerate(cards.items(), 1):
        sh(cli, machine, f"ip address add 192.0.2.{number}/24 dev {card}")
    tries = "for n in 1 2 3 4 5; do ping -c1 -W1 192.0.2.$n >/dev/null && echo $n; done; true"
    for machine, reached in (("hv1/a", "3"), ("hv1/b", "1 4"), ("hv1/c", "2 5")):
        text = f"ip address add 192.0.2.9/24 dev eth0; {tries}; ip address del 192.0.2.9/24 dev eth0"
        assert sh(cli, machine, text).split() == reached.split(), machine
    sh(cli, "hv1/a", "ping -c1 -W2 a.hv2")


def test_a_container_is_on_its_vlan_from_its_first_frame(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "trunk.pcap"
    mac = bytes.fromhex(sh(cli, "hv1/a", "cat /sys/class/net/eth0/address").replace(":", ""))
    with cli.running("capture", "hv1", "lan", "-o", str(file)) as work:
        work.until("capturing")
        cli("restart", "hv1/a")
        sh(cli, "hv1/a", "ping -c1 -W2 a.hv2")
        wait_until(lambda: any(each[6:12] == mac and each[16:18] == b"\x08\x00" for each in frames(file)))
        work.tell(signal.SIGINT)
        work.end()
    assert {each[12:16] for each in frames(file) if each[6:12] == mac} == {TAG_10}


def test_a_capture_at_a_container_shows_its_frames_without_a_tag(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "card.pcap"
    with cli.running("capture", "hv1/a", "lan", "-o", str(file)) as work:
        work.until("capturing hv1/a on lan")
        sh(cli, "hv1/a", "ping -c1 -W2 a.hv2")
        wait_until(lambda: {each[34] for each in frames(file) if each[12:14] == b"\x08\x00"} >= {0, 8})
        work.tell(signal.SIGINT)
        work.end()
    assert not [each for each in frames(file) if each[12:14] == TAG_10[:2]]


def test_ports_of_the_lab_file_and_of_forward_lead_to_a_container(cli: Cli) -> None:
    for machine in ("hv1/a", "hv1/b"):
        sh(cli, machine, f"mkdir -p /tmp/w && echo {machine} >/tmp/w/index.html && httpd -p 8000 -h /tmp/w")
    other = json.loads(cli.plain("forward", "hv1/b", "8000", "--keep", "--json"))["local"]
    kept = {each["path"]: each["local"] for each in json.loads(cli.plain("status", "lans", "--json"))["ports"]}
    assert kept == {"hv1/a": kept["hv1/a"], "hv1/b": other}
    for machine, local in kept.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{local}/index.html", timeout=LONG) as answer:
            assert answer.read().decode() == f"{machine}\n"
    cli("unforward", "hv1/b")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{other}/", timeout=LONG)


def test_its_console_takes_what_is_typed_and_ctrl_bracket_leaves_it_running(cli: Cli) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "nestlab", "console", "hv1/a"]
    said = b""

    def until(word: bytes) -> None:
        nonlocal said
        while word not in said:
            said += os.read(ours, 1 << 12)

    with subprocess.Popen(argv, env=cli.environment, stdin=theirs, stdout=theirs, stderr=theirs) as work:
        os.close(theirs)
        until(b"Ctrl-] leaves it")
        os.write(ours, b"\n")
        until(b"# ")
        os.write(ours, b"echo $((6 * 7)) $(hostname)\n")
        until(b"42 a")
        os.write(ours, b"\x1d")
        until(b"it runs on")
        assert work.wait(UP_TO) == 0
    os.close(ours)
    assert "42 a" in cli.plain("logs", "hv1/a")
    assert cli.states("lans")["hv1/a"] == "running"


def test_a_link_of_a_container_is_cut_across_a_restart_and_healed(cli: Cli) -> None:
    cli("cut", "hv1/a", "lan")
    cli("exec", "hv1/a", "--", "ping", "-c1", "-W1", "a.hv2", status=1)
    cli("restart", "hv1/a")
    cli("exec", "hv1/a", "--", "ping", "-c1", "-W1", "a.hv2", status=1)
    assert sh(cli, "hv1/a", "cat /sys/class/net/eth0/carrier").strip() == "0"
    cli("heal", "lans")
    wait_until(lambda: "1 packets received" in sh(cli, "hv1/a", "ping -c1 -W1 a.hv2 || true"), pause=1)
