"""Protocols that the engine for a Proxmox VE needs: the store of images, and the connection to a machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from socket import socket
from typing import Protocol

from nestlab.base.events import Say
from nestlab.hosts.host import Host, Result
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import Image

SSH = 22
"""The port of a machine's sshd."""


class Stock(Protocol):
    """The images of a lab's Proxmox VE: a template for each on every storage that needs one, made when first needed."""

    async def present(self) -> frozenset[str]:
        """Keys of images whose files are there."""

    async def build(self, key: str, image: Image, say: Say, node: str = "") -> None:
        """`node`: where it is needed first (""): wherever."""

    async def template(self, key: str, image: Image, node: str, storage: str, say: Say) -> int:
        """The VMID of the image's template that machines of a node are cloned from."""

    async def fits(self, spec: Spec, images: Mapping[str, Image]) -> None:
        """LabError where a disk of a machine is to be smaller than the image that it is a copy of, which a lab file
        cannot tell of a download."""

    async def node_of(self, vmid: int) -> str:
        """The node that a template is on. Missing if it is gone: then `template` makes a new one."""

    async def cargo(self, key: str, image: Image, node: str, say: Say) -> tuple[tuple[str, str], ...]:
        """Serial number and volume of each file that a hypervisor is handed, to import from."""

    async def volume(self, key: str, image: Image, node: str, say: Say) -> str:
        """The volume of a file of the user's: a disk to import from, or what a CD-ROM drive holds."""

    async def container(self, key: str, image: Image, node: str, say: Say) -> str:
        """The volume of a container template."""

    async def upload(self, node: str, name: str, data: bytes) -> str:
        """Put a small disk there to import from: its volume. A file of that name is replaced."""

    async def drop(self, volid: str, node: str = "") -> None:
        """Remove an uploaded file; that it is not there is no error."""

    async def drop_named(self, node: str, name: str) -> None:
        """Remove what `upload` left under that name, if it did."""


class ContainerTemplates(Protocol):
    """What containers are made from."""

    def takes(self, image: Image) -> bool:
        """Whether a container can be made from an image."""

    async def ensure(self, key: str, image: Image, node: str, say: Say) -> str:
        """The volume of the image's template on a node, put there if it is not."""


class Stream(Protocol):
    """`socket`: its near end. `trouble`: why it ended, if not because either side wished so."""

    @property
    def socket(self) -> socket: ...

    @property
    def trouble(self) -> str: ...

    async def close(self) -> None: ...


class Door(Protocol):
    """The guest agent of one machine."""

    async def wait(self, timeout: float, alive: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Until it answers. Unreachable when it does not in time, or the machine does not run any more."""

    async def run(
        self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> Result: ...

    async def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """By MAC address, the IP addresses of each card."""

    async def open(self, port: int) -> Sequence[str]:
        """The machine's addresses where something listens on a TCP port, as seen from here."""

    async def stream(self, port: int) -> Stream:
        """A stream to a TCP port on the machine's loopback, through its agent. LabError when the machine lacks what
        that needs."""


OpenDoor = Callable[[str, int, str], Door]
"""The door of a machine, by node, VMID and path."""

OpenHost = Callable[[str, int, str, str, bool], Host]
"""A machine as a host, by node, VMID, path and user; and whether it may be tried straight at its own address."""
