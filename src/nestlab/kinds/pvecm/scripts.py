"""The scripts that make and mend a cluster on a node of Proxmox VE, as requests. Pure; they are POSIX sh, run as root.

What takes long (create, join, certificates) runs as a unit of its own, so that neither a lost connection nor the end of
nestlab ends it half-way: `ask` says how it goes on. Each script may run again where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable

from nestlab.kinds.clustering import Request
from nestlab.kinds.pvecm.question import PLACE, UNIT

QUICK = 120.0
"""Nominal seconds for a script without a program of Proxmox's."""

PERL = 300.0
"""Nominal seconds for one of Proxmox's programs: `pvecm delnode` took 14 s on an emulated node with half a core."""

START = rf"""
set -eu
umask 077
mkdir -p {PLACE}
cd {PLACE}
cat >input
if systemctl is-active -q {UNIT}; then rm -f input; echo "it works at: $(cat job)"; exit 0; fi
systemctl reset-failed {UNIT} 2>/dev/null || :
: >log
printf '%s\n' "$1" >job
shift
status=0
systemd-run -q --unit={UNIT} -p Type=exec -p WorkingDirectory=/ -p TimeoutStopSec=infinity -p OOMScoreAdjust=-900 \
    -p StandardInput=file:$PWD/input -p StandardOutput=append:$PWD/log -p StandardError=append:$PWD/log \
    /bin/sh -c "$@" || status=$?
rm -f input
exit $status
"""
"""Arguments: what it is, a script, and `$0` and arguments of that. stdin: its stdin, in no argument and no file for
longer than it takes to open it."""

CREATE = 'pvecm create "$@"; echo "nestlab: status $?"'

JOIN = 'pvecm add "$@"; echo "nestlab: status $?"'
"""On stdin the password of root on the member. `pvecm add` ends with status 0 also where it failed."""

# `updatecerts` ends itself after 80 s (PVE/CLI/pvecm.pm), which an emulated node may need for one key: what it has made
# stays, so it goes on where it was.
CERTIFY = r"""
name=$(uname -n)
for turn in 1 2 3 4 5; do
    pvecm updatecerts --force && openssl verify -CAfile /etc/pve/pve-root-ca.pem /etc/pve/local/pve-ssl.pem && break
done
systemctl reload-or-restart pvedaemon pveproxy
echo "nestlab: status $?"
"""

# What is left of PVE/Cluster/Setup.pm, finish_join, when the cluster has counted the node already.
ADOPT = r"""
set -eu
umask 077
mkdir -p /etc/corosync
cd /etc/corosync
read -r key size
base64 -d >authkey.new <<EOF
$key
EOF
cat >corosync.conf.new
[ "$(wc -c <corosync.conf.new)" = "$size" ]
same=yes
cmp -s authkey.new authkey && cmp -s corosync.conf.new corosync.conf || same=no
chmod 0400 authkey.new
chmod 0644 corosync.conf.new
mv -f authkey.new authkey
mv -f corosync.conf.new corosync.conf
systemctl reset-failed corosync pve-cluster 2>/dev/null || :
systemctl start pve-cluster || :
n=0
until [ -L /etc/pve/local ] || [ $n -ge 30 ]; do n=$((n + 1)); sleep 1; done
[ -L /etc/pve/local ] || { echo "pve-cluster does not start" >&2; exit 1; }
if [ ! -e /etc/pve/corosync.conf ]; then
    systemctl stop pve-cluster
    cd /var/lib/pve-cluster
    mkdir -p -m 0700 backup
    for file in config.db*; do
        [ ! -e "$file" ] || mv -f "$file" "backup/$file.$(date +%s)"
    done
fi
[ $same = yes ] || systemctl stop corosync
systemctl start corosync pve-cluster
"""
"""On stdin: the key (base64) and the size of corosync.conf in one line, then corosync.conf."""

READ = r"""
set -eu
conf=/etc/pve/corosync.conf
printf '%s %s\n' "$(base64 -w 0 /etc/corosync/authkey)" "$(wc -c <$conf)"
cat $conf
"""

# pve-docs, pvecm.adoc, "Separate a node without reinstalling"; with a new database instead of the cluster's.
RESET = r"""
set -eu
systemctl stop pvestatd pve-cluster corosync 2>/dev/null || :
cd /var/lib/pve-cluster
mkdir -p -m 0700 backup
for file in config.db*; do
    [ ! -e "$file" ] || mv -f "$file" "backup/$file.$(date +%s)"
done
rm -rf /etc/corosync/authkey /etc/corosync/corosync.conf /etc/corosync/qdevice /var/lib/corosync/*
systemctl reset-failed corosync pve-cluster 2>/dev/null || :
systemctl start pve-cluster
systemctl start pvestatd 2>/dev/null || :
"""

OFF = r"""
systemctl stop pve-ha-lrm pve-ha-crm 2>/dev/null || :
systemctl stop corosync
"""

# The same page, for the last one: it keeps its database, and with it its guests, without the cluster.
SEPARATE = r"""
set -eu
name=$1
cd /
systemctl stop pve-cluster corosync
pmxcfs -l
n=0
until [ -L /etc/pve/local ] || [ $n -ge 60 ]; do n=$((n + 1)); sleep 1; done
rm -f /etc/pve/corosync.conf
for path in /etc/pve/nodes/*; do
    [ "${path##*/}" = "$name" ] || rm -rf "$path"
done
rm -rf /etc/corosync/authkey /etc/corosync/corosync.conf /etc/corosync/qdevice
pkill -x pmxcfs || :
n=0
while pgrep -x pmxcfs >/dev/null && [ $n -lt 60 ]; do n=$((n + 1)); sleep 1; done
umount -l /etc/pve 2>/dev/null || :
rm -rf /var/lib/corosync/*
systemctl reset-failed pve-cluster 2>/dev/null || :
systemctl start pve-cluster
"""
"""Argument: its own name."""

