"""Impairs links of machines inside a hypervisor, whose frames a bridge there carries: by netem on their ports (tc(8)).

What goes to a machine leaves by its port of the bridge; what comes from it is led over a device of its own (`ifb`),
which it leaves in turn. Ports go with their machines, and those devices by the next call.
"""

from __future__ import annotations

from collections.abc import Iterable

from nestlab.base.errors import LabError
from nestlab.engines.qemu.vlan_ports import CARD_OF
from nestlab.home.paths import Place, short_id
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.faults import Fault, Impairment
from nestlab.network.network_script import bridge_name

SCRIPT = (
    CARD_OF
    + r"""
PATH=${PATH:+$PATH:}/usr/sbin:/sbin
have=
for path in /sys/class/net/nli*; do
  [ -e "$path" ] && have="$have ${path##*/}"
done
if [ $# -gt 0 ] && ! command -v tc >/dev/null; then echo "it has no program tc (package iproute2)" >&2; exit 5; fi
for name in $have; do
  card=; read -r card 2>/dev/null <"/sys/class/net/$name/ifalias"
  [ -z "$card" ] || { tc qdisc del dev "$card" root; tc qdisc del dev "$card" ingress; } 2>/dev/null
  ip link del "$name" 2>/dev/null
done
while [ $# -ge 4 ]; do
  dir=$1; bridge=$2; name=$3; words=$4; shift 4
  read -r pid <"$dir/pid" 2>/dev/null || continue
  card_of "$pid" "$bridge" "$dir"
  [ -n "$card" ] || continue
  ip link add "$name" type ifb && echo "$card" >"/sys/class/net/$name/ifalias" && ip link set "$name" up || exit 5
  tc qdisc replace dev "$card" root netem $words && tc qdisc add dev "$card" ingress &&
    tc filter add dev "$card" parent ffff: matchall action mirred egress redirect dev "$name" &&
    tc qdisc replace dev "$name" root netem $words || exit 5
done
"""
)
"""For each link: the machine's directory, its bridge, a name for its device, and netem's words. Links that are not
named are impaired no more; of what does not run, nothing is done."""

IN_TIME = 60.0
"""Nominal seconds for all of it: root of a hypervisor decides what its programs do."""

BEHIND = 4096
"""Frames that wait at most: with less, a long delay would lose what it is not told to lose."""


def words(blueprint: Blueprint, faults: Iterable[Fault], place: Place, parent: str) -> list[str]:
    """The arguments of SCRIPT for the machines right inside a hypervisor."""
    specs = blueprint.by_path()
    found: list[str] = []
    for fault in faults:
        spec = specs.get(fault.path)
        on = spec is not None and any(nic.segment == fault.segment for nic in spec.nics)
        if fault.kind == "impair" and spec is not None and spec.parent == parent and on:
            device = f"nli{short_id(f'{fault.path} {fault.segment}')}"
            found += [place.of(fault.path).root, bridge_name(fault.segment), device, netem(fault.impairment)]
    return found


def netem(impairment: Impairment) -> str:
    """The words of tc-netem(8)."""
    jitter = f" {round(impairment.jitter * 1e6)}us" if impairment.jitter else ""
    parts = [f"delay {round(impairment.delay * 1e6)}us{jitter}"] if impairment.delay else []
    parts += [f"loss {100 * impairment.loss:g}%"] if impairment.loss else []
    parts += [f"rate {impairment.rate}bit"] if impairment.rate else []
    return " ".join([*parts, f"limit {BEHIND}"])


async def apply(host: Host, arguments: list[str], user: str) -> None:
    """Have links be impaired so, and no others. `user`: who nestlab is there. LabError where that cannot be done."""
    root = [] if user == "root" else ["sudo", "-n"]
    done = await host.run((*root, "sh", "-c", SCRIPT, "impair", *arguments), check=False, timeout=IN_TIME)
    if done.status:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        what = f"Links in {host.path} cannot be impaired: {said[-1][:200] if said else 'it does not say why'}."
        raise LabError(what, hint="Its kernel needs sch_netem, ifb and act_mirred, and its user root's rights.")
