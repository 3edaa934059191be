#!/bin/sh
# The identity of this node: its files, once; they are the node's own from then on. A disk that comes under another
# identity forgets what the other one was in its cluster.
set -eu
umask 022
cd /run/nestlab
read -r who what <node.stamp
stamp=/var/lib/nestlab/node
was=
[ ! -e "$stamp" ] || read -r was before <"$stamp"
[ "$was ${before-}" != "$who $what" ] || exit 0
if [ -n "$was" ] && [ "$was" != "$who" ]; then
    rm -rf /var/lib/pve-cluster/config.db* /etc/corosync/* /var/lib/corosync/* /var/lib/rrdcached/db/* \
        /var/lib/rrdcached/journal/* /var/log/pve/tasks/* /root/.ssh/id_rsa* /root/.ssh/authorized_keys
fi
for path in /sys/class/net/*; do
    [ -e "$path/device" ] || continue
    read -r address <"$path/address"
    sed -i "s/@$address@/${path##*/}/g" node/etc/network/interfaces
done
mkdir -p -m 0700 /root/.ssh
cp -R node/. /
cp ssh_host_ed25519_key ssh_host_ed25519_key.pub ssh_host_rsa_key ssh_host_rsa_key.pub /etc/ssh/
if [ "$was" != "$who" ]; then
    { printf 'root:'; cat root-password; echo; } | chpasswd
fi
rm -f root-password
mkdir -p "${stamp%/*}"
cp node.stamp "$stamp.new"
mv "$stamp.new" "$stamp"

