"""Shell scripts (POSIX: dash, bash, busybox) that look at a host and reload a module. Pure.

Loading a module again must not stop halfway: the host would be left without KVM. So the script runs in a session of
its own, ignores what ends its parents (a lost connection, Ctrl-C), and leaves its result in a file.
"""

from __future__ import annotations

from typing import Literal

from nestlab.base.frozen import frozen

PATH = 'export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; '
"""The beginning of a script: sshd's PATH may lack the directories of modprobe."""

LOOK = r"""
root=$1; dir=$2; shift 2
boot=$(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null)
mark=$dir/reloading.$boot
n=0
while [ -e "$mark" ] && kill -0 "$(cat "$mark")" 2>/dev/null && [ $n -lt 600 ]; do
  sleep 0.1 2>/dev/null || sleep 1; n=$((n+1))
done
echo "$(id -u) $(id -g) $(command -v modprobe >/dev/null 2>&1 && echo yes || echo no)"
echo "$boot"
for each; do
  path=${each#?:}
  case $each in
  v:*) if [ -r "$path" ]; then echo "v $(cat "$path")"; else echo -; fi; continue;;
  esac
  real=$path
  if [ -L "$path" ]; then real=$(readlink -f -- "$path") || real=; fi
  may=no; if [ -w "$path" ]; then may=yes; fi
  if [ -d "$path" ]; then echo "directory 0 0 0 $may $path"
  elif [ -n "$real" ] && [ -f "$real" ]; then echo "file $(stat -c '%a %u %g' -- "$real") $may $real"
  elif [ -e "$path" ] || [ -L "$path" ]; then echo "other 0 0 0 $may $path"
  else echo "absent 0 0 0 no $path"; fi
done
"""
"""Waits for a reload that still runs, then says what there is: user, group, modprobe; boot; a line per argument
(`v:PATH` a value, `f:PATH` a file)."""

READ = 'id -u; if [ -e "$1" ]; then echo there; cat -- "$1"; fi'

ALONE = r"""
[ -d "$1" ] && exec 9<"$1" && command -v flock >/dev/null 2>&1 || { echo free; exec cat >/dev/null; }
if flock -n 9; then echo free; exec cat >/dev/null; fi
echo busy
"""
"""Holds a lock on a directory that every host has, which changes nothing there, until its stdin ends; the kernel drops
it with the connection. A host without flock has no lock."""

SET = 'echo "$2" > "$1"'

REMOVE = r"""
dir=$1; shift
[ -d "$dir" ] || exit 0
rm -f -- "$dir"/record.json "$dir"/record.json.*.new "$dir"/reload.* "$dir"/reloading.* "$dir"/parameters.*
for each; do rmdir -- "$each" 2>/dev/null; done; :
"""
"""Remove the record, and directories as far as they are empty."""

START = r"""
inner=$1; shift
result=$1/reload.$5
if command -v setsid >/dev/null 2>&1; then
  setsid sh -c "$inner" sh "$@" </dev/null >/dev/null 2>&1 &
else
  set -m; sh -c "$inner" sh "$@" </dev/null >/dev/null 2>&1 &
fi
n=0
until [ -e "$result" ]; do
  sleep 0.1 2>/dev/null || sleep 1; n=$((n+1))
  if [ $n -gt 1000 ]; then echo "late"; exit 0; fi
done
cat "$result"; rm -f "$result"
"""
"""Starts RELOAD apart from this session and waits for its result."""

RELOAD = r"""
dir=$1 root=$2 module=$3 old=$4 token=$5; shift 5
trap '' HUP INT TERM PIPE
boot=$(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null)
mark=$dir/reloading.$boot
n=0
pause() { sleep 0.1 2>/dev/null || sleep 1; n=$((n+1)); }
while [ -e "$mark" ] && kill -0 "$(cat "$mark")" 2>/dev/null && [ $n -lt 600 ]; do pause; done
echo $$ > "$mark"
said=
loaded() { [ -d "$root/sys/module/$module" ]; }
try() { said="$said
$* : $("$@" 2>&1)"; loaded; }
finish() {
  value=$(cat "$root/sys/module/$module/parameters/nested" 2>/dev/null)
  printf '%s %s%s\n' "$1" "$value" "$said" > "$dir/reload.$token.new"
  mv -f "$dir/reload.$token.new" "$dir/reload.$token"
  rm -f "$mark"
  exit 0
}
saved=$dir/parameters.$boot
own=$root/sys/module/kvm/parameters
if loaded; then
  count=$(cat "$root/sys/module/$module/refcnt" 2>/dev/null)
  if [ "$count" != 0 ]; then said=" $count"; finish busy; fi
  if [ ! -e "$saved" ]; then
    for each in $(find "$own" -type f -perm -200 2>/dev/null); do
      echo "${each##*/} $(cat "$each" 2>/dev/null)"
    done > "$saved.new"
    mv -f "$saved.new" "$saved"
  fi
  said=
  if try modprobe -r "$module"; then rm -f "$saved"; finish kept; fi
fi
[ -n "$old" ] && before="nested=$old" || before=
state=ok
try modprobe "$module" "$@" ||
  { state=other; try modprobe "$module"; } ||
  try modprobe "$module" $before ||
  { state=bare; try modprobe -C /dev/null "$module" $before; } ||
  { try modprobe kvm; try insmod "$(modinfo -n "$module" 2>/dev/null)" $before; } ||
  { pause; state=other; try modprobe "$module"; } ||
  finish lost
if [ -e "$saved" ]; then
  while read -r name value; do
    if [ -n "$value" ] && [ "$(cat "$own/$name" 2>/dev/null)" != "$value" ]; then
      echo "$value" 2>/dev/null > "$own/$name"
    fi
  done < "$saved"
  rm -f "$saved"
fi
finish $state
"""
"""Unload the module if nothing uses it, and load it again with the options; else as modprobe.d says, else as it was.
kvm may go and come with it, so what was set of its parameters while it ran is set again."""


@frozen
class Reloaded:
    """`busy`: it was in use and not touched; `kept`: it could not be unloaded; `other`: loaded, but not with the
    options; `bare`: it does not load with what modprobe.d says, and was loaded without; `lost`: not loaded; `late`: no
    result yet. `value`: its `nested` now. `said`: what modprobe said."""

    state: Literal["ok", "busy", "kept", "other", "bare", "lost", "late"]
    value: str = ""
    said: str = ""


def parsed(text: str) -> Reloaded:
    head, _, said = text.partition("\n")
    state, _, value = head.partition(" ")
    lines = (line for line in said.strip().splitlines() if not line.endswith(" : "))
    for known in ("ok", "busy", "kept", "other", "bare", "lost"):
        if state == known:
            return Reloaded(known, value.split(" ")[0], "\n".join(lines))
    return Reloaded("late", said=text.strip())
