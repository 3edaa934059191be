"""Whether a host gets too little of its CPUs, memory or disk for its work: the cause of most waits in vain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.hosts.host import Host, called

SCRIPT = r"""
for k in cpu memory io; do
  while read -r l; do echo "$k $l"; done </proc/pressure/$k
done 2>/dev/null
stat() { read -r l </proc/stat; echo "$l"; }
stat; sleep 1; stat
read -r l </proc/loadavg; echo "load $l"
n=0; while read -r l; do case $l in cpu[0-9]*) n=$((n+1)) ;; esac; done </proc/stat; echo "cpus $n"
"""
"""Prints /proc/pressure, the first line of /proc/stat twice, a second apart, the load and the number of CPUs."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")

LIMIT = 20.0
"""Nominal seconds for the answer: a host that does not even say this is told as that."""

CPU, MEMORY, IO, STEAL, LOAD = 60.0, 20.0, 60.0, 20.0, 2.0
"""From where a share (percent of the last minute in which something waited), and a load per CPU, count as too much."""


@frozen
class Strain:
    """What keeps a host from its work. Shares in percent; `load`: programs that want to run, per CPU. None: not
    told."""

    cpu: float | None = None
    memory: float | None = None
    io: float | None = None
    steal: float | None = None
    load: float | None = None
    cpus: int = 0

    def causes(self) -> list[str]:
        """What is too much, in words."""
        found = []
        if self.steal is not None and self.steal >= STEAL:
            found.append(f"its own host withholds {self.steal:.0f} % of its CPU time (steal)")
        if self.cpu is not None and self.cpu >= CPU:
            found.append(f"programs waited for a CPU in {self.cpu:.0f} % of the last minute (/proc/pressure/cpu)")
        elif self.load is not None and self.load >= LOAD:
            wanting = self.load * self.cpus
            found.append(f"{wanting:.0f} programs want its {self.cpus} CPU{'s' * (self.cpus != 1)} (load)")
        if self.memory is not None and self.memory >= MEMORY:
            found.append(f"they waited for memory in {self.memory:.0f} % of it (/proc/pressure/memory)")
        if self.io is not None and self.io >= IO:
            found.append(f"they waited for the disk in {self.io:.0f} % of it (/proc/pressure/io)")
        return found


def parse(said: str) -> Strain:
    """What SCRIPT printed; what is missing or is no number is not told."""
    shares: dict[str, float] = {}
    stats: list[list[int]] = []
    load, cpus = None, 0
    for line in said.splitlines():
        words = line.split()
        if len(words) > 3 and words[0] in ("cpu", "memory", "io") and words[1] == "some":
            shares[words[0]] = next(iter(_numbers([words[3].removeprefix("avg60=")])), 0.0)
        elif words[:1] == ["cpu"]:
            stats.append([int(each) for each in _numbers(words[1:])])
        elif words[:1] == ["load"]:
            load = next(iter(_numbers(words[1:2])), None)
        elif words[:1] == ["cpus"]:
            cpus = int(next(iter(_numbers(words[1:2])), 0))
    per_cpu = load / cpus if load is not None and cpus else None
    return Strain(shares.get("cpu"), shares.get("memory"), shares.get("io"), _steal(stats), per_cpu, cpus)


def _steal(stats: Sequence[Sequence[int]]) -> float | None:
    """The share of stolen time between two lines of /proc/stat: user nice system idle iowait irq softirq steal."""
    if len(stats) != 2 or min(map(len, stats)) < 8:
        return None
    spent = [after - before for before, after in zip(stats[0][:8], stats[1][:8], strict=True)]
    return 100 * spent[7] / sum(spent) if sum(spent) > 0 else None


def _numbers(words: Sequence[str]) -> list[float]:
    return [float(word) for word in words if _NUMBER.fullmatch(word)]


async def cause(host: Host) -> str:
    """Why a host is late, in a sentence; "" if it has what it needs. Never an error: it is asked when something went
    wrong already."""
    where = called(host)
    try:
        result = await host.run(("sh", "-c", SCRIPT), check=False, timeout=LIMIT)
    except (LabError, OSError):
        return f"{where} itself does not answer in time."
    found = parse(result.text).causes()
    named = where[0].upper() + where[1:] if where == "this machine" else where
    return f"{named} is starved: {', '.join(found)}." if found else ""
