"""What the unattended installer of Proxmox VE says."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

GUIDE = "PVE wiki: Automated Installation"

TABLE: tuple[Signature, ...] = (
    Signature(
        "pve-no-answer",
        r"Could not find any answer file|Could not find needed file '/cdrom/auto-installer-mode\.toml'",
        "The installer found no answers: its medium was not prepared, or for another way of fetching them.",
        "Prepare it: `proxmox-auto-install-assistant prepare-iso ISO --fetch-from iso --answer-file answer.toml`, or "
        "attach the answers as the mode says (partition, http).",
        GUIDE + "; netbootxyz/netboot.xyz#1454",
        "Error: Could not find any answer file!",
        Rank.CAUSE,
    ),
    Signature(
        "pve-answer-partition",
        r"Could not find partition for label '(?P<label>[\w.-]+)'",
        "No attached disk has a file system labelled {label}, which should hold answer.toml.",
        "Make one: `xorriso -as mkisofs -V {label} -J -r -o answers.iso DIRECTORY`, and attach it as a CD-ROM.",
        GUIDE,
        "Error: Could not find partition for label 'proxmox-ais'",
        Rank.CAUSE,
    ),
    Signature(
        "pve-disk-filter",
        r"filter did not match any device|disk in 'disk-selection' not found|no filter defined",
        "The answers name a disk or network card that this machine does not have.",
        "On virtio-blk a disk is vda, on SCSI and SATA sda; see what filters can match: "
        "`proxmox-auto-install-assistant device-info`.",
        GUIDE + "; NixOS/nixpkgs#156897",
        "Error: filter did not match any device(s)",
        Rank.CAUSE,
    ),
    Signature(
        "pve-disk-setup",
        r"Need either 'disk-list' or 'filter' set|make sure to define only one disk for ext4 and xfs"
        r"|raid level '[\w.]{1,20}' must be set|make sure only '[\w.]{1,20}' options are set"
        r"|Cannot use both '(?:disk|filter)",
        "The disk setup in the answers contradicts itself.",
        "Give disk-list or filter, not both; one disk for ext4 and xfs; for ZFS and Btrfs also their raid level. "
        "Check: `proxmox-auto-install-assistant validate-answer answer.toml`.",
        GUIDE,
        "Error: Need either 'disk-list' or 'filter' set",
        Rank.CAUSE,
    ),
    Signature(
        "pve-root-password",
        r"root-password` must be at least 8 characters long|root[-_]password.{0,60}cannot be set at the same time"
        r"|One of [^\n]{0,80}root[-_]password[^\n]{0,60} must be set",
        "The root password in the answers is too short, missing, or given twice.",
        "Give exactly one of root-password (8 characters or more) and root-password-hashed (`mkpasswd`).",
        GUIDE,
        "Error: `global.root-password` must be at least 8 characters long",
        Rank.CAUSE,
    ),
    Signature(
        "pve-fqdn",
        r"invalid FQDN|FQDN [^\n]{0,60}(?:not valid|purely numeric)",
        "The host name in the answers is not one that Proxmox VE takes: it needs a domain, and its first part must not "
        "be a number only.",
        'Write, say, fqdn = "pve1.lab.example".',
        GUIDE,
        "Error: invalid FQDN",
        Rank.CAUSE,
    ),
)
