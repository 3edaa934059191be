"""Observes a lab's machines in a host's processes and directories: one script, one round trip. Pure.

The script is POSIX sh with few forks, because a fork costs some 15 ms under emulation. What it prints on a machine of
the lab that machine's root decides: it is read as typed values (`records`), or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import records
from nestlab.engines.qemu.console import Watch
from nestlab.engines.qemu.records import Started
from nestlab.home.paths import FOLDER
from nestlab.plan.room import NO_ROOM
from nestlab.plan.steps import NO_PLUGS, HalfMade, Seen, State

SCRIPT = r"""
read -r up _ < /proc/uptime; echo "U $up"
cd "$1" 2>/dev/null || return 0
known=" $3 "
ready() { # whether the console of $d tells that it came up
  case $b in *'"ready":'*) return 1 ;; esac
  { head -c 1048576 "$d/console.log"; echo; tail -c 65536 "$d/console.log"; } | grep -qa "nestlab: ready"
}
up() { # whether $d, whose process is $p, came up: that is noted, and looked for once
  a=none
  [ -f "$d/answered" ] && { a=; read -r a < "$d/answered"; }
  case $a in '' | "$p") return 0 ;; esac
  case $known in *" $d "*) ;; *) ready || return 1 ;; esac
  echo "$p" > "$d/answered"
  return 0
}
for d in [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]; do
  [ -d "$d" ] || continue
  echo "M $d"; b=
  [ -f "$d/making" ] && { read -r l < "$d/making"; echo "W $l"; }
  [ -f "$d/made" ] && {
    read -r l < "$d/made"; echo "S $l"
    [ -s "$d/identity" ] || [ -s "$d/seed.iso" ] || echo E
    [ ! -e "$d/disk.qcow2" ] || [ -s "$d/disk.qcow2" ] || echo E
    for f in "$d"/disk-*.qcow2; do [ ! -s "$f" ] || echo "D ${f##*/}"; done
  }
  [ -f "$d/boot" ] && { read -r b < "$d/boot"; echo "B $b"; }
  [ -f "$d/stopped" ] && { echo "X"; continue; }
  if [ -f "$d/pid" ] && read -r p < "$d/pid" && [ -r "/proc/$p/stat" ]; then
    l=
    { read -r l < "/proc/$p/cmdline"; } 2>/dev/null
    case $l in *"nestlab:$2:"*)
      { read -r l < "/proc/$p/stat"; } 2>/dev/null && {
        echo "P $l"
        { read -r l < "/proc/$p/statm"; } 2>/dev/null && echo "R $l"
        up 2>/dev/null && echo "O"
        continue
      }
    esac
  fi
  [ -s "$d/console.log" ] && tail -c 4000 "$d/console.log" | sed 's/^/Y /;$a\'
done
return 0
"""
"""The body of a function (see `scripts.alone`). Arguments: the directory of machines, the lab's name, and, if any are
known to be up, their directories in one word. Prints U uptime, then per directory M name, W making, S made, E if a file
of it is empty, D and a disk beside its own, B boot, X if stopped on purpose, P /proc/PID/stat and R /proc/PID/statm if
its QEMU lives, O if it came up (its console tells, or it has answered nestlab: `answered` has the process of which that
is known, or nothing); else the last lines of its console, each after Y. (Of a command line `read` leaves out the NULs.)
A console is only ever read in part: its guest may print for ever, without a newline."""

LIMIT = 8 << 20
"""Letters of all that SCRIPT prints inside a hypervisor: 5 KiB, most of them of its console, for each machine."""

SHOWN = 200
"""Letters of a guest's last words that are shown as the reason of its end."""

MOST = 1000
"""Machines in one hypervisor. More are no lab's."""

RUN_STATES: Mapping[str, tuple[State, str]] = {
    "paused": ("paused", "it was paused through QMP"),
    "prelaunch": ("paused", "it was started, and not let go yet"),
    "suspended": ("paused", "the guest suspended itself"),
    "inmigrate": ("paused", "it is being moved here"),
    "finish-migrate": ("paused", "it is being moved away"),
    "postmigrate": ("paused", "it was moved away"),
    "io-error": ("paused", "QEMU paused it after an error of its disk: is the disk of its host full?"),
    "guest-panicked": ("died", "its kernel panicked"),
    "internal-error": ("died", "its virtual CPU stopped with an internal error"),
    "shutdown": ("died", "it shut itself down"),
}
"""QMP's run states (qapi/run-state.json) that are not simply running, and what each means."""

TICKS = 100
"""USER_HZ: the unit of /proc/PID/stat's times on every x86-64 Linux."""

PAGE = 4096


@frozen
class Look:
    """One machine directory. `boot`: what its (last) boot was started with."""

    directory: str
    seen: Seen
    boot: Started


@frozen
class Report:
    """What there is on one host: machines, and directories that do not say whose they are."""

    machines: tuple[Look, ...] = ()
    half_made: frozenset[HalfMade] = frozenset()


@dataclass
class _Folder:
    """The lines about one directory, as far as they were read."""

    name: str
    owner: str | None = None
    made: records.Made | None = None
    spoilt: bool = False
    """It has a record that is none of nestlab's."""
    torn: bool = False
    """A file of it is empty: the power went while it was made."""
    disks: list[str] = field(default_factory=list)
    boot: Started | None = None
    stopped: bool = False
    process: str = ""
    pages: int | None = None
    ready: bool = False
    console: list[str] = field(default_factory=list)


