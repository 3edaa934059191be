"""The tiny image, which lives in its initramfs: busybox under all its names, and a few programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nestlab.images import initramfs

_PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
_GROUP = "root:x:0:\ntty:x:5:\n"
_INITTAB = """\
ttyS0::askfirst:-/bin/sh
::ctrlaltdel:/bin/poweroff
::shutdown:/bin/sync
"""

# What people type in a guest. Busybox's shell finds all its applets anyway; the names are for programs that exec.
_APPLETS = """
    [ awk base64 basename brctl cat chmod chown chroot clear cmp cp cut date dd df dirname dmesg du echo env expr
    false find free grep gunzip gzip halt head hexdump hostname httpd id ifconfig init insmod install ip kill killall
    less ln ls lsmod lspci md5sum mkdir mkfifo mknod mktemp modprobe more mount mv nc netstat nohup nproc nslookup od
    passwd pidof ping ping6 pkill pgrep poweroff printf ps pwd readlink realpath reboot reset rm rmdir rmmod route sed
    seq setsid sh sha256sum sha512sum sleep sort split ssl_client stat strings stty sync sysctl tail tar tee test time
    timeout top touch tr traceroute true truncate tty udhcpc umount uname uniq unlink uptime usleep vi watch wc wget
    which xargs xxd yes
"""


# What qemu-ga runs to end a machine (guest-shutdown): `shutdown -P|-H|-r -h +0 …`.
_SHUTDOWN = b"""\
#!/bin/sh
case " $* " in
*" -r "*) exec reboot ;;
*" -H "*) exec halt ;;
esac
exec poweroff
"""


def agent(files: Mapping[str, tuple[bytes, int]]) -> Iterator[initramfs.Entry]:
    """Entries of the archive that is loaded over the userland where the guest agent is the only way in."""
    for path, (data, mode) in files.items():
        yield initramfs.file(path, data, mode)
    yield initramfs.file("bin/shutdown", _SHUTDOWN, 0o755)


def place_of(path: str) -> str:
    """Where a file of a path is in the archive, in which /sbin is /bin."""
    bare = path.lstrip("/")
    return f"bin/{bare.removeprefix('sbin/')}" if bare.startswith("sbin/") else bare


def userland(files: Mapping[str, tuple[bytes, int]], applets: Iterable[str] = ()) -> Iterator[initramfs.Entry]:
    """Entries for programs and libraries (path to contents and mode), accounts, and busybox's names."""
    for path, (data, mode) in files.items():
        yield initramfs.file(path, data, mode)
    for name in (*_APPLETS.split(), *applets):
        yield initramfs.link(f"bin/{name}", "busybox")
    yield initramfs.link("sbin", "bin")
    yield initramfs.directory("tmp", 0o1777)
    yield initramfs.file("etc/passwd", _PASSWD.encode())
    yield initramfs.file("etc/group", _GROUP.encode())
    yield initramfs.file("etc/shells", b"/bin/sh\n")
    yield initramfs.file("etc/inittab", _INITTAB.encode())
