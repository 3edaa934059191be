"""The shell script that sets up a machine's network inside it, at every boot. Pure.

Linux inside a guest is set up with `ip` alone: no DHCP, no daemon, nothing to wait for. The one exception is a card on
a network that is not nestlab's, a bridge of a Proxmox VE: its addresses are somebody else's to give (`dhcp`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

from nestlab import kinds
from nestlab.lab.blueprint import Nic, Spec

INTERFACE_LIMIT = 15
"""Characters of an interface's name (Linux: IFNAMSIZ with its final zero)."""
IPV6_MTU = 1280
"""The smallest MTU with which Linux does IPv6 (RFC 8200)."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

# busybox's ip knows no `nodad` and no `replace` for addresses: accept_dad does the first for every address of a card
# (those that the kernel makes, too), and an address that is there already is told from a failure by looking.
_PRELUDE = """\
PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
failed=0

complain() {
    echo "network.sh: $*" >&2
    failed=1
}

# find_card MAC: sets $card to the name of the card with that address. A bridge or a VLAN on a card may have it, too.
find_card() {
    tries=0
    while [ $tries -lt 30 ]; do
        for path in /sys/class/net/*; do
            [ -r "$path/address" ] && [ ! -d "$path/bridge" ] || continue
            set -- "$1" "$path"/lower_*
            [ ! -e "$2" ] || continue
            read -r address <"$path/address"
            [ "$address" != "$1" ] || { card=${path##*/}; return 0; }
        done
        tries=$((tries + 1))
        sleep 0.1
    done
    complain "no network card has the address $1"
    return 1
}

# put VALUE FILE: a setting; one that this kernel does not have is no mistake.
put() {
    [ ! -w "$2" ] || echo "$1" >"$2" || complain "cannot set $2"
}

# quiet INTERFACE: IPv6 without routers' advertisements, and without a wait for duplicates of addresses.
quiet() {
    put 0 "/proc/sys/net/ipv6/conf/$1/accept_ra"
    put 0 "/proc/sys/net/ipv6/conf/$1/accept_dad"
}

# raise INTERFACE MTU
raise() {
    quiet "$1"
    ip link set dev "$1" mtu "$2" up || complain "cannot bring up $1 with an mtu of $2"
}

# bridge NAME INTERFACE MAC MTU: a bridge with that card, which forwards at once.
bridge() {
    if [ ! -d "/sys/class/net/$1/bridge" ] && ! ip link add name "$1" type bridge 2>/dev/null; then
        modprobe bridge 2>/dev/null
        ip link add name "$1" type bridge || complain "cannot make the bridge $1"
    fi
    put 0 "/sys/class/net/$1/bridge/stp_state"
    put 0 "/sys/class/net/$1/bridge/forward_delay"
    put 0 "/sys/class/net/$1/bridge/multicast_snooping"
    put 1 "/proc/sys/net/ipv6/conf/$2/disable_ipv6"
    ip link set dev "$1" address "$3" || complain "cannot give $1 the address $3"
    ip link set dev "$2" mtu "$4" || complain "cannot give $2 an mtu of $4"
    ip link set dev "$2" master "$1" || complain "cannot put $2 into $1"
    ip link set dev "$2" up || complain "cannot bring up $2"
    raise "$1" "$4"
}

# address INTERFACE ADDRESS/PREFIX
address() {
    ip address add "$2" dev "$1" 2>/dev/null && return
    case "$(ip -o address show dev "$1")" in
        *" $2 "*) ;;
        *) complain "cannot give $1 the address $2" ;;
    esac
}

# address4 INTERFACE ADDRESS/PREFIX BROADCAST
address4() {
    ip address add "$2" broadcast "$3" dev "$1" 2>/dev/null || address "$1" "$2"
}

# address6 INTERFACE ADDRESS/PREFIX: nothing where the kernel was told to do without IPv6.
address6() {
    [ ! -d /proc/sys/net/ipv6 ] || address "$1" "$2"
}
"""

# udhcpc tells an event in $1 and what it was given in variables: interface, ip, mask (bits), router, dns.
_DHCP = """\
#!/bin/sh
# The card of {path} on a network that has a DHCP server. usage: dhcp.sh
PATH=${{PATH:+$PATH:}}/usr/sbin:/usr/bin:/sbin:/bin

case "${{1-}}" in
"")
    for path in /sys/class/net/*; do
        read -r address <"$path/address" || continue
        [ "$address" = {mac} ] || continue
        card=${{path##*/}}
        ip link set dev "$card" up
        exec busybox udhcpc -f -S -t 4 -T 2 -A 10 -i "$card" -x hostname:{name} -s "$0"
    done
    echo "dhcp.sh: no network card has the address {mac}" >&2
    exit 1
    ;;
deconfig)
    ip -4 address flush dev "$interface"
    ;;