SERVICES = r"""
systemctl reset-failed corosync pve-cluster pvedaemon pveproxy 2>/dev/null || :
systemctl start --no-block "$@"
"""

RESTART = r"""
systemctl reset-failed pvedaemon pveproxy 2>/dev/null || :
systemctl reload-or-restart --no-block pvedaemon pveproxy
"""

MIGRATE_BY = r"""
set -eu
file=/etc/pve/datacenter.cfg
{ grep -v '^migration:' $file 2>/dev/null || :; echo "migration: secure,network=$1"; } >$file.nestlab
mv -f $file.nestlab $file
"""
"""Argument: a network (pve-docs, datacenter.cfg.adoc). The members' ssh carries what moves."""

ROOT_KEY = "cat /root/.ssh/id_rsa.pub"

TRUST = r"""
set -eu
umask 077
mkdir -p /root/.ssh
touch /root/.ssh/authorized_keys
grep -qF "$2" /root/.ssh/authorized_keys || echo "$1 $2" >>/root/.ssh/authorized_keys
[ -e /etc/corosync/qnetd/nssdb ] || corosync-qnetd-certutil -i >&2
systemctl enable -q corosync-qnetd 2>/dev/null || :
systemctl start corosync-qnetd
for key in /run/nestlab/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_ed25519_key.pub; do
    [ ! -e "$key" ] || { cat "$key"; break; }
done
"""
"""Arguments: a public key, in two words. Prints the machine's own."""

# What an attempt before left is no reason to refuse it (`--force`); its certificates are made anew.
SET_UP_DEVICE = r"""
umask 077
mkdir -p /root/.ssh
touch /root/.ssh/known_hosts
grep -qF "$1 $2 $3" /root/.ssh/known_hosts || echo "$1 $2 $3" >>/root/.ssh/known_hosts
pvecm qdevice setup "$1" --force 1
echo "nestlab: status $?"
"""
"""Arguments: the address of the machine, its public key in two words."""

REMOVE_DEVICE = 'pvecm qdevice remove; echo "nestlab: status $?"'

EXPECT = 'corosync-quorumtool -e "$1"'

DELETE = r"""
set -eu
name=$1
cd /
export LC_ALL=C
if grep -qE "^[[:space:]]*name: $name\$" /etc/pve/corosync.conf; then
    pvecm delnode "$name"
fi
rm -rf "/etc/pve/nodes/$name"
keys=/etc/pve/priv/authorized_keys
if [ -e $keys ] && grep -q " root@$name\$" $keys; then
    grep -v " root@$name\$" $keys >/run/nestlab/keys.$$ || :
    cat /run/nestlab/keys.$$ >$keys
    rm -f /run/nestlab/keys.$$
fi
known=/etc/pve/priv/known_hosts
if [ -e $known ] && grep -q "^$name " $known; then
    grep -v "^$name " $known >/run/nestlab/keys.$$ || :
    cat /run/nestlab/keys.$$ >$known
    rm -f /run/nestlab/keys.$$
fi
"""
"""Argument: the node's name. In the end no member knows it (pvecm.adoc, "Remove a Cluster Node")."""

# The login goes through pveproxy, pvedaemon and PAM; of the answer only its first line leaves the node.
LOGIN = r"""
read -r size
head='POST /api2/json/access/ticket HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n'
type='Content-Type: application/x-www-form-urlencoded\r\n'
{ printf "$head$type"'Content-Length: %s\r\n\r\n' "$size"; cat; } |
    timeout -k 1 "$1" openssl s_client -quiet -ign_eof -connect 127.0.0.1:8006 2>/dev/null | head -n 1
"""
"""Argument: seconds. On stdin: the size of the form in a line, then the form."""

CHECK = r"""
exec 2>&1
address=$1 seconds=$2
shift 2
get='GET /api2/json/access/ticket HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
said=/run/nestlab/check.$$
before=$(date +%s)
printf "$get" | timeout -k 1 "$seconds" openssl s_client -ign_eof -connect "$address:8006" >$said 2>/dev/null
after=$(date +%s)
now=$(grep -a -i -m 1 '^date: ' $said | tr -d '\r')
now=${now#*: }
echo "clock $before $(date -d "${now:-x}" +%s 2>/dev/null || echo 0) $after"
echo "served $(openssl x509 -noout -fingerprint -sha256 <$said 2>/dev/null)"
rm -f $said
while [ $# -gt 1 ]; do
    sent=$(ping -n -q -c 3 -i 0.3 -W 5 -M do -s "$2" "$1" | grep -a '^rtt\|^round-trip')
    echo "link $1 $2 ${sent:-none}"
    shift 2
done
"""
"""Arguments: a member's address and seconds, then for each link its address and the bytes of a ping that just fit."""


def start(node: str, title: str, what: str, script: str, words: Iterable[str] = (), given: bytes = b"") -> Request:
    """A request that starts a unit and comes back at once."""
    return Request(node, title, START, (what, script, "nestlab", *words), given, QUICK)
