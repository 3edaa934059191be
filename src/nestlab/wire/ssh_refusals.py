"""Why a machine of the user's own cannot be reached by ssh, and what to do about it."""

from __future__ import annotations

import errno
import re
import shlex
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.client_keys import Keys
from nestlab.wire.known_hosts import Known, Line, kind

if TYPE_CHECKING:
    import asyncssh

NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}

CHOOSE = "Name the right one in ~/.ssh/config for this host: IdentityFile, with IdentitiesOnly yes."


@dataclass
class Attempt:
    """A login, and how far it came. `where` names the machine; `arguments` are what ssh is given to reach it."""

    where: str
    address: str
    user: str
    arguments: str
    timeout: float
    known: Known
    keys: Keys
    connection: asyncssh.SSHClientConnection | None = None
    shown: asyncssh.SSHKey | None = None
    authority: asyncssh.SSHKey | None = None

    @property
    def place(self) -> str:
        """Where it was looked for, if that is not plain from its name."""
        return "" if self.where.endswith(self.address) else f" at {self.address}"

    @property
    def new(self) -> asyncssh.SSHKey | None:
        """The host key shown, if nothing is known that it should have been."""
        return None if self.known.keys else self.shown

    @property
    def speaks(self) -> bool:
        """Something answered, and as an ssh server."""
        return self.connection is not None and bool(self.connection.get_extra_info("server_version"))


def refusal(error: Exception, attempt: Attempt) -> LabError:
    """The error of a failed login: Unreachable where nobody answers, else LabError."""
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _wrong_key(error, attempt)
    if "too many authentication failures" in str(error).lower():
        what = f"{attempt.where} ended the login of {attempt.user}: too many of the ssh keys offered are not accepted."
        return LabError(what, hint=_offered(attempt) + " " + CHOOSE)
    if isinstance(error, asyncssh.PermissionDenied):
        return _denied(attempt)
    if isinstance(error, asyncssh.KeyExchangeFailed | asyncssh.ProtocolNotSupported) and attempt.connection:
        what = f"{attempt.where}{attempt.place} speaks ssh, but not with nestlab: {error}."
        return LabError(what, hint=f"See what ssh has in common with it: ssh -v {attempt.arguments}")
    return _network(error, attempt)


def _network(error: Exception, attempt: Attempt) -> LabError:
    import asyncssh

    where, place = attempt.where, attempt.place
    numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}  # asyncio tries several addresses
    if isinstance(error, OSError) and error.errno is not None:
        numbers.add(error.errno)
    if isinstance(error, socket.gaierror):
        name = attempt.address.rpartition(":")[0]
        what = f"The host name of {where}, {name}, cannot be resolved: {error.strerror}."
        hint = f"Check its spelling, and that names are resolved here: getent hosts {shlex.quote(name)}"
        return LabError(what, hint=hint)
    if isinstance(error, ConnectionRefusedError) or errno.ECONNREFUSED in numbers:
        what = f"{where} refused the connection{place}: nobody listens on that port."
        return Unreachable(what, hint="Is sshd running there, and is that its port?")
    if isinstance(error, TimeoutError) or errno.ETIMEDOUT in numbers:
        return _silent(attempt)
    if numbers & NO_ROUTE:
        what = f"There is no route to {where}{place}."
        return Unreachable(what, hint="Check the network, and a VPN that it may need: ip route; and its address.")
    if isinstance(error, asyncssh.ChannelOpenError):
        what = f"{where} is not reached{place} through its jump host: {error}."
        return Unreachable(what, hint="Is it on, is sshd running there, and does the jump host allow forwarding?")
    if attempt.connection is not None and not attempt.speaks:
        what = f"What answers as {where}{place} is not an ssh server, or closed the connection before it said so."
        return Unreachable(what, hint="Is that the port of sshd? It may also turn away this address, or be overloaded.")
    if isinstance(error, asyncssh.ConnectionLost | ConnectionError):
        what = f"{where} closed the connection{place} before the login was done."
        return Unreachable(what, hint=f"See the log of its sshd, and: ssh -v {attempt.arguments}")
    if isinstance(error, asyncssh.Error | ValueError):
        return LabError(f"The login to {where}{place} failed: {error}.", hint=f"See: ssh -v {attempt.arguments}")
    return Unreachable(f"No connection to {where}{place}: {error}.", hint=f"See: ssh -v {attempt.arguments}")


