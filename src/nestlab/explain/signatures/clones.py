"""What clones and moved disks say when they boot: pools, volumes and boot loaders that know the original."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

TABLE: tuple[Signature, ...] = (
    Signature(
        "zfs-other-system",
        r"cannot import '(?P<pool>[\w.-]+)': pool was previously in use from another system",
        "The pool {pool} was last used by a machine with another host id: by the original of this clone, or before the "
        "installation.",
        "If no other machine has it now: `zpool import -f {pool}`. Give clones their own host id: `zgenhostid -f`.",
        "zpool-import(8), zgenhostid(8); openzfs/zfs#13836",
        "cannot import 'rpool': pool was previously in use from another system.",
        Rank.CAUSE,
    ),
    Signature(
        "zfs-pool-not-found",
        r"cannot import '(?P<pool>[\w.-]+)' ?: no such pool available|Failed to import pool '(?P<root>[\w.-]+)'",
        "At boot the pool was not found: its disks came later than the search, or a clone has them on another bus or "
        "without serial numbers, so that /dev/disk/by-id lacks them.",
        "At the prompt: `zpool import -N -d /dev rpool`, then `exit`. For good: ZFS_INITRD_PRE_MOUNTROOT_SLEEP='10' in "
        "/etc/default/zfs and `update-initramfs -u`; disks on SCSI with a serial, not virtio-blk.",
        "PVE wiki: ZFS: Tips and Tricks, Boot failure; openzfs/zfs#11447",
        "Message: cannot import 'rpool' : no such pool available",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "zfs-pool-of-another",
        r"pool may be in use from other system|more than one matching pool"
        r"|last accessed by (?!another)\S{1,60} \(hostid",
        "The pool was last used by another host id (the original of this clone), or two disks carry the same pool.",
        "If no other machine has it now: `zpool import -f POOL`, with two of one name by its number from `zpool "
        "import`. Give clones their own host id (`zgenhostid -f`, `update-initramfs -u`), and never attach a clone "
        "beside its original.",
        "zpool-import(8), zgenhostid(8)",
        "The pool may be in use from other system, it was last accessed by pve1 (hostid: 0x8f21a3c7)",
        Rank.CAUSE,
    ),
    Signature(
        "clone-duplicate-volumes",
        r"Found duplicate PV|VG name \S{1,60} is used by (?:multiple )?VGs|Multiple VGs found with the same name"
        r"|Filesystem has duplicate UUID|Not using device \S{1,60} for PV",
        "A cloned disk is attached beside its original: both have the same LVM, volume group or file system ids.",
        "Detach one; or give the clone new ones: `vgimportclone DEVICE`, `xfs_admin -U generate DEVICE`, `tune2fs -U "
        "random DEVICE`. On a hypervisor hide guests' disks from LVM by global_filter.",
        "vgimportclone(8), xfs_admin(8), lvm.conf(5)",
        "WARNING: VG name pve is used by VGs 5mVzU1 and Q3xL0e.",
        Rank.CAUSE,
    ),
    Signature(
        "secure-boot-refuses",
        r"bad shim signature|Verification failed: \(0x1A\) Security Violation|Access Denied.{0,40}Secure Boot"
        r"|BdsDxe: failed to (?:load|start) [^\n]{1,300}: Access Denied"
        r"|symbol `grub_\w{3,40}' not found",
        "The firmware's Secure Boot refuses this boot loader or kernel, or GRUB's parts are of two versions.",
        "Switch Secure Boot off for this machine (`firmware: uefi` in a lab file; Proxmox VE: `qm set VMID --efidisk0 "
        "STORAGE:1,pre-enrolled-keys=0`), or install the signed shim and run grub-install anew.",
        "PVE Administration Guide: Secure Boot",
        "error: bad shim signature.",
        Rank.CAUSE,
    ),
)
