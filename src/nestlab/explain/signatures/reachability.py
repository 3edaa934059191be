"""What is seen when packets vanish without an error: too large, or from a MAC address that a port refuses."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

MTU = (
    "Measure: `ping -M do -s 1472 ADDRESS` (less until it passes; + 28 is the MTU of the way). Set that: `sudo ip "
    'link set DEV mtu 1400` on the inner card or segment, in Docker `"mtu": 1400` in daemon.json.'
)
MAC = (
    "Let the port below pass other MAC addresses: ESXi promiscuous mode and forged transmits, Hyper-V "
    "`Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On`, Proxmox VE firewall=0 or its MAC filter off. Clouds "
    "and Wi-Fi never do: route or NAT there."
)

TABLE: tuple[Signature, ...] = (
    Signature(
        "mtu-ssh-stands",
        r"expecting SSH2_MSG_KEX_(?:ECDH|DH|DH_GEX|HYBRID)\w{0,12}",
        "ssh stands in the key exchange: small packets pass and the first large one does not, so the MTU is smaller "
        "somewhere on the way (VXLAN 1450, GCP 1460, VPNs, nested overlays 1400) and nobody says so.",
        MTU,
        "microsoft/WSL#9110; chainguard-dev/melange#2411; RFC 4821",
        "debug1: expecting SSH2_MSG_KEX_ECDH_REPLY",
        Rank.CAUSE,
        Sure.LIKELY,
        unless=("_reply received", "ssh2_msg_newkeys", "kex: host key", "server host key:"),
    ),
    Signature(
        "mtu-told",
        r"frag(?:mentation)? needed and DF set|message too long,? mtu|Message too long|mtu greater than device maximum"
        r"|Packet too big|\bneed to frag|pmtud?:? .{0,40}(?:reduced|lower)",
        "A packet was larger than the MTU of the way: of this card, or of a tunnel or a level in between.",
        MTU,
        "ping(8) (-M do), ip-link(8) (mtu)",
        "ping: local error: message too long, mtu=1450",
        Rank.CAUSE,
    ),
    Signature(
        "tls-stands",
        r"TLS handshake, Client hello|SSL connection timeout|TLS handshake timeout",
        "The TLS handshake begins and does not go on. Often small packets pass and large ones do not: an MTU that is "
        "smaller on the way (VXLAN 1450, GCP 1460, VPN); else the server is overloaded or a proxy holds it.",
        MTU,
        "chainguard-dev/melange#2411; curl(1)",
        "net/http: TLS handshake timeout",
        told=Sure.POSSIBLE,
        unless=("server hello", "ssl connection using"),
    ),
    Signature(
        "mac-filter-told",
        r"forged transmits?|L2Sec_\w{4,40}|MAC address (?:change|spoofing).{0,60}(?:denied|blocked|dropped|not allowed"
        r"|rejected)|PVEFW.{0,60}(?:macfilter|mac filter)",
        "The virtual switch below drops frames with MAC addresses that are not the machine's own: those of its inner "
        "guests.",
        MAC,
        "VMware: port group security policy; Microsoft: MAC address spoofing for nested virtualization; "
        "pve-firewall(8)",
        "L2Sec_EnforcePortCompliance: client nested-esxi.eth0 has forged transmits, dropped",
        Rank.CAUSE,
    ),
    Signature(
        "arp-unanswered",
        r"ARP, Request who-has|Received 0 response",
        "Nobody answers ARP here: the other machine is off or on another segment, or a port below drops the MAC "
        "addresses of inner guests.",
        MAC + " See where it ends: `tcpdump -eni DEV arp` at each level.",
        "tcpdump(8), arping(8); MicrosoftDocs/Virtualization-Documentation#811",
        "12:00:01.100000 ARP, Request who-has 10.0.0.1 tell 10.0.0.21, length 28",
        told=Sure.POSSIBLE,
        unless=("arp, reply", "is-at", "unicast reply", "received 1 response"),
    ),
    Signature(
        "host-unreachable-arp",
        r"Destination Host Unreachable|lladdr\s{0,4}FAILED|\bdev \S{1,20}\s{1,4}(?:FAILED|INCOMPLETE)\b",
        "The address is in this machine's own network, and nobody there answers for it: that machine is off, on "
        "another segment or VLAN, or a port below drops the frames of inner guests.",
        MAC,
        "ip-neighbour(8); ping(8)",
        "From 10.0.0.21 icmp_seq=1 Destination Host Unreachable",
        Rank.GENERAL,
    ),
    Signature(
        "bridge-wireless",
        r"can't add wl\w{1,12} to bridge|(?:wlan|wlp|wl)\w{0,12}.{0,40}bridge.{0,40}Operation not supported",
        "A wireless card cannot be a port of a bridge: the access point takes frames of its own MAC address only.",
        "Use NAT or routing (libvirt's default network, `internet: true` in a lab), or a cable.",
        "linux: net/bridge; Debian wiki: BridgeNetworkConnections",
        "can't add wlp3s0 to bridge br0: Operation not supported",
        Rank.CAUSE,
    ),
    Signature(
        "dhcp-nothing",
        r"No DHCPOFFERS received|no lease, failing|DHCP(?:v4)? (?:lease )?(?:timed out|timeout)|dhcp.{0,30}timed out",
        "Nobody answered for DHCP: there is no server on this segment, or a port below drops the frames of inner "
        "guests.",
        MAC + " Or give a static address.",
        "dhclient(8); tcpdump(8): port 67 or 68",
        "No DHCPOFFERS received.",
        told=Sure.POSSIBLE,
    ),
    Signature(
        "udp-checksum",
        r"bad udp cksum|\d{1,4} bad udp checksums? in \d{1,4} packets|bad udp checksum",
        "DHCP (and other UDP) answers arrive with checksums that were left to a card to fill in, and no real card is "
        "between.",
        "Switch that off where the server runs: `sudo ethtool -K BRIDGE tx off`, or on the guest's virtual card.",
        "ethtool(8); dhclient(8)",
        "dhclient: 5 bad udp checksums in 5 packets",
        Rank.CAUSE,
    ),
    Signature(
        "martian",
        r"martian (?:source|destination)",
        "A packet came in by a card by which its answer would not go out: two cards in one network, or a route that "
        "differs between the levels. With rp_filter=1 it is dropped.",
        "One card per network, or policy routes; `sudo sysctl net.ipv4.conf.all.rp_filter=2` lets it pass.",
        "Linux documentation: networking/ip-sysctl (rp_filter)",
        "IPv4: martian source 10.0.0.12 from 10.0.1.11, on dev ens18",
        Rank.NOTE,
    ),
    Signature(
        "table-full",
        r"neighbor table overflow|neighbour table overflow|nf_conntrack: table full",
        "The kernel's table of neighbours or connections is full, so packets are dropped.",
        "`sudo sysctl net.ipv4.neigh.default.gc_thresh3=8192` (and gc_thresh2), or net.netfilter.nf_conntrack_max.",
        "Linux documentation: networking/ip-sysctl, networking/nf_conntrack-sysctl",
        "neighbour: arp_cache: neighbor table overflow!",
        Rank.CAUSE,
    ),
    Signature(
        "ping-lost",
        r"100% packet loss",
        "Nothing came back: the machine is off, a firewall or missing route drops it, or a port below refuses the MAC "
        "addresses of inner guests. If only large packets are lost, it is the MTU.",
        "Follow it level by level from the outside in: `ping`, `ip neigh`, `tcpdump -eni DEV icmp or arp` where it "
        "stops.",
        "ping(8), tcpdump(8)",
        "3 packets transmitted, 0 received, 100% packet loss, time 2031ms",
        Rank.GENERAL,
    ),
)
