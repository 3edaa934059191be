"""ISOs that play Ubuntu's and Red Hat's installers: a kernel of Debian's, and an initramfs that does what they do.

Subiquity reads its autoinstall from where the kernel's words say (NoCloud), checks it, reports by its webhook, runs the
commands, and powers off as it is told (Ubuntu's autoinstall reference). Anaconda reads its kickstart in the same way,
checks commands and sections, runs %pre, includes what that wrote, and runs %post or %onerror (pykickstart's reference).
Both write the disk that the answer chooses, and no other. A file `behave` on the ISO makes them fail.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from nestlab.answers import Family
from nestlab.images import initramfs
from nestlab.images.initramfs import Entry
from nestlab.install.medium import KERNELS
from proxmox_installer import modules_of
from test_install_medium import iso_with

MARK = b"installed by a stand-in of a distribution's installer\n"

COMMON = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /cd /tmp /root /etc/ssh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec </dev/null
die() { echo "installer: $*"; echo "installer: dropped to a shell"; sleep 100000; }
for each in $(cat /modules); do insmod "/lib/$each" || echo "no $each"; done
for i in $(seq 60); do [ -b /dev/sr0 ] && [ -e /sys/class/net/eth0 ] && [ -b /dev/vda ] && break; sleep 1; done
mount -t iso9660 -o ro /dev/sr0 /cd || die "no medium"
behave=$(cat /cd/behave 2>/dev/null)
[ "$behave" != silent ] || die "waits for a key"
[ "$behave" != uefi ] || [ -d /sys/firmware/efi ] || die "no UEFI"
[ "$behave" != panic ] || echo c > /proc/sysrq-trigger
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0
word() { for each in $(cat /proc/cmdline); do case $each in "$1"*) echo "${each#"$1"}" ;; esac; done; }
get() { wget -q -O "$2" "$1" || die "$1 cannot be fetched"; }
write() {
  [ -b "/dev/$1" ] || die "no disk $1"
  [ "$behave" != full ] || return 1
  printf '%s' "@MARK@" > /tmp/mark; dd if=/tmp/mark of="/dev/$1" bs=512 conv=fsync 2>/dev/null
}
over() {
  echo "installer: done"; sync
  case $1$behave in poweroff) poweroff -f ;; *) reboot -f ;; esac
}
"""

CURL = r"""#!/bin/busybox sh
out=- put= url=
while [ $# -gt 0 ]; do
  case $1 in -o) out=$2; shift ;; -T) put=$2; shift ;; -s|-sf) ;; *) url=$1 ;; esac
  shift
done
[ "$put" != - ] || { cat > /tmp/put; put=/tmp/put; }
exec wget -q -O "$out" ${put:+--post-file="$put"} "$url"
"""

SUBIQUITY = r"""
grep -qw autoinstall /proc/cmdline || die "asks whether the disk may be written"
seed=$(word 'ds=nocloud;s=')
for each in meta-data user-data vendor-data; do get "$seed$each" "/tmp/$each"; done
[ "$(head -n 1 /tmp/user-data)" = '#cloud-config' ] || die "no cloud-config"
ln -s / /target
key() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" /tmp/user-data | head -n 1; }
listed() {  # the items of a list of commands, one to a line
  awk -v k="\"$1\": [" 'index($0, k) { on = 1; next } on && /^ *\],?$/ { exit } on' /tmp/user-data |
    sed 's/^ *"//; s/",\{0,1\}$//; s/\\"/"/g; s/\\n/\n/g; s/\\\\/\\/g'
}
hook=$(key endpoint)
event() {
  echo "$2 $3 $4" >> /tmp/journal
  printf '{"name": "subiquity/%s", "description": "%s", "event_type": "%s", "result": "%s", "level": "INFO"}' \
    "$1" "$2" "$3" "$4" > /tmp/event
  wget -q -O /dev/null --header 'Content-Type: application/json' --post-file=/tmp/event "$hook" || die "no webhook"
}
commands() { listed "$1" > "/tmp/$1"; while read -r line; do sh -c "$line" || return 1; done < "/tmp/$1"; }
fail() { event "$1" "$2" finish FAIL; commands error-commands; die "$2"; }
known=' version interactive-sections early-commands locale refresh-installer keyboard source network proxy apt storage
 identity active-directory ubuntu-pro ssh codecs drivers oem snaps debconf-selections packages kernel
 kernel-crash-dumps timezone updates shutdown late-commands error-commands reporting user-data zdevs '
for each in $(sed -n 's/^    "\([a-z-]*\)": .*/\1/p' /tmp/user-data); do
  case $known in *" $each "*|*"$each
"*) ;; *) fail Validation "unknown key $each in the autoinstall" ;; esac
done
[ "$(key version)" = 1 ] || fail Validation "version: 1 is required"
grep -q '"identity"\|"user-data"' /tmp/user-data || fail Validation "no identity"
case $(key password)$(key hashed_passwd) in \$*) ;; *) fail Validation "the password is no hash" ;; esac
commands early-commands || fail Early "an early command fails"
event Filesystem "configuring the disk" start ""
serial=$(key serial) disk=
for each in /sys/block/vd*; do [ "$(cat "$each/serial")" != "$serial" ] || disk=${each##*/}; done
[ -n "$disk" ] || fail Filesystem "no disk matches the serial number $serial"
write "$disk" || fail Filesystem "curtin: mkfs.ext4 failed: No space left on device"
event Install "installing the system" start ""
[ "$behave" = mute ] || commands late-commands || fail Late "a late command fails"
event Install "installing the system" finish SUCCESS
over "$(key shutdown)"
"""

