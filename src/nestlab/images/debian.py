"""A Debian image as mmdebstrap's arguments and hooks. Pure.

Hooks run outside the chroot, as root or as the root of a user namespace. What they make leaves through descriptors
opened by nestlab, because the namespace's root may not even look into the user's folders.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from nestlab.images.recipes import Recipe

SCRIPT = "nestlab-script"
"""Path in the chroot of the recipe's script while it runs."""


@dataclass(frozen=True)
class Outlets:
    """Open descriptors: the root filesystem's image, a tar of what the initramfs needs, a tar of new packages."""

    root: int
    boot: int
    packages: int


# mmdebstrap checks that the cache is empty, and clears it: neither is wanted when it is filled from ours.
_SKIPPED = ("download/empty", "essential/unlink", "cleanup/apt", "cleanup/reproducible", "cleanup/tmp")

# Documentation and translations are a third of all files, and nobody reads them in a lab. As mmdebstrap's own option
# this would send every package through a filter in Perl; as dpkg's configuration it costs nothing.
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
_EXCLUDE = 'printf "path-exclude=%s\\n" {patterns} >"$1/etc/dpkg/dpkg.cfg.d/nestlab"'

_KNOWN = "var/cache/nestlab-known"

_SAVE_PACKAGES = """
cd "$1/var/cache/apt/archives"
ls | grep '\\.deb$' | grep -vxF -f "$1/{known}" | tar -cf /proc/self/fd/{packages} -T -
rm -f "$1/{known}"
"""

# The names of modules.dep change with the files, hence depmod; modprobe knows what each module needs.
_UNPACK_MODULES = """
cd "$1"
for name in bin sbin lib lib64; do
    [ -e $name ] || ln -s usr/$name $name
done
version=$(ls usr/lib/modules)
[ -e "usr/lib/modules/$version/modules.dep" ] || chroot . /usr/sbin/depmod "$version"
for module in {modules}; do
    chroot . /usr/sbin/modprobe -S "$version" --show-depends "$module" 2>/dev/null || :
done | sed -n 's/^insmod \\([^ ]*\\.xz\\).*/\\1/p' | sort -u | while read -r file; do
    chroot . /usr/bin/busybox unxz "$file"
done
chroot . /usr/sbin/depmod "$version"
"""

# Keys and the machine's id belong to a machine, not to its image; caches of apt to nobody. Without the .updated files
# systemd takes every machine's first boot for one after an upgrade, and rebuilds caches and accounts.
_CLEAN = """
cd "$1"
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/log/apt var/log/*.log var/cache/ldconfig
rm -f etc/ssh/ssh_host_* etc/machine-id var/lib/dbus/machine-id var/lib/systemd/random-seed etc/resolv.conf
rm -f initrd.img* boot/initrd* boot/System.map* etc/apt/apt.conf.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf etc/hostname etc/fstab tmp/* var/log/journal usr/share/doc/* usr/share/man/* usr/share/locale/*
touch etc/.updated var/.updated
"""

# Before its root is the root, an absolute link leads nowhere: so it is in Debian 12, and relative since.
_INIT = """
cd "$1"
case $(readlink usr/sbin/init) in
/*) ln -sf "../..$(readlink usr/sbin/init)" usr/sbin/init ;;
esac
"""

_SAVE_BOOT = """
cd "$1"
tar -cf /proc/self/fd/{boot} {paths}
"""

# The chroot's own mke2fs, so that every host makes the same filesystem. The bind mount leaves out what is mounted
# below it (/proc, /sys, /dev). Discarding a sparse file proves its zeros: no inode table is written or awaits init.
_MAKE_ROOT = """
unshare --mount /bin/sh -ec '
    mount --bind "$1" "$1/mnt"
    exec chroot "$1" /usr/sbin/mke2fs -q -F -t ext4 -b 4096 -m 0 -L root -U {uuid} -O {features} \\
        -E hash_seed={uuid},lazy_itable_init=0,root_owner=0:0 -d /mnt /proc/self/fd/{root}
' nestlab "$1"
"""

