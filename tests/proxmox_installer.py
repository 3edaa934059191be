"""An ISO that plays Proxmox's installer: a kernel of Debian's, and an initramfs that does what the real one does.

It reads `auto-installer-mode.toml` from its CD-ROM, posts what its machine is to the URL there with the token, over TLS
to the pinned certificate alone, checks the answer for what the real parser refuses, writes the disk that the filter
names, posts the webhook, and powers off. A file `behave` on the ISO makes it fail in one of the ways of the real one.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

from nestlab.images import initramfs
from nestlab.images.initramfs import Entry
from test_install_medium import iso_with

MODULES = ("ahci", "sr_mod", "isofs", "virtio_blk", "virtio_net")
MARK = b"installed by a stand-in of Proxmox's installer\n"

INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /cd /tmp
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
grep -q proxmox-start-auto-installer /proc/cmdline || die "nobody asked for an automated installation"
[ -e /cd/auto-installer-capable ] && [ -e /cd/auto-installer-mode.toml ] || die "no mode file"
value() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$2" | head -n 1; }
mode=/cd/auto-installer-mode.toml
[ "$(value mode $mode)" = http ] || die "mode"
url=$(value url $mode) print=$(value cert_fingerprint $mode) token=$(value token $mode)
[ "$behave" != stranger ] || print=00:$print
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0
host=${url#https://}; path=/${host#*/}; host=${host%%/*}
openssl() { /opt/ld.so --library-path /opt /opt/openssl "$@"; }
post() {
  seen=$(openssl s_client -connect "$host:443" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256)
  [ "${seen#*=}" = "$print" ] || die "Fingerprint did not match!"
  { printf 'POST %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json, application/toml;q=0.5\r\n' "$1" "$host"
    [ -z "$3" ] || printf 'Authorization: Bearer %s\r\n' "$3"
    printf 'Content-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' "$(wc -c < $2)"
    cat $2; } > /tmp/request
  openssl s_client -quiet -connect "$host:443" -ign_eof < /tmp/request > /tmp/answer 2>/dev/null
  head -n 1 /tmp/answer | grep -q ' 200 ' || die "$1: $(head -n 1 /tmp/answer)"
}
serial=$(cat /sys/block/vda/serial) mac=$(cat /sys/class/net/eth0/address)
printf '{"$schema": {"version": "1.0"}, "product": {"fullname": "Proxmox VE", "product": "pve", "enable_btrfs": true},
 "iso": {"release": "9.1", "isorelease": "1"}, "dmi": {"system": {"serial": "", "uuid": ""}},
 "network_interfaces": [{"link": "eth0", "mac": "%s"}]}' "$mac" > /tmp/sysinfo
[ "$behave" != token ] || token=nestlab:wrong
post "$path" /tmp/sysinfo "$token"
sed '1,/^\r$/d' /tmp/answer > /tmp/answer.toml
cat /tmp/answer.toml | sed 's/^root-password-hashed.*/root-password-hashed = …/; s/^/answer: /'
want() { grep -q "$1" /tmp/answer.toml || die "answer refused: $2"; }
want '^\[global\]$' global; want '^\[network\]$' network; want '^\[disk-setup\]$' disk-setup
want '^fqdn = ".*\..*"$' fqdn; want '^root-password-hashed = "\$' root-password; want '^mailto = ".*@.*"$' mailto
want '^country = "[a-z][a-z]"$' country; want '^filesystem = "\(ext4\|xfs\|zfs\|btrfs\)"$' filesystem
want '^\[first-boot\]$' first-boot; want '^ordering = "before-network"$' ordering
[ "$(value source /tmp/answer.toml)" = from-iso ] || grep -q '^source = "from-iso"$' /tmp/answer.toml || die "source"
[ -e /cd/proxmox-first-boot ] || die "failed loading first-boot executable from ISO"
sh -n /cd/proxmox-first-boot || die "first-boot"
[ "$behave" != refuse ] || die "answer refused: unknown field"
glob=$(value ID_SERIAL /tmp/answer.toml)
case "$serial" in $glob) ;; *) die "filter did not match any device" ;; esac
[ "$behave" != full ] || die "command 'mkfs.ext4' failed: No space left on device"
printf '%s' "@MARK@" > /tmp/mark; dd if=/tmp/mark of=/dev/vda bs=512 conv=fsync 2>/dev/null
hook=$(sed -n '/^\[post-installation-webhook\]/,$s/^url = "https:\/\/[^/]*\(.*\)"$/\1/p' /tmp/answer.toml)
printf '{"fqdn": "nestlab.lab.internal", "disks": [{"size": 1}], "ssh-public-host-keys": {}}' > /tmp/result
[ "$behave" = mute ] || post "$hook" /tmp/result ""
echo "installer: done"
sync
case $(value reboot-mode /tmp/answer.toml)$behave in power-offreboot) reboot -f ;; *) poweroff -f ;; esac
"""


def make_iso(path: Path, image: Path, packages: Path, behave: str = "") -> Path:
    """The ISO. `image`: the folder of a built image, whose kernel it boots; `packages`: of the cache, where
    that kernel's modules are."""
    content = {
        "/boot/linux26": (image / "bzImage").read_bytes(),
        "/boot/initrd.img": _initrd(packages),
        "/auto-installer-capable": b"",
        "/behave": behave.encode(),
    }
    return iso_with(path, content)


@cache
def _initrd(packages: Path) -> bytes:
    busybox, openssl = shutil.which("busybox"), shutil.which("openssl")
    assert busybox is not None
    assert openssl is not None
    order, modules = modules_of(packages)
    entries: list[Entry] = [
        initramfs.file("init", INIT.replace("@MARK@", MARK.decode()).encode(), 0o755),
        initramfs.file("bin/busybox", Path(busybox).read_bytes(), 0o755),
        initramfs.file("opt/openssl", Path(openssl).read_bytes(), 0o755),
        initramfs.file("etc/ssl/openssl.cnf", b""),
        initramfs.file("modules", " ".join(order).encode()),
        initramfs.character_device("dev/console", 5, 1),
        *(initramfs.file(f"lib/{name}", data) for name, data in modules.items()),
    ]
    listed = subprocess.run(["ldd", openssl], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"(/\S+)", listed):
        entry = "ld.so" if "ld-linux" in name else Path(name).name
        entries.append(initramfs.file(f"opt/{entry}", Path(name).read_bytes(), 0o755))
    return initramfs.cpio(entries)


def modules_of(packages: Path) -> tuple[list[str], dict[str, bytes]]:
    """The modules in the order in which they are inserted, unpacked."""
    archive = max(packages.glob("linux-image-*cloud-amd64_*.deb"), key=lambda path: path.stat().st_size)
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=True).stdout
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=BytesIO(tar)) as members:
        for member in members:
            name = Path(member.name).name
            if name.endswith(".ko.xz"):
                content = members.extractfile(member)
                assert content is not None
                found[name.removesuffix(".ko.xz").replace("-", "_")] = lzma.decompress(content.read())
    order: list[str] = []

    def visit(name: str) -> None:
        for needed in _needs(found[name]):
            if needed in found and needed not in order:
                visit(needed)
        if name not in order:
            order.append(name)

    for name in MODULES:
        if name in found:  # else it is in the kernel
            visit(name)
    return order, {name: found[name] for name in order}


def _needs(module: bytes) -> list[str]:
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []
