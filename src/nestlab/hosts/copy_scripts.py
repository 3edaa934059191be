"""Shell scripts that copying runs on the other side: POSIX sh with GNU's tools or busybox's. Pure text."""

from __future__ import annotations

_SAY = """
say() { echo "$*" >&2; exit 1; }
"""

_PROGRESS = """
# Prints how many sectors of the disk $1 were read (field 3) or written (field 7), once a second.
progress() {
  while sleep 1 <&- >&- 2>&-; do
    read -r a b read c d e written f < "/sys/class/block/${1##*/}/stat" || exit
    case $2 in 3) echo "$read";; *) echo "$written";; esac
  done 2>/dev/null &
  watch=$!
}
"""

_MERGE = r"""
# A directory that may not be written to is moved all the same.
move() {
  [ ! -L "$2" ] || [ ! -d "$2" ] || rm -f -- "$2" || return
  mv -f -- "$1" "$2" 2>/dev/null && return
  [ -d "$1" ] && [ ! -L "$1" ] && [ ! -w "$1" ] || { mv -f -- "$1" "$2"; return; }
  m=$(stat -c %a -- "$1") && chmod u+w -- "$1" && mv -f -- "$1" "$2" && chmod "$m" -- "$2"
}
# The content of directory $1 into directory $2: directories that are there go on, files are replaced by a rename.
# $2 gets the mode and the time of $1, for which $3 and $4 stand.
merge() {
  set -- "$1" "$2" $(stat -c '%a %Y' -- "$1")
  [ -w "$1" ] || chmod u+w -- "$1" || return
  for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -d "$e" ] && [ ! -L "$e" ] || continue
    n=$2/${e##*/}
    if [ -d "$n" ] && [ ! -L "$n" ]; then merge "$e" "$n" || return
    elif [ -e "$n" ] || [ -L "$n" ]; then say "$n: there is something else already"
    else move "$e" "$n" || return
    fi
  done
  files "$2" "$1"/* && files "$2" "$1"/.[!.]* && files "$2" "$1"/..?* || return
  rmdir -- "$1" && chmod "$3" -- "$2" && touch -d "@$4" -- "$2"
}
# $1 directory, then files, or a pattern that none fits
files() {
  [ -e "$2" ] || [ -L "$2" ] || return 0
  into=$1; shift
  for e in "$@"; do
    n=$into/${e##*/}
    [ ! -d "$n" ] || [ -L "$n" ] || say "$n: it is a directory"
  done
  mv -f -- "$@" "$into/" 2>/dev/null && return
  for e in "$@"; do [ ! -e "$e" ] && [ ! -L "$e" ] || mv -f -- "$e" "$into/" || return; done
}
"""

_MERGE_AT_ONCE = r"""
# The same in one process where there is Perl, as in every Debian: in an emulated machine each one costs its time.
if command -v perl >/dev/null; then merge() { perl -e '
use strict;
sub there { my ($p) = @_; return -l $p || -e $p }
sub directory { my ($p) = @_; return -d $p && !-l $p }
sub move {
  my ($from, $to) = @_;
  return if rename $from, $to;
  system("mv", "-f", "--", $from, $to) == 0 or exit 1;
}
sub merge {
  my ($from, $to) = @_;
  my @about = stat $from;
  chmod 0700 | $about[2] & 07777, $from;
  opendir my $list, $from or die "$from: $!
";
  my @names = grep { $_ ne "." && $_ ne ".." } readdir $list;
  for my $name (@names) {
    my ($a, $b) = ("$from/$name", "$to/$name");
    if (!directory($a)) {
      die "$b: it is a directory
" if directory($b);
      move($a, $b);
    }
    elsif (directory($b)) { merge($a, $b) }
    elsif (there($b)) { die "$b: there is something else already
" }
    else {
      my $mode = (stat $a)[2] & 07777;
      chmod $mode | 0200, $a if !-w $a;
      move($a, $b);
      chmod $mode, $b if !-w $b || !($mode & 0200);
    }
  }
  rmdir $from;
  chmod $about[2] & 07777, $to or die "$to: $!
";
  utime $about[9], $about[9], $to;
}
merge(@ARGV)' -- "$@"; }
fi
"""

