"""A VLAN through two hypervisors, one in the other: real QEMU, a guest at level 3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from command_line import Cli
from lab_up import lab_up

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: depth
segments:
  lan: {vlans: [{vlan: 10, cidr: 10.10.0.0/24}, {vlan: 20, cidr: 10.20.0.0/24}]}
machines:
  hv1:
    hypervisor: kvm
    machines:
      deep:
        hypervisor: kvm
        segments: [lan]
        machines:
          b: {image: tiny, segments: {lan: {vlan: 20, address: 10.20.0.3}}}
      p: {image: tiny, segments: [lan]}
  c: {image: tiny, memory: 128M, segments: {lan: {vlan: 20, address: 10.20.0.1}}}
  d: {image: tiny, memory: 128M, segments: {lan: {vlan: 10, address: 10.10.0.1}}}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        yield found


def test_a_guest_at_level_3_reaches_its_vlan_on_the_lab_s_own_host_and_no_other(cli: Cli) -> None:
    cli("exec", "c", "--", "ping", "-c1", "-W5", "10.20.0.3")
    cli("exec", "hv1/deep/b", "--", "ping", "-c1", "-W5", "c")
    cli("exec", "hv1/p", "--", "ping", "-c1", "-W5", "deep.hv1")
    cli("exec", "d", "--", "ip", "address", "add", "10.20.0.9/24", "dev", "eth1")
    cli("exec", "d", "--", "ping", "-c1", "-W2", "10.20.0.3", status=1)
    assert "segment lan.20" in cli("verify", "depth")
