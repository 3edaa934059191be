"""A machine of the user's own, named as `ssh://[user@]host[:port]` and reached as the user's OpenSSH reaches it.

Its configuration, known_hosts files, keys and agent are used; passwords are not. A host key is trusted only when
known_hosts has it, or the user was asked and said yes. The host itself is made by `ssh.at`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.lab.ssh_address import Address as Address
from nestlab.lab.ssh_address import parse as parse
from nestlab.wire import client_keys, known_hosts, login, ssh
from nestlab.wire.client_keys import Keys
from nestlab.wire.known_hosts import Known
from nestlab.wire.ssh_refusals import Attempt, refusal

if TYPE_CHECKING:
    import asyncssh

Ask = Callable[[str], bool]
"""Asks the user a question; True for yes. Called on the event loop's thread: everything waits for the answer."""

SYSTEM = Path("/etc/ssh")
"""Where OpenSSH's files for all users are."""

HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
CERTIFICATES = tuple(f"{name}-cert-v01@openssh.com" for name in HOST_KEYS)


async def connect(address: Address, *, ask: Ask | None, timeout: float = 30.0) -> ssh.Connection:
    """Connect to it, within `timeout` seconds for each of its jump hosts and itself.

    A host key that is not known is shown to `ask`; if that says yes it is remembered as ssh would, else (and with no
    `ask`) it is a LabError, as is a key that is another than the known one, and all that keeps us from logging in.
    Unreachable if nobody answers."""

    async def log_in() -> asyncssh.SSHClientConnection:
        return await _Door(ask, timeout).open(address, str(address))

    hint = f"Is it still on, and the network to it? Try: ssh {address.arguments}"
    return await ssh.enter(log_in, str(address), hint)


@frozen
class _Settings:
    """What the user's configuration says about an address."""

    config: list[Path]
    host: str
    port: int
    user: str
    jump: str | None
    alias: str | None
    known_hosts: list[Path]
    identities: list[Path] | None
    certificates: list[Path]
    agent: str | None
    only: bool


@frozen
class _Door:
    ask: Ask | None
    timeout: float

    async def open(
        self,
        address: Address,
        where: str,
        tunnel: asyncssh.SSHClientConnection | None = None,
        before: tuple[str, ...] = (),
    ) -> asyncssh.SSHClientConnection:
        """Log in, through `tunnel` or the jump hosts that the configuration names. `before`: whose jump host it is."""
        settings = await asyncio.to_thread(settings_of, address)
        own = None
        if tunnel is None and settings.jump:
            own = tunnel = await self._jump(settings.jump, where, (*before, address.host))
        try:
            connection = await self._enter(address, settings, where, tunnel)
        except BaseException:
            if own is not None:
                own.abort()
            raise
        if own is not None:
            connection.set_tunnel(own)  # closed with it
        return connection

    async def _jump(self, jump: str, where: str, before: tuple[str, ...]) -> asyncssh.SSHClientConnection | None:
        """Log in to the jump hosts, one through the other. None if a host is to be its own, as ssh has it."""
        reached: asyncssh.SSHClientConnection | None = None
        hops = [parse(hop if "://" in hop else f"ssh://{hop}") for hop in map(str.strip, jump.split(","))]
        if any(hop.host in before for hop in hops):
            return None
        try:
            for hop in hops:
                last, reached = reached, await self.open(hop, f"{hop} (on the way to {where})", reached, before)
                if last is not None:
                    reached.set_tunnel(last)
        except BaseException:
            if reached is not None:
                reached.abort()
            raise
        return reached

    async def _enter(
        self, address: Address, settings: _Settings, where: str, tunnel: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        """Log in; once more if the host key was not known and the user accepts it."""
        for last in (False, True):
            known = await asyncio.to_thread(
                known_hosts.look_up, settings.known_hosts, settings.host, settings.port, settings.alias
            )
            try:
                return await self._try(address, settings, where, tunnel, known)
            except _NewKeyError as new:
                if last or self.ask is None or not self.ask(new.question(settings.known_hosts[0])):
                    raise new.refused(address) from None
                await asyncio.to_thread(known_hosts.remember, settings.known_hosts[0], known.name, new.key)
        raise AssertionError("the second try ends it")

    async def _try(
        self,
        address: Address,
        settings: _Settings,
        where: str,
        tunnel: asyncssh.SSHClientConnection | None,
        known: Known,
    ) -> asyncssh.SSHClientConnection:
        import asyncssh

        agent, only = settings.agent, settings.only
        keys = await client_keys.gather(settings.identities, settings.certificates, agent, only=only)
        place = str(Address(settings.host, port=settings.port))
        attempt = Attempt(where, place, settings.user, address.arguments, self.timeout, known, keys)
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncssh.connect(
                    address.host,
                    address.port or (),
                    username=address.user or (),
                    tunnel=tunnel,
                    config=settings.config,
                    client_factory=lambda: _client(attempt),
                    **_options(known, keys, self.timeout),
                )
        except (TimeoutError, OSError, ValueError, asyncssh.Error) as error:
            if isinstance(error, asyncssh.HostKeyNotVerifiable) and attempt.new is not None:
                raise _NewKeyError(where, attempt.address, attempt.new) from error
            raise refusal(error, attempt) from error
        finally:
            keys.close()


def settings_of(address: Address) -> _Settings:
    """The settings for an address in the user's ssh configuration and environment. It reads files (use a thread)."""
    import asyncssh

    config = [file for file in (Path.home() / ".ssh" / "config", SYSTEM / "ssh_config") if os.access(file, os.R_OK)]
    try:
        options = asyncssh.SSHClientConnectionOptions(
            config=config,
            host=address.host,
            port=address.port or (),
            username=address.user or (),
            known_hosts=([], [], []),
            client_keys=None,
            canonicalize_hostname=False,
        )
    except (ValueError, OSError, asyncssh.Error) as error:
        what = f"The ssh configuration for {address} cannot be used: {error}."
        raise LabError(what, hint=f"See what ssh makes of it: ssh -G {address.arguments}") from error
    get: Callable[[str], Any] = options.config.get
    tokens = {"%": "%", "d": str(Path.home()), "h": options.host, "n": address.host, "p": str(options.port)}
    tokens |= {"r": options.username, "k": get("HostKeyAlias") or address.host}
    users = [
        re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), name) for name in get("UserKnownHostsFile") or ()
    ]
    everybodys = get("GlobalKnownHostsFile")
    own = [Path.home() / ".ssh" / "known_hosts", Path.home() / ".ssh" / "known_hosts2"]
    everybody = [SYSTEM / "ssh_known_hosts", SYSTEM / "ssh_known_hosts2"]
    identities = get("IdentityFile")
    return _Settings(
        config,
        options.host,
        options.port,
        options.username,
        get("ProxyJump") or None,
        get("HostKeyAlias") or None,
        (_paths(users) or own) + (everybody if everybodys is None else _paths(everybodys)),
        None if identities is None else _paths(identities),
        _paths(get("CertificateFile")),
        _agent(options.config),
        bool(get("IdentitiesOnly")),
    )


