"""What containers inside of containers, or machines inside of containers, say: LXC, LXD, Incus, Docker, Podman."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

LXC = "pct(1) (features); PVE Administration Guide: Linux Container"

TABLE: tuple[Signature, ...] = (
    Signature(
        "container-reopen-denied",
        r"reopen fd \d{1,6}: permission denied|open sysctl [\w./]{1,80} file: .{0,60}permission denied",
        "runc with the mend of CVE-2025-52881 opens /proc files by their descriptor, and the AppArmor profile of the "
        "outer container (LXC, LXD, Incus), which its host sets, denies that. nesting=1 alone does not help.",
        "On the outer host update lxc, pve-container or Incus and AppArmor (`apt full-upgrade`) and restart the "
        "container. Until then its profile there is to be loosened (lxc.apparmor.profile), or hold runc and "
        "containerd back inside.",
        "opencontainers/runc#4968; moby/moby#51405; lxc/incus#2623; containerd/containerd#12484",
        "error during container init: open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission "
        "denied",
        Rank.CAUSE,
    ),
    Signature(
        "container-without-kvm",
        r"(?:Could not access KVM kernel module|failed to initialize kvm|/dev/kvm.{0,40}): Operation not permitted",
        "/dev/kvm is there, but this container may not open it: the host's rules for its devices forbid that, whatever "
        "the mode of the file says.",
        "On its host: Proxmox VE `pct set VMID --dev0 /dev/kvm,gid=GID` (GID of kvm inside), LXD and Incus `config "
        "device add NAME kvm unix-char source=/dev/kvm`, LXC lxc.cgroup2.devices.allow = c 10:232 rwm with an "
        "lxc.mount.entry, Docker `--device /dev/kvm`; then restart it.",
        "pct(1) (dev[n]); lxc.container.conf(5) (lxc.cgroup2); Incus: unix-char; docker-run(1) (--device)",
        "Could not access KVM kernel module: Operation not permitted",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "rootless-not-delegated",
        r"requires setting systemd property \W?Delegate=yes"
        r"|rootless.{0,60}(?:cgroup controllers?|cpuset|\bcpu\b).{0,40}(?:not (?:available|delegated|found)|required)",
        "A container engine without root has only the cgroup controllers that systemd hands down to its user, which "
        "are memory and pids unless more is said.",
        "As root write `[Service]` and `Delegate=cpu cpuset io memory pids` as two lines into "
        "/etc/systemd/system/user@.service.d/delegate.conf, then `systemctl daemon-reload`, and log in anew.",
        "kind: Rootless; Rootless Containers: cgroup v2; systemd.resource-control(5) (Delegate)",
        "ERROR: failed to create cluster: running kind with rootless provider requires setting systemd property "
        '"Delegate=yes"',
        Rank.CAUSE,
    ),
    Signature(
        "vsock-busy",
        r"vhost[-_]vsock.{0,40}(?:Device or resource busy|EBUSY)",
        "vhost_vsock cannot load, because this machine is a guest itself and the guest's side of vsock holds the "
        "address family: vmw_vsock_vmci_transport (on VMware) or vmw_vsock_virtio_transport (on KVM). Kernels before "
        "5.5 take one only.",
        "`lsmod | grep vsock`, `sudo modprobe -r vmw_vsock_vmci_transport vmw_vsock_virtio_transport`, then `sudo "
        "modprobe vhost_vsock`; for good a blacklist line in /etc/modprobe.d; or Linux 5.5 and newer.",
        "canonical/lxd#7148; kata-containers/documentation#327",
        "Error: Failed to run: modprobe vhost_vsock: modprobe: ERROR: could not insert 'vhost_vsock': Device or "
        "resource busy",
        Rank.CAUSE,
    ),
    Signature(
        "vsock-missing",
        r"vhost[-_]vsock.{0,60}(?:not found|no such (?:file|device)|not loaded|missing|unavailable|permission denied)"
        r"|unable to open vhost-vsock|vsock: .{0,40}(?:address already in use|no such device)",
        "Machines of LXD, Incus, Kata or Firecracker talk over vsock, and /dev/vhost-vsock is not here, is closed "
        "to this user, or its number is taken.",
        "`sudo modprobe vhost_vsock` on the host; a container needs the device: `--device /dev/vhost-vsock`. Two "
        "machines must not have the same guest-cid.",
        "QEMU documentation: vhost-vsock; Incus documentation: requirements",
        "qemu-system-x86_64: -device vhost-vsock-pci: vhost-vsock: failed to open vhost device: No such file or "
        "directory",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "docker-apparmor-profile",
        r"apparmor failed to apply profile|AppArmor enabled on system but the .{1,40} profile could not be loaded"
        r"|unable to apply apparmor profile|Failed to (?:load|set) apparmor (?:profile|label)"
        r"|policy admin privileges to manage profiles",
        "The inner engine wants to load an AppArmor profile of its own, and the outer container may not: AppArmor is "
        "the host's.",
        "Give the outer container nesting (`pct set VMID --features nesting=1`, `lxc config set NAME security.nesting "
        "true`), restart it, and update apparmor inside; else start inner ones with `--security-opt "
        "apparmor=unconfined`.",
        LXC + "; opencontainers/runc#4968",
        "OCI runtime create failed: unable to apply apparmor profile: apparmor failed to apply profile: write "
        "/proc/thread-self/attr/apparmor/exec: no such file or directory",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "apparmor-denied",
        r"apparmor=\"DENIED\" operation=\"(?P<what>[\w-]{1,30})\".{0,200}(?:lxc|lxd|incus|docker|crun|libvirt|qemu)",
        "AppArmor on this host denied a container or machine something ({what}); the profile stands in the line.",
        "Nesting on for that container (`pct set VMID --features nesting=1`, security.nesting true) allows the usual "
        "mounts. For libvirt add the path in /etc/apparmor.d/local/abstractions/libvirt-qemu.",
        "apparmor(7); " + LXC,
        'audit: type=1400 audit(1795.1:88): apparmor="DENIED" operation="mount" class="mount" '
        'profile="lxc-201_</var/lib/lxc>"',
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "docker-device-cgroup",
        r"bpf_prog_query\(BPF_CGROUP_DEVICE\) failed|failed to (?:set|write) .{0,40}devices\.(?:allow|deny)",
        "The inner engine may not set device rules: an unprivileged container may not load BPF programs for cgroups.",
        "Update runc or crun inside (they skip that in a user namespace), and give the outer container nesting=1; or a "
        "virtual machine instead of a container.",
        "opencontainers/runc: user namespaces; " + LXC,
        "runc create failed: bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted: unknown",
        Rank.CAUSE,
    ),
    Signature(
        "container-keyring",
        r"unable to join session keyring|join session keyring: create session key",
        "The engine may not make a session keyring inside of this unprivileged container, or its quota is used up.",
        "On the host: `pct set VMID --features nesting=1,keyctl=1`, then restart it; if it says quota: `sudo sysctl "
        "kernel.keys.maxkeys=20000`.",
        LXC + "; keyrings(7)",
        "unable to join session keyring: unable to create session key: operation not permitted",
        Rank.CAUSE,
    ),
    Signature(
        "container-no-nesting",
        r"Failed at step NAMESPACE spawning|Failed to set up mount namespacing|Failed to mount (?:cgroup"
        r"|API filesystems|/sys/fs/cgroup)|Failed to allocate manager object|error mounting \"(?:proc|sysfs"
        r"|cgroup)\" to rootfs|cannot clone: Operation not permitted|Failed to clone\(\): Operation not permitted"
        r"|mount proc.{0,60}(?:operation not permitted"
        r"|permission denied)",
        "A container may not mount what a container or systemd inside of it needs: it was started without nesting.",
        "On the host: `pct set VMID --features nesting=1`, or `lxc config set NAME security.nesting true` (Incus: "
        "`incus config set`), then stop and start it. Docker: `--privileged`, or `--cgroupns=host`.",
        LXC + "; Incus documentation: security.nesting",
        "systemd-logind.service: Failed at step NAMESPACE spawning /usr/lib/systemd/systemd-logind: Permission denied",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "container-overlay",
        r"overlay(?:fs)?: (?:filesystem on|upper fs).{0,80}not supported"
        r"|failed to mount overlay: (?:operation not permitted|invalid|permission)|driver not supported: overlay2"
        r"|'overlay' is not supported over|error (?:creating|mounting) overlay mount",
        "The inner engine's overlay cannot lie on this file system: an overlay itself, ZFS, NFS, or without the right "
        "to mount.",
        "Give /var/lib/docker a volume or disk of ext4 or xfs, or use `fuse-overlayfs` (outer container: features "
        "fuse=1); ZFS 2.2 and newer carry overlay2.",
        "Docker documentation: Select a storage driver; Podman: storage.conf(5)",
        "error creating overlay mount to /var/lib/docker/overlay2/l/merged: invalid argument",
        Rank.CAUSE,
    ),
    Signature(
        "container-fuse",
        r"fuse: device not found|/dev/fuse: (?:no such file|operation not permitted|permission denied)",
        "This container has no /dev/fuse.",
        "On the host: `pct set VMID --features fuse=1,nesting=1`; Docker: `--device /dev/fuse --cap-add SYS_ADMIN`.",
        LXC,
        "fuse: device not found, try 'modprobe fuse' first",
        Rank.CAUSE,
    ),
    Signature(
        "container-kmsg",
        r"/dev/kmsg: (?:no such file|operation not permitted|permission denied)|failed to (?:watch"
        r"|read).{0,30}/dev/kmsg",
        "kubelet (k3s, kind) wants /dev/kmsg, which this container does not have.",
        "In the container: `ln -s /dev/console /dev/kmsg` at boot, or kubelet's KubeletInUserNamespace; easier is a "
        "virtual machine instead of a container.",
        "Kubernetes documentation: Running node components as a non-root user",
        "Failed to start OOM watcher: open /dev/kmsg: no such file or directory",
        Rank.CAUSE,
    ),
    Signature(
        "user-namespaces-off",
        r"user namespaces are not enabled|max_user_namespaces|cannot clone: (?:Invalid argument|No space left)"
        r"|apparmor_restrict_unprivileged_userns|nested user namespaces? (?:is|are) not",
        "Rootless containers need user namespaces, and this system, or the container it runs in, gives none: they are "
        "off, used up, or kept from users without rights.",
        "`sysctl user.max_user_namespaces kernel.unprivileged_userns_clone "
        "kernel.apparmor_restrict_unprivileged_userns`"
        " on the host (a container has its host's): the first above 0, the second 1, the third 0; an outer container "
        "needs nesting (`pct set VMID --features nesting=1`).",
        "user_namespaces(7); podman: troubleshooting; Ubuntu: unprivileged user namespace restrictions",
        "user namespaces are not enabled in /proc/sys/user/max_user_namespaces",
        Rank.CAUSE,
    ),
    Signature(
        "kind-node-not-booted",
        r"could not find a log line that matches \"Reached target",
        "The systemd in a node of kind did not start: what runs Docker is itself a container without nesting, has too "
        "few inotify instances for one more systemd, or its cgroups are not what kind wants.",
        "`kind create cluster --retain`, then `docker logs NAME-control-plane`. On the host: `sudo sysctl "
        "fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288`; an outer container needs nesting "
        "(`pct set VMID --features nesting=1,keyctl=1`).",
        "kind: Known issues",
        'ERROR: failed to create cluster: could not find a log line that matches "Reached target .*Multi-User System.*'
        '|detected cgroup v1"',
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "container-cgroups",
        r"cgroup mountpoint does not exist|failed to find (?:memory|cpuset|pids) cgroup"
        r"|cgroups?: cannot find cgroup mount",
        "The engine finds no cgroups as it wants them: it is older than cgroup v2, or a controller is not passed on.",
        "`stat -fc %T /sys/fs/cgroup` (cgroup2fs is v2). Update the engine; a controller that is missing is added by "
        "the outer level (Delegate=yes, lxc.cgroup), or by cgroup_enable=memory on its kernel's command line.",
        "Linux documentation: admin-guide/cgroup-v2",
        "docker: Error response from daemon: cgroups: cgroup mountpoint does not exist: unknown.",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "container-iptables",
        r"can't initialize iptables table|iptables.{0,20}Table does not exist"
        r"|Could not fetch rule set generation id: Permission denied"
        r"|iptables.{0,60}Permission denied \(you must be root\)"
        r"|bridge-nf-call-ip6?tables.{0,60}(?:no such file|does not exist|not found)",
        "The engine cannot set up NAT: a container cannot load the kernel's modules for it, or may not use them.",
        "Load them on the host: `sudo modprobe -a ip_tables iptable_nat nf_nat br_netfilter` (for good in "
        "/etc/modules-load.d), and give the outer container nesting and NET_ADMIN.",
        "iptables(8), modules-load.d(5)",
        "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to "
        "insmod?)",
        Rank.CAUSE,
    ),
    Signature(
        "container-mknod",
        r"mknod\b.{0,80}(?:operation not permitted|permission denied)",
        "Device files cannot be made in an unprivileged container.",
        "Bind the device from the host instead (`--device`, lxc.mount.entry, `pct set VMID --dev0 /dev/kvm`), or use a "
        "virtual machine.",
        LXC,
        "mknod: /srv/root/dev/null: Operation not permitted",
        Rank.CAUSE,
    ),
    Signature(
        "container-asks-for-nesting",
        r"requires nesting\b|security\.nesting=true|Failed to create cgroup|crun: mount `\w{3,10}` to",
        "The container runs containers or a newer systemd, and was started without nesting.",
        "`incus config set NAME security.nesting=true` (LXD: `lxc config set …`), Proxmox VE `pct set VMID --features "
        "nesting=1`; then restart it.",
        "Incus documentation: security.nesting; " + LXC,
        "Error: The image used by this instance requires nesting. Please set security.nesting=true on the instance",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "container-sysctl",
        r"/proc/sys/(?:vm|kernel|net|fs)/\S{1,60}:? (?:permission denied|operation not permitted|read-only file system)"
        r"|sysctl: (?:setting|permission denied on) key.{0,80}(?:denied|read-only|ignoring)",
        "A container may not set this kernel parameter: it belongs to the host (or to a namespace it was not given).",
        "Set it on the host (a file in /etc/sysctl.d); net.* of its own network a container may set with nesting, or "
        "by `docker run --sysctl`.",
        "sysctl.d(5); Docker documentation: --sysctl",
        "open /proc/sys/kernel/panic: permission denied",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "container-snap",
        r"cannot mount squashfs image|system does not fully support snapd",
        "Snaps are squashfs images, which a container may mount by FUSE only.",
        "Install squashfuse inside, and on the host: `pct set VMID --features fuse=1,nesting=1`; or install the "
        "package as a .deb.",
        LXC + "; snapcraft.io: LXD and LXC",
        'error: system does not fully support snapd: cannot mount squashfs image using "squashfs"',
        Rank.CAUSE,
    ),
)
