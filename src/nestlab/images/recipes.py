"""Recipes of images, as values with a digest: building the same recipe twice is building it once. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from nestlab import guest
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

BUILDER = 4
"""Counts changes of the builder that change what an image contains, and that no input of `digest` shows."""

DEFAULT_SUITE = "trixie"

MODULAR = ("virtio_pci", "virtio_console", "crc32c_generic", "ext4", "af_packet")
"""Modules without which a machine has no drive, no agent and no root: Debian's cloud kernel has them built in since
6.12; others, and older ones, do not. What a kernel lacks is left out."""


KERNELS: Mapping[str, str] = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
"""Debian's kernels by what the lab file calls them: for virtual machines, and with the drivers of all hardware."""

_MIB = 1 << 20


@frozen
class File:
    """A file to put into the image. It belongs to root; its parents are made."""

    path: str
    data: bytes
    mode: int = 0o644


@frozen
class Archive:
    """A repository of packages beside Debian's. `uri`: as apt reads it. `keyring`: a URL or an absolute path of OpenPGP
    keys, of which one must have signed it; `checksum`: of that file, `ALGORITHM:DIGEST`."""

    uri: str
    suite: str
    component: str
    keyring: str
    checksum: str


@frozen
class Recipe:
    """An image: Debian packages, files, a script run in the chroot, and how the machine starts from it.

    `base` says where the root lives: on a disk (systemd, ext4), or in the initramfs alone (busybox).
    `modules` are inserted by the initramfs; names the kernel lacks are left out.
    `asked` are modules that a disk's kernel loads when they are asked for: they are unpacked there.
    `programs` are paths of programs that the initramfs holds, with the libraries they need; `agent` those of a second
    one, which only a machine is handed that has no other way in than its guest agent.
    `size` is the size of the root filesystem in bytes; the file is sparse, and the guest grows it with its disk.
    `mirror` is passed to mmdebstrap as it is; None leaves the choice to it.
    """

    name: str
    base: Literal["disk", "initramfs"]
    packages: tuple[str, ...]
    suite: str = DEFAULT_SUITE
    kernel: str = KERNELS["cloud"]
    modules: tuple[str, ...] = ("pvpanic_mmio", "virtio_blk", "virtio_net")
    programs: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    script: str = ""
    mirror: str | None = None
    size: int = 4096 * _MIB
    cmdline: tuple[str, ...] = guest.CMDLINE
    called: str = ""
    """What the user calls it; "" for nestlab's own. It is in no digest, nor is `said`."""
    said: str = ""
    """Where the user says what is added to it, `FILE:LINE`, for errors."""
    archives: tuple[Archive, ...] = ()
    """Repositories beside Debian's. With them, `kernel` may be "": a kernel is what `packages` bring."""
    docs: tuple[str, ...] = ()
    """Packages that need what they have in /usr/share/doc."""

    @property
    def digest(self) -> str:
        """64 hex digits over everything that can change the image, guest scripts and builder included."""
        value: dict[str, object] = {
            "builder": BUILDER,
            "guest": guest.fingerprint(self.base),
            "recipe": {**{key: getattr(self, key) for key in _PLAIN}, "files": _described(self.files)},
        }
        if self.agent:
            value["agent"] = self.agent
        if self.asked:
            value["asked"] = self.asked
        if self.archives:
            value["archives"] = [(each.uri, each.suite, each.component, each.checksum) for each in self.archives]
            value["docs"] = self.docs
        if self.base == "initramfs" and self.files:
            value["order"] = "files replace those of the base"
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


_PLAIN = ("name", "base", "packages", "suite", "kernel", "modules", "programs", "script", "mirror", "size", "cmdline")


def extend(
    recipe: Recipe,
    *,
    packages: Iterable[str] = (),
    files: Mapping[str, bytes | str] | Iterable[File] = (),
    script: str = "",
    mirror: str | None = None,
    size: int | None = None,
    suite: str | None = None,
    kernel: str | None = None,
    drivers: Iterable[str] = (),
    words: Iterable[str] = (),
    called: str = "",
    said: str = "",
) -> Recipe:
    """The recipe with more packages, more files and a script run after its own.

    `suite`: of another release of Debian. `kernel`: `cloud`, `generic`, or the name of a package. `drivers`: modules
    to insert beside its own, `words`: for its kernel. `called`, `said`: the user's name for it, and where it stands.
    A file of the same path replaces the recipe's. Text files are UTF-8, mode 0644, or 0755 if they start with `#!`.
    LabError: packages or a script for an image without a package manager.
    """
    packages = tuple(packages)
    if recipe.base == "initramfs" and (packages or script):
        raise LabError(
            f"The image {recipe.name} takes files, but neither packages nor a script: it is no Debian system.",
            hint="Use `debian` for a machine with packages.",
        )
    added = tuple(_files(files))
    paths = {file.path for file in added}
    kept = tuple(file for file in recipe.files if file.path not in paths)
    return replace(
        recipe,
        packages=tuple(dict.fromkeys((*recipe.packages, *packages))),
        files=kept + added,
        script="\n".join(part for part in (recipe.script, script) if part),
        mirror=mirror if mirror is not None else recipe.mirror,
        size=size if size is not None else recipe.size,
        modules=(*(MODULAR if suite or kernel else ()), *recipe.modules, *drivers),
        cmdline=(*recipe.cmdline, *words),
        suite=suite or recipe.suite,
        kernel=KERNELS.get(kernel, kernel) if kernel else recipe.kernel,
        called=called,
        said=said,
    )


