"""POSIX sh scripts that have a host's libvirt do something, each in one round trip. Pure text.

Before a domain is changed or ended its metadata must say that it is the lab's: what only has the same name or UUID is
somebody else's, and stays as it is.
"""

from __future__ import annotations

from nestlab.engines.libvirt.mark import NAMESPACE
from nestlab.engines.qemu.scripts import ALIVE, KEEP, TPM, TURN

VIRSH = rf"""
LC_ALL=C; export LC_ALL
v() {{ virsh -q -c "$uri" "$@"; }}
boots() {{ case $(systemctl is-system-running 2>/dev/null) in initializing | starting) return 0 ;; esac; return 1; }}
ready() {{ # waits for libvirt's socket while its host boots: sshd listens there long before
  n=1000
  while [ ! -S /run/libvirt/libvirt-sock ] && [ "$n" -gt 0 ] && boots; do sleep 0.5; n=$((n-1)); done
}}
there() {{ v domstate "$uuid" >/dev/null 2>&1; }}
ours() {{ # whether the domain is the lab's, or there is none
  case $(v metadata "$uuid" --uri {NAMESPACE} --config 2>&1) in
    *"owner=\"$owner\""*) return 0 ;;
  esac
  there || return 0
  echo "the domain $uuid is not of this lab: its metadata says otherwise" >&2
  return 1
}}
"""
"""Needs $uri, $uuid and $owner."""

DEFINE = (
    VIRSH
    + r"""
uri=$1; uuid=$2; owner=$3; dir=$4
ready
cd "$dir" && ours && cat > domain.new && v define domain.new >&2 && mv -f domain.new domain.xml || exit
v dumpxml --inactive "$uuid"
"""
)
"""Arguments: URI, UUID, owner, the machine's directory; on stdin the XML, which is kept as domain.xml. Prints what
libvirt made of it."""

PID = '{ read -r p < "/run/libvirt/qemu/$domain.pid" || [ -n "$p" ]; }'
"""libvirt keeps QEMU's process there, without a newline (its configure option runstatedir, /run everywhere)."""

START = (
    ALIVE
    + TPM
    + TURN
    + VIRSH
    + f"keep='{KEEP}'"
    + rf"""
name=$1; dir=$2; boot=$3; uri=$4; uuid=$5; owner=$6; domain=$7; paused=$8; before=$9
cd "$dir" || exit 1
if alive; then
  v resume "$uuid" >/dev/null 2>&1
  echo "nestlab-start: running"
else
  turn
  n=50
  while [ "$n" -gt 0 ] && [ "$(v domstate "$uuid")" != "shut off" ]; do sleep 0.2; n=$((n-1)); done
  first() {{ [ -z "$before" ] || sh -c "$before" before true; }}
  if ! {{ ours && first && v start "$uuid" $paused; }} > qemu.log 2>&1; then
    cat qemu.log; rm -f boot; untpm; echo "nestlab-start: failed"
    exit 0
  fi
  p=
  {PID} && printf '%s\n' "$p" > pid
  echo "nestlab-start: started"
  [ -n "$durable" ] || {{ sync -- made making . .. & }} >/dev/null 2>&1
  run=; ! command -v setsid >/dev/null || run=setsid
  $run sh -c "$keep" keep "$p" </dev/null >/dev/null 2>&1 &
fi
read -r p < pid
exec tail -n +1 -s 0.2 -f --pid="$p" console.log
"""
)
"""Arguments: name, directory, boot as JSON, URI, UUID, owner, the domain's name, `--paused` or nothing, and a script
that is run before the domain starts, or nothing. As
`engines.qemu.scripts.START`, for a domain that is defined. One that ended a moment ago is waited for: libvirt hears of
it a little later. A domain that is paused goes on."""

UNDEFINE = (
    VIRSH
    + r"""
uri=$1; uuid=$2; owner=$3
there || exit 0
ours || exit
v destroy "$uuid" >/dev/null 2>&1
v undefine "$uuid" --managed-save --snapshots-metadata --checkpoints-metadata --nvram >&2 || ! there
"""
)
"""Arguments: URI, UUID, owner."""

