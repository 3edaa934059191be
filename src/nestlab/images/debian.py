"""A Debian image as mmdebstrap's arguments and hooks. Pure.

Hooks run outside the chroot, as root of a user namespace. What they take and make comes and goes through descriptors
opened by nestlab, because the namespace's root may not even look into the user's folders.

What a lab file adds is not trusted with that: until its files are in the chroot, all in there is Debian's, checked by
its digests. From then on nothing is done to the chroot but inside it, by its own programs, in `confine.pl`: the files
are unpacked there (a link to /etc is a link to the image's), the script runs there without any descriptor, and what is
left is packed there with the descriptors of what it becomes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files

from nestlab.base.frozen import frozen
from nestlab.images.recipes import KERNELS, Recipe

SCRIPT = "nestlab-script"
"""Path in the chroot of the recipe's script while it runs."""


@frozen
class Descriptors:
    """Open ones. To write: the root filesystem's image, a tar of what the initramfs needs, a tar of new packages. To
    read: a tar of files to add, the folder of kept packages."""

    root: int
    boot: int
    packages: int
    overlay: int
    kept: int


# mmdebstrap checks that the cache is empty, and clears it: neither is wanted when it is filled from ours.
_SKIPPED = ("download/empty", "essential/unlink", "cleanup/apt", "cleanup/reproducible", "cleanup/tmp")

# Documentation and translations are a third of all files, and nobody reads them in a lab. As mmdebstrap's own option
# this would send every package through a filter in Perl; as dpkg's configuration it costs nothing.
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
_EXCLUDE = 'printf "%s\\n" {patterns} >"$1/etc/dpkg/dpkg.cfg.d/nestlab"'

_KEPT = "var/cache/nestlab"
"""Where kept packages wait in the chroot until they are checked."""

# apt takes a file that is in its cache for the package if it has the package's size. So it gets those that have the
# digest of the package too, by the lists that it has just checked the signature of.
_CHECK = r"""
cd "$1/var/cache/nestlab" || exit 1
{
    for name in *.deb; do echo "Kept: $name"; done
    echo
    for list in "$1"/var/lib/apt/lists/*_Packages*; do
        /usr/lib/apt/apt-helper cat-file "$list"
        echo
    done
} | awk '
    /^Kept: / { kept[substr($0, 7)] = 1 }
    /^Package: / { package = $2 }
    /^Version: / { version = $2; gsub(/:/, "%3a", version) }
    /^Architecture: / { architecture = $2 }
    /^SHA256: / { digest = $2 }
    /^$/ {
        name = package "_" version "_" architecture ".deb"
        if (name in kept && digest != "") print digest "  " name
        package = version = architecture = digest = ""
    }' | sha256sum -c 2>/dev/null | sed -n 's/: OK$//p' | sort -u >checked
xargs -r mv -t ../apt/archives <checked
rm -f ./*.deb
"""

_AFTER_UPDATE = 'APT::Update::Post-Invoke-Success { "eval $(apt-config shell R Dir); IFS=; exec sh $R/%s/check $R"; }'

_BRING_PACKAGES = """
mkdir -p "$1/var/cache/apt/archives/partial" "$1/{kept}"
cd "$1/{kept}"
: >checked
printf '%s\\n' {check} >check
cp /proc/self/fd/{descriptor}/*.deb . 2>/dev/null || :
"""

_SAVE_PACKAGES = """
cd "$1/var/cache/apt/archives"
ls | grep '\\.deb$' | grep -vxF -f "$1/{kept}/checked" | tar -cf /proc/self/fd/{packages} -T -
cd "$1"
rm -rf {kept} etc/apt/apt.conf.d/99mmdebstrap etc/resolv.conf etc/hostname
"""

ARCHIVES = "archives_text"
"""Variable of hooks: what apt is told of repositories beside Debian's (sources.list(5)), keys included."""

# Packages look up the name of the machine that they are installed on, and find a real address. Proxmox's do not look
# for running services, nor make an initramfs, where the file is that its installer makes (pve-manager and pve-kernel,
# postinst). The script of the recipe removes both.
_BRING_ARCHIVES = f"""
printf '%s' "${ARCHIVES}" >"$1/etc/apt/sources.list.d/nestlab.sources"
name=$(uname -n)
printf '127.0.0.1 localhost\\n192.0.2.1 %s.nestlab.internal %s\\n' "$name" "$name" >"$1/etc/hosts"
: >"$1/proxmox_install_mode"
"""

# Should none of the packages have brought a kernel, Debian's does.
_ADD_KERNEL = f"""
ls "$1"/boot/vmlinuz-* >/dev/null 2>&1 || chroot "$1" apt-get --yes install {KERNELS["generic"]}
"""

