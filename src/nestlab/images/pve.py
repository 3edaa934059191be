"""The image of a Proxmox VE node: Debian and Proxmox's own packages, whole, with no installer and no boot. Pure.

What packages need while they are installed, and what a node needs that has nestlab's boot, is from Proxmox's sources:
pve-manager (debian/postinst, services/), pve-cluster (pmxcfs.c, PVE/Cluster/Setup.pm), pve-kernel (debian/), and
pve-installer (Proxmox/Install.pm), whose way of installing the same packages this follows.
"""

from __future__ import annotations

from nestlab.images.recipes import KVM, MODULAR, SYSTEM, Archive, File, Recipe
from nestlab.lab.pve_packages import PvePackages

NAME = "pve"
UNIT = "nestlab-node.service"
SCRIPT = "/run/nestlab/node.sh"
"""What UNIT runs at every boot: a part of the machine's identity (`engines.pve_node`)."""

KEYS = "/run/nestlab/pve-keys.sh"
"""What runs when the cluster's filesystem has started, from there too."""

# The daemons are Perl that is compiled at each start: on an emulated node that takes longer than systemd's 90 s.
LIMIT = "15min"

_MANAGER = f"""\
# A slow node is slow: nothing is ended for it.
[Manager]
DefaultTimeoutStartSec={LIMIT}
DefaultDeviceTimeoutSec={LIMIT}
"""

_UNIT = f"""\
[Unit]
Description=Identity of this node, from nestlab
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target sysinit.target
Before=pvenetcommit.service networking.service pve-cluster.service corosync.service iscsid.service chrony.service
ConditionPathExists={SCRIPT}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {SCRIPT}
"""

_FIRST = f"""\
# Its name, its address and its keys are there before the cluster's file system asks for them.
[Unit]
Requires={UNIT}
After={UNIT} systemd-modules-load.service

[Service]
ExecStartPost=-/bin/sh {KEYS}
"""

# `pvecm updatecerts` ends itself after 80 s (PVE/CLI/pvecm.pm): too short for the first boot of a slow node. What it
# has made stays. In a cluster without quorum more turns would only wait longer.
_CERTIFIED = """\
[Service]
ExecStartPre=
ExecStartPre=-/bin/sh -c 'for turn in 1 2 3 4 5 6; do /usr/bin/pvecm updatecerts --silent; \
    [ ! -s /etc/pve/local/pve-ssl.pem ] && [ ! -e /etc/pve/corosync.conf ] || break; done'
"""

# pveproxy updates all package lists at its start where this file is missing (pveproxy.service, ExecStartPost).
# ifupdown2 locks a file in /run/network, which networking.service makes; without it every `ifreload` is refused, with
# "Another instance of this program is already running." (ifupdown/main.py, utils.lockFile).
_TMPFILES = "f /var/log/pveam.log 0644 root root -\nd /run/network 0755 root root -\n"

# Debian's asks udev to look at every device that there is, hundreds of terminals among them: on an emulated node that
# took minutes, in which nothing else started. These are what a node uses.
_TRIGGER = """\
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=all --action=add --subsystem-match=block --subsystem-match=net \\
    --subsystem-match=misc --subsystem-match=pci --subsystem-match=virtio --subsystem-match=virtio-ports \\
    --subsystem-match=scsi
"""

# High availability is started where something is under it: what the cluster has of it is there before its quorum is.
_HA_UNIT = "nestlab-ha.service"
_HA = """\
[Unit]
Description=High availability, where guests of the cluster are under it
After=pve-cluster.service

[Service]
Type=oneshot
ExecCondition=test -s /etc/pve/ha/resources.cfg
ExecStart=systemctl start --no-block pve-ha-lrm.service
"""

# Proxmox's ssh between nodes knows RSA host keys alone (PVE/Cluster/Setup.pm, ssh_create_node_known_hosts).
_SSHD = "HostKey /run/nestlab/ssh_host_rsa_key\n"

_LOADED = "fuse\n"
"""What the cluster's file system is made with, and where this is a module nobody loads it in time."""

MASKED = (
    *("pve-firewall.service", "pvefw-logger.service", "pve-firewall-commit.service", "pve-sdn-commit.service"),
    *(
        "pvebanner.service",
        "pvescheduler.service",
        "spiceproxy.service",
        "pve-daily-update.timer",
        "pvenetcommit.service",
    ),
    *("pve-ha-crm.service", "pve-ha-lrm.service", "watchdog-mux.service", "proxmox-firewall.service"),
    *("postfix.service", "smartmontools.service", "smartd.service", "rpcbind.service", "rpcbind.socket"),
    *("nfs-blkmap.service", "nfs-client.target", "lxc-monitord.service", "lxc-net.service", "iscsid.socket"),
    *(
        "iscsid.service",
        "open-iscsi.service",
        "lvm2-monitor.service",
        "lvm2-lvmpolld.socket",
        "blk-availability.service",
    ),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "dpkg-db-backup.timer", "logrotate.timer"),
    *("man-db.timer", "e2scrub_all.timer", "e2scrub_reap.service", "systemd-pstore.service", "cron.service"),
    *("ksmtuned.service", "zfs-zed.service", "networking.service", "rsync.service", "console-setup.service"),
    *("keyboard-setup.service", "frr.service", "systemd-journal-catalog-update.service", "ldconfig.service"),
    "systemd-hwdb-update.service",
)
"""Units that no target pulls in on a node: a lab has no use for them at boot, or nestlab does what they would
(`networking.service`: the network is there before). They stay, and can be started, by hand or by a unit that wants
them; `pve-guests.service` is not among them, so guests that are to start with their node do."""

