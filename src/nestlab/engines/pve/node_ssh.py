"""ssh to a machine inside a node of nestlab's, through the node and along one of the lab's own networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve.protocols import SSH
from nestlab.engines.pve.tags import Mark
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import LOGIN, SshHost

if TYPE_CHECKING:
    from nestlab.wire.ssh import Connection


def reached(node: Host, keys: LabKeys, mark: Mark) -> SshHost:
    """The machine with this mark as a host, over ssh with its pinned key. Nothing is connected yet; its addresses are
    tried one after the other."""
    key, host_key = keys.key, keys.host_key(mark.path).public

    async def connect(slowness: float) -> Connection:
        from nestlab.wire import ssh

        limit = patience.allowed(LOGIN, slowness)
        trouble: LabError = Unreachable(f"{mark.path} has no address.", hint="`nestlab up` gives it one.")
        for address in mark.addresses:
            tunnel = await node.connect() if isinstance(node, SshHost) else None
            try:
                return await ssh.connect(
                    address,
                    SSH,
                    user=mark.user,
                    key=key,
                    host_key=host_key,
                    tunnel=tunnel,
                    timeout=limit,
                    where=mark.path,
                )
            except LabError as error:
                trouble = error
        raise trouble

    return SshHost(mark.path, connect)
