"""Ports of a node of nestlab's that lead to machines inside it: relays of systemd's, along a segment on which both have
an address. They last as long as the node runs."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.engines.port_rules import PortTaken, Rule
from nestlab.engines.pve.tags import Mark
from nestlab.hosts.host import Host
from nestlab.hosts.port_relay import IN_TIME, PROXY

FIRST, COUNT = 20000, 8000
"""The ports that are tried where any will do: below those that systems give away by themselves."""

TRIES = 20

MOST = 1000
"""Ports of one machine that are read."""

_FOLDER = "/run/nestlab/ports"

ADD = rf"""
bind=$1; local=$2; to=$3; port=$4; name=$5; as=$6; unit=nestlab-guest-$local
[ -x {PROXY} ] || {{ echo "it has no {PROXY}" >&2; exit 1; }}
mkdir -p {_FOLDER}
! systemctl -q is-active "$unit.socket" || exit 98
systemctl -q stop "$unit.socket" "$unit.service" 2>/dev/null
systemctl -q reset-failed "$unit.socket" "$unit.service" 2>/dev/null
systemd-run -q --unit="$unit" --socket-property=ListenStream="$bind:$local" -- {PROXY} "$to:$port" || {{
    systemctl -q reset-failed "$unit.socket" 2>/dev/null
    exit 98
}}
echo "$name $bind $local $as $port" >{_FOLDER}/$local
"""
"""Arguments: address, port, the machine's address, its port, its path, the address that it is known by. Exit status 98:
the port is another's."""

ALL = rf"""
cd {_FOLDER} 2>/dev/null || exit 0
for each in *; do
    ! systemctl -q is-active "nestlab-guest-$each.socket" || cat "$each"
done
"""

REMOVE = rf"""
systemctl -q stop "nestlab-guest-$1.socket" "nestlab-guest-$1.service" 2>/dev/null
rm -f {_FOLDER}/"$1"
"""
"""Argument: the port."""

TAKEN = 98

_ROW = re.compile(r"(\S{1,500}) ([0-9.]{7,15}) ([0-9]{1,5}) ([0-9.]{7,15}) ([0-9]{1,5})")


class NodePorts:
    """See `nestlab.engines.port_rules.Rules`: of the machine with a mark, on its node. An address in a rule is the one
    that the machine would have towards its host; it is reached by those that its mark tells."""

    def __init__(self, node: Host, mark: Mark) -> None:
        self._node = node
        self._mark = mark

    async def all(self) -> tuple[Rule, ...]:
        said = (await self._node.run(("sh", "-c", ALL), check=False, timeout=IN_TIME)).text
        rows = (found for line in said.splitlines() if (found := _ROW.fullmatch(line)))
        mine = [row for row in rows if row[1] == self._mark.path]
        return tuple(Rule(row[2], int(row[3]), row[4], int(row[5])) for row in mine[:MOST])

    async def add(self, rule: Rule) -> Rule:
        if not self._mark.addresses:
            what = f"No port of {self._node.path} can lead to {self._mark.path}: they are on no segment together."
            raise LabError(what, hint="Put both on one: `segments:` in the lab file.")
        for _ in range(TRIES):
            tried = rule if rule.local else replace(rule, local=FIRST + secrets.randbelow(COUNT))
            words = tried.bind, str(tried.local), self._mark.addresses[0], str(tried.port), self._mark.path
            argv = ("sh", "-c", ADD, "add", *words, tried.address)
            done = await self._node.run(argv, check=False, timeout=IN_TIME)
            if done.status == 0:
                return tried
            if done.status != TAKEN:
                said = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                what = f"No port of {self._node.path} can lead to {self._mark.path}: {one_line(said)[:200]}."
                raise LabError(what, hint=f"See: nestlab ssh {self._node.path}")
            if rule.local:
                break
        raise PortTaken(rule.bind, rule.local)

    async def drop(self) -> None:
        """None of them leads there any more."""
        for rule in await self.all():
            await self.remove(rule)

    async def remove(self, rule: Rule) -> None:
        await self._node.run(("sh", "-c", REMOVE, "remove", str(rule.local)), check=False, timeout=IN_TIME)