def parse(text: str, *, now: float, parent: str = "") -> Report:
    """What SCRIPT printed on `parent`. `now`: the clock of the lab's host, seconds since the epoch (a guest's own
    clock may lag). A directory without `made` is a machine half made. LabError where it is nothing that SCRIPT prints.
    """
    if parent and len(text) > LIMIT:
        raise nonsense(parent, f"it is longer than {LIMIT >> 20} MiB")
    uptime: float | None = None
    folders: list[_Folder] = []
    for mark, rest in _marked(text):
        if mark == "U":
            uptime = _seconds(rest, parent)
        elif mark == "M":
            folders.append(_Folder(rest))
        elif folders:
            _learn(folders[-1], mark, rest, parent)
    if uptime is None:
        raise nonsense(parent, "it says nothing of itself")
    folders = [each for each in folders if FOLDER.fullmatch(each.name)]
    if parent and len(folders) > MOST:
        raise nonsense(parent, f"it tells of more than {MOST} machines")
    looks: dict[str, Look] = {}
    half_made = set()
    for folder in folders:
        seen = _seen(folder, parent, uptime, now)
        if seen is None:
            half_made.add(HalfMade(parent, folder.name))
        else:
            looks[folder.name] = Look(folder.name, seen, folder.boot or Started())
    return Report(tuple(looks.values()), frozenset(half_made))


def nonsense(parent: str, why: str) -> LabError:
    """The error for an answer that no script of nestlab's gives."""
    where = parent or "this machine"
    what = f"What {where} says of its machines is nothing that nestlab asked for: {why}."
    hint = f"Somebody changed programs or files of nestlab's in {where}; `nestlab up` makes it anew once it is removed."
    return LabError(what, hint=hint if parent else "See that /proc and /bin/sh are what they should be.")


def _marked(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        mark, _, rest = line.partition(" ")
        yield mark, rest


def _learn(folder: _Folder, mark: str, rest: str, parent: str) -> None:
    if mark == "W":
        folder.owner = records.owner(rest, parent, folder.name)
        folder.spoilt |= folder.owner is None
    elif mark == "S":
        folder.made = records.made(rest, parent, folder.name)
        folder.spoilt |= folder.made is None
    elif mark == "E":
        folder.torn = True
    elif mark == "D":
        folder.disks.append(rest.removesuffix(".qcow2"))
    elif mark == "B":
        folder.boot = records.started(rest)
    elif mark == "X":
        folder.stopped = True
    elif mark == "P":
        folder.process = rest
    elif mark == "R":
        folder.pages = _pages(rest)
    elif mark == "O":
        folder.ready = True
    elif mark == "Y":
        folder.console.append(rest)


def _seen(folder: _Folder, parent: str, uptime: float, now: float) -> Seen | None:
    """The machine of a directory; None where it does not say whose it is."""
    process = _stat(folder.process, parent) if folder.process else None
    pid, memory = process[0] if process else None, folder.pages
    if folder.made is None:
        if folder.owner is None:
            return None
        why = "what is written of it there is none of nestlab's" if folder.spoilt else "it was only half made"
        return Seen(folder.owner, "broken", why=why, pid=pid, memory=memory)
    made, boot = folder.made, folder.boot
    # of a torn one, `up` writes the papers again
    digest = "" if folder.torn else made.digest
    seen = Seen(made.path, "stopped", digest, made.names, root=made.root, disk=made.disk, memory=memory)
    seen = replace(seen, disks=tuple(disk for disk in made.disks if disk.id in folder.disks))
    if boot is not None:
        seen = replace(seen, state="stopped" if folder.stopped else "died", accel=boot.accel)
    if process is not None:
        _, started, letter = process
        ready = folder.ready or boot is None or not (boot.tells or boot.asked)
        state: State = "paused" if letter in "Tt" else "running"
        why = "" if ready else "it is still booting"
        plugs, room = (boot.plugs, boot.room) if boot is not None else (NO_PLUGS, NO_ROOM)
        since = now - (uptime - started)
        return replace(seen, state=state, pid=pid, since=since, ready=ready, why=why, plugs=plugs, room=room)
    return (
        replace(seen, why=_why_died(folder.console, "LXC" if seen.accel == "container" else "QEMU"))
        if seen.state == "died"
        else seen
    )


def _why_died(console: Sequence[str], by: str) -> str:
    """Why a machine that died did, as far as the end of its console tells. `by`: what ran it."""
    watch = Watch()
    for line in console:
        watch.feed(line.encode(errors="replace"))
    off = any("reboot: Power down" in line or "reboot: System halted" in line for line in watch.tail)
    if watch.fatal:
        return watch.fatal[:SHOWN]
    return "it shut itself down" if off else f"its {by} ended, and nobody told nestlab to end it"


_NUMBER = re.compile(r"[0-9]{1,18}")


def _seconds(text: str, parent: str) -> float:
    """An uptime in /proc/uptime."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        raise nonsense(parent, "it has no uptime")
    return float(text)


def _pages(line: str) -> int | None:
    """Resident bytes in /proc/PID/statm."""
    words = line.split()[1:2]
    return int(words[0]) * PAGE if words and _NUMBER.fullmatch(words[0]) else None


def _stat(line: str, parent: str) -> tuple[int, float, str]:
    """(pid, start in seconds after boot, state letter) of /proc/PID/stat; the name in it may hold anything."""
    head, _, tail = line.rpartition(")")
    pid, fields = head.partition(" ")[0], tail.split()
    if len(fields) < 20 or len(fields[0]) != 1 or not (_NUMBER.fullmatch(pid) and _NUMBER.fullmatch(fields[19])):
        raise nonsense(parent, "a process is told as no kernel tells it")
    return int(pid), int(fields[19]) / TICKS, fields[0]