def _paths(names: Sequence[str] | None) -> list[Path]:
    return [Path(name).expanduser() for name in names or ()]


def _agent(config: Any) -> str | None:
    """The agent's socket: IdentityAgent, which may be `none` or name a variable, else $SSH_AUTH_SOCK."""
    said = config.get("IdentityAgent", "SSH_AUTH_SOCK")
    if said == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if said and said.startswith("$"):
        return os.environ.get(said[1:]) or None
    return str(Path(said).expanduser()) if said else None


def _options(known: Known, keys: Keys, timeout: float) -> dict[str, Any]:
    """What asyncssh is not to take from the configuration, or from its own defaults."""
    certificates = CERTIFICATES if known.authorities else ()
    liked = {name.decode() for key in known.trusted for name in key.sig_algorithms}
    return {
        "known_hosts": (known.trusted, [line.key for line in known.authorities], [line.key for line in known.revoked]),
        "server_host_key_algs": [*certificates, *sorted(HOST_KEYS, key=lambda name: name not in liked)],
        "client_keys": keys.pairs or None,
        "agent_path": None,
        "preferred_auth": "publickey",
        "canonicalize_hostname": False,
        "compression_algs": ["none"],
        "connect_timeout": None,
        "login_timeout": timeout,
        "keepalive_interval": login.KEEPALIVE[0],
        "keepalive_count_max": login.silences(),
        "agent_forwarding": False,
        "x11_forwarding": False,
        "request_pty": True,  # asked for only with a terminal's type
        "command": None,
        "env": None,
        "send_env": None,
    }


def _client(attempt: Attempt) -> asyncssh.SSHClient:
    """Notes in `attempt` how far it came; accepts no key that known_hosts does not have."""
    import asyncssh

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            attempt.connection = conn

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            attempt.shown = key
            return False

        def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            attempt.authority = key
            return False

    return Client()


class _NewKeyError(Exception):
    """The host key is not known: neither right nor wrong."""

    def __init__(self, where: str, address: str, key: asyncssh.SSHKey) -> None:
        super().__init__(where)
        self.where, self.address, self.key = where, address, key
        self.kind = known_hosts.kind(key)

    def question(self, file: Path) -> str:
        at = "" if self.where.endswith(self.address) else f" ({self.address})"
        return (
            f"The authenticity of {self.where}{at} can't be established: its host key is not known.\n"
            f"{self.kind} key fingerprint is {self.key.get_fingerprint()}.\n"
            f"Is that its key? It is then remembered in {file}."
        )

    def refused(self, address: Address) -> LabError:
        what = f"The host key of {self.where} is not known: {self.kind} {self.key.get_fingerprint()}."
        return LabError(what, hint=f"If that is its key, connect once with `ssh {address.arguments}` to accept it.")
