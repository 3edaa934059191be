"""Containers inside a node of nestlab's: the template that they are made from, and who they are.

The template is the root filesystem of nestlab's own `debian`, packed on the node itself from the disk that the node was
handed, with what that lacks in a container: Proxmox VE writes addresses for ifupdown, which it does not have, and the
initramfs that applies a machine's identity does not run. Who it is a container is told through its node, and keeps it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.pve.node_preparation import STORAGE
from nestlab.engines.qemu import identity
from nestlab.engines.qemu.cargo import Cargo
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.kinds import makes_containers
from nestlab.lab.model import Image
from nestlab.wire.pve.daemon import Daemon

PACKS = 600.0
"""Nominal seconds in which a node packs a template."""

TAKES = 120.0
"""Nominal seconds in which a container takes its identity."""

KEPT = "/var/lib/nestlab/identity"

_START = rf"""#!/bin/sh
# In a container of Proxmox VE: who it is, as nestlab told it, and on its cards the addresses that PVE wrote.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p -m 0755 /run/nestlab
for name in ssh_host_ed25519_key ssh_host_ed25519_key.pub authorized_keys; do
    [ ! -e "{KEPT}/$name" ] || cp -p "{KEPT}/$name" /run/nestlab/
done
ip link set dev lo up
[ -e /etc/network/interfaces ] || exit 0
[ ! -x /usr/sbin/ifup ] || exit 0
card=
while read -r word name rest; do
    case $word in
    iface) card=$name; ip link set dev "$card" up ;;
    address)
        [ "$card" != lo ] || continue
        case $name in
        *:*) ip address replace "$name" dev "$card" nodad ;;
        *) ip address replace "$name" dev "$card" ;;
        esac ;;
    gateway) ip route replace default via "$name" dev "$card" ;;
    esac
done </etc/network/interfaces
"""

_UNIT = """\
[Unit]
Description=Identity and addresses of this container, from nestlab
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target sysinit.target ssh.service
ConditionVirtualization=container

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/lib/nestlab/container.sh
"""

_SSHD = """\
[Unit]
After=nestlab-container.service
ConditionPathExists=/run/nestlab/ssh_host_ed25519_key
"""

_GETTY = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud tty%I 115200,38400,9600 $TERM
"""

_UNITS = "etc/systemd/system"

FILES: Mapping[str, bytes] = {
    "usr/lib/nestlab/container.sh": _START.encode(),
    f"{_UNITS}/nestlab-container.service": _UNIT.encode(),
    f"{_UNITS}/ssh.service.d/nestlab-container.conf": _SSHD.encode(),
    f"{_UNITS}/container-getty@.service.d/nestlab.conf": _GETTY.encode(),
}
"""What a template has beside the image's."""

LINKS: Mapping[str, str] = {
    f"{_UNITS}/sysinit.target.wants/nestlab-container.service": f"/{_UNITS}/nestlab-container.service",
    f"{_UNITS}/multi-user.target.wants/container-getty@1.service": "/usr/lib/systemd/system/container-getty@.service",
    f"{_UNITS}/multi-user.target.wants/nestlab-console.service": "/dev/null",
    f"{_UNITS}/multi-user.target.wants/nestlab-ready.service": "/dev/null",
}

_PACK = r"""
set -eu
device=$1 place=$2
top=/run/nestlab-template.$$
leave() {
    ! mountpoint -q "$top/root" || umount "$top/root" || exit
    rm -rf "$top/more" "$place.new"
    rmdir "$top/root" "$top"
}
trap leave EXIT
mkdir -p "${place%/*}"
mkdir -m 0700 "$top"
mkdir -m 0755 "$top/root" "$top/more"
tar -x -C "$top/more" -f -
if [ -b "$device" ]; then
    mount -t ext4 -o ro,noload "$device" "$top/root"
else
    mount -t ext4 -o ro,noload,loop "$device" "$top/root"
fi
# Proxmox VE unpacks with --skip-old-files: of two files with one path it is the first that stays.
tar -c --zstd --numeric-owner -f "$place.new" -C "$top/more" . -C "$top/root" .
mv "$place.new" "$place"
"""
"""Arguments: a disk or file with the root filesystem, where the template goes. stdin: a tar of what it has beside."""

_TAKE = rf"""
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077
kept={KEPT}
rm -rf "$kept.new"
mkdir -p "$kept.new"
tar -x -C "$kept.new" -f -
rm -rf "$kept"
mv "$kept.new" "$kept"
umask 022
cp "$kept/hosts" /etc/hosts
/bin/sh /usr/lib/nestlab/container.sh
tries=0
until systemctl --no-block start ssh.service 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || {{ echo "systemd does not answer in it" >&2; exit 1; }}
    sleep 1
done
"""
"""In the container. stdin: a tar of its identity."""


class NodeTemplates:
    """The templates on one node: see `container_templates.OsTemplates`."""

    def __init__(self, api: Daemon, host: Host, library: ImageStore) -> None:
        self._api = api
        self._host = host
        self._library = library
        self._cargo = Cargo(host, library)
        self._making = asyncio.Lock()

    def takes(self, image: Image) -> bool:
        """Whether a container can be made from an image."""
        return makes_containers(image) and image.base != "tiny"

    async def ensure(self, key: str, image: Image, node: str, say: Say) -> str:
        """The volume of an image's template, packed if it is not there."""
        name = f"nestlab-{key}-{_digest()[:8]}.tar.zst"
        async with self._making:
            place = f"{await self._api.folder(STORAGE, 'vztmpl')}/{name}"
            there = await self._host.run(("test", "-s", place), check=False)
            if there.status != 0:
                artifacts = await self._library.artifacts(key, image)
                root = (await self._cargo.files(artifacts, say)).get("root")
                if root is None:
                    what = f"No container can be made from the image {key[:12]}: it has no root filesystem."
                    raise LabError(what, hint="Take `image: debian`.")
                say(f"packing a template for containers on {self._host.path}")
                words = ("sh", "-c", _PACK, "pack", root, place)
                await self._host.run(words, input=_more(), timeout=PACKS)
        return f"{STORAGE}:vztmpl/{name}"


async def introduce(host: Host, vmid: int, members: Mapping[str, tuple[bytes, int]]) -> None:
    """Tell a container that runs on the node `host` who it is: the members of a machine's identity. LabError when it
    does not take it."""
    names = ("hosts", "authorized_keys", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")
    told = identity.archive({name: members[name] for name in names})
    words = ("lxc-attach", "--clear-env", "-n", str(vmid), "--", "/bin/sh", "-c", _TAKE)
    await host.run(words, input=told, timeout=TAKES)


def _digest() -> str:
    """Of what templates have beside the image's."""
    return hashlib.sha256(repr((sorted(FILES.items()), sorted(LINKS.items()))).encode()).hexdigest()


def _more() -> bytes:
    """The same as a tar, with each folder that is on the way."""
    return identity.tree({path: (data, 0o644) for path, data in FILES.items()}, LINKS)
