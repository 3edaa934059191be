"""The shell script by which a machine of nestlab's own image finds the disks beside its own. Pure.

Those images have no udev: nothing loads the driver of a bus, and nothing makes /dev/disk/by-id. The names are those
that udev's rules give the same disks of QEMU's (60-persistent-storage.rules), so that what is written for one system
works in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nestlab.lab.disks import Bus

PLACE = "/run/nestlab/disks.sh"

_MODULES: Mapping[Bus, tuple[str, ...]] = {
    "virtio": ("virtio_blk",),
    "scsi": ("virtio_scsi", "sd_mod"),
    "sata": ("ahci", "sd_mod"),
    "nvme": ("nvme",),
    "ide": ("ata_piix", "sd_mod"),
}
_CDROM = ("ahci", "ata_piix", "sr_mod")

_SCRIPT = r"""#!/bin/sh
# The disks of this machine beside its own: the drivers of their buses, and their names. usage: disks.sh [unit]
PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
by=/dev/disk/by-id

# What init does before the root filesystem is there: a unit for later.
if [ "${1-}" = unit ]; then
    units=/run/systemd/system
    mkdir -p $units/sysinit.target.wants
    unit=$units/nestlab-disks.service
    printf '%s\n' '[Unit]' 'Description=Find the disks beside the own' 'DefaultDependencies=no' \
        'Before=nestlab-ready.service' '[Service]' 'Type=oneshot' 'ExecStart=/bin/sh @place@' >$unit
    ln -sf $unit $units/sysinit.target.wants/
    exit
fi

# name DIRECTORY: sets $name to what udev calls the disk there, $serial to its number.
name() {
    serial= vendor=
    case ${1##*/} in
    vd*) read -r serial <"$1/serial"; name=virtio-$serial ;;
    nvme*) read -r serial <"$1/device/serial"; name=nvme-QEMU_NVMe_Ctrl_$serial ;;
    sd*)
        serial=$(tail -c +5 "$1/device/vpd_pg80" | tr -d ' \000')
        read -r vendor <"$1/device/vendor"
        case $vendor in
        ATA*) name=ata-QEMU_HARDDISK_$serial ;;
        *) name=scsi-0QEMU_QEMU_HARDDISK_$serial ;;
        esac
        ;;
    *) return 1 ;;
    esac 2>/dev/null
    [ -n "$serial" ]
}

link() {
    found=
    for disk in /sys/block/*; do
        name "$disk" || continue
        found="$found $serial "
        ln -sfn "../../${disk##*/}" "$by/$name"
        for part in "$disk/${disk##*/}"*; do
            [ -r "$part/partition" ] && read -r number <"$part/partition" &&
                ln -sfn "../../${part##*/}" "$by/$name-part$number"
        done
    done
    for old in "$by"/*; do
        [ -e "$old" ] || rm -f "$old"
    done
}

for module in @modules@; do
    modprobe -q $module 2>/dev/null
done
mkdir -p $by
tries=0
while [ $tries -lt 100 ]; do
    # A disk that has grown tells nobody: it is asked.
    link
    lacking=
    for each in @serials@; do
        case $found in *" $each "*) ;; *) lacking="$lacking $each" ;; esac
    done
    [ -n "$lacking" ] || exit 0
    tries=$((tries + 1))
    sleep 0.1
done
echo "disks.sh: these are not there:$lacking" >&2
exit 1
"""


def script(disks: Sequence[tuple[Bus, str]], *, cdroms: bool = False) -> str:
    """`disks`: bus and serial number of each. It may be run any number of times; its status is 0 when all are there,
    which it waits ten seconds for."""
    modules = dict.fromkeys(module for bus, _ in disks for module in _MODULES[bus])
    modules |= dict.fromkeys(_CDROM if cdroms else ())
    serials = " ".join(serial for _, serial in disks)
    text = _SCRIPT.replace("@place@", PLACE).replace("@modules@", " ".join(modules))
    return text.replace("@serials@", serials)
