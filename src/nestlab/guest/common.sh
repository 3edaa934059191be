#!/bin/busybox sh
# Process 1 of the initramfs of every nestlab image; disk.sh or tiny.sh follows in the same file.
# Every command here is a busybox applet: the shell runs them as /proc/self/exe, without looking for a program.
# The contract with the machine's maker: a drive with serial `nestlab-id` holds a tar archive, the identity.

say() { echo "nestlab: $*" >/dev/console; }

# Leaving process 1 panics the kernel, and with panic=-1 that ends the machine: a failed boot is seen at once. One that a
# boot loader started (it says so) would start again and again, so it turns itself off.
fail() {
    say "cannot boot: $*"
    read -r words </proc/cmdline
    case $words in
    *BOOT_IMAGE=*) sleep 1; poweroff -f ;;
    esac
    exit 1
}

# drive SERIAL: prints the device of the virtio drive of that serial.
drive() {
    for file in /sys/block/vd*/serial; do
        [ -e "$file" ] || continue
        serial=
        IFS= read -r serial <"$file" || :
        if [ "$serial" = "$1" ]; then
            device=${file%/serial}
            found=/dev/${device##*/}
            return 0
        fi
    done
    return 1
}

/bin/busybox mount -t proc proc /proc
mount -t devtmpfs -o mode=0755 devtmpfs /dev
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=0755 tmpfs /run

while read -r module; do
    insmod "/lib/modules/$module"
done </lib/modules/order

mkdir -p /run/nestlab
if drive nestlab-id; then
    tar -xf "$found" -C /run/nestlab
    read -r name </run/nestlab/hostname && echo "$name" >/proc/sys/kernel/hostname
    ip link set lo up
    sh /run/nestlab/network.sh
else
    say "no drive has the serial nestlab-id: this machine has no name, no network and no keys"
fi
