"""Telling a machine that runs what is new: the names of the others, and which of the user's keys may log in."""

from __future__ import annotations

from nestlab.home.lab_keys import MARK, marked
from nestlab.hosts.as_root import as_root
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Spec

TAKES = 60.0
"""Nominal seconds in which a machine takes what it is told."""

_KEYS = rf"""
umask 077
at=/run/nestlab/authorized_keys
[ -e "$at" ] && [ -d /etc/ssh ] || at=$HOME/.ssh/authorized_keys
if [ -n "$1" ] || grep -q '{MARK}$' "$at" 2>/dev/null; then
  mkdir -p "${{at%/*}}" || exit
  {{ grep -v '{MARK}$' "$at" 2>/dev/null; printf %s "$1"; }} >"$at.new" && mv -f "$at.new" "$at"
fi
"""
"""Argument: the keys of the lab file. What stands there else stays. nestlab's Debian looks into /run first."""

_HOSTS = "umask 022; cat >/etc/hosts.new && mv -f /etc/hosts.new /etc/hosts"


async def introduce(host: Host, spec: Spec) -> None:
    """LabError if the machine does not take it."""
    keys = "".join(f"{line}\n" for line in marked(spec.machine.ssh_keys))
    await host.run(as_root(_HOSTS), input=spec.hosts.encode(), timeout=TAKES)
    await host.run(("sh", "-c", _KEYS, "keys", keys), timeout=TAKES)
