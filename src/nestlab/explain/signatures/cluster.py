"""What pvecm, pmxcfs and corosync say."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

GUIDE = "PVE Administration Guide: Cluster Manager"

TABLE: tuple[Signature, ...] = (
    Signature(
        "node-name-loopback",
        r"Unable to resolve node name '(?P<node>[\w.-]+)' to a non-loopback IP address"
        r"|hostname lookup '(?P<name>[\w.-]+)' failed",
        "The node's own name leads to no address or to 127.x, and Proxmox VE does not start with that.",
        "Write its real address in /etc/hosts (`10.0.0.11 pve1.lab.example pve1`), remove the line 127.0.1.1, then "
        "`systemctl restart pve-cluster`. `hostname --ip-address` must print it.",
        "PVE wiki: Install Proxmox VE on Debian; " + GUIDE,
        "[main] crit: Unable to resolve node name 'pve1' to a non-loopback IP address - missing entry in '/etc/hosts' "
        "or DNS?",
        Rank.CAUSE,
    ),
    Signature(
        "join-has-guests",
        r"this host already contains virtual guests",
        "A node can only join while it has no virtual machines and containers.",
        "Back them up and remove them (`qm list`, `pct list`), join, then restore.",
        GUIDE + ", Adding Nodes to the Cluster",
        "* this host already contains virtual guests",
        Rank.CAUSE,
    ),
    Signature(
        "join-was-in-cluster",
        r"authentication key '[^']{1,80}' already exists|cluster config '[^']{1,80}' already exists"
        r"|corosync is already running",
        "This node is, or was, in a cluster.",
        "`pvecm status`. To leave it: stop pve-cluster and corosync, and remove the old state as the guide says; or "
        "install the node anew.",
        GUIDE + ", Separate a Node Without Reinstalling",
        "* authentication key '/etc/corosync/authkey' already exists",
        Rank.CAUSE,
    ),
    Signature(
        "join-address",
        r"cannot use IP '(?P<address>[\w.:]+)', not found on local node",
        "{address} is no address of this node, so corosync cannot use it.",
        "`ip -br addr` shows what it has: correct --link0, and the node's name in /etc/hosts.",
        GUIDE + "; lae/ansible-role-proxmox#138",
        "* cannot use IP '10.0.0.12', not found on local node!",
        Rank.CAUSE,
    ),
    Signature(
        "join-refused",
        r"Check if node may join a cluster failed",
        "This node may not join; the lines with a * say why.",
        "Mend those. --force only hides them.",
        GUIDE + ", Adding Nodes to the Cluster",
        "Check if node may join a cluster failed!",
        Rank.SYMPTOM,
    ),
    Signature(
        "join-fallback-link",
        r"No cluster network links passed explicitly, fallback to local node IP",
        "No network was named for corosync, so it takes the node's own address.",
        "Nothing, if that is meant; else give --link0 ADDRESS.",
        "pvecm(1)",
        "No cluster network links passed explicitly, fallback to local node IP '10.0.0.12'",
        Rank.NOTE,
    ),
    Signature(
        "join-existing-node",
        r"can't add existing node '(?P<node>[\w.-]+)'|address '(?P<address>[\w.:]+)' already used on link",
        "The cluster already has a node of this name or address: mostly a clone, or one that was not removed.",
        "Give the clone its own name, address and machine-id before it joins; a node that is gone for good: `pvecm "
        "delnode NODE`.",
        GUIDE + ", Remove a Cluster Node",
        "can't add existing node 'pve1'",
        Rank.CAUSE,
    ),
    Signature(
        "join-links",
        r"no links given but multiple links found",
        "The cluster has several networks for corosync, and the new node named none of its own.",
        "Give one for each: `pvecm add HOST --link0 ADDRESS --link1 ADDRESS`.",
        "pvecm(1)",
        "no links given but multiple links found on other node",
        Rank.CAUSE,
    ),
    Signature(
        "join-version",
        r"incompatible join API version|unsupported old API version on joining node",
        "The two nodes have too different versions of Proxmox VE.",
        "Update both: `apt update && apt full-upgrade`, then join.",
        "pvecm(1); pve-cluster: PVE/API2/ClusterConfig.pm",
        "incompatible join API version on cluster (1 > 0)",
        Rank.CAUSE,
    ),
    Signature(
        "join-cwd",
        r"Navigate out of /etc/pve before running",
        "A join mounts /etc/pve anew, which it cannot while you are in it.",
        "`cd /`, then again.",
        "pvecm(1)",
        "Navigate out of /etc/pve before running 'pvecm add', for example by running 'cd'.",
        Rank.CAUSE,
    ),
    Signature(
        "no-quorum",
        r"no quorum!|cluster not ready - no quorum|no quorum - unable to",
        "Fewer than half of the cluster's votes are there, so /etc/pve is read-only on this node.",
        "Start the other nodes and wait; see `pvecm status`. Two nodes need a third vote: `pvecm qdevice setup "
        "ADDRESS`. In a lab only: `pvecm expected 1`.",
        GUIDE + ", Quorum; Corosync External Vote Support",
        "TASK ERROR: cluster not ready - no quorum?",
    ),
    Signature(
        "corosync-no-quorum",
        r"within the non-primary component and will NOT provide any service",
        "corosync on this node sees fewer than half of the votes: the cluster has no quorum here.",
        "Start the other nodes, or heal the network between them: `corosync-quorumtool -s` says who is missing, "
        "`corosync-cfgtool -n` which links are down; in a lab of nestlab's, `nestlab status` says both, and `nestlab "
        "heal` takes back what was killed or cut on purpose.",
        "corosync-quorumtool(8); votequorum(5)",
        "corosync[1042]:   [QUORUM] This node is within the non-primary component and will NOT provide any services.",
    ),
    Signature(
        "pve-read-only",
        r"received write while not quorate|/etc/pve/\S{1,120}'?(?: -|:) Permission denied",
        "/etc/pve is read-only on this node, as its cluster has no quorum; as another user than root it always is.",
        "`pvecm status`: with `Quorate: No`, start the other nodes or heal the network; /etc/pve can be written within "
        "seconds of that. `findmnt /etc/pve` shows nothing where pve-cluster does not run.",
        GUIDE + ", Quorum; PVE Administration Guide: Proxmox Cluster File System",
        "pmxcfs[874]: [dcdb] notice: received write while not quorate - trigger resync",
    ),
    Signature(
        "waiting-for-quorum",
        r"waiting for quorum\.\.\.|no quorum \(yet\) or hung pmxcfs",
        "The node joined, but hears none of the others.",
        "Let UDP 5405-5412 through between the nodes, check that link0 is the right network, and compare the clocks.",
        GUIDE + ", Requirements",
        "waiting for quorum...",
        Rank.SYMPTOM,
    ),
    Signature(
        "corosync-config-missing",
        r"Corosync config '[^']{1,80}' does not exist",
        "This node is not in a cluster.",
        "Make one (`pvecm create NAME`), or join one (`pvecm add HOST`).",
        "pvecm(1)",
        "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?",
        Rank.CAUSE,
    ),
    Signature(
        "corosync-token",
        r"Token has not been received in (?P<time>\d+) ?ms|A processor failed, forming new configuration",
        "corosync did not hear the others in time: a node was paused or restored, the host is overloaded, or the "
        "network is slow.",
        "Pause, restore and snapshot all nodes together; in nested labs raise token in corosync.conf, and give it a "
        "network of its own.",
        GUIDE + ", Cluster Network; corosync.conf(5)",
        "corosync[1042]: [TOTEM ] Token has not been received in 2737 ms",
        Rank.SYMPTOM,
    ),
    Signature(
        "corosync-not-scheduled",
        r"Corosync main process was not scheduled .{0,20}for (?P<time>\d{1,9})",
        "This node stood still for {time} ms: its CPUs were kept from it by the level below, or it was paused, moved "
        "or "
        "restored. Others may have taken it for dead.",
        "Look at steal time on the node (`vmstat 1`, st) and load below it; give fewer virtual CPUs than the host has, "
        "or start fewer machines at once; in nested labs raise token in corosync.conf.",
        GUIDE + ", Cluster Network; corosync.conf(5)",
        "corosync[1022]:   [MAIN  ] Corosync main process was not scheduled (@1732) for 5012.0391 ms (threshold is "
        "2920.0000 ms). Consider token timeout increase.",
        Rank.REFUSAL,
    ),
    Signature(
        "corosync-link-down",
        r"\[KNET\s{0,3}\] link: host: (?P<host>\d+) link: (?P<link>\d+) is down",
        "corosync lost node {host} on link {link}.",
        "Is that node up? `ping` its address of that link, and let UDP 5405-5412 through.",
        "corosync-cfgtool(8); " + GUIDE,
        "corosync[1042]:   [KNET  ] link: host: 2 link: 0 is down",
        Rank.SYMPTOM,
    ),
    Signature(
        "watchdog-expired",
        r"client watchdog expired|watchdog-mux.{0,60}disable watchdog updates",
        "The node was without quorum for a minute while it had HA guests, so it resets itself.",
        "In labs leave HA off, or let it rest while nodes are paused: `ha-manager crm-command node-maintenance enable "
        "NODE`.",
        "PVE Administration Guide: High Availability, Fencing",
        "watchdog-mux[611]: client watchdog expired - disable watchdog updates",
        Rank.SYMPTOM,
    ),
    Signature(
        "ha-gave-up",
        r"recovery policy for service (?P<sid>(?:vm|ct):\d{1,9}) failed, entering error state",
        "High availability gave up on {sid}: it started on none of the nodes that it may run on.",
        "See why in the log of its start (`qm start`, `pct start`), then reset it: `ha-manager set SID --state "
        "disabled`, and `--state started`. Of a lab's own machine: `nestlab up`.",
        "ha-manager(1), Error Recovery",
        "pve-ha-crm[901]: recovery policy for service vm:101 failed, entering error state. Failed nodes: pve1",
        Rank.SYMPTOM,
    ),
    Signature(
        "ha-no-watchdog",
        r"unable to open watchdog socket",
        "High availability does nothing on this node: watchdog-mux does not run, or the node has no watchdog.",
        "`systemctl start watchdog-mux`, `journalctl -u watchdog-mux`: it loads softdog where nothing else is said in "
        "/etc/default/pve-ha-manager.",
        "PVE Administration Guide: High Availability, Fencing",
        "pve-ha-lrm[911]: unable to open watchdog socket - No such file or directory",
        Rank.CAUSE,
    ),
    Signature(
        "pmxcfs-not-there",
        r"ipcc_send_rec\[\d+\] failed: (?P<why>[\w ]{1,60})",
        "pmxcfs, which keeps /etc/pve, does not run on this node.",
        "`systemctl status pve-cluster`, `journalctl -u pve-cluster -n 30`: mostly the node's name in /etc/hosts or a "
        "full disk.",
        "PVE Administration Guide: Proxmox Cluster File System",
        "ipcc_send_rec[1] failed: Connection refused",
        Rank.CAUSE,
    ),
    Signature(
        "join-no-terminal",
        r"EOF while reading password|Please enter superuser \(root\) password for|unable to read (?:the )?password"
        r"|(?:stdin|input) is not a (?:tty|terminal).{0,60}password",
        "pvecm add asks for root's password on a terminal, and a script has none. Its exit status is 0 all the same: "
        "the node did not join.",
        "With root's ssh keys in place: `pvecm add HOST --use_ssh`. Or join by the API with password and fingerprint: "
        "`pvesh create /cluster/config/join --hostname HOST --fingerprint FP --password …`. Then `pvecm status`.",
        "pvecm(1) (--use_ssh, --fingerprint); lae/ansible-role-proxmox#29; ansible-collections/community.proxmox#503",
        "EOF while reading password",
        Rank.CAUSE,
    ),
    Signature(
        "join-fingerprint",
        r"X509 SHA256 key fingerprint is|hostname verification failed|fingerprint '?[0-9A-F:]{2,95}'? not verified"
        r"|certificate verify failed.{0,80}8006|8006.{0,60}certificate verify failed",
        "The joining node does not trust the other's certificate, and nobody was there to say yes.",
        "Give its fingerprint: `pvecm add HOST --fingerprint FP`; on HOST: `openssl x509 -noout -sha256 -fingerprint "
        "-in /etc/pve/local/pve-ssl.pem`.",
        "pvecm(1) (--fingerprint)",
        "X509 SHA256 key fingerprint is 3B:9A:11:7C:AF.",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "join-ssh-id",
        r"unable to copy ssh ID|unable to add node: command failed|ssh-copy-id.{0,40}failed",
        "The joining node cannot log in to the other as root by ssh.",
        "`ssh-copy-id root@HOST` first, root login by key allowed there (PermitRootLogin), or leave --use_ssh out and "
        "join by password.",
        "pvecm(1)",
        "unable to copy ssh ID: exit code 1",
        Rank.CAUSE,
    ),
)
