"""What Ceph and Proxmox VE's commands for it say: monitors, OSDs, their networks."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

MON = "Ceph documentation: Troubleshooting Monitors"
OSD = "Ceph documentation: Monitor/OSD Interaction"

TABLE: tuple[Signature, ...] = (
    Signature(
        "ceph-mon-down",
        r"\bMON_DOWN\b|\d{1,3}/\d{1,3} mons? down, quorum",
        "A monitor of Ceph does not answer; the others still have quorum, and go on.",
        "`ceph health detail` names it. Start its node, or there `systemctl restart ceph-mon@$(hostname)`; else look "
        "at the network between them and at the node's clock.",
        MON,
        "HEALTH_WARN 1/3 mons down, quorum pve1,pve3",
        Rank.SYMPTOM,
    ),
    Signature(
        "ceph-mon-no-quorum",
        r"monclient(?:\(hunting\))?: (?:authenticate|get_monmap_and_config) (?:timed out|cannot)"
        r"|connect to ceph cluster despite configured monitors|mon\.\S{1,60}\(probing\)|\bmons? .{0,20}lost quorum",
        "Ceph's monitors do not answer: more than half of them are off or cut off, so there is no quorum and nothing "
        "of Ceph works.",
        "Start the other nodes; `ceph daemon mon.$(hostname) mon_status` works without quorum and says whom this one "
        "sees. Let TCP 3300 and 6789 through between them, compare clocks, and see that their disk is not full.",
        MON + "; PVE Administration Guide: Deploy Hyper-Converged Ceph Cluster",
        "monclient(hunting): authenticate timed out after 300",
    ),
    Signature(
        "ceph-osd-no-reply",
        r"heartbeat_check: no reply from (?P<address>[\[\]\w.:]{3,60})",
        "An OSD gets no answer from the one at {address}: that is down, its node stands still, or Ceph's cluster "
        "network does not reach it (`front` is the public network, `back` the cluster's).",
        "`ceph osd tree` says which are down. `ping -M do -s 8972` to that address where the MTU is 9000: frames that "
        "are too large for a nested network vanish. Let TCP 6800-7568 through.",
        OSD,
        "osd.0 42 heartbeat_check: no reply from 10.0.0.3:6804 osd.2 ever on either front or back",
        Rank.SYMPTOM,
        Sure.LIKELY,
    ),
)
