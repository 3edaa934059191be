"""POSIX sh scripts that act on a machine's directory, each in one round trip. Pure text.

A process is only ever signalled when its command line carries the machine's own name, so a recycled pid is safe.
In an emulated machine every program that runs for the first time costs tens of milliseconds, and every fork ten: what
the shell can do itself it does itself, and scripts that run in a row are functions of one shell (`alone`, `together`).
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
name=$1; dir=$2; digest=$3; root=$4; disk=$5; bytes=$6; size=$7; making=$8; made=$9
[ $# -lt 10 ] || { shift 9; also=$1; }
# The identity and a line after it: dd takes no byte more, and the line tells that it was all there.
identity() { dd bs="$size" count=1 iflag=fullblock of="$1" 2>/dev/null && read -r l && [ "$l" = whole ]; }
mkdir -p -m 700 "$dir" $also && cd "$dir" || return 1
state=new
if [ -f made ] && read -r l < made; then
  case $l in
    *"\"root\":\"$root\""*) ;;
    *'"root":"'*) echo "its disk was made from another image" >&2; return 1 ;;
  esac
  had=${l##*\"disk\":}; had=${had%%[!0-9]*}
  state=made
  if alive; then
    case $l in
      *"\"digest\":\"$digest\""*) state=running ;;
      *'"root":"'*) echo "it runs with another definition" >&2; return 1 ;;
      *) state=running ;;
    esac
  elif [ "$disk" = yes ] && [ ! -e disk.qcow2 ]; then state=bare
  fi
  [ "${had:-0}" -ge "$bytes" ] || case $state in running) state=live ;; made) state=small ;; esac
fi
case $state in
  running | live)
    if [ -n "$size" ]; then identity /dev/null; else cat > /dev/null; fi
    echo $state
    return 0
    ;;
  new)
    if alive; then echo "another version of it runs there" >&2; return 1; fi
    for f in *; do
      case $f in console*.log|'*') ;; *) rm -rf -- "$f" || return 1 ;; esac
    done
    ;;
esac
umask 077
if [ -n "$size" ]; then
  printf '%s\n' "$making" >making && identity identity && printf '%s\n' "$made" >made || return 1
else
  tar -xf - || return 1
  case $state$disk in newyes | bare* | small*) ;; *) mv -f made.new made || return 1 ;; esac
fi
echo "$state"
"""
)
"""Arguments: name, directory, digest, what its disk is made from (`Spec.root`), `yes` if it has one, the bytes that the
lab file gives that (0: none said); on stdin the papers, an archive with `made.new`. What is half made or not there: the
directory is emptied, but for old consoles, and gets the papers (`new`), and `made` too unless a disk is to come. What
is there keeps its disk and gets new papers (`made`); `made` comes later where its disk is to grow (`small`) or is not
there (`bare`). What runs is left alone (`running`, or `live` where its disk is to grow). A disk that was made from
something else is an error.
Four more arguments where there is no disk, and stdin goes on after the papers: the size of the identity, which is on
stdin, with `whole` on a line after it; the lines of `making` and `made`, which are no secrets; and another directory to
make."""

DISK = r"""
cd "$1" || exit 1
shift
"$@" && mv -f made.new made
"""
"""Arguments: directory, the command that makes the disk, or makes it larger."""

START = (
    _ALIVE
    + r"""
name=$1; dir=$2; boot=$3; shift 3
cd "$dir" || exit 1
if alive; then kill -CONT "$p"; echo "nestlab-start: running"
else
  rm -f pid qmp con qga stopped answered
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


def forced(told: str, seconds: float) -> str | None:
    """What STOP's output says of how a machine ended that had `seconds` to shut down; None where it did by itself."""
    if "forced" not in told:
        return None
    said = f"it did not shut down within {seconds:.0f} s" if seconds else "it did not answer"
    return f"ended by force: {said}; what it had not written to its disk is lost"


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

GROW = 'exec resize2fs "$(findmnt -no SOURCE /)"'
"""In a machine whose drive has just become larger: its filesystem too."""

WRITTEN = r"""
cd "$1" 2>/dev/null || exit 0
shift
for d; do [ -f "$d/disk.qcow2" ] && du -k "$d/disk.qcow2"; done
exit 0
"""
"""Arguments: the directory of machines, names of directories in it. Prints `KIBIBYTES NAME/disk.qcow2` for those that
have a disk: what it takes on its host, whatever size the guest sees."""

CARGO = r"""
top=$1; shift
for d in /sys/block/vd*; do
  [ -r "$d/serial" ] || continue
  s=; read -r s < "$d/serial"
  at=
  for each in "$@"; do
    [ "$each" = "$s" ] || continue
    at=$top/$s
    [ -e "$at/kernel" ] || { { [ -d "$at" ] || mkdir -p "$at"; } && mount -t iso9660 -o ro "/dev/${d##*/}" "$at"; } ||
      return 1
  done
  echo "${s:-?} /dev/${d##*/} $at"
done
"""
"""Arguments: a directory, serials of boot disks. Prints `SERIAL DEVICE PLACE` for each virtio disk; PLACE is
where a boot disk is mounted now. (read fails at a file without a newline, but still reads it.)"""

CUT = "@@nestlab-cut@@"


def alone(script: str) -> str:
    """The script of one command: PREPARE, CARGO and what is made to run `together` is the body of a function."""
    return f'main() {{\n{script}\n}}\nmain "$@"'


def together(first: tuple[str, Sequence[str]], *others: tuple[str, Sequence[str]]) -> tuple[str, ...]:
    """One command for several scripts with their arguments, in an emulated machine far quicker than one after the
    other. The first gets stdin, and its exit status counts. `apart` separates what they print."""
    return ("sh", "-c", f"{_in_a_row(first, others)}exit $status")


def opening(first: tuple[str, Sequence[str]], *others: tuple[str, Sequence[str]]) -> tuple[str, ...]:
    """As `together`; and if the first succeeded, the shell then does what else comes on stdin (`started`). After all
    that they print, the mark stands once more."""
    return ("sh", "-c", f"{_in_a_row(first, others)}[ $status = 0 ] || exit $status\necho '{CUT}'\nexec sh")


def started(words: Sequence[str]) -> str:
    """START with its arguments, for the stdin of a shell."""
    return f"set -- {shlex.join(words)}\n{START}"


def apart(text: str) -> list[str]:
    """Splits the output of scripts that ran `together`."""
    return [part.removeprefix("\n") for part in text.split(CUT)]


def _in_a_row(first: tuple[str, Sequence[str]], others: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The scripts are functions: a subshell for each would be a fork."""
    lines = [f"first() {{\n{first[0]}\n}}\nfirst {shlex.join(first[1])}\nstatus=$?\n"]
    lines += [
        f"echo '{CUT}'\nnext() {{\n{script}\n}}\nnext {shlex.join(words)} </dev/null\n" for script, words in others
    ]
    return "".join(lines)