bound | renew)
    case "$(ip -4 -o address show dev "$interface")" in
    *" $ip/$mask "*) ;;
    *)
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
        ;;
    esac
    for each in ${{router-}}; do
        ip route replace default via "$each" dev "$interface"
        break
    done
    [ -z "${{dns-}}" ] || for each in $dns; do
        echo "nameserver $each"
    done >/etc/resolv.conf
    ;;
esac
"""


def bridge_name(segment: str) -> str:
    """The Linux bridge of a segment inside a hypervisor: `br-wire`, or with a digest where the name is too long."""
    name = f"br-{segment}"
    if len(name) <= INTERFACE_LIMIT:
        return name
    return "br-" + hashlib.sha256(segment.encode()).hexdigest()[: INTERFACE_LIMIT - 3]


def bridges(spec: Spec) -> dict[str, str]:
    """The bridges of a machine, by segment: for the segments of machines inside, or, as its kind has it, for all."""
    kind = kinds.kinds().get(spec.machine.hypervisor or "")
    if kind is not None and kind.bridges:
        return {nic.segment: f"{kind.bridges}{number}" for number, nic in enumerate(spec.nics)}
    return {nic.segment: bridge_name(nic.segment) for nic in spec.nics if nic.bridge}


def script(spec: Spec, *, management_mac: str | None) -> str:
    """A POSIX shell script, `network.sh [ROOT]`, for the machine's root: dash or busybox, either's `ip`.

    `management_mac`: None for a machine without a card that leads to its host. It may be run any number of times. With
    internet by that card, it writes ROOT/etc/resolv.conf. Its status is 0 when everything is in place, otherwise 1 with
    a line on stderr for each thing that is not, and it does what it can.
    """
    bridged = bridges(spec)
    parts = [
        f"#!/bin/sh\n# The network of {spec.path}. usage: network.sh [ROOT], which may be run again.\n{_PRELUDE}",
        'ip link set dev lo up || complain "cannot bring up lo"\n',
        *(["\n".join(_management(spec, _checked(management_mac)))] if management_mac is not None else []),
        *("\n".join(_segment(nic, bridged.get(nic.segment))) for nic in spec.nics),
        "exit $failed\n",
    ]
    return "\n".join(parts)


def dhcp(spec: Spec, mac: str) -> str:
    """A script, `dhcp.sh`, that asks for the address of the card with that MAC address for as long as it runs: started
    without arguments it becomes busybox's udhcpc, which calls it with what happened."""
    return _DHCP.format(path=spec.path, name=spec.machine.name, mac=_checked(mac))


def resolv_conf(spec: Spec) -> str:
    """The text of /etc/resolv.conf; "" for a machine without internet, which has no name server."""
    return f"nameserver {management_address(spec, 3)}\n" if spec.machine.internet else ""


def management_address(spec: Spec, number: int) -> IPv4Address:
    """.2 is the host, .3 its name server, .15 the machine."""
    return IPv4Network(spec.management)[number]


def _management(spec: Spec, mac: str) -> Iterator[str]:
    network = IPv4Network(spec.management)
    own = f"{management_address(spec, 15)}/{network.prefixlen}"
    yield "# management"
    yield f"if find_card {mac}; then"
    yield '    quiet "$card"'
    yield '    ip link set dev "$card" up || complain "cannot bring up $card"'
    yield f'    address4 "$card" {own} {network.broadcast_address}'
    if spec.machine.internet:
        gateway = management_address(spec, 2)
        yield f'    ip route replace default via {gateway} dev "$card" || complain "cannot route by {gateway}"'
        yield f'    [ ! -d "${{1-}}/etc" ] || echo "{resolv_conf(spec).strip()}" >"${{1-}}/etc/resolv.conf" ||'
        yield '        complain "cannot write ${1-}/etc/resolv.conf"'
    yield "fi\n"


def _segment(nic: Nic, bridge: str | None) -> Iterator[str]:
    mac = _checked(nic.mac)
    yield f"# segment {nic.segment}"
    yield f"if find_card {mac}; then"
    if bridge is not None:
        name = bridge
        yield f'    bridge {name} "$card" {mac} {nic.mtu}'
        if nic.transparent:
            # 01:80:C2:00:00:0X: all but STP, pause and LACP; that last one Linux lets a port alone pass on.
            yield f"    put {0xFFF8} /sys/class/net/{name}/bridge/group_fwd_mask"
            yield f'    put {1 << 2} "/sys/class/net/$card/brport/group_fwd_mask"'
    else:
        name = '"$card"'
        yield f"    raise {name} {nic.mtu}"
    for text in nic.addresses:
        address = ip_interface(text)
        if isinstance(address, IPv4Interface) and address.network.prefixlen >= 31:
            yield f"    address {name} {address}"
        elif isinstance(address, IPv4Interface):
            yield f"    address4 {name} {address} {address.network.broadcast_address}"
        elif nic.mtu >= IPV6_MTU:
            yield f"    address6 {name} {address}"
    yield "fi\n"


def _checked(mac: str) -> str:
    lower = mac.lower()
    if not _MAC.fullmatch(lower):
        raise ValueError(f"{mac!r} is not a MAC address")
    return lower
