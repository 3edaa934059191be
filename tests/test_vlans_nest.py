"""VLANs across two real hypervisors: who reaches whom, which frames have tags, and what bridges pass on.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from lab_up import lab_up
from nestlab.network.pcap import Records
from waiting import wait_until

pytestmark = pytest.mark.guest

LAB = """
lab: vlans
segments:
  lan: {transparent: true, vlans: [10, {vlan: 20, cidr: 10.20.0.0/24}]}
  dark:
machines:
  hv1:
    hypervisor: kvm
    segments: [lan]
    machines:
      a: {image: tiny, segments: {lan: {vlan: 10}, dark: }}
      b: {image: tiny, segments: {lan: {vlan: 20}}}
  hv2:
    hypervisor: kvm
    segments: [lan]
    machines:
      a: {image: tiny, segments: {lan: {vlan: 10}, dark: }}
  c: {image: tiny, memory: 128M, segments: {lan: {vlan: 20, address: 10.20.0.77}}}
"""
LLDP, LACP, EAPOL = "01:80:c2:00:00:0e", "01:80:c2:00:00:02", "01:80:c2:00:00:03"
TAG = b"\x81\x00"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        yield found


def ping(cli: Cli, machine: str, target: str, status: int = 0) -> None:
    cli("exec", machine, "--", "ping", "-c1", "-W2", target, status=status)


def frames(file: Path) -> list[bytes]:
    return [frame for _, frame in Records().feed(file.read_bytes())] if file.exists() else []


def test_up_again_has_nothing_to_do(cli: Cli) -> None:
    assert cli.steps(cli.file(LAB)) == []


def test_guests_of_two_hypervisors_reach_each_other_on_one_vlan_by_name(cli: Cli) -> None:
    ping(cli, "hv1/a", "a.hv2")
    ping(cli, "hv1/b", "c")
    ping(cli, "hv1", "hv2")
    # The largest packet: with a tag its frame is larger than any without.
    cli("exec", "hv2/a", "--", "ping", "-c1", "-W2", "-s", "1472", "a.hv1")


def test_on_two_vlans_they_do_not_whatever_addresses_they_take(cli: Cli) -> None:
    """All take addresses of one network on top, in their VLANs and without one."""
    for number, (machine, card) in enumerate((("hv1/b", "eth1"), ("hv2/a", "eth1"), ("c", "eth1"), ("hv2", "br-lan"))):
        cli("exec", machine, "--", "ip", "address", "add", f"192.0.2.{number + 1}/24", "dev", card)
    tries = "for n in 1 2 3 4; do ping -c1 -W1 192.0.2.$n >/dev/null && echo $n; done; true"
    for machine, card, reached in (("hv1/a", "eth1", "2"), ("hv1/b", "eth1", "1 3"), ("hv1", "br-lan", "4")):
        text = f"ip address add 192.0.2.9/24 dev {card}; {tries}; ip address del 192.0.2.9/24 dev {card}"
        assert cli("exec", machine, "--", "sh", "-c", text).text.split() == reached.split()


@pytest.mark.parametrize(("machine", "tagged"), [("hv1", True), ("hv1/a", False), ("c", False)])
def test_a_capture_shows_the_tags_of_a_trunk_and_none_at_a_card_on_a_vlan(
    cli: Cli, tmp_path: Path, machine: str, tagged: bool
) -> None:
    file = tmp_path / "lan.pcap"
    with cli.running("capture", machine, "lan", "-o", str(file)) as work:
        work.until("capturing")
        ping(cli, "hv1/b" if machine == "c" else "hv1/a", "c" if machine == "c" else "a.hv2")
        number = 20 if machine == "c" else 10
        head = TAG + number.to_bytes(2, "big") if tagged else b"\x08\x00"
        wait_until(lambda: any(each[12:].startswith(head) for each in frames(file)))
        work.tell(signal.SIGINT)
        work.end()
    ours = [each for each in frames(file) if each[12:14] == TAG or each[12:14] == b"\x08\x00"]
    assert tagged or not any(each[12:14] == TAG for each in ours)


@pytest.mark.parametrize("segment", ["lan", "dark"])
def test_lldp_lacp_and_eapol_pass_where_the_segment_is_transparent_and_do_not_elsewhere(
    cli: Cli, tmp_path: Path, segment: str
) -> None:
    """From a guest through its hypervisor's bridge, and through that of the other, to the other's guest. Frames to
    these addresses are made by pings to neighbours that are said to have them."""
    card = {"lan": "eth1", "dark": "eth2"}[segment]
    file = tmp_path / "x.pcap"
    lines = [f"ip address add 203.0.113.1/24 dev {card}"]
    groups = (LLDP, LACP, EAPOL, "01:80:c2:00:00:00")
    for number, group in enumerate((*groups, "03:00:00:00:00:01"), 2):
        lines += [f"arp -i {card} -s 203.0.113.{number} {group}", f"ping -c1 -W1 203.0.113.{number} || true"]
    with cli.running("capture", "hv2/a", segment, "-o", str(file)) as work:
        work.until("capturing")
        cli("exec", "hv1/a", "--", "sh", "-c", f"{'; '.join(lines)}; ip address del 203.0.113.1/24 dev {card}")
        wait_until(lambda: any(each.startswith(b"\x03\0\0\0\0\1") for each in frames(file)))
        work.tell(signal.SIGINT)
        work.end()
    seen = {each[:6].hex(":") for each in frames(file)}
    passed = {group for group in groups if group in seen}
    # STP passes every Linux bridge that does not take part in it.
    assert passed == (set(groups) if segment == "lan" else {"01:80:c2:00:00:00"})


@pytest.mark.slow
def test_another_vlan_is_a_restart_of_that_guest_alone(cli: Cli) -> None:
    moved = cli.file(
        LAB.replace("b: {image: tiny, segments: {lan: {vlan: 20}}}", "b: {image: tiny, segments: {lan: {vlan: 10}}}")
    )
    assert "VLAN on lan 20 -> 10" in cli("plan", moved)
    assert [step for step in cli.steps(moved) if "introduce" not in step] == [
        "stop hv1/b",
        "update hv1/b",
        "boot hv1/b",
    ]
    cli("up", moved, "--no-verify")
    ping(cli, "hv1/b", "a.hv2")
    ping(cli, "hv1/b", "10.20.0.77", status=1)
    assert cli.steps(moved) == []