_FEATURES = "^metadata_csum,^orphan_file"

# Unpacked where it pays: what every boot loads, and what a hypervisor needs for its guests.
_MODULES = ("virtio_rng", "kvm", "kvm_amd", "kvm_intel", "tun", "vhost_net", "bridge", "isofs", "autofs4", "loop")

_BOOT = "-h boot usr/bin/busybox $(find usr/lib/modules/*/ -name modules.dep -o -name '*.ko')"

LISTS = {"programs": "nestlab-programs", "agent": "nestlab-agent"}
"""By what a recipe calls them: where in the tar it stands which files its programs are, with their libraries."""

# The dynamic loader itself names the libraries a program needs.
_LIST_PROGRAMS = """
cd "$1"
for program in {programs}; do
    echo "$program"
    chroot . /lib64/ld-linux-x86-64.so.2 --list "/$program"
done | sed -n -e 's,^[^/]*/\\([^ ]*\\) (0x.*,\\1,p' -e '/^usr/p' | sort -u >{list}
"""


def arguments(recipe: Recipe, *, overlay: Path, packages: Path, outlets: Outlets) -> list[str]:
    """mmdebstrap's arguments; `overlay` is a tar of files to add, `packages` the folder of kept .deb files."""
    disk = recipe.base == "disk"
    # Packages that are only extracted have no later hook.
    hook_option = "--customize-hook" if disk else "--extract-hook"
    hooks = [_SAVE_PACKAGES.format(known=_KNOWN, packages=outlets.packages)]
    if recipe.script:
        hooks.append(f'chroot "$1" /bin/sh -eu /{SCRIPT} && rm "$1/{SCRIPT}"')
    hooks.append(_UNPACK_MODULES.format(modules=" ".join((*recipe.modules, *_MODULES))))
    hooks.append(_CLEAN)
    if disk:
        hooks.append(_INIT)
    paths = _BOOT
    for programs, name in ((recipe.programs, LISTS["programs"]), (recipe.agent, LISTS["agent"])):
        if programs:
            hooks.append(_LIST_PROGRAMS.format(programs=" ".join(programs), list=name))
            paths += f" {name} $(cat {name})"
    hooks.append(_SAVE_BOOT.format(paths=paths, boot=outlets.boot))
    if disk:
        hooks.append(_MAKE_ROOT.format(uuid=uuid(recipe.digest), features=_FEATURES, root=outlets.root))
    return [
        f"--variant={'minbase' if disk else 'extract'}",
        "--format=null",
        f"--include={','.join((recipe.kernel, *recipe.packages))}",
        *(f"--skip={step}" for step in _SKIPPED),
        f"--setup-hook={_EXCLUDE.format(patterns=' '.join(map(shlex.quote, _EXCLUDED)))}",
        '--aptopt=Acquire::Languages "none"',
        '--setup-hook=mkdir -p "$1/var/cache/apt/archives/partial"',
        f"--setup-hook=sync-in {_quoted(packages)} /var/cache/apt/archives",
        f'--setup-hook=ls "$1/var/cache/apt/archives" >"$1/{_KNOWN}"',
        f"{hook_option}=tar-in {_quoted(overlay)} /",
        # Without a newline at the end: Perl warns of such a name when it looks whether the hook is a file.
        *(f"{hook_option}=set -eu\n{hook.strip()}" for hook in hooks),
        recipe.suite,
        "-",
        *([recipe.mirror] if recipe.mirror else []),
    ]


def uuid(digest: str) -> str:
    """A filesystem's UUID that follows from the image's digest: the same recipe, the same name."""
    return "-".join((digest[:8], digest[8:12], "4" + digest[13:16], "8" + digest[17:20], digest[20:32]))


def _quoted(path: Path) -> str:
    # mmdebstrap splits special hooks by the rules of Perl's shellwords, which are the shell's.
    return shlex.quote(str(path))