def _silent(attempt: Attempt) -> LabError:
    if attempt.connection is None:
        what = f"{attempt.where} did not answer{attempt.place} within {attempt.timeout:g} s."
        return Unreachable(what, hint="Is it on, is the address right, and does no firewall drop the connection?")
    if attempt.speaks:
        what = f"The login to {attempt.where}{attempt.place} did not end within {attempt.timeout:g} s."
        return Unreachable(what, hint=f"See where it hangs (perhaps at the ssh agent): ssh -v {attempt.arguments}")
    what = f"{attempt.where} took the connection{attempt.place}, but was no ssh server within {attempt.timeout:g} s."
    return Unreachable(what, hint="Is that the port of sshd, and is the machine not overloaded?")


def _wrong_key(error: Exception, attempt: Attempt) -> LabError:
    known, where = attempt.known, attempt.where
    if "revoked" in str(error):
        what = f"THE HOST KEY OF {where} IS REVOKED in {_places(known.revoked)}: whoever answers is not to be trusted."
        return LabError(what, hint="Ask who runs the machine for its new key. Nothing was sent to it.")
    if attempt.shown is None:
        said = str(error).partition(" for host ")[0]
        what = f"The host certificate of {where} is not valid: {said}."
        signer = f" It is signed by {attempt.authority.get_fingerprint()}." if attempt.authority else ""
        return LabError(what, hint=f"The authorities that may sign it are in {_places(known.authorities)}.{signer}")
    first = known.keys[0]
    what = (
        f"THE HOST KEY OF {where} HAS CHANGED: it is not the one in {_places(known.keys)}. "
        f"Somebody else may answer{attempt.place or ' in its place'}, or the machine was installed anew."
    )
    known_as = ", ".join(f"{kind(line.key)} {line.key.get_fingerprint()}" for line in known.keys)
    remove = f"ssh-keygen -f {shlex.quote(str(first.file))} -R {shlex.quote(known.name)}"
    hint = (
        f"Known: {known_as}. Now: {kind(attempt.shown)} {attempt.shown.get_fingerprint()}. Nothing was sent to it. "
        f"If you are sure that the new key is right, forget the old one: {remove}"
    )
    return LabError(what, hint=hint)


def _places(lines: tuple[Line, ...]) -> str:
    return ", ".join(dict.fromkeys(map(str, lines)))


def _denied(attempt: Attempt) -> LabError:
    keys = attempt.keys
    what = f"{attempt.where} does not let {attempt.user} in" + (
        " with any of your ssh keys." if keys.names else ": you have no ssh key that could be offered."
    )
    hints = [_offered(attempt)] if keys.names else []
    hints += keys.bad
    if keys.locked:
        files = ", ".join(map(str, keys.locked))
        many = len(keys.locked) > 1
        start = "" if keys.agent else 'eval "$(ssh-agent)" && '
        hints.append(
            f"{files} {'have passphrases' if many else 'has a passphrase'}, and no ssh agent has "
            f"{'these keys' if many else 'the key'}. Unlock: {start}ssh-add {shlex.join(map(str, keys.locked))}"
        )
    elif keys.names:
        hints.append(f"Is the user right? Bring it a key: ssh-copy-id {attempt.arguments}")
    else:
        hints.append(f"Make one and bring it there: ssh-keygen -t ed25519 && ssh-copy-id {attempt.arguments}")
    return LabError(what, hint=" ".join(hints))


def _offered(attempt: Attempt) -> str:
    return f"Offered: {', '.join(attempt.keys.names)}." if attempt.keys.names else "No key was offered."
