"""Proves that nodes of Proxmox VE are not one another: what each says of itself is its own."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.base.proofs import Proof
from nestlab.engines.pve_node import is_node
from nestlab.lab.blueprint import Spec
from nestlab.network.network_script import management_address
from nestlab.verbs.nest import Nest

PATIENCE = 120.0
"""Nominal seconds for a node's answer."""

SAID, LINES, SHOWN = 1 << 16, 200, 100
"""Letters and lines of an answer that are read, and letters of one thing in it."""

ASK = r"""
exec 2>/dev/null
n=0
until cmp -s /run/nestlab/node.stamp /var/lib/nestlab/node || [ $n -ge 100 ]; do
    n=$((n + 1))
    sleep 1
done
digest() { sha256sum | { read -r sum rest; echo "$sum"; }; }
name=$(uname -n)
echo "name $name"
getent ahosts "$name" | { read -r address rest; echo "address $address"; }
echo "machine-id $(cat /etc/machine-id)"
[ ! -e /etc/hostid ] || echo "hostid $(od -An -tx1 /etc/hostid)"
for key in /etc/ssh/ssh_host_*_key.pub; do
    read -r kind key rest <"$key" && echo "host-key $kind $(echo "$key" | digest)"
done
[ ! -e /root/.ssh/id_rsa.pub ] || echo "root-key $(digest </root/.ssh/id_rsa.pub)"
while IFS=: read -r user hash rest; do
    [ "$user" != root ] || echo "password $(echo "$hash" | digest)"
done </etc/shadow
sed -n 's/^InitiatorName=/initiator /p' /etc/iscsi/initiatorname.iscsi
for card in /sys/class/net/*; do
    [ ! -e "$card/device" ] || read -r mac <"$card/address" && [ -e "$card/device" ] && echo "mac $mac"
done
[ ! -e /etc/pve/local/pve-ssl.pem ] || echo "certificate $(digest </etc/pve/local/pve-ssl.pem)"
[ -e /etc/pve/corosync.conf ] || [ ! -e /etc/pve/pve-root-ca.pem ] || echo "ca $(digest </etc/pve/pve-root-ca.pem)"
exit 0
"""
"""Prints what a node is, a line each, once it has been told (sshd is up before that). Of keys, certificates and the
password only digests."""

CALLED: Mapping[str, str] = {
    "name": "host name",
    "address": "address by its name",
    "machine-id": "machine-id",
    "hostid": "hostid",
    "host-key": "ssh host key",
    "root-key": "root's ssh key",
    "password": "root's password",
    "initiator": "iSCSI initiator name",
    "mac": "MAC address",
    "certificate": "certificate",
    "ca": "CA without a cluster",
}
"""What a node says, by its word for it."""

NEEDED = ("name", "address", "machine-id", "hostid", "host-key", "initiator")


@frozen
class Node:
    """What a node said; `error`: why it said nothing."""

    spec: Spec
    said: tuple[tuple[str, str], ...] = ()
    error: str = ""


async def prove(nest: Nest, specs: Iterable[Spec], down: frozenset[str]) -> list[Proof]:
    """The claim `identity` of every node that runs."""
    nodes = await asyncio.gather(*(_ask(nest, spec) for spec in specs if is_node(spec) and spec.path not in down))
    return proofs(nodes)


async def _ask(nest: Nest, spec: Spec) -> Node:
    try:
        host = await nest.host(spec.path)
        asked = await host.run(("sh", "-c", ASK), check=False, timeout=PATIENCE)
    except LabError as error:
        return Node(spec, error=error.what)
    return Node(spec, said(asked.text))


def said(text: str) -> tuple[tuple[str, str], ...]:
    """The lines of ASK that are such lines."""
    lines = (line.partition(" ")[::2] for line in text[:SAID].splitlines()[:LINES])
    return tuple((word, one_line(rest.strip())[:SHOWN]) for word, rest in lines if word in CALLED and rest.strip())


def proofs(nodes: Iterable[Node]) -> list[Proof]:
    """What follows from what nodes said. A MAC address that one node has twice is its own; so is all else."""
    nodes = list(nodes)
    owners: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for node in nodes:
        alone = str(management_address(node.spec, 15))  # on its own wire to its host, where no other node is
        for each in node.said:
            if each != ("address", alone):
                owners[each][node.spec.path] = None
    return [_of(node, owners) for node in nodes]


def _of(node: Node, owners: Mapping[tuple[str, str], Mapping[str, None]]) -> Proof:
    path, level = node.spec.path, node.spec.level
    if node.error:
        return Proof(path, level, "identity", False, node.error, "it is not known who it is")
    known = dict(node.said)
    wrong = [f"it does not say its {CALLED[word]}" for word in NEEDED if word not in known]
    if known.get("name", node.spec.machine.name) != node.spec.machine.name:
        wrong.append(f"its host name is {known['name']}")
    if re.match(r"127\.|::1$|fe80:", known.get("address", "")):
        wrong.append(f"its name stands for {known['address']}, where no other node finds it")
    for each in dict.fromkeys(node.said):
        if others := [other for other in owners.get(each, ()) if other != path]:
            wrong.append(f"{CALLED[each[0]]} as of {', '.join(others)}")
    if wrong:
        why = "a cluster takes nodes that are alike for one: make one of them anew"
        return Proof(path, level, "identity", False, "; ".join(dict.fromkeys(wrong)), why)
    count = len({word for word, _ in node.said})
    return Proof(path, level, "identity", True, f"{known['name']} at {known['address']}; {count} things, all its own")
