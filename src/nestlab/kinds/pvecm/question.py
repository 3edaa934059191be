"""What a node of Proxmox VE is asked about its cluster: a script that runs there. Pure; light to import.

No program of Proxmox's is run: each is Perl, which takes 10 to 40 s to start on an emulated node. What they would tell
stands in files of the cluster's filesystem, and corosync's own tools are quick.
"""

from __future__ import annotations

LIMIT = 1 << 16
"""Characters of a file that are read."""

PLACE = "/run/nestlab/cluster"
"""On a node: what nestlab started there for its cluster (`scripts.START`)."""

UNIT = "nestlab-cluster.service"
SERVICES = ("corosync", "pve-cluster", "pvedaemon", "pveproxy")
TAIL = 4000
"""Characters of a job's log that are read."""

ASK = rf"""
exec 2>/dev/null
part() {{ printf '\n== %s\n' "$1"; }}
soon() {{ timeout -k 1 15 "$@"; }}
part name; uname -n
part node; [ ! -x /usr/bin/pvecm ] || echo yes
state=$(systemctl is-active {UNIT})
part job; cat {PLACE}/job && echo "$state"
part log; tail -c {TAIL} {PLACE}/log
[ "$state" != active ] || exit 0
part authkey; [ ! -s /etc/corosync/authkey ] || echo yes
part local; head -c {LIMIT} /etc/corosync/corosync.conf
part mounted; soon stat -c '%F %a' /etc/pve/local || soon() {{ :; }}
part conf; soon head -c {LIMIT} /etc/pve/corosync.conf
part members; soon cat /etc/pve/.members
part guests; soon cat /etc/pve/.vmlist
part nodes; soon ls /etc/pve/nodes
part datacenter; soon head -c 4096 /etc/pve/datacenter.cfg
part quorum; timeout -k 1 15 corosync-quorumtool -siH
part services; for unit in {" ".join(SERVICES)}; do api=$(systemctl is-active "$unit"); echo "$unit $api"; done
part addresses
for path in /sys/class/net/*; do
    read -r mtu <"$path/mtu"
    ip -o address show dev "${{path##*/}}" | while read -r number card family address rest; do
        echo "$family ${{address%/*}} $card $mtu"
    done
done
part version; dpkg-query -W -f '${{Version}}\n' pve-manager
part memory; while read -r key size rest; do [ "$key" != MemTotal: ] || echo "$size"; done </proc/meminfo
mine=/etc/pve/local/pve-ssl.pem
[ -e "$mine" ] || exit 0
part signed; soon openssl verify -CAfile /etc/pve/pve-root-ca.pem "$mine"
[ ! -e /etc/pve/local/pveproxy-ssl.pem ] || mine=/etc/pve/local/pveproxy-ssl.pem
part own; soon openssl x509 -noout -fingerprint -sha256 -in "$mine"
[ "$api" = active ] || exit 0
part api
get='GET /api2/json/access/ticket HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
printf "$get" | timeout -k 1 20 openssl s_client -ign_eof -connect 127.0.0.1:8006 >/run/nestlab/api.$$
grep -a -m 1 '^HTTP/1' /run/nestlab/api.$$
part served; openssl x509 -noout -fingerprint -sha256 </run/nestlab/api.$$
rm -f /run/nestlab/api.$$
exit 0
"""
"""Prints parts with a head line each. It changes nothing, and takes little while something works for the cluster there.
What its API is asked for, it answers without a login and at once: a refusal comes 3 s later (PVE/HTTPServer.pm,
auth_handler; PVE/APIServer/AnyEvent.pm)."""
