"""What runs a container in a hypervisor: a process that looks to nestlab as a QEMU of its own does.

It runs inside the hypervisor, as one file with `container_sockets`, of Python's standard library alone. LXC makes the
container; this process gives it a root filesystem, and has the sockets that a QEMU has: a monitor (QMP), a console, and
a port of 127.0.0.1 that leads to its sshd. All that it mounts is in a mount namespace of its own, which goes when it
ends.

usage: container_runner.py -name nestlab:LAB:PATH DIRECTORY SETTINGS, where SETTINGS is JSON (`engines.qemu.container`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nestlab.engines.qemu.container_sockets import Console, Failed, Forwards, Monitor, in_thread, listener, run, veth

FIRST, COUNT = 100000, 65536
"""Outside, the container's user 0 is FIRST, and it has COUNT of them."""

CGROUPS = "/sys/fs/cgroup"

TOP = "/mnt"
"""Where its filesystems are mounted, in this process's mount namespace."""

_libc = ctypes.CDLL(None, use_errno=True)
_RDONLY, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 4, 1 << 5, 1 << 12, 1 << 14, 1 << 18
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_EMPTY_PATH, _CLONE, _IDMAP = 0x1000, 1, 0x00100000
_DEATHSIG = 1
_NEWNS, _NEWUSER, _NEWNET = 0x20000, 0x10000000, 0x40000000


