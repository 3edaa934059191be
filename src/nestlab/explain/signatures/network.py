"""What is said of networks that clash, drop or loop, at any level."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

TABLE: tuple[Signature, ...] = (
    Signature(
        "libvirt-network-clash",
        r"Network is already in use by interface (?P<interface>[\w.-]+)",
        "libvirt's network has the same addresses as {interface}: mostly the default network inside of a machine that "
        "itself hangs on a default network (192.168.122.0/24).",
        "Give the inner one other addresses: `virsh net-edit default`, then `virsh net-start default`.",
        "RamenDR/ramen#1297; vagrant-libvirt/vagrant-libvirt#1311; libvirt: Network XML format",
        "error: internal error: Network is already in use by interface virbr0",
        Rank.CAUSE,
    ),
    Signature(
        "docker-pool-overlap",
        r"Pool overlaps with other one on this address space|could not find an available, non-overlapping IPv4",
        "Docker's new network has the same addresses as another one or a route of this machine.",
        "Give it other addresses (`docker network create --subnet …`), or set default-address-pools in "
        "/etc/docker/daemon.json.",
        "Docker documentation: dockerd, default-address-pools",
        "Error response from daemon: invalid pool request: Pool overlaps with other one on this address space",
        Rank.CAUSE,
    ),
    Signature(
        "vagrant-network-collision",
        r"host network collides with a non-hostonly network|network range overlaps|is not within the allowed ranges",
        "The private network that the machine is to have collides with one of the host, or is not allowed there.",
        "Choose other addresses; VirtualBox allows those of /etc/vbox/networks.conf.",
        "Vagrant documentation: Private Networks; VirtualBox manual: Host-Only Networking",
        "The specified host network collides with a non-hostonly network!",
        Rank.CAUSE,
    ),
    Signature(
        "forward-drop",
        r"-P FORWARD DROP|Chain FORWARD \(policy DROP",
        "This host drops what it forwards, as Docker sets it; with br_netfilter loaded that hits bridged machines too.",
        "Let the lab's bridge through: `sudo iptables -I DOCKER-USER -i BRIDGE -j ACCEPT` and the same with -o, or "
        "`sudo sysctl net.bridge.bridge-nf-call-iptables=0`.",
        "moby/moby#39439; docker/for-linux#949; Docker documentation: Packet filtering and firewalls",
        "-P FORWARD DROP",
        Rank.NOTE,
    ),
    Signature(
        "own-address-received",
        r"received packet on (?P<port>[\w.-]+) with\s{1,3}own address as source address",
        "The bridge gets its own frames back through {port}: two machines have the same MAC address, or the networks "
        "form a loop.",
        "Give clones new MAC addresses, and cut the loop or switch STP on.",
        "linux: net/bridge/br_fdb.c",
        "vmbr0: received packet on ens18 with own address as source address (addr:bc:24:11:2e:c5:4a, vlan:0)",
        Rank.CAUSE,
    ),
    Signature(
        "duplicate-address",
        r"IPv6 duplicate address .{2,60} detected|Duplicate address detected|duplicate IP address",
        "Two machines have the same address: mostly clones of one image, or DHCP with the same machine-id.",
        "Give each its own: new MAC address, empty /etc/machine-id before the first boot, other static addresses.",
        "machine-id(5); RFC 4862, duplicate address detection",
        "IPv6: ens18: IPv6 duplicate address fe80::5054:ff:fe12:3456 used by 52:54:00:12:34:56 detected!",
        Rank.CAUSE,
    ),
    Signature(
        "rtnetlink-exists",
        r"RTNETLINK answers: File exists",
        "The address, route or interface is already there.",
        "See it: `ip addr`, `ip route`. Delete it first, or use `ip … replace`.",
        "ip(8), ip-route(8)",
        "RTNETLINK answers: File exists",
        Rank.NOTE,
    ),
    Signature(
        "card-unit-hang",
        r"e1000e? .{0,60}Detected (?:Tx|Hardware) Unit Hang",
        "The card (e1000, e1000e) stopped sending and is reset again and again: a known fault of its offloads, or the "
        "CPU of a virtual machine that was kept from it for seconds.",
        "On a real host: `sudo ethtool -K DEVICE tso off gso off gro off`, for good as post-up in "
        "/etc/network/interfaces. In a virtual machine give it a virtio card instead.",
        "linux: drivers/net/ethernet/intel/e1000e/netdev.c (e1000_print_hw_hang); ethtool(8)",
        "e1000e 0000:00:1f.6 eno1: Detected Hardware Unit Hang:",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "spanning-tree-change",
        r"port \d{1,5}\([\w.:-]{1,32}\) (?:neighbor \S{1,40} lost|received tcn bpdu)|received tcn bpdu, propagating",
        "Spanning tree is on, and a bridge beside this one came, went or fell silent; until it settles again (some 30 "
        "s) ports do not forward.",
        "Nothing if that was meant. In a lab without loops leave it off: `sudo ip link set BRIDGE type bridge "
        "stp_state 0`.",
        "ip-link(8) (bridge, stp_state, forward_delay)",
        "br0: port 2(tap101i0) neighbor 8000.52:54:00:ab:cd:ef lost",
        Rank.NOTE,
    ),
    Signature(
        "rtnetlink-not-permitted",
        r"RTNETLINK answers: Operation not permitted",
        "Only root may change interfaces and routes, in a container only with CAP_NET_ADMIN.",
        "Use sudo; for a container: `--cap-add NET_ADMIN`.",
        "ip(8), capabilities(7)",
        "RTNETLINK answers: Operation not permitted",
        Rank.CAUSE,
    ),
    Signature(
        "dnsmasq-in-use",
        r"dnsmasq: failed to (?:create listening socket|bind DHCP server socket).{0,60}Address already in use",
        "Another DNS or DHCP server already listens there.",
        "See who: `ss -lnup 'sport = :53'`; end that one, or let it leave that interface alone (bind-interfaces).",
        "dnsmasq(8)",
        "dnsmasq: failed to create listening socket for 192.168.122.1: Address already in use",
        Rank.CAUSE,
    ),
    Signature(
        "address-in-use",
        r"Address already in use",
        "Something else already listens on that address and port.",
        "See who: `ss -lntup`. End it, or choose another port.",
        "bind(2) (EADDRINUSE)",
        "bind: Address already in use",
        Rank.GENERAL,
    ),
)
