"""Observes a lab's machines in a host's processes and directories: one script, one round trip. Pure.

The script is POSIX sh with few forks, because a fork costs some 15 ms under emulation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nestlab.engines.qemu.console import Watch
from nestlab.plan.steps import Seen, State

SCRIPT = r"""
read -r up _ < /proc/uptime; echo "U $up"
cd "$1" 2>/dev/null || return 0
ready() { # FILE: whether it came up, as its console tells; of a long one a process looks at the rest
  n=0
  while read -r l || [ -n "$l" ]; do
    case $l in *"nestlab: ready"*) return 0 ;; esac
    n=$((n+1))
    [ $n -lt 40 ] || { grep -qas "nestlab: ready" "$1"; return; }
  done < "$1"
  return 1
}
for d in *; do
  [ -d "$d" ] || continue
  echo "M $d"
  [ -f "$d/making" ] && { read -r l < "$d/making"; echo "W $l"; }
  [ -f "$d/made" ] && { read -r l < "$d/made"; echo "S $l"; }
  [ -f "$d/boot" ] && { read -r l < "$d/boot"; echo "B $l"; }
  [ -f "$d/stopped" ] && { echo "X"; continue; }
  if [ -f "$d/pid" ] && read -r p < "$d/pid" && [ -r "/proc/$p/stat" ]; then
    l=
    { read -r l < "/proc/$p/cmdline"; } 2>/dev/null
    case $l in *"nestlab:$2:"*)
      { read -r l < "/proc/$p/stat"; } 2>/dev/null && {
        echo "P $l"
        { read -r l < "/proc/$p/statm"; } 2>/dev/null && echo "R $l"
        if [ -f "$d/answered" ] || ready "$d/console.log" 2>/dev/null; then echo "O"; fi
        continue
      }
    esac
  fi
  [ -s "$d/console.log" ] && tail -c 4000 "$d/console.log" | sed 's/^/Y /;$a\'
done
return 0
"""
"""The body of a function (see `scripts.alone`). Arguments: the directory of machines, the lab's name. Prints U uptime,
then per directory M name, W making, S made, B boot, X if stopped on purpose, P /proc/PID/stat and R /proc/PID/statm if
its QEMU lives, O if it came up (its console tells, or it has answered nestlab); else the last lines of its console,
each after Y. (Of a command line `read` leaves out the NULs.)"""

RUN_STATES: Mapping[str, tuple[State, str]] = {
    "paused": ("paused", "it was paused through QMP"),
    "suspended": ("paused", "the guest suspended itself"),
    "io-error": ("paused", "QEMU paused it after an error of its disk: is the disk of its host full?"),
    "guest-panicked": ("died", "its kernel panicked"),
    "internal-error": ("died", "its virtual CPU stopped with an internal error"),
    "shutdown": ("died", "it shut itself down"),
}
"""QMP's run states (qapi/run-state.json) that are not simply running, and what each means."""

TICKS = 100
"""USER_HZ: the unit of /proc/PID/stat's times on every x86-64 Linux."""

PAGE = 4096


@dataclass(frozen=True)
class Look:
    """One machine directory. `boot`: what its (last) boot was started with."""

    directory: str
    seen: Seen
    boot: dict[str, Any]


def parse(text: str, *, now: float, parent: str = "") -> list[Look]:
    """The machines in what SCRIPT printed. `now`: the clock of the lab's host, seconds since the epoch (a guest's
    own clock may lag). A directory without `made` is a machine half made; if it does not even say whose it is, its
    path is that of the host it is on (`parent`) and `?` with the directory's name."""
    uptime = 0.0
    looks: list[Look] = []
    consoles: dict[int, list[str]] = {}
    for line in text.split("\n"):
        mark, _, rest = line.partition(" ")
        if mark == "U":
            uptime = float(rest)
        elif mark == "M":
            path = f"{parent}/?{rest}" if parent else f"?{rest}"
            looks.append(Look(rest, Seen(path, "broken", why="it was only half made"), {}))
        elif mark == "Y":
            consoles.setdefault(len(looks), []).append(rest)
        elif looks:
            looks[-1] = _learn(looks[-1], mark, rest, uptime, now)
    return [_died(look, consoles.get(number, [])) for number, look in enumerate(looks, 1)]


def _died(look: Look, console: Sequence[str]) -> Look:
    """Why a machine that died did, as far as the end of its console tells."""
    if look.seen.state != "died":
        return look
    watch = Watch()
    for line in console:
        watch.feed(line.encode())
    off = any("reboot: Power down" in line or "reboot: System halted" in line for line in watch.tail)
    why = watch.fatal or ("it shut itself down" if off else "its QEMU ended, and nobody told nestlab to end it")
    return replace(look, seen=replace(look.seen, why=why))


def _learn(look: Look, mark: str, rest: str, uptime: float, now: float) -> Look:
    seen = look.seen
    if mark == "W":
        path = _object(rest).get("path", seen.path)
        return replace(look, seen=replace(seen, path=path))
    if mark == "S":
        made = _object(rest)
        if "path" not in made:
            return look
        seen = Seen(made["path"], "stopped", made.get("digest"), made.get("names"))
        root, disk = made.get("root"), made.get("disk")
        seen = replace(seen, root=root if isinstance(root, str) else None, disk=disk if isinstance(disk, int) else None)
        return replace(look, seen=seen)
    if mark == "B":
        boot = _object(rest)
        state = "died" if seen.state == "stopped" else seen.state
        return replace(look, boot=boot, seen=replace(seen, state=state, accel=boot.get("accel")))
    if mark == "X":
        return replace(look, seen=replace(seen, state="stopped" if seen.state == "died" else seen.state))
    if mark == "P" and seen.state != "broken":
        pid, started, stat_state = _stat(rest)
        state = "paused" if stat_state in "Tt" else "running"
        since = now - (uptime - started)
        ready = not (look.boot.get("tells") or look.boot.get("asked"))
        return replace(look, seen=replace(seen, state=state, pid=pid, since=since, ready=ready, why=_why(ready)))
    if mark == "O":
        return replace(look, seen=replace(seen, ready=True, why=""))
    if mark == "P":
        return replace(look, seen=replace(seen, pid=_stat(rest)[0]))
    if mark == "R" and len(rest.split()) > 1:
        return replace(look, seen=replace(seen, memory=int(rest.split()[1]) * PAGE))
    return look


def _why(ready: bool) -> str:
    return "" if ready else "it is still booting"


def _stat(line: str) -> tuple[int, float, str]:
    """(pid, start in seconds after boot, state letter) of /proc/PID/stat; the name in it may hold anything."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return int(head.split()[0]), int(fields[19]) / TICKS, fields[0]


def _object(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