CONFINE = "confine_text"
FINISH = "finish_text"
"""Variables of hooks: the text of `confine.pl`, and of what is done to the finished chroot, inside it."""

_CONFINED = f'perl -e "${CONFINE}" "$1"'

SCRIPT_FAILED = "nestlab: the script ended with status"

_RUN_SCRIPT = f"""
{_CONFINED} "" "" /bin/sh -eu /{SCRIPT} || {{ echo "{SCRIPT_FAILED} $?" >&2; exit 1; }}
{_CONFINED} "" "" /usr/bin/busybox rm -f /{SCRIPT}
"""

# Of several kernels one stays, since a machine of nestlab's starts with one: Proxmox's, or that which was asked for.
_ONE_KERNEL = """
cd /
own= other= found=
for version in $(ls usr/lib/modules | sort -V); do
    [ -e "boot/vmlinuz-$version" ] || continue
    case $version in *-pve) own=$version ;; *) other=$version ;; esac
done
{choice}
for version in $(ls usr/lib/modules); do
    [ "$version" = "$found" ] || rm -rf "usr/lib/modules/$version" boot/*-"$version"
done
"""

# The names of modules.dep change with the files, hence depmod; modprobe knows what each module needs. Packages that are
# only extracted have files in /lib itself in Debian 12.
_UNPACK_MODULES = """
cd /
for name in bin sbin lib lib64; do
    if [ -d $name ] && [ ! -L $name ]; then
        mkdir -p usr/$name
        cp -a $name/. usr/$name
        rm -rf $name
    fi
    [ -e $name ] || ln -s usr/$name $name
done
version=$(ls usr/lib/modules)
[ -e "usr/lib/modules/$version/modules.dep" ] || /usr/sbin/depmod "$version"
for module in {modules}; do
    /usr/sbin/modprobe -S "$version" --show-depends "$module" 2>/dev/null || :
done | sed -n 's/^insmod \\([^ ]*\\.\\(xz\\|zst\\)\\).*/\\1/p' | sort -u | while read -r file; do
    case $file in
    *.xz) /usr/bin/busybox unxz "$file" ;;
    *) /usr/bin/zstd -dq --rm "$file" ;;
    esac
done
/usr/sbin/depmod "$version"
"""

# Keys and the machine's id belong to a machine, not to its image; caches of apt to nobody. Without the .updated files
# systemd takes every machine's first boot for one after an upgrade, and rebuilds caches and accounts.
_CLEAN = """
cd /
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/log/apt var/log/*.log var/cache/ldconfig
rm -f etc/ssh/ssh_host_* etc/machine-id var/lib/dbus/machine-id var/lib/systemd/random-seed etc/resolv.conf
rm -f initrd.img* boot/initrd* boot/System.map* etc/apt/apt.conf.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf etc/hostname etc/fstab tmp/* var/log/journal usr/share/doc/* usr/share/man/* usr/share/locale/*
touch etc/.updated var/.updated
"""

_CLEAN_DOCS = "find /usr/share/doc -mindepth 1 -maxdepth 1 {kept} -exec rm -rf {{}} +\n"

# Before its root is the root, an absolute link leads nowhere: so it is in Debian 12, and relative since.
_INIT = """
case $(readlink usr/sbin/init) in
/*) ln -sf "../..$(readlink usr/sbin/init)" usr/sbin/init ;;
esac
"""

_SAVE_BOOT = """
tar -cf /proc/self/fd/{boot} {paths}
"""

# The chroot's own mke2fs, so that every host makes the same filesystem, of what is shown there without /proc, /sys and
# /dev. Discarding a sparse file proves its zeros: no inode table is written or awaits init.
_CLEAN_VIEW = "mnt"
_MAKE_ROOT = """
exec /usr/sbin/mke2fs -q -F -t ext4 -b 4096 -m 0 -L root -U {uuid} -O {features} \\
    -E hash_seed={uuid},lazy_itable_init=0,root_owner=0:0 -d /{view} /proc/self/fd/{root}
"""

_FEATURES = "^metadata_csum,^orphan_file"

# Unpacked where it pays: what every boot loads, and what a hypervisor needs for its guests.
_MODULES = ("virtio_rng", "kvm", "kvm_amd", "kvm_intel", "tun", "vhost_net", "bridge", "isofs", "autofs4", "loop")

_BOOT = "-h boot usr/bin/busybox $(find usr/lib/modules/*/ -name modules.dep -o -name '*.ko')"

LISTS = {"programs": "nestlab-programs", "agent": "nestlab-agent"}
"""By what a recipe calls them: where in the tar it stands which files its programs are, with their libraries."""