KILL = (
    ALIVE
    + VIRSH
    + r"""
name=$1; dir=$2; uri=$3; uuid=$4; owner=$5
cd "$dir" 2>/dev/null && alive || { echo absent; exit 0; }
ours && v destroy "$uuid" >/dev/null || exit
while alive; do sleep 0.1; done
rm -f pid qmp con qga vnc tpm.sock
"""
)
"""Arguments: name, directory, URI, UUID, owner. Ends it as a power cut does. Prints `absent` where it does not run."""

LOOK = (
    VIRSH
    + r"""
uri=$1; cut=$2; dir=$3; shift 3
cd "$dir" 2>/dev/null || exit 0
while [ $# -ge 2 ]; do
  folder=$1; uuid=$2; shift 2
  [ -s "$folder/domain.xml" ] || continue
  echo "$cut $folder"; cat "$folder/domain.xml"
  echo "$cut defined"; v dumpxml --inactive "$uuid" 2>/dev/null
  [ ! -e "$folder/pid" ] || { echo "$cut running"; v dumpxml "$uuid" 2>/dev/null; }
done
exit 0
"""
)
"""Arguments: URI, a word that stands in nobody's XML, the directory of machines; then for each machine its directory's
name and its domain's UUID. Prints what each domain was defined with and what it is, after lines with that word."""

ASK = VIRSH + 'uri=$1; v | grep "^{" || :'
"""Argument: URI; on stdin commands of virsh's, which are no arguments of any process, as what is typed into a machine
should be. Prints the answers in JSON, and none of what virsh itself prints between them."""

DOES = (
    VIRSH
    + r"""
uri=$1; uuid=$2; owner=$3; verb=$4; shift 4
ours && v "$verb" "$uuid" "$@" >&2
"""
)
"""Arguments: URI, UUID, owner, a command of virsh's that takes a domain first, its other arguments. stdin is its."""

_NETWORK = (
    VIRSH
    + r"""
made() { v net-dumpxml "$uuid" 2>/dev/null; }
ours() { # whether the network is the lab's
  made | grep -F "nestlab:made" | grep -qF "owner=\"$owner\"" && return 0
  echo "the network $uuid is not of this lab: its metadata says otherwise" >&2
  return 1
}
"""
)
"""Needs $uri, $uuid and $owner."""

CONNECT = (
    _NETWORK
    + r"""
uri=$1; uuid=$2; owner=$3
ready
if [ -z "$(made)" ]; then v net-create /dev/stdin >&2 && echo new; exit; fi
ours || exit
v net-list --uuid | grep -qxF "$uuid" || v net-start "$uuid" >&2
"""
)
"""Arguments: URI, UUID, owner; on stdin the XML. Prints `new` where it was not there."""

DISCONNECT = (
    _NETWORK
    + r"""
uri=$1; uuid=$2; owner=$3
v net-list --name >/dev/null || exit
[ -n "$(made)" ] || exit 0
ours || exit
v net-destroy "$uuid" >/dev/null 2>&1
[ -z "$(made)" ] || v net-undefine "$uuid" >&2 || [ -z "$(made)" ]
"""
)
"""Arguments: URI, UUID, owner."""

NETWORKS = (
    VIRSH
    + r"""
uri=$1; prefix=$2; cut=$3
ready
names=$(v net-list --name) || exit
for n in $names; do
  case $n in "$prefix".*) echo "$cut $n"; v net-dumpxml "$n" 2>/dev/null ;; esac
done
exit 0
"""
)
"""Arguments: URI, what the names of networks begin with, a word that stands in nobody's XML. Prints the XML of each
that runs, after a line with that word and its name."""

CARDS = VIRSH + 'uri=$1; uuid=$2; v dumpxml "$uuid" 2>/dev/null || :'
"""Arguments: URI, UUID. Prints the XML of a domain as it is now, or nothing."""

VERSION = VIRSH + 'uri=$1; ready; v version | grep "^Running hypervisor"'
"""Argument: URI. Prints the version of the QEMU that libvirt runs."""
