"""Logs in to an ssh server: keys and algorithms, and what a failure means."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable

if TYPE_CHECKING:
    import asyncssh

KEEPALIVE = (15, 8)
"""Seconds between questions to a silent host, and how many (nominally) may stay without an answer. Long: a machine that
is paused for a snapshot, or starved under emulation, is not gone; one whose QEMU ended closes its connection."""

KEY_EXCHANGES = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")


def silences() -> int:
    """How many questions may stay without an answer."""
    return max(KEEPALIVE[1], round(patience.allowed(KEEPALIVE[1])))


def identity(key: Path, host_key: str) -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    """Our key and the server's. In a thread, for asyncssh takes long to import."""
    import asyncssh

    try:
        return asyncssh.read_private_key(key), asyncssh.import_public_key(host_key)
    except (OSError, asyncssh.KeyImportError) as error:
        raise LabError(f"The lab's ssh key {key} cannot be read: {error}.", hint="Make the lab anew.") from error


async def login(
    host: str,
    port: int,
    user: str,
    identity: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
    tunnel: asyncssh.SSHClientConnection | None,
    timeout: float,
    where: str,
    sock: socket.socket | None = None,
) -> asyncssh.SSHClientConnection:
    """Log in; what fails is told as by `refusal`. `identity`: our key and the server's; `sock`: what is connected to it
    already."""
    import asyncssh

    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)
            return False

    client_key, pinned = identity
    algorithm = pinned.algorithm.decode()
    try:
        async with asyncio.timeout(timeout):
            return await asyncssh.connect(
                host,
                port,
                tunnel=tunnel,
                sock=sock,
                config=None,
                client_factory=Client,
                known_hosts=([pinned], [], []),
                server_host_key_algs=["rsa-sha2-512", "rsa-sha2-256"] if algorithm == "ssh-rsa" else [algorithm],
                username=user,
                client_keys=[client_key],
                agent_path=None,
                preferred_auth="publickey",
                kex_algs=KEY_EXCHANGES,
                encryption_algs=CIPHERS,
                mac_algs=MACS,
                compression_algs=["none"],
                login_timeout=timeout,
                keepalive_interval=KEEPALIVE[0],
                keepalive_count_max=silences(),
            )
    except (TimeoutError, OSError, asyncssh.Error) as error:
        expected, got = pinned.get_fingerprint(), offered[0].get_fingerprint() if offered else ""
        raise refusal(error, where, f"{host}:{port}", user, expected, got, timeout) from error


def refusal(error: Exception, where: str, address: str, user: str, expected: str, got: str, timeout: float) -> LabError:
    """The error of a failed connection: Unreachable where another try may help, else LabError."""
    import asyncssh

    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} did not answer as an ssh server within {timeout:g} s.", hint=look(where))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        what = f"THE HOST KEY OF {where} IS NOT THE ONE THAT NESTLAB GAVE IT: somebody else answers at {address}."
        hint = f"Expected {expected}, got {got or 'another kind of key'}. Nothing was sent to it."
        return LabError(what, hint=hint)
    if isinstance(error, asyncssh.PermissionDenied):
        what = f"{where} does not let {user} in with the lab's key."
        return LabError(what, hint=f"Was its authorized_keys changed? {look(where)}")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        what = f"{where} ({address}) speaks ssh, but not with nestlab: {error}."
        return LabError(what, hint=f"It should have the host key {expected}. Does something else listen there?")
    if isinstance(error, ConnectionRefusedError | asyncssh.ChannelOpenError):
        return Unreachable(f"{where} refused the connection at {address}.", hint=look(where), detail=str(error))
    if isinstance(error, asyncssh.ConnectionLost | ConnectionError):
        what = f"{where} closed the connection at {address} before the login was done."
        return Unreachable(what, hint=look(where))
    return Unreachable(f"No connection to {where} at {address}: {error}.", hint=look(where))


def look(where: str) -> str:
    """The hint for a machine that does not answer."""
    return f"See whether it runs, and its console: nestlab status, nestlab logs {where}"