def _files(files: Mapping[str, bytes | str] | Iterable[File]) -> Iterable[File]:
    if not isinstance(files, Mapping):
        return files
    return [_file(path, data) for path, data in files.items()]


def _file(path: str, content: bytes | str) -> File:
    data = content.encode() if isinstance(content, str) else content
    return File(path, data, 0o755 if data.startswith(b"#!") else 0o644)


def _described(files: tuple[File, ...]) -> list[tuple[str, int, str]]:
    return [(file.path, file.mode, hashlib.sha256(file.data).hexdigest()) for file in files]


# tiny-initramfs: the kernel package wants some package that makes an initramfs; this one takes no time to do so, and
# the machine never uses the result.
SYSTEM = (
    "systemd",
    "systemd-sysv",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "kmod",
    "e2fsprogs",
    "busybox-static",
    "tiny-initramfs",
    "qemu-guest-agent",
)

DEBIAN = Recipe(
    name="debian",
    base="disk",
    packages=(*SYSTEM, "python3-minimal"),
)
"""A plain Debian machine."""

# LXC's own bridge and autostart are of no use: nestlab starts containers, on its segments.
_NOT_AT_BOOT = """
for unit in lxc.service lxc-net.service lxc-monitord.service dnsmasq.service; do
    systemctl -q disable "$unit" 2>/dev/null || :
    systemctl -q mask "$unit" 2>/dev/null || :
done
"""

KVM = Recipe(
    name="kvm",
    base="disk",
    packages=(
        *SYSTEM,
        "python3",
        "qemu-system-x86",
        "qemu-utils",
        "bridge-utils",
        "corosync",
        "socat",
        "lxc",
        "uidmap",
    ),
    modules=("pvpanic_mmio", "virtio_blk", "virtio_net", "bridge"),
    asked=("veth", "overlay"),
    files=(
        File("etc/nestlab/hypervisor", b"Where this file is, the initramfs has KVM loaded.\n"),
        File("etc/qemu/bridge.conf", b"allow all\n"),
        File("etc/subuid", b"root:100000:65536\n"),
        File("etc/subgid", b"root:100000:65536\n"),
        File("etc/default/lxc-net", b'USE_LXC_BRIDGE="false"\n'),
    ),
    script=_NOT_AT_BOOT,
    size=16384 * _MIB,
)
"""A hypervisor: Debian with QEMU, KVM's modules, LXC for containers, and what clusters and bridges need."""

# Asked for by its socket, libvirtd starts when somebody asks, and stays while a domain runs. What stops domains when
# their host does is nestlab's; locks of disks are QEMU's own.
_LIBVIRT_NOT_AT_BOOT = """
for unit in libvirtd.service libvirt-guests.service virtlogd.service virtlockd.service dnsmasq.service; do
    systemctl -q disable "$unit" 2>/dev/null || :
done
for unit in libvirt-guests.service dnsmasq.service; do
    systemctl -q mask "$unit" 2>/dev/null || :
done
systemctl -q enable libvirtd.socket virtlogd.socket
rm -rf /etc/libvirt/qemu/networks/default.xml /etc/libvirt/qemu/networks/autostart
"""

# All in such a machine is root's: files need no other owner, and a domain no view of its own of /dev, which cost an
# emulated machine seconds at each start.
_QEMU_CONF = b"""\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
"""

LIBVIRT = Recipe(
    name="libvirt",
    base="disk",
    packages=(
        *SYSTEM,
        *("python3", "qemu-system-x86", "qemu-utils", "bridge-utils", "socat"),
        *("libvirt-daemon-driver-qemu", "libvirt-daemon-driver-storage", "libvirt-daemon-driver-network"),
        *("libvirt-daemon", "libvirt-daemon-common", "libvirt-daemon-log", "libvirt-clients", "dbus"),
    ),
    modules=("pvpanic_mmio", "virtio_blk", "virtio_net", "bridge"),
    files=(
        File("etc/nestlab/hypervisor", b"Where this file is, the initramfs has KVM loaded.\n"),
        File("etc/libvirt/qemu.conf", _QEMU_CONF),
        File("etc/libvirt/virtlogd.conf", b"# nestlab cuts consoles itself.\nmax_size = 0\n"),
    ),
    script=_LIBVIRT_NOT_AT_BOOT,
    size=16384 * _MIB,
)
"""A hypervisor: Debian with libvirt and its QEMU driver. It has no default network."""

TINY = Recipe(
    name="tiny",
    base="initramfs",
    packages=("busybox-static", "dropbear-bin", "tiny-initramfs", "qemu-guest-agent"),
    programs=("usr/sbin/dropbear",),
    agent=("usr/sbin/qemu-ga",),
    size=0,
)
"""Busybox and dropbear in the initramfs: the smallest machine that can be logged in to."""

BUILTIN: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (KVM, LIBVIRT, DEBIAN, TINY)}

COMMON = ("kvm", "debian", "tiny")
"""Those that `nestlab images build` makes if it is told none: what most labs are made of."""
