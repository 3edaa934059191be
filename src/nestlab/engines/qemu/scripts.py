"""POSIX sh scripts that act on a machine's directory, each in one round trip. Pure text.

A process is only ever signalled when its command line carries the machine's own name, so a recycled pid is safe.
In an emulated machine every program that runs for the first time costs tens of milliseconds, and every fork ten: what
the shell can do itself it does itself, and scripts that run in a row are functions of one shell (`alone`, `together`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

ALIVE = r"""
alive() {
  [ -f pid ] && read -r p < pid && [ -n "$p" ] && [ -r "/proc/$p/cmdline" ] &&
    tr '\000,' '\n\n' < "/proc/$p/cmdline" | grep -qxF "$name"
}
"""

TPM = r"""
untpm() { # ends a TPM that outlived its QEMU, or never had one: one with a connection ends with that
  [ -f tpm.pid ] || return 0
  if read -r t < tpm.pid && [ -n "$t" ] && [ -r "/proc/$t/cmdline" ] &&
    tr '\000' '\n' < "/proc/$t/cmdline" | grep -qxF "file=$dir/tpm.pid"; then kill "$t"
  fi
  rm -f tpm.pid tpm.sock
}
"""

_OURS = r"""
ours() { # DIRECTORY: whether that is one that nestlab makes for a machine: m/ and 8 hex digits, by an absolute name
  case ${1##*/} in *[!0123456789abcdef]*) ;; ????????) case $1 in /*/m/${1##*/}) return 0 ;; esac ;; esac
  echo "$1 is no directory of a machine" >&2
  return 1
}
"""
"""Stands before what empties or deletes a directory: whatever its path was made from, that is a machine's, or stays."""

_WHOLE = r"""
whole() { [ -z "$durable" ] || sync -- "$@" || [ $? = 127 ]; }
"""
"""Brings files and directories to the disk, where that was asked for (`durable`)."""

PREPARE = (
    ALIVE
    + _OURS
    + _WHOLE
    + r"""
name=$1; dir=$2; digest=$3; root=$4; disk=$5; bytes=$6; size=$7; making=$8; made=$9
[ $# -lt 10 ] || { shift 9; also=$1; }
# The identity and a line after it: dd takes no byte more, and the line tells that it was all there.
identity() { dd bs="$size" count=1 iflag=fullblock $2 of="$1" 2>/dev/null && read -r l && [ "$l" = whole ]; }
ours "$dir" && mkdir -p -m 700 "$dir" $also && cd "$dir" || return 1
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
      *"\"digest\":\"${digest%+}\""*) state=running ;;
      *'"root":"'*) case $digest in
        *+) state=running ;;
        *) echo "it runs with another definition" >&2; return 1 ;;
      esac ;;
      *) state=running ;;
    esac
  elif [ "${disk%+}" = yes ] && [ ! -s disk.qcow2 ]; then state=bare
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
  printf '%s\n' "$making" >making && identity identity conv=fsync && printf '%s\n' "$made" >made || return 1
else
  tar -xf - || return 1
  set --
  for f in making made.new identity seed.iso; do [ ! -e $f ] || set -- "$@" $f; done
  whole "$@" || return 1
  case $state$disk in newyes | bare* | small* | *+) ;; *) mv -f made.new made || return 1 ;; esac
  whole . .. ../.. || return 1
fi
echo "$state"
"""
)
"""Arguments: name, directory, digest (with `+`: what runs may have another), what its disk is made from (`Spec.root`),
`yes` if it has one, with `+` if there are others beside it; the bytes that the lab file gives that (0: none said); on
stdin the papers, an archive with `made.new`. What is half made or not there: the directory is emptied, but for old
consoles, and gets the papers (`new`), and `made` too unless a disk is to come. What is there keeps its disk and gets
new papers (`made`); `made` comes later where its disk is to grow (`small`) or is not there (`bare`), or where there are
others. What runs is left alone (`running`, or `live` where its disk is to grow). A disk that was made from something
else is an error.
Four more arguments where there is no disk, and stdin goes on after the papers: the size of the identity, which is on
stdin, with `whole` on a line after it; the lines of `making` and `made`, which are no secrets; and another directory to
make."""

PREPARED = frozenset({"new", "made", "small", "bare", "running", "live"})
"""What PREPARE says of what was there before."""

DISK = (
    _WHOLE
    + r"""
cd "$1" || exit 1
shift
"$@" && mv -f made.new made && whole .
"""
)
"""Arguments: directory, the command that makes the disk, or makes it larger."""

CONSOLE = 16 << 20
"""Bytes of a console from which it is cut."""

HEAD, END = 1 << 20, 4 << 20
"""Bytes of a console that is cut which stay: how it booted, and what it said last."""

PIECE = 1 << 19
"""Bytes of a console that are had at a time."""

PAUSE = 30
"""Seconds between two looks at a console. A serial port of QEMU's takes less than half a megabyte a second."""

KEEP = f"""
exec 3< . && cd "/proc/$1" || exit 1
f=/proc/$$/fd/3/console.log
q=/proc/$$/fd/3/qemu.log
while sleep {PAUSE} 3<&-; do
  [ -e stat ] || exit 0
  s=$(stat -Lc %s "$q" 2>/dev/null) && [ "$s" -gt {HEAD} ] && true > "$q"
  s=$(stat -Lc %s "$f" 2>/dev/null) && [ "$s" -gt {CONSOLE} ] || continue
  left="[$((s - {HEAD + END})) bytes left out]"
  {{ head -c {HEAD} "$f"; echo; echo "$left"; tail -c +$((s - {END} + 1)) "$f"; }} > "$f.cut" || true > "$f.cut"
  true > "$f"
  cat "$f.cut" >> "$f"
  rm -f "$f.cut"
done
"""
"""Argument: QEMU's process. Cuts the console in the working directory when it is too long, for as long as that QEMU
lives: a guest that prints for ever would fill the disk. (QEMU writes the log itself and knows no limit, but it appends:
whoever empties the file gives the room back.) Both are held open, so that neither a reused number nor a renamed
directory deceives it. What QEMU itself says, in qemu.log, is emptied when it is too long."""

FOLLOW = f"""
exec 3< "$1" || exit 1
g=/proc/$$/fd/3
calm() {{ # waits while it is being cut; its size
  n=0
  while [ -e "$1.cut" ] && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n+1)); done
  s=$(stat -Lc %s "$g") || exit 1
}}
while read -r p last; do
  calm "$1"
  now=$last
  [ "$s" -ge "$p" ] || calm "$1"
  if [ "$s" -gt {HEAD} ] && [ "$s" != "$p" ]; then
    m=$(tail -c +$(({HEAD} + 2)) "$g" | head -c 40 | head -n 1)
    now=${{m#[}}; now=${{now%" bytes left out]"}}
    case $now in '' | *[!0-9]*) now=- ;; esac
    {{ [ "$now" = "$last" ] && [ "$s" -ge "$p" ]; }} || [ "$now" = - ] || [ "$p" -le {HEAD} ] || {{
      calm "$1"
      [ "$p" -ge $(({HEAD} + now)) ] && p=$((p - now + ${{#m}} + 2)) || p={HEAD}
      [ "$p" -le "$s" ] || p=$s
    }}
  fi
  [ "$p" -le "$s" ] || p=0
  n=$((s - p))
  [ "$n" -le {PIECE} ] || n={PIECE}
  echo "$p $n $now"
  [ "$n" = 0 ] || {{ tail -c +$((p + 1)) "$g" | head -c "$n"; head -c "$n" /dev/zero; }} | head -c "$n"
  [ ! -e "$1.cut" ] && [ "$(stat -Lc %s "$g")" -ge "$s" ] && echo whole || echo torn
done
"""
"""Argument: a console. For each line on stdin, with the bytes of it that were had and the number that `KEEP` last wrote
into it (`-`: none), it prints where it goes on from there, how many bytes follow, that number now, those bytes, and
whether they are to be believed: not where the console was being cut meanwhile. Where it was cut since the last time, it
goes on behind what was had, whatever of it was kept: `tail -f` would begin again. It follows the file that it opened,
and ends with its stdin."""

TURN = r"""
turn() { # a new console for a new boot; those of the last 20 before it are kept
  for f in pid qmp con qga vnc stopped answered; do
    [ ! -e "$f" ] || { rm -f pid qmp con qga vnc stopped answered; break; }
  done
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
  : > qemu.log
}
"""

START = (
    ALIVE
    + TPM
    + TURN
    + f"keep='{KEEP}'"
    + r"""
name=$1; dir=$2; boot=$3; shift 3
cd "$dir" || exit 1
if alive; then kill -CONT "$p"; echo "nestlab-start: running"
else
  untpm
  turn
  run=; ! command -v setsid >/dev/null || run=setsid
  $run "$@" >> qemu.log 2>&1 < /dev/null &
  p=$!
  printf '%s\n' "$p" > pid
  echo "nestlab-start: started"
  [ -n "$durable" ] || { sync -- made making . .. & } >/dev/null 2>&1
  $run sh -c "$keep" keep "$p" </dev/null >/dev/null 2>&1 &
  tail -n +1 -s 0.2 -f --pid="$p" console.log &
  t=$!
  wait "$p"; s=$?
  wait "$t"
  [ "$s" = 0 ] || [ -s console.log ] || { cat qemu.log; rm -f pid boot; untpm; echo "nestlab-start: failed"; }
  exit 0
fi
read -r p < pid
exec tail -n +1 -s 0.2 -f --pid="$p" console.log
"""
)
"""Arguments: name, directory, boot as JSON, QEMU's argv. Says whether it is started or runs already, then the console
until QEMU ends; then, if QEMU failed before its guest said anything, what QEMU said and that it failed, which is an
answer, no failure of the script. QEMU does not daemonize, which its sandbox forbids: it gets a session of its own here.
This shell reaps it, or tail would wait for a zombie."""

STOP = (
    ALIVE
    + TPM
    + _WHOLE
    + r"""
name=$1; dir=$2; cd "$dir" 2>/dev/null || exit 0
n=$3
[ "$4" = crash ] || { : > stopped; whole .; }
while alive && [ "$n" -gt 0 ]; do sleep 0.2; n=$((n-1)); done
if alive; then
  echo forced
  kill -TERM "$p"; n=25
  while alive && [ "$n" -gt 0 ]; do sleep 0.2; n=$((n-1)); done
  alive && kill -KILL "$p"
  while alive; do sleep 0.1; done
fi
rm -f pid qmp con qga vnc
untpm
exit 0
"""
)
"""Arguments: name, directory, fifths of a second to wait for a clean end before SIGTERM, then SIGKILL; `crash` for a
machine that is hopeless rather than stopped on purpose."""


KILL = (
    ALIVE
    + TPM
    + r"""
name=$1; dir=$2; cd "$dir" 2>/dev/null && alive || { echo absent; exit 0; }
kill -KILL "$p"
while alive; do sleep 0.1; done
rm -f pid qmp con qga vnc
untpm
"""
)
"""Arguments: name, directory. Ends it as a power cut does: nobody in it, nor its QEMU, is told. Prints `absent` where
it does not run."""

KILLED = 60.0
"""Nominal seconds for KILL: root of a hypervisor decides what its programs do."""


def forced(told: str, seconds: float) -> str | None:
    """What STOP's output says of how a machine ended that had `seconds` to shut down; None where it did by itself."""
    if "forced" not in told:
        return None
    said = f"it did not shut down within {seconds:.0f} s" if seconds else "it did not answer"
    return f"ended by force: {said}; what it had not written to its disk is lost"


POWEROFF = "[ -w / ] || ! command -v sudo >/dev/null || exec sudo -n poweroff; exec poweroff"
"""In a machine: its user need not be root."""

REMOVE = (
    ALIVE
    + TPM
    + _OURS
    + r"""
ours "$2" || exit 1
name=$1; dir=$2; cd "$dir" 2>/dev/null || exit 0
if alive; then
  kill -TERM "$p"; n=25
  while alive && [ "$n" -gt 0 ]; do sleep 0.1; n=$((n-1)); done
  alive && kill -KILL "$p"
  while alive; do sleep 0.1; done
fi
untpm
[ ! -e made ] || : > made
cd / && rm -rf -- "$2"
"""
)
"""Arguments: name, directory."""

GROW = 'exec resize2fs "$(findmnt -no SOURCE /)"'
"""In a machine whose drive has just become larger: its filesystem too."""

WRITTEN = r"""
cd "$1" 2>/dev/null || exit 0
shift
for d; do for f in "$d"/disk.qcow2 "$d"/disk-*.qcow2; do [ -f "$f" ] && du -k "$f"; done; done
exit 0
"""
"""Arguments: the directory of machines, names of directories in it. Prints `KIBIBYTES NAME/disk.qcow2` for those that
have a disk, and `KIBIBYTES NAME/disk-ID.qcow2` for each beside it: what it takes on its host, whatever size the guest
sees."""

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


def on_host(script: str, level: int) -> str:
    """The script for a host of a level: on the lab's own, what it writes is on the disk when it ends. Inside a
    hypervisor a process more costs too much: START has it done while the machine boots, and what a power cut tore
    before that is made again."""
    return f"durable={'' if level else 'yes'}\n{script}"


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
