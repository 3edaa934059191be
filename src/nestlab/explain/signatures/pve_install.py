"""What the unattended installer of Proxmox VE says."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

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
        "pve-answer-certificate",
        r"(?:fetch|get|download|request).{0,30}answer.{0,120}(?:certificate|fingerprint|UnknownIssuer|self[- ]signed)",
        "The installer does not trust the certificate of the server that has its answers.",
        "Give its fingerprint when the ISO is made: `proxmox-auto-install-assistant prepare-iso ISO --fetch-from http "
        "--url URL --cert-fingerprint FP`, from `openssl x509 -noout -sha256 -fingerprint -in cert.pem`.",
        GUIDE,
        "Error: failed to fetch answer file: invalid peer certificate: UnknownIssuer",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "pve-answer-toml",
        r"TOML parse error at line (?P<line>\d{1,6}), column \d{1,6}",
        "The answer file is no TOML, or has a key that this installer does not know: line {line}. Since Proxmox VE 8.4 "
        "its keys are written in kebab-case (`root-password`).",
        "`proxmox-auto-install-assistant validate-answer answer.toml`, of the same version as the ISO, names the key.",
        GUIDE,
        "Error: TOML parse error at line 3, column 1",
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
    Signature(
        "pve-bootloader",
        r"unable to update boot loader config|unable to install the (?:EFI|i386-pc) boot loader|bootloader setup errors"
        r"|chroot \S{1,80} (?:update-grub|grub-install|proxmox-boot-tool)"
        r"|grub-install: error: .{0,80}(?:modinfo\.sh doesn't exist|cannot find EFI|failed)",
        "The installer could not make the system bootable: update-grub or grub-install failed in the target. Often the "
        "medium is an ISO packed into an initrd and booted by UEFI, so that its own parts are missing.",
        "Read the lines before it in /tmp/install-low-level-start-session.log (Alt+F3, or the shell of the debug "
        "mode). With an ISO in an initrd attach the ISO as a CD-ROM, or boot by BIOS; and see that the disk is empty "
        "(`wipefs -a`).",
        "pve-installer: Proxmox/Install.pm; morph027/pve-iso-2-pxe#47",
        "- unable to update boot loader config",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "pve-no-medium",
        r"no device with valid ISO found|no cdrom found|unable to find (?:the )?(?:installation )?(?:cdrom|medium|iso)",
        "The installer started, but does not find the ISO it came from: it was booted by PXE or from an initrd "
        "without it, or the drive's bus has no driver there.",
        "Attach the ISO as a CD-ROM (SATA or IDE) as well; for PXE pack it as `proxmox-auto-install-assistant "
        "prepare-iso --pxe` does.",
        GUIDE + "; morph027/pve-iso-2-pxe#47",
        "no device with valid ISO found, please check your installation medium",
        Rank.CAUSE,
    ),
    Signature(
        "pve-no-disk",
        r"No Hard ?Disk found|no (?:suitable )?(?:hard ?)?disks? found",
        "The installer sees no disk: the machine has none, or on a controller without a driver there.",
        "Give it one on virtio-scsi or SATA: `qm set VMID --scsihw virtio-scsi-single --scsi0 STORAGE:32`; in VMware "
        "an LSI Logic or PVSCSI controller.",
        GUIDE + "; qm.conf(5)",
        "No Hard Disk found!",
        Rank.CAUSE,
    ),
    Signature(
        "pve-zfs-create",
        r"unable to create zfs root pool|unable to (?:partition|initialize) (?:hard ?disk|physical volume)"
        r"|unable to get device for partition|device '?/dev/\S{1,40} (?:is )?(?:in use|has holders|busy)",
        "The installer could not use the disk: an older system's LVM, ZFS or RAID holds it, or it is too small.",
        "Clear it first, if nothing on it is needed: `vgremove`, `zpool labelclear -f DEVICE`, `wipefs -a DEVICE`; "
        "then install again.",
        "pve-installer: Proxmox/Install.pm",
        "unable to create zfs root pool",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "pve-installer-returned",
        r"low level installer returned early|Installation failed: |installation aborted - unable",
        "The installation did not end; the reason stands in the same or the lines after it.",
        "See all of it: /tmp/install-low-level-start-session.log and /tmp/auto_installer.log, on the installer's "
        "shell.",
        "pve-installer; " + GUIDE,
        "ERROR: Installation failed: low level installer returned early",
        Rank.SYMPTOM,
    ),
)