RECEIVE = (
    _SAY
    + _PROGRESS
    + _MERGE
    + _MERGE_AT_ONCE
    + r"""
t=$1; new=; watch=; tar=
clean() {
  [ -z "$watch" ] || kill "$watch" 2>/dev/null
  [ -z "$tar" ] || { kill -9 "$tar"; wait "$tar"; } 2>/dev/null  # a shell that is just becoming tar swallows TERM
  [ ! -d "$new" ] || rm -rf -- "$new" 2>/dev/null || { chmod -R u+w -- "$new"; rm -rf -- "$new"; }
}
trap clean EXIT
trap 'exit 143' HUP INT TERM
case $t in */) [ -d "$t" ] || [ "$3" = d ] || say "$t: there is no such directory";; esac
while [ ! -d "$t" ] && [ "$t" != "${t%/}" ]; do t=${t%/}; done
[ "$2" != . ] || mkdir -p -- "$t" || exit
if [ -d "$t" ]; then
  d=$t; to=$t; [ "$2" = . ] || to=$t/$2
  if [ "$3" = d ]; then
    [ -d "$to" ] || { [ ! -e "$to" ] && [ ! -L "$to" ]; } || say "$to: there is something else already"
    [ ! -L "$to" ] || [ "$2" = . ] || say "$to: there is something else already"
  elif [ -d "$to" ] && [ ! -L "$to" ]; then say "$to: it is a directory"
  fi
else
  [ ! -L "$t" ] || t=$(readlink -f -- "$t") || exit
  if [ -e "$t" ]; then [ -f "$t" ] && [ "$3" != d ] || say "$t: there is something else already"; fi
  d=$(dirname -- "$t"); [ -d "$d" ] || say "$d: there is no such directory"
  to=$t
fi
new=$d/$4
mkdir -m 700 -- "$new" || exit
[ "$5" = - ] || progress "$5" 3
# In the background: a shell that waits by `wait` hears TERM at once. Sent just before a tar in the foreground starts,
# it would be heard when that has ended, and tar reads stdin for as long as that is open.
exec 3<&0
tar -xopf "$5" -C "$new" <&3 3<&- & tar=$!
exec 3<&-
wait "$tar"
ended=$? tar=
[ $ended = 0 ] || exit $ended
case $2 in
.) merge "$new" "$to" ;;
*) if [ "$3" = d ] && [ -d "$to" ] && [ ! -L "$to" ]; then merge "$new/$2" "$to"
   else move "$new/$2" "$to"
   fi ;;
esac
"""
)
"""Arguments: target, name in the archive (. for the contents of a directory), d for a directory, a temporary name, and
where the archive is (- for stdin, or a disk, of which it then prints the sectors read). It is unpacked beside the
target and put in place by renames."""

SEND = (
    _SAY
    + _PROGRESS
    + r"""
s=$1; watch=
[ -e "$s" ] || [ ! -L "$s" ] || say "$s: a link that leads nowhere: to $(readlink -- "$s")"
[ -e "$s" ] || say "$s: No such file or directory"
case $s in
.|..|/|*/.|*/..) cd -- "$s" && set -- . "$2" ;;
*) [ ! -L "$s" ] || s=$(readlink -f -- "$s") || exit
   cd -- "$(dirname -- "$s")" && set -- "./$(basename -- "$s")" "$2" ;;
esac || exit
[ "$2" != - ] || exec tar -cf - "$1"
trap 'kill "$watch" 2>/dev/null' EXIT
trap 'exit 143' HUP INT TERM
progress "$2" 7
tar -cf "$2" "$1"
"""
)
"""Arguments: source; where the archive goes (- for stdout, or a disk, of which it then prints the sectors written)."""

HOLDS = '[ ! -d "$1" ] || echo yes'
"""Argument: target. Whether it is a directory."""

SIZE = """
[ ! -d "$1" ] || { echo d; exec du -skH -- "$1"; }
[ ! -e "$1" ] || { echo f; exec stat -Lc %s -- "$1"; }
"""
"""Argument: source. Prints d and its size in KiB, or f and its size in bytes; nothing if there is none."""

DISK = """
n=0
while [ $n -lt "$2" ]; do
  for f in /sys/block/vd*/serial; do
    s=
    { read -r s < "$f"; } 2>/dev/null
    [ "$s" = "$1" ] || continue
    f=${f%/serial}
    { echo 4096 > "$f/queue/read_ahead_kb"; } 2>/dev/null
    [ ! -b "/dev/${f##*/}" ] || { echo "/dev/${f##*/}"; exit 0; }
  done
  sleep 0.1; n=$((n+1))
done
exit 1
"""
"""Arguments: serial; tenths of a second. Waits that long for the virtio disk of that serial, and prints its device. It
is to be read ahead far: each request passes through all levels. (read fails at a file without a newline, but still
reads it.)"""
