"""What LXC says where it starts no container: in a hypervisor of nestlab's, or anywhere."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

LXC = "lxc.container.conf(5)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "lxc-no-subids",
        r"new[ug]idmap: [ug]id range \[[\d-]{1,21}\) -> \[[\d-]{1,21}\) not allowed"
        r"|new[ug]idmap failed to write mapping|You either have no subuid or subgid",
        "Who starts this unprivileged container may not use the users and groups outside that it maps: no line of "
        "/etc/subuid or of /etc/subgid gives them to that user. Debian has none for root.",
        "As root: `echo root:100000:65536 >>/etc/subuid; echo root:100000:65536 >>/etc/subgid` (for another user its "
        "name), the range that `lxc.idmap` names. nestlab's `kvm` image has both lines.",
        "subuid(5), newuidmap(1); " + LXC,
        'lxc-start: web: ../src/lxc/conf.c: lxc_map_ids: 3701 newuidmap failed to write mapping "newuidmap: uid range '
        '[0-65536) -> [100000-165536) not allowed": newuidmap 1042 0 100000 65536',
        Rank.CAUSE,
    ),
    Signature(
        "lxc-no-bridge",
        r"Failed to attach \"[\w.-]{1,15}\" to bridge \"(?P<bridge>[\w.-]{1,15})\", bridge interface doesn't exist",
        "The bridge {bridge} that the container's card is to be on is not there.",
        "`ip -br link` shows those that are. lxcbr0 comes with `systemctl start lxc-net` (USE_LXC_BRIDGE in "
        "/etc/default/lxc-net); br-SEGMENT of a nestlab hypervisor with the first machine on that segment: "
        "`nestlab up`.",
        LXC + " (lxc.net.[i].link)",
        'netdev_configure_server_veth: 738 No such file or directory - Failed to attach "vethzOZGDW" to bridge '
        '"lxcbr0", bridge interface doesn\'t exist',
        Rank.CAUSE,
    ),
    Signature(
        "lxc-no-veth",
        r"Operation not supported - Failed to create veth pair|RTNETLINK answers: Unknown device type"
        r"|sandbox pair interfaces: operation not supported",
        "This kernel has no driver for veth, the pair of cards that a container is connected by.",
        "`sudo modprobe veth`. Where that fails: the modules of the running kernel are gone after an update (reboot), "
        "or are the host's, if this is a container itself.",
        "veth(4); " + LXC,
        "lxc-start: web: ../src/lxc/network.c: netdev_configure_server_veth: 680 Operation not supported - Failed to "
        'create veth pair "veth1001" and "vethKqbYg1"',
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "lxc-root-denied",
        r"Could not access [\w/.@-]{1,200}\. Please grant it x access, or add an ACL for the container root",
        "The container's root is an ordinary user outside (100000, mostly), and a directory above its root file system "
        "lets only its owner through.",
        "Let others pass the directory that the message names (`chmod o+x`, or `setfacl -m u:100000:x` on it).",
        "user_namespaces(7); " + LXC + " (lxc.idmap)",
        "Permission denied - Could not access /var/lib/lxc. Please grant it x access, or add an ACL for the container "
        "root",
        Rank.CAUSE,
    ),
    Signature(
        "lxc-cgroups",
        r"Failed to initialize cgroup driver|No \w{1,20} controller mountpoint found"
        r"|Could not enable \"\+[\w +]{1,80}\" controllers in the unified cgroup"
        r"|Failed to setup limits for the \"\w{1,20}\" controller",
        "LXC finds no control groups that it may use: cgroup v2 is not mounted, a controller is off, or who starts the "
        "container was not given a group of its own.",
        "`stat -fc %T /sys/fs/cgroup` says cgroup2fs for v2, and /sys/fs/cgroup/cgroup.controllers what there is. Not "
        "as root, start it by `systemd-run --user --scope -p Delegate=yes lxc-start …`.",
        "Linux documentation: admin-guide/cgroup-v2 (delegation); systemd: Delegate=",
        "lxc-start base 20180828114941.329 ERROR    start - start.c:lxc_init:861 - Failed to initialize cgroup driver",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "overlay-idmapped",
        r"overlayfs: idmapped layers are currently not supported",
        "An overlay was to be mounted over an idmapped mount (as an unprivileged container's root file system is), "
        "which Linux can from 5.19 on, and this kernel is older.",
        "Take a newer kernel: Debian 12 and later have one. containerd and Kubernetes try it to find out, and go on "
        "without.",
        "Linux 5.19: overlayfs, idmapped layers; mount_setattr(2)",
        "overlayfs: idmapped layers are currently not supported",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "lxc-failed",
        r"lxc-start: .{0,80}The container failed to start|Failed to receive the container state",
        "LXC started the container's first process and it ended, or never came to that. The reason stands above.",
        "`lxc-start -F -n NAME -l DEBUG -o /dev/stderr` says it; of nestlab's containers `nestlab logs MACHINE`.",
        "lxc-start(1)",
        "lxc-start: web: ../src/lxc/tools/lxc_start.c: main: 307 The container failed to start",
        Rank.SYMPTOM,
    ),
)