# The dynamic loader itself names the libraries a program needs.
_LIST_PROGRAMS = """
for program in {programs}; do
    echo "$program"
    /lib64/ld-linux-x86-64.so.2 --list "/$program"
done | sed -n -e 's,^[^/]*/\\([^ ]*\\) (0x.*,\\1,p' -e '/^usr/p' | sort -u >{list}
"""


def environment(recipe: Recipe, descriptors: Descriptors) -> Mapping[str, str]:
    """What hooks find in variables, because mmdebstrap prints their text when they fail."""
    disk = recipe.base == "disk"
    one = [_ONE_KERNEL.format(choice="found=${other:-$own}" if recipe.kernel else "found=${own:-$other}")]
    clean = _CLEAN
    if recipe.docs:
        kept = " ".join(f"! -name {shlex.quote(name)}" for name in recipe.docs)
        clean = _CLEAN.replace("usr/share/doc/* ", "") + _CLEAN_DOCS.format(kept=kept)
    unpack = _UNPACK_MODULES.format(modules=" ".join((*recipe.modules, *recipe.asked, *_MODULES)))
    steps = [*(one if recipe.archives else ()), unpack, clean]
    if disk:
        steps.append(_INIT)
    paths = _BOOT
    for programs, name in ((recipe.programs, LISTS["programs"]), (recipe.agent, LISTS["agent"])):
        if programs:
            steps.append(_LIST_PROGRAMS.format(programs=" ".join(programs), list=name))
            paths += f" {name} $(cat {name})"
    steps.append(_SAVE_BOOT.format(paths=paths, boot=descriptors.boot))
    if disk:
        name = uuid(recipe.digest)
        steps.append(_MAKE_ROOT.format(uuid=name, features=_FEATURES, root=descriptors.root, view=_CLEAN_VIEW))
    confine = files("nestlab.images").joinpath("confine.pl").read_text()
    # Debian's kernels, too, shall make no initramfs that nobody uses.
    own = {"INITRD": "No"} if recipe.archives else {}
    return {CONFINE: confine, FINISH: "".join(steps), **own}


def arguments(recipe: Recipe, descriptors: Descriptors) -> list[str]:
    """mmdebstrap's arguments."""
    disk = recipe.base == "disk"
    # Packages that are only extracted have no later hook.
    hook_option = "--customize-hook" if disk else "--extract-hook"
    shell, tar = ("/bin/sh", "/usr/bin/tar") if disk else ("/usr/bin/busybox sh", "/usr/bin/busybox tar")
    view = _CLEAN_VIEW if disk else '""'
    outlets = f"{descriptors.root},{descriptors.boot}"
    bring = _BRING_PACKAGES.format(kept=_KEPT, check=shlex.quote(_CHECK.strip()), descriptor=descriptors.kept)
    patterns = [f"path-exclude={each}" for each in _EXCLUDED]
    patterns += [f"path-include=/usr/share/doc/{name}/*" for name in recipe.docs]
    setups = [bring, *([_BRING_ARCHIVES] if recipe.archives else [])]
    hooks = [
        *([_ADD_KERNEL] if recipe.archives else []),
        _SAVE_PACKAGES.format(kept=_KEPT, packages=descriptors.packages),
        f'{_CONFINED} "" {descriptors.overlay} {tar} -x -C / -f /proc/self/fd/{descriptors.overlay}',
        *([_RUN_SCRIPT] if recipe.script else []),
        f'{_CONFINED} {view} {outlets} {shell} -euc "${FINISH}"',
    ]
    return [
        f"--variant={'minbase' if disk else 'extract'}",
        "--format=null",
        f"--include={','.join(filter(None, (recipe.kernel, *recipe.packages)))}",
        *(f"--skip={step}" for step in _SKIPPED),
        f"--setup-hook={_EXCLUDE.format(patterns=' '.join(map(shlex.quote, patterns)))}",
        '--aptopt=Acquire::Languages "none"',
        f"--aptopt={_AFTER_UPDATE % _KEPT}",
        # Without a newline at the end: Perl warns of such a name when it looks whether the hook is a file.
        *(f"--setup-hook=set -eu\n{each.strip()}" for each in setups),
        *(f"{hook_option}=set -eu\n{hook.strip()}" for hook in hooks),
        recipe.suite,
        "-",
        *([recipe.mirror] if recipe.mirror else []),
    ]


def uuid(digest: str) -> str:
    """A filesystem's UUID that follows from the image's digest: the same recipe, the same name."""
    return "-".join((digest[:8], digest[8:12], "4" + digest[13:16], "8" + digest[17:20], digest[20:32]))