# -- filesystems ------------------------------------------------------------------------------------------------------


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise Failed(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    _checked(_libc.mount(*words), f"cannot mount {kind or 'it'} on {target}")


def shifted(target: str) -> None:
    """Mount what is mounted at `target` over itself, such that its owner N is FIRST + N (an idmapped mount)."""
    space = _user_namespace()
    try:
        tree = _libc.syscall(_OPEN_TREE, -100, target.encode(), _CLONE | os.O_CLOEXEC)
        _checked(tree, f"cannot clone the mount of {target}")
        attributes = struct.pack("=QQQQ", _IDMAP, 0, 0, space)
        done = _libc.syscall(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, attributes, len(attributes))
        _checked(done, f"cannot shift the owners of {target}")
        _checked(_libc.syscall(_MOVE_MOUNT, tree, b"", -100, target.encode(), 4), f"cannot mount {target} again")
        os.close(tree)
    finally:
        os.close(space)


def _user_namespace() -> int:
    """A descriptor of a user namespace with the container's owners."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _checked(_libc.unshare(_NEWUSER), "unshare")
            os.write(ready[1], b"y")
            os.close(go[1])
            os.read(go[0], 1)
        finally:
            os._exit(0)
    try:
        os.close(ready[1])
        if os.read(ready[0], 1) != b"y":
            raise Failed("this kernel makes no user namespace")
        for kind in ("uid", "gid"):
            with open(f"/proc/{child}/{kind}_map", "w") as file:
                file.write(f"0 {FIRST} {COUNT}")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for each in (ready[0], *go):
            os.close(each)
        os.waitpid(child, 0)


def root_filesystem(settings: Mapping[str, Any]) -> None:
    """The container's, at TOP/root: over its image's, which nobody writes, what it has written itself; or, where the
    image lives in memory, that, unpacked."""
    _checked(_libc.unshare(_NEWNS), "cannot have mounts of its own")
    mount("none", "/", "", _REC | _PRIVATE)
    mount("nestlab", TOP, "tmpfs", 0, "mode=0755")
    for name in ("image", "root", "id", "lxc", "nested"):
        os.mkdir(f"{TOP}/{name}", 0o755)
    if "archive" in settings:
        mount("nestlab", f"{TOP}/root", "tmpfs", 0, f"mode=0755,size={settings['memory']}")
        with open(settings["archive"], "rb") as archive:
            run("busybox", "cpio", "-i", "-d", "-m", cwd=f"{TOP}/root", stdin=archive)
        shifted(f"{TOP}/root")
        return
    if stat.S_ISBLK(os.stat(settings["device"]).st_mode):
        mount(settings["device"], f"{TOP}/image", "ext4", _RDONLY, "noload")
    else:  # a file that was copied into the hypervisor
        run("mount", "-t", "ext4", "-o", "ro,noload,loop", settings["device"], f"{TOP}/image")
    shifted(f"{TOP}/image")
    for name in ("upper", "work"):
        if not os.path.isdir(name):
            os.mkdir(name, 0o755)
            os.chown(name, FIRST, FIRST)
    here = os.getcwd()
    layers = f"lowerdir={TOP}/image,upperdir={here}/upper,workdir={here}/work"
    mount("overlay", f"{TOP}/root", "overlay", _NODEV, layers)  # it may come from another hypervisor, devices too
    for name in nested_stores(f"{TOP}/root"):
        os.mkdir(f"{TOP}/nested/{name}")
        mount(f"{here}/nested/{name}", f"{TOP}/nested/{name}", "", _BIND)
        mount("none", f"{TOP}/nested/{name}", "", _REMOUNT | _BIND | _NODEV)


STORES: Mapping[str, tuple[str, ...]] = {
    "docker": ("sbin/dockerd", "bin/dockerd"),
    "containerd": ("bin/containerd",),
    "containers": ("bin/podman", "bin/buildah", "bin/crio"),
}
"""Directories of /var/lib in which programs that run containers keep theirs, and what those programs are in /usr."""


def nested_stores(root: str) -> Iterator[str]:
    """The names in STORES that a container with that root filesystem gets from `nested` in the machine's directory: of
    the programs that it has. They mount overlays, and Linux has none over what an overlay has written. What was begun
    within the root filesystem stays there."""
    for name, programs in STORES.items():
        own, inside = f"nested/{name}", f"{root}/var/lib/{name}"
        if not os.path.isdir(own):
            if not any(os.path.lexists(f"{root}/usr/{program}") for program in programs):
                continue
            if os.path.lexists(inside) and (not os.path.isdir(inside) or os.listdir(inside)):
                continue
            os.makedirs(own, 0o711)
            os.chown(own, FIRST, FIRST)
        yield name


_INIT = {
    "disk": "cd /run/nestlab && cp {files} /etc/\nexec /sbin/init --show-status=auto",
    "initramfs": """\
mkdir -p /root/.ssh /run /tmp
cd /run/nestlab && cp {files} /etc/ && cp authorized_keys /root/.ssh/
chmod 700 /root /root/.ssh
chmod 600 /root/.ssh/authorized_keys
cd /
dropbear -s -j -k -r /run/nestlab/dropbear_ed25519_host_key && echo 'nestlab: ready' >/dev/console
exec init""",
}
"""What the container's first process is, until it is its init: the identity is applied at every start."""


_QUIET = 'for f in /proc/sys/net/ipv6/conf/*/accept_ra; do [ ! -w "$f" ] || echo 0 >"$f"; done\n'
"""No address by who advertises routers on a segment, as in virtual machines (`network_script`)."""


def identity(settings: Mapping[str, Any]) -> None:
    """The machine's identity, which is /run/nestlab inside."""
    run("busybox", "tar", "-x", "-f", f"{os.getcwd()}/identity", cwd=f"{TOP}/id")
    with open(f"{TOP}/id/machine-id", "w") as file:
        file.write(settings["machine_id"] + "\n")
    names = [name for name in ("hostname", "hosts", "machine-id", "resolv.conf") if os.path.exists(f"{TOP}/id/{name}")]
    with open(f"{TOP}/id/init", "w") as file:
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH TERM=dumb\n"
        file.write(f"#!/bin/sh\n{path}{_QUIET}{_INIT[settings['base']].format(files=' '.join(names))}\n")
    os.chmod(f"{TOP}/id/init", 0o755)
    for name in ("", *os.listdir(f"{TOP}/id")):
        os.chown(f"{TOP}/id/{name}", FIRST, FIRST)


def openable(*devices: str) -> None:
    """Who opens these in a container is no root outside. (Where udev is, it has them so: 50-udev-default.rules.)"""
    for device in devices:
        with contextlib.suppress(OSError):
            os.chmod(device, 0o666)


# -- LXC --------------------------------------------------------------------------------------------------------------


def configuration(settings: Mapping[str, Any], stores: Iterable[str] = ()) -> str:
    """LXC's. The container may nest: it has /proc and /sys of its own to hand on (LXC's nesting.conf), a control group
    of its own to divide, /dev/fuse and /dev/net/tun, and no list of mounts that it may not make."""
    lines = [
        f"lxc.uts.name = {settings['host']}",
        f"lxc.rootfs.path = dir:{TOP}/root",
        f"lxc.rootfs.mount = {TOP}/lxc",
        f"lxc.idmap = u 0 {FIRST} {COUNT}",
        f"lxc.idmap = g 0 {FIRST} {COUNT}",
        "lxc.apparmor.profile = unconfined",
        "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp",
        "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
        "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
        "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0",
        "lxc.mount.entry = tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir 0 0",
        f"lxc.mount.entry = {TOP}/id run/nestlab none bind,create=dir 0 0",
        "lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file,optional 0 0",
        "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0",
        *(f"lxc.mount.entry = {TOP}/nested/{name} var/lib/{name} none bind,create=dir,optional 0 0" for name in stores),
        "lxc.hook.version = 1",
        "lxc.hook.autodev = ln -sn console ${LXC_ROOTFS_MOUNT}/dev/ttyS0",
        "lxc.init.cmd = /run/nestlab/init",
        "lxc.tty.max = 0",
        "lxc.pty.max = 1024",
        f"lxc.cgroup2.memory.max = {settings['memory']}",
        "lxc.cgroup2.memory.swap.max = 0",
        f"lxc.cgroup2.cpu.max = {settings['cpus'] * 100000} 100000",
    ]
    for number, nic in enumerate(settings["nics"]):
        own = f"lxc.net.{number}"
        lines += [f"{own}.type = veth", f"{own}.veth.pair = {veth(number)}", f"{own}.link = {nic['bridge']}"]
        lines += [f"{own}.name = eth{number}", f"{own}.hwaddr = {nic['mac']}", f"{own}.mtu = {nic['mtu']}"]
        lines += [f"{own}.flags = up", *([f"{own}.veth.vlan.id = {nic['vlan']}"] if nic["vlan"] else [])]
        if nic["cut"]:  # it is run once the pair is there, before the end inside is up
            lines += [f'{own}.script.up = sh -c "ip link set dev {veth(number)} down"']  # LXC adds words to it
        lines += [f"{own}.ipv{6 if ':' in each else 4}.address = {each}" for each in nic["addresses"]]
    return "\n".join([*lines, *(["lxc.net.0.type = empty"] if not settings["nics"] else []), ""])


def _as_a_child() -> None:
    """Its terminal is the console, and it ends with this process, as the container does with it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _libc.prctl(_DEATHSIG, signal.SIGKILL)


def sweep(name: str) -> None:
    """Remove the control groups, now empty, of one that was killed."""
    for top in os.listdir(CGROUPS):
        if top.startswith((f"lxc.payload.{name}", f"lxc.monitor.{name}")):
            for folder, _, _ in os.walk(f"{CGROUPS}/{top}", topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


class Container:
    """The container: its LXC, which is a child of this process, and its first process, a child of that."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name = f"nestlab-{os.path.basename(os.getcwd())}"
        self._settings = settings
        sweep(self.name)
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with open(f"{TOP}/config", "w") as file:
            file.write(configuration(settings, sorted(os.listdir(f"{TOP}/nested"))))
        argv = ["lxc-start", "-F", "-n", self.name, "-f", f"{TOP}/config", "-P", f"{TOP}/lxc", "-l", "WARN"]
        argv += ["-o", f"{os.getcwd()}/lxc.log"]
        self._lxc = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_as_a_child
        )
        os.close(slave)
        self.paused = False

    def wait(self) -> int:
        return self._lxc.wait()

    @property
    def init(self) -> int | None:
        """The process that is 1 inside."""
        try:
            with open(f"/proc/{self._lxc.pid}/task/{self._lxc.pid}/children") as file:
                found = file.read().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    @property
    def cgroup(self) -> str:
        """The directory of the control group that all its processes are in."""
        with open(f"/proc/{self.init}/cgroup") as file:
            names = file.read().partition("::")[2].strip().split("/")
        last = next(at for at, name in enumerate(names) if name.startswith("lxc.payload."))
        return "/".join([CGROUPS, *names[1 : last + 1]])

    def freeze(self, *, yes: bool) -> None:
        with open(f"{self.cgroup}/cgroup.freeze", "w") as file:
            file.write("1" if yes else "0")
        self.paused = yes

    def resize(self, memory: int, cpus: int) -> None:
        """Other limits than those that it was started with. What it uses is taken from it as far as Linux can."""
        for name, value in (("memory.max", str(memory)), ("cpu.max", f"{cpus * 100000} 100000")):
            with open(f"{self.cgroup}/{name}", "w") as file:
                file.write(value)
        if "archive" in self._settings:
            mount("nestlab", f"{TOP}/root", "tmpfs", _REMOUNT, f"size={memory}")

    def power_button(self) -> None:
        """What asks its init to end: systemd's SIGRTMIN+3 (systemd(1)), busybox's SIGUSR2."""
        if (init := self.init) is not None:
            os.kill(init, signal.SIGRTMIN + 3 if self._settings["base"] == "disk" else signal.SIGUSR2)

    def kill(self) -> None:
        """End it at once."""
        if (init := self.init) is not None:
            os.kill(init, signal.SIGKILL)
        else:
            self._lxc.kill()

    def connect(self, port: int) -> socket.socket:
        """A connection to 127.0.0.1 inside. In a thread that does nothing else: it leaves its network for ever."""
        with open(f"/proc/{self.init}/ns/net") as file:
            if _libc.setns(file.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), "its network cannot be entered")
        return socket.create_connection(("127.0.0.1", port), timeout=None)


def main(argv: list[str]) -> int:
    _, name, directory, said = argv
    settings = json.loads(said)
    os.chdir(directory)
    os.umask(0o022)
    root_filesystem(settings)
    identity(settings)
    openable("/dev/fuse", "/dev/net/tun")
    monitor, console = listener("qmp"), listener("con")
    held: list[Container] = []
    forwards = Forwards(lambda port: held[0].connect(port))
    try:
        forwards.add("127.0.0.1", settings["port"], settings["address"], 22)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Failed("Could not set up host forwarding rule") from None
        raise
    container = Container(name, settings)
    held.append(container)
    signal.signal(signal.SIGTERM, lambda *_: container.kill())
    shown = Console(console, container.master)
    in_thread(Monitor(container, forwards).serve, monitor)
    status = container.wait()
    if status == 0:
        shown.over("\r\nreboot: Power down\r\n")
        return 0
    shown.over()
    try:
        with open("lxc.log", errors="replace") as log:
            sys.stderr.write(log.read()[-4000:])
    except OSError:
        pass
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failed, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
