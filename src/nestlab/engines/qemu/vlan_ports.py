"""VLANs of machines' cards: which ports the lab's switch has, and what the ports of a hypervisor's bridge are.

QEMU makes a machine's port of a bridge when it starts (`-netdev bridge`), so the port is set up right after that. A
bridge that machines on VLANs are on tells VLANs apart (`vlan_filtering`): the hypervisor's own card on it is a trunk,
and who is on no VLAN, the hypervisor too, gets the frames without a tag.
"""

from __future__ import annotations

from collections.abc import Sequence

from nestlab.base.errors import LabError
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.vlans import HIGHEST, LOWEST
from nestlab.network.network_script import bridge_name

CARD_OF = r"""
card_of() {
  card=
  for path in "/sys/class/net/$2/brif/v${3##*/}n"*; do
    [ ! -e "$path" ] || { card=${path##*/}; return; }
  done
  for file in /proc/"$1"/fdinfo/*; do
    while read -r key value; do
      [ "$key" = iff: ] && [ "/sys/class/net/$value/master" -ef "/sys/class/net/$2" ] && card=$value
    done < "$file"
  done 2>/dev/null
}
"""
"""`card_of PID BRIDGE DIRECTORY` sets $card to the port of the bridge that a machine has, or to nothing: the tap of its
QEMU (a tap's descriptor names its interface in fdinfo), or its end of a container's veth pair, which has the name of
the machine's directory (`container_sockets.veth`)."""

AWARE = rf"""
PATH=${{PATH:+$PATH:}}/usr/sbin:/sbin

# aware BRIDGE: it tells VLANs apart, and the cards of this hypervisor on it carry all.
aware() {{
  filter=/sys/class/net/$1/bridge/vlan_filtering
  read -r on < "$filter" || return 1
  [ "$on" = 0 ] || return 0
  for path in "/sys/class/net/$1/brif"/*; do
    port=${{path##*/}}
    [ ! -e "/sys/class/net/$port/device" ] || bridge vlan add dev "$port" vid {LOWEST}-{HIGHEST} || return 1
  done
  echo 1 > "$filter"
}}
"""
"""`aware BRIDGE`."""

IN_TIME = 60.0
"""Nominal seconds for the ports of a machine: root of a hypervisor decides what its programs do."""

PORTS = (
    CARD_OF
    + AWARE
    + rf"""
dir=$1; shift
read -r pid < "$dir/pid" || {{ echo "it does not run" >&2; exit 4; }}

# found BRIDGE: waits until the machine has its port there.
found() {{
  tries=0
  while card_of "$pid" "$1" "$dir"; [ -z "$card" ]; do
    [ -e "/proc/$pid/stat" ] || exit 0
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || {{ echo "no card of it came to be on $1" >&2; return 1; }}
    sleep 0.1
  done
}}

while [ $# -ge 3 ]; do
  bridge=$1; kind=$2; mask=$3; shift 3
  [ "$kind" = any ] || aware "$bridge" || exit 5
  found "$bridge" || exit 5
  case $kind in
    any | bare) ;;
    trunk) bridge vlan add dev "$card" vid {LOWEST}-{HIGHEST} || exit 5 ;;
    *)
      bridge vlan add dev "$card" vid "$kind" pvid untagged && bridge vlan del dev "$card" vid 1 || exit 5
      ;;
  esac
  [ "$mask" = 0 ] || echo "$mask" > "/sys/class/net/$card/brport/group_fwd_mask" || exit 5
done
"""
)
"""Arguments: the machine's directory, then for each card its bridge, what its port is (`any`: the bridge knows no
VLANs; `bare`: what has no tag; `trunk`, or a VLAN), and which addresses of 01:80:C2:00:00:0X it passes on beside those
that the bridge does. It may be run again."""

PREPARE = AWARE + 'for bridge; do aware "$bridge" || exit 5; done\n'
"""Arguments: bridges that machines on VLANs are to be on. It may be run again."""

LACP = 1 << 2
"""01:80:C2:00:00:02, which Linux lets a port pass on, but no bridge (BR_GROUPFWD_RESTRICTED)."""


def vlans_of(blueprint: Blueprint) -> dict[str, set[int]]:
    """By segment that has VLANs on the lab's own host: those that machines there are on."""
    found: dict[str, set[int]] = {}
    for nic in (nic for spec in blueprint.children("") for nic in spec.nics if nic.port):
        found.setdefault(nic.segment, set()).update({nic.vlan} if nic.vlan is not None else ())
    return found


def words(spec: Spec, outer: Spec) -> list[str]:
    """Arguments of PORTS for a machine inside another; none where its ports are as QEMU makes them."""
    around = {nic.segment: nic for nic in outer.nics}
    found: list[str] = []
    for nic in spec.nics:
        above = around[nic.segment]
        if above.trunk or above.transparent:
            kind = (nic.port or "bare") if above.trunk else "any"
            found += [bridge_name(nic.segment), kind, str(LACP if above.transparent else 0)]
    return found


async def prepare(host: Host, spec: Spec, outer: Spec) -> None:
    """Have the bridges tell VLANs apart that a container is to be on VLANs of: LXC makes its ports as they are to be,
    and it runs at once. LabError where that fails."""
    bridges = [bridge_name(nic.segment) for nic in spec.nics if nic.vlan is not None]
    if bridges:
        await _as_root(host, spec, outer, ("sh", "-c", PREPARE, "prepare", *bridges))


async def set_up(host: Host, spec: Spec, outer: Spec, directory: str, ports: Sequence[str]) -> None:
    """Make the ports of a machine that has just been started what they are to be. LabError where that fails."""
    await _as_root(host, spec, outer, ("sh", "-c", PORTS, "ports", directory, *ports))


async def _as_root(host: Host, spec: Spec, outer: Spec, argv: Sequence[str]) -> None:
    root = [] if outer.machine.image.user == "root" else ["sudo", "-n"]
    done = await host.run((*root, *argv), check=False, timeout=IN_TIME)
    if done.status:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        what = f"{spec.path} cannot be put on its VLANs in {outer.path}: {said[-1] if said else 'it does not say why'}."
        raise LabError(
            what, hint="A hypervisor needs the program `bridge` (package iproute2), and its user root's rights."
        )
