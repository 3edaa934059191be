"""Paths of a lab's files on a host, the same at every level. Pure."""

from __future__ import annotations

import hashlib
import re

from nestlab.base.frozen import frozen

GUEST_ROOT = "/var/lib/nestlab"
"""nestlab's directory inside a hypervisor of its own."""


def short_id(path: str) -> str:
    """8 hex digits for a machine's path: unix socket paths are limited to 107 bytes, names are not."""
    return hashlib.sha256(path.encode()).hexdigest()[:8]


FOLDER = re.compile(r"[0-9a-f]{8}")
"""The name of a machine's directory, which `short_id` makes. Nothing else beside it is nestlab's."""


@frozen
class Place:
    """A lab's directory on a host."""

    root: str

    @property
    def machines(self) -> str:
        return f"{self.root}/m"

    @property
    def switch(self) -> str:
        return f"{self.root}/switch"

    def of(self, path: str) -> MachinePaths:
        return MachinePaths(f"{self.machines}/{short_id(path)}")

    def folder(self, name: str) -> str:
        """The directory of a machine whose path is not known. ValueError for what is no name of one."""
        if not FOLDER.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a machine's directory")
        return f"{self.machines}/{name}"


@frozen
class MachinePaths:
    """One machine's directory. `made` is written last when it is created: without it, it is half made."""

    root: str

    @property
    def making(self) -> str:
        """Written first: whose directory it is."""
        return f"{self.root}/making"

    @property
    def made(self) -> str:
        return f"{self.root}/made"

    @property
    def boot(self) -> str:
        """The parameters of the running (or last) boot, one line of JSON."""
        return f"{self.root}/boot"

    @property
    def stopped(self) -> str:
        """Exists while nestlab has stopped the machine on purpose."""
        return f"{self.root}/stopped"

    @property
    def answered(self) -> str:
        """Exists once a machine whose console does not tell has answered ssh since its boot."""
        return f"{self.root}/answered"

    @property
    def pid(self) -> str:
        return f"{self.root}/pid"

    @property
    def identity(self) -> str:
        return f"{self.root}/identity"

    @property
    def seed(self) -> str:
        return f"{self.root}/seed.iso"

    @property
    def disk(self) -> str:
        return f"{self.root}/disk.qcow2"

    def variables(self, firmware: str) -> str:
        """The variables of its UEFI; each kind of firmware has its own."""
        return f"{self.root}/{firmware}.fd"

    @property
    def kernel(self) -> str:
        """A copy of its image's kernel that says where its initramfs is loaded (`hardware_argv.lowered`)."""
        return f"{self.root}/kernel"

    @property
    def tpm(self) -> str:
        """The directory with what its TPM keeps."""
        return f"{self.root}/tpm"

    @property
    def tpm_socket(self) -> str:
        return f"{self.root}/tpm.sock"

    @property
    def tpm_pid(self) -> str:
        return f"{self.root}/tpm.pid"

    @property
    def qmp(self) -> str:
        return f"{self.root}/qmp"

    @property
    def console(self) -> str:
        return f"{self.root}/con"

    @property
    def agent(self) -> str:
        return f"{self.root}/qga"

    @property
    def vnc(self) -> str:
        """The VNC server of a machine with a screen; it lets nobody in until it is told a password."""
        return f"{self.root}/vnc"

    @property
    def log(self) -> str:
        """The console of the last boot; those before it are console.1.log, console.2.log, … oldest first."""
        return f"{self.root}/console.log"
