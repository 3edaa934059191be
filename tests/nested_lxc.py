"""What LXC is told of a container that runs in another one."""

from __future__ import annotations

CONFIGURED = """\
cat >/srv/config <<'END'
lxc.uts.name = inner
lxc.rootfs.path = dir:/srv/root
lxc.include = /usr/share/lxc/config/common.conf
lxc.include = /usr/share/lxc/config/userns.conf
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.net.0.type = empty
lxc.init.cmd = /init
END
"""
"""A script, for a root filesystem in /srv/root."""
