"""What QEMU says of disks, network ports and devices, and of saving and moving a machine's state."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

NESTED = "Linux documentation: virt/kvm/x86/running-nested-guests"

TABLE: tuple[Signature, ...] = (
    Signature(
        "write-lock",
        r"Failed to get \"?(?:write|shared \"write\"|consistent read)\"? lock",
        "Another process has this disk image open: mostly the same machine, still running.",
        "Find it: `sudo fuser -v IMAGE` or `lsof IMAGE`. End that one; never switch locking off for an image in use.",
        "QEMU documentation: system/images (disk image file locking)",
        'qemu-system-x86_64: -drive file=root.qcow2: Failed to get "write" lock',
        Rank.CAUSE,
    ),
    Signature(
        "host-forwarding",
        r"Could not set up host forwarding rule '(?P<rule>[\w.:-]+)'",
        "The port that is to be forwarded ({rule}) is taken on this host, or below 1024 without root.",
        "See who has it: `ss -ltnp`. Choose another port, or end that process.",
        "qemu-system-x86_64(1) (hostfwd)",
        "qemu-system-x86_64: -netdev user,hostfwd=tcp::2222-:22: Could not set up host forwarding rule 'tcp::2222-:22'",
        Rank.CAUSE,
    ),
    Signature(
        "socket-in-use",
        r"(?:Failed to find an available port|Failed to bind socket[^:]{0,120}): Address already in use",
        "A port or socket that QEMU is to listen on is taken, mostly by the same machine still running.",
        "See who has it: `ss -lnp`. End it, or choose another.",
        "qemu-system-x86_64(1)",
        "qemu-system-x86_64: -vnc :1: Failed to find an available port: Address already in use",
        Rank.CAUSE,
    ),
    Signature(
        "tun-not-permitted",
        r"/dev/net/tun\b.{0,60}(?:operation not permitted|permission denied|no such (?:file|device)|does not exist"
        r"|not found|not available)"
        r"|failed to create tun device: Operation not permitted",
        "A tap interface needs root or CAP_NET_ADMIN, and a container needs /dev/net/tun.",
        "Make it beforehand: `sudo ip tuntap add dev tap0 mode tap user $USER`; or use user networking. For a "
        "container: `--device /dev/net/tun --cap-add NET_ADMIN`.",
        "qemu-system-x86_64(1) (-netdev tap); ip-tuntap(8)",
        "qemu-system-x86_64: -netdev tap,id=n0: could not configure /dev/net/tun: Operation not permitted",
        Rank.CAUSE,
    ),
    Signature(
        "vhost-net-missing",
        r"vhost-net requested but could not be initiali[sz]ed|/dev/vhost-net\b.{0,60}(?:no such (?:file|device)"
        r"|permission denied|not found)",
        "The guest's card was to be served by the kernel (vhost-net), and /dev/vhost-net is not here or is closed to "
        "this user.",
        "`sudo modprobe vhost_net`, for good in /etc/modules-load.d; a container needs the device: `--device "
        "/dev/vhost-net`. It is only for speed: `vhost=off` at -netdev does without.",
        "Linux: drivers/vhost/Kconfig; qemu-system-x86_64(1) (-netdev tap)",
        "qemu-system-x86_64: -netdev tap,id=n0,vhost=on: vhost-net requested but could not be initialized",
        Rank.CAUSE,
    ),
    Signature(
        "tun-busy",
        r"(?:/dev/net/tun|TUNSETIFF).{0,30}Device or resource busy",
        "The tap interface is already used by another machine.",
        "Choose another name, or end the machine that has it: `ip -d link show type tun`.",
        "Linux documentation: networking/tuntap",
        "qemu-system-x86_64: -netdev tap,ifname=tap0: could not configure /dev/net/tun (tap0): Device or resource busy",
        Rank.CAUSE,
    ),
    Signature(
        "bridge-helper",
        r"access denied by acl file|failed to parse default acl file",
        "qemu-bridge-helper may not use that bridge.",
        "Add a line `allow BRIDGE` to /etc/qemu/bridge.conf.",
        "QEMU documentation: qemu-bridge-helper (tools)",
        "access denied by acl file",
        Rank.CAUSE,
    ),
    Signature(
        "not-qcow2",
        r"Image is not in (?P<format>\w+) format",
        "The disk image is not a {format} image, though it is called one: it is raw, or its download broke off.",
        "See what it is: `qemu-img info IMAGE`, `file IMAGE`. Name the right format, or fetch it again.",
        "qemu-img(1)",
        "qemu-system-x86_64: -drive file=disk.img,format=qcow2: Image is not in qcow2 format",
        Rank.CAUSE,
    ),
    Signature(
        "backing-file",
        r"Could not open backing file",
        "The disk is a layer over another image, which was moved or removed.",
        "`qemu-img info IMAGE` names it: put it back there, or, if it only moved, `qemu-img rebase -u -b NEW -F FORMAT "
        "IMAGE`.",
        "qemu-img(1)",
        "qemu-system-x86_64: -drive file=web.qcow2: Could not open backing file: Could not open '/srv/base.qcow2': No "
        "such file or directory",
        Rank.CAUSE,
    ),
    Signature(
        "image-corrupt",
        r"Image is corrupt; cannot be opened read/write|qcow2: Marking image as corrupt",
        "The qcow2 image is damaged: two machines wrote to it, or its disk was full or lost power.",
        "Copy it first, then `qemu-img check -r all IMAGE`; or go back to a snapshot.",
        "qemu-img(1)",
        "qcow2: Marking image as corrupt: L2 table offset 0x2a00 unaligned",
        Rank.CAUSE,
    ),
    Signature(
        "nested-vmx-migration",
        r"Nested VMX virtualization does not support live migration yet",
        "This QEMU (4.0) refuses to move or save any machine that sees vmx.",
        "Use QEMU 4.2 and Linux 5.3 or newer, or shut the machine down for it.",
        NESTED + "; kata-containers/runtime#1747",
        "qemu-system-x86_64: Nested VMX virtualization does not support live migration yet",
        Rank.CAUSE,
    ),
    Signature(
        "invtsc",
        r"non-migratable CPU device \(invtsc flag\)",
        "The CPU has invtsc, and with it a machine can be neither moved nor saved with its memory.",
        "Remove invtsc (libvirt: `migratable='on'` at host-passthrough), or shut the machine down for it.",
        "QEMU documentation: system/qemu-cpu-models; quickemu-project/quickemu#1269",
        "Error: State blocked by non-migratable CPU device (invtsc flag)",
        Rank.CAUSE,
    ),
    Signature(
        "migration-blocked",
        r"State blocked by (?P<what>[^\n]{3,80})",
        "The machine can be neither moved nor saved with its memory: {what}.",
        "Remove that device or feature, or shut the machine down for it.",
        "QEMU documentation: devel/migration",
        "Error: State blocked by non-migratable device '0000:00:05.0/vfio'",
    ),
    Signature(
        "pflash-snapshot",
        r"snapshots of a VM with pflash based firmware are not supported"
        r"|Device 'pflash\d' is writable but does not support snapshots",
        "Snapshots inside the image do not work with UEFI, because its variables are a raw file.",
        "Use libvirt 10.10 or newer with variables in qcow2, external snapshots, or SeaBIOS: nesting needs no UEFI.",
        "virt-manager/virt-manager#851; apache/cloudstack#13547",
        "Operation not supported: internal snapshots of a VM with pflash based firmware are not supported",
        Rank.CAUSE,
    ),
    Signature(
        "no-iommu",
        r"IOMMU not present|No IOMMU found|no iommu_group found",
        "There is no IOMMU here, so no real device can be passed to a guest.",
        "On real hardware switch VT-d or AMD-Vi on in the firmware, on Intel boot with intel_iommu=on. A virtual "
        "machine needs a virtual one from the level below: Proxmox VE `--machine q35,viommu=intel`, libvirt <iommu "
        "model='intel'>, QEMU -device intel-iommu. Clouds give none but on bare metal.",
        "PVE Administration Guide: PCI(e) Passthrough; Linux documentation: driver-api/vfio",
        "cannot prepare PCI pass-through, IOMMU not present",
        Rank.CAUSE,
    ),
)
