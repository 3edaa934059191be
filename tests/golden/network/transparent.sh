#!/bin/sh
# The network of hv1. usage: network.sh [ROOT], which may be run again.
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

ip link set dev lo up || complain "cannot bring up lo"

# management
if find_card 52:54:00:00:00:0f; then
    quiet "$card"
    ip link set dev "$card" up || complain "cannot bring up $card"
    address4 "$card" 10.0.2.15/24 10.0.2.255
fi

# segment a-rather-long-name
if find_card 52:54:00:aa:00:02; then
    bridge br-87d02c795d02 "$card" 52:54:00:aa:00:02 9000
    put 65528 /sys/class/net/br-87d02c795d02/bridge/group_fwd_mask
    put 4 "/sys/class/net/$card/brport/group_fwd_mask"
    address4 br-87d02c795d02 10.78.0.11/16 10.78.255.255
    address6 br-87d02c795d02 fd78::11/64
fi

exit $failed

