"""The few lines of POSIX sh that act on a machine's directory, each in one round trip. Pure text.

A process is only ever signalled when its command line carries the machine's own name, so a recycled pid is safe.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_ALIVE = r"""
alive() {
  [ -f pid ] && read -r p < pid && [ -n "$p" ] && [ -r "/proc/$p/cmdline" ] &&
    tr '\000,' '\n\n' < "/proc/$p/cmdline" | grep -qxF "$name"
}
"""

PREPARE = (
    _ALIVE
    + r"""
name=$1; dir=$2; digest=$3; disk=$4
mkdir -p -m 700 "$dir" && cd "$dir" || exit 1
state=new
if [ -f made ] && read -r l < made; then
  case $l in
    *"\"digest\":\"$digest\""*) if alive; then state=running; else state=made; fi ;;
  esac
fi
case $state in
  running) cat > /dev/null; echo running; exit 0 ;;
  new)
    if alive; then echo "another version of it runs there" >&2; exit 1; fi
    for f in *; do
      case $f in console*.log|'*') ;; *) rm -rf -- "$f" || exit 1 ;; esac
    done
    ;;
esac
umask 077
tar -xf - || exit 1
[ "$state$disk" = newyes ] || mv -f made.new made || exit 1
echo "$state"
"""
)
"""Arguments: name, directory, digest, `yes` if a disk is to be made; on stdin the papers, an archive with `made.new`.
What was made from this digest and runs is left alone (`running`), what does not run gets new papers (`made`); else the
directory is emptied, but for old consoles, and gets the papers (`new`), and `made` too unless a disk is to come."""

DISK = r"""
cd "$1" || exit 1
shift
"$@" && mv -f made.new made
"""
"""Arguments: directory, the command that makes the disk."""

START = (
    _ALIVE
    + r"""
name=$1; dir=$2; boot=$3; shift 3
cd "$dir" || exit 1
if alive; then kill -CONT "$p"; echo "nestlab-start: running"
else
  rm -f pid qmp con qga stopped
  if [ -s console.log ]; then
    n=0
    for f in console.[0-9]*.log; do
      k=${f#console.}; k=${k%.log}
      case $k in *[!0-9]*) ;; *) [ "$k" -le "$n" ] || n=$k ;; esac
    done
    n=$((n+1))
    mv console.log "console.$n.log"
    rm -f "console.$((n-20)).log"
  fi
  : > console.log
  printf '%s\n' "$boot" > boot.new && mv boot.new boot
  if "$@" > qemu.log 2>&1 < /dev/null; then echo "nestlab-start: started"
  else cat qemu.log; rm -f boot; echo "nestlab-start: failed"; exit 1
  fi
fi
read -r p < pid
exec tail -n +1 -s 0.2 -f --pid="$p" console.log
"""
)
"""Arguments: name, directory, boot as JSON, QEMU's argv. Says how the start went, then the console until QEMU ends.
The consoles of the last 20 boots before it are kept."""

STOP = (
    _ALIVE
    + r"""
name=$1; cd "$2" 2>/dev/null || exit 0
n=$3
[ "$4" = crash ] || : > stopped
while alive && [ "$n" -gt 0 ]; do sleep 0.2; n=$((n-1)); done
if alive; then
  echo forced
  kill -TERM "$p"; n=25
  while alive && [ "$n" -gt 0 ]; do sleep 0.2; n=$((n-1)); done
  alive && kill -KILL "$p"
  while alive; do sleep 0.1; done
fi
rm -f pid qmp con qga
exit 0
"""
)
"""Arguments: name, directory, fifths of a second to wait for a clean end before SIGTERM, then SIGKILL; `crash` for a
machine that is hopeless rather than stopped on purpose."""

POWEROFF = "[ -w / ] || ! command -v sudo >/dev/null || exec sudo -n poweroff; exec poweroff"
"""In a machine: its user need not be root."""

REMOVE = (
    _ALIVE
    + r"""
name=$1; cd "$2" 2>/dev/null || exit 0
if alive; then
  kill -TERM "$p"; n=25
  while alive && [ "$n" -gt 0 ]; do sleep 0.1; n=$((n-1)); done
  alive && kill -KILL "$p"
  while alive; do sleep 0.1; done
fi
cd / && rm -rf -- "$2"
"""
)
"""Arguments: name, directory."""

CARGO = r"""
top=$1; shift
for d in /sys/block/vd*; do
  [ -r "$d/serial" ] || continue
  s=; read -r s < "$d/serial"
  at=
  for each in "$@"; do
    [ "$each" = "$s" ] || continue
    at=$top/$s
    [ -e "$at/kernel" ] || { mkdir -p "$at" && mount -t iso9660 -o ro "/dev/${d##*/}" "$at"; } || exit 1
  done
  echo "${s:-?} /dev/${d##*/} $at"
done
"""
"""Arguments: a directory, serials of boot disks. Prints `SERIAL DEVICE PLACE` for each virtio disk; PLACE is
where a boot disk is mounted now. (read fails at a file without a newline, but still reads it.)"""

CUT = "@@nestlab-cut@@"


def together(first: tuple[str, Sequence[str]], *others: tuple[str, Sequence[str]]) -> tuple[str, ...]:
    """One command for several scripts with their arguments, in an emulated machine far quicker than one after the
    other. The first gets stdin, and its exit status counts. `apart` separates what they print."""
    parts = [f"( set -- {shlex.join(words)}\n{script}\n)" for script, words in (first, *others)]
    tail = "".join(f"\necho '{CUT}'\n{part} </dev/null" for part in parts[1:])
    return ("sh", "-c", f"{parts[0]}\nstatus=$?{tail}\nexit $status")


def apart(text: str) -> list[str]:
    """What each of the scripts that ran `together` printed."""
    return [part.removeprefix("\n") for part in text.split(CUT)]