WANTED = (
    *("kmod-static-nodes.service", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "dev-hugepages.mount", "dev-mqueue.mount"),
    "systemd-random-seed.service",
)
"""Units that other images of nestlab's do without: device nodes of modules that are loaded when they are opened."""

# Nothing here fails where a name is not there: packages come and go between versions.
_SCRIPT = f"""\
rm -f /proxmox_install_mode /etc/hosts

for unit in {" ".join(MASKED)}; do
    for wish in /etc/systemd/system/*.wants/"$unit" /usr/lib/systemd/system/*.wants/"$unit"; do
        [ -L "$wish" ] || continue
        wants=${{wish%/*}}
        mkdir -p "/etc/systemd/system/${{wants##*/}}"
        ln -sf /dev/null "/etc/systemd/system/${{wants##*/}}/$unit"
    done
done
for unit in {" ".join(WANTED)}; do
    rm -f "/etc/systemd/system/sysinit.target.wants/$unit"
done
mkdir -p /etc/systemd/system/multi-user.target.wants
rm -f /etc/systemd/system/multi-user.target.wants/systemd-logind.service
ln -sf /etc/systemd/system/{UNIT} /etc/systemd/system/sysinit.target.wants/{UNIT}
ln -sf /etc/systemd/system/{_HA_UNIT} /etc/systemd/system/multi-user.target.wants/{_HA_UNIT}

# Units that say a time of their own, such as the one that loads KVM's modules, are ended by it on a slow node.
for file in $(grep -lE '^Timeout(Start)?Sec=([0-9]+(s|sec)?|[1-9]min)$' /usr/lib/systemd/system/*.service || :); do
    mkdir -p "/etc/systemd/system/${{file##*/}}.d"
    printf '[Service]\\nTimeoutStartSec={LIMIT}\\n' >"/etc/systemd/system/${{file##*/}}.d/nestlab-limit.conf"
done

# What it wants is started with it, and of that a lab needs nothing.
guests=systemd/system/pve-guests.service
[ ! -e /usr/lib/$guests ] ||
    sed -E '/^Wants=(spiceproxy|pve-firewall)\\.service$/d' /usr/lib/$guests >/etc/$guests

# The repositories of those who pay answer nobody else.
grep -lE '^[^#]*enterprise\\.proxmox\\.com' /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources \\
    /etc/apt/sources.list 2>/dev/null | xargs -r rm -f

# What would be the same on all nodes: it is made when a node boots first.
rm -rf /var/lib/pve-cluster/* /var/lib/rrdcached/db/* /var/lib/rrdcached/journal/* /var/log/pve/tasks/*
rm -rf /var/lib/corosync/* /etc/corosync/* /root/.ssh /etc/iscsi/initiatorname.iscsi /etc/hostid /etc/mailname
rm -f /etc/network/interfaces /etc/network/interfaces.new /etc/ssl/private/ssl-cert-snakeoil.key
[ ! -d /etc/pve ] || find /etc/pve -mindepth 1 -delete
mkdir -p /etc/pve

# Where this stands, Proxmox leaves the file alone (PVE/Cluster/Setup.pm, setup_sshd_config). What nestlab says of sshd
# is read before it, and counts: by key, and not by password.
[ ! -e /etc/ssh/sshd_config ] || sed -i 's/^#\\{{0,1\\}}PermitRootLogin.*/PermitRootLogin yes/' /etc/ssh/sshd_config
"""

_HERE = """
# That repository is on the computer that made this image.
rm -f /etc/apt/sources.list.d/nestlab.sources
"""


def recipe(packages: PvePackages, checksum: str) -> Recipe:
    """The image of a node. `checksum`: of the keyring, `ALGORITHM:DIGEST`."""
    archive = Archive(
        uri=f"copy:{packages.mirror}" if packages.here else packages.mirror,
        suite=packages.suite_there,
        component=packages.component,
        keyring=packages.keys,
        checksum=checksum,
    )
    return Recipe(
        name=NAME,
        base="disk",
        suite=packages.debian,
        # `proxmox-ve` brings a kernel. Without recommended packages it lacks what the others are here for.
        kernel="",
        packages=(
            *(name for name in SYSTEM if name != "tiny-initramfs"),
            *("proxmox-ve", "chrony", "libpam-systemd", "dbus", "zstd", "python3-minimal", "ca-certificates"),
        ),
        modules=(*MODULAR, *KVM.modules),
        files=(
            *(file for file in KVM.files if "qemu" not in file.path),
            File("etc/systemd/system.conf.d/nestlab.conf", _MANAGER.encode()),
            File(f"etc/systemd/system/{UNIT}", _UNIT.encode()),
            File(f"etc/systemd/system/{_HA_UNIT}", _HA.encode()),
            File("etc/systemd/system/pve-cluster.service.d/nestlab.conf", _FIRST.encode()),
            File("etc/systemd/system/pveproxy.service.d/nestlab.conf", _CERTIFIED.encode()),
            File("etc/systemd/system/systemd-udev-trigger.service.d/nestlab.conf", _TRIGGER.encode()),
            File("etc/tmpfiles.d/nestlab-pve.conf", _TMPFILES.encode()),
            File("etc/ssh/sshd_config.d/nestlab-pve.conf", _SSHD.encode()),
            File("etc/default/pveproxy", b"MAX_WORKERS=1\n"),
            File("etc/default/pvedaemon", b"MAX_WORKERS=1\n"),
            File("etc/modules-load.d/nestlab-pve.conf", _LOADED.encode()),
        ),
        script=_SCRIPT + (_HERE if packages.here else ""),
        size=16384 << 20,
        archives=(archive,),
        docs=("pve-manager",),
    )