CURTIN = r"""#!/bin/busybox sh
[ "$1 $2" = "in-target --" ] || exit 2
shift 2
exec "$@"
"""

ANACONDA = r"""
grep -qw inst.cmdline /proc/cmdline || die "asks questions"
get "$(word inst.ks=)" /tmp/ks.cfg
log=$(word inst.syslog=)
say() { echo "anaconda: $*" | tee -a /tmp/anaconda.log; }
section() {  # the bodies of sections of a kind, each in a file
  rm -f "/tmp/$1".*
  awk -v k="%$1" -v f="/tmp/$1." '
    $1 == "%end" { on = 0; next }
    !on && $1 == k { n++; on = 1; print $0 > (f n ".head"); print "" > (f n); next }
    on { print > (f n) }' /tmp/ks.cfg
}
run() {
  section "$1"
  for head in $(ls "/tmp/$1".*.head 2>/dev/null); do
    sh -e "${head%.head}" && continue
    say "a %$1 script fails"
    ! grep -q -e --erroronfail "$head" || return 1
  done
}
fail() { say "$*"; run onerror; die "$*"; }
said=$(awk '
  BEGIN { split("text lang keyboard timezone network rootpw user sshkey firstboot selinux poweroff reboot url cdrom " \
    "ignoredisk clearpart autopart bootloader services firewall %include", names); for (n in names) known[names[n]] = 1
    split("%packages %pre %pre-install %post %onerror %traceback %addon", parts); for (n in parts) opens[parts[n]] = 1 }
  NF == 0 || /^#/ { next }
  inside { if ($1 == "%end") inside = ""; next }
  $1 in opens { inside = $1; next }
  !($1 in known) { print "Unknown command: " $1; exit }
  END { if (inside) print "Section " inside " does not end with %end." }' /tmp/ks.cfg)
[ -z "$said" ] || fail "The following problem occurred in the kickstart file: $said"
for each in lang keyboard timezone rootpw; do
  grep -q "^$each " /tmp/ks.cfg || fail "the kickstart does not say $each"
done
run pre || fail "the installation ends: %pre"
disk=$(sed -n 's/^ignoredisk --only-use=//p' /tmp/nestlab-disk)
grep -q "^clearpart --all --initlabel --drives=$disk\$" /tmp/nestlab-disk || fail "clearpart"
grep -Eq '^autopart --type=(plain|lvm|btrfs|thinp) --fstype=(ext4|xfs|btrfs) ' /tmp/nestlab-disk || fail "autopart"
grep -q "^bootloader --boot-drive=$disk\$" /tmp/nestlab-disk || fail "bootloader"
[ -z "$log" ] || say "installing packages" | nc "${log%:*}" "${log#*:}" &
write "$disk" || fail "mkfs.ext4: No space left on device"
[ "$behave" = mute ] || run post || fail "the installation ends: %post"
grep -q '^poweroff$' /tmp/ks.cfg && over poweroff
over reboot
"""

INIT: dict[Family, str] = {"ubuntu": COMMON + SUBIQUITY, "redhat": COMMON + ANACONDA}


def make_iso(family: Family, path: Path, image: Path, packages: Path, behave: str = "") -> Path:
    """The ISO, with kernel and initramfs where that family has them. `image`, `packages`: see
    `proxmox_installer.make_iso`."""
    kernel, initrd = KERNELS[family][0]
    content = {kernel: (image / "bzImage").read_bytes(), initrd: _initrd(family, packages), "/behave": behave.encode()}
    return iso_with(path, content)


@cache
def _initrd(family: Family, packages: Path) -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    order, modules = modules_of(packages)
    entries: list[Entry] = [
        initramfs.file("init", INIT[family].replace("@MARK@", MARK.decode()).encode(), 0o755),
        initramfs.file("bin/busybox", Path(busybox).read_bytes(), 0o755),
        initramfs.file("bin/curl", CURL.encode(), 0o755),
        initramfs.file("bin/curtin", CURTIN.encode(), 0o755),
        initramfs.file("bin/journalctl", b"#!/bin/busybox sh\nexec cat /tmp/journal\n", 0o755),
        initramfs.file("modules", " ".join(order).encode()),
        initramfs.character_device("dev/console", 5, 1),
        *(initramfs.file(f"lib/{name}", data) for name, data in modules.items()),
    ]
    return initramfs.cpio(entries)
