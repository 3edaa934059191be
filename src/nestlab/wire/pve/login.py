"""Logs in to a Proxmox VE: by an API token, or by a ticket got with a password."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from urllib.parse import quote

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

LIFE = 7200.0
"""Seconds that a ticket is good for ($ticket_lifetime in PVE::AccessControl)."""

RENEW = 5400.0
"""Its age at which it is renewed, while it is still good as its own password."""

_TOKEN = re.compile(r"(?P<user>[^\s:/!]+@[A-Za-z][A-Za-z0-9._-]*)!(?P<id>[A-Za-z][A-Za-z0-9._-]*)[=: ](?P<secret>\S+)")


@frozen
class Token:
    """An API token. Its secret is not shown."""

    user: str
    id: str
    secret: str = field(repr=False)

    @staticmethod
    def of(text: str) -> Token:
        """From `USER@REALM!ID=SECRET`. LabError, without the text, if it is not that."""
        found = _TOKEN.fullmatch(text.strip().removeprefix("PVEAPIToken="))
        if not found:
            what = "The API token is not written as USER@REALM!ID=SECRET (for example lab@pve!nestlab=1234…)."
            raise LabError(what, hint="`pveum user token add USER@REALM ID` shows id and secret, the secret only once.")
        return Token(found["user"], found["id"], found["secret"])

    @property
    def name(self) -> str:
        return f"{self.user}!{self.id}"


@frozen
class Password:
    """A user with realm (`root@pam`) and their password, which is not shown."""

    user: str
    secret: str = field(repr=False)

    @property
    def name(self) -> str:
        return self.user


Login = Token | Password


class Ticket:
    """A ticket and its CSRF token, and when they were got."""

    def __init__(self, ticket: str, csrf: str, now: float) -> None:
        self.ticket = ticket
        self.csrf = csrf
        self._got = now

    def age(self, now: float) -> float:
        return now - self._got


class Badge:
    """The header that authenticates each request: for a token always the same, for a password a ticket that is
    renewed."""

    def __init__(self, login: Login, now: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._now = now
        self._ticket: Ticket | None = None

    @property
    def renewable(self) -> bool:
        """A new login may mend a 401."""
        return isinstance(self._login, Password)

    @property
    def current(self) -> object:
        """The present credentials; another object after a renewal."""
        return self._ticket

    @property
    def due(self) -> bool:
        """A login is needed, or soon."""
        if not self.renewable:
            return False
        return self._ticket is None or self._ticket.age(self._now()) >= RENEW

    def request(self) -> Mapping[str, str]:
        """The request to /access/ticket: a ticket that is still good renews itself, without the password."""
        secret = self._login.secret
        if self._ticket is not None and self._ticket.age(self._now()) < LIFE - 60:
            secret = self._ticket.ticket
        return {"username": self._login.name, "password": secret}

    def take(self, answer: Mapping[str, object], where: str) -> None:
        """The answer of /access/ticket. LabError when a second factor is asked for."""
        ticket, csrf = str(answer.get("ticket") or ""), str(answer.get("CSRFPreventionToken") or "")
        if answer.get("NeedTFA") or not ticket or ticket.startswith("PVE:!tfa!"):
            what = f"{where} wants a second factor from {self._login.name}, which nestlab cannot give."
            raise LabError(what, hint="Use an API token: NESTLAB_PVE_TOKEN=USER@REALM!ID=SECRET.")
        self._ticket = Ticket(ticket, csrf, self._now())

    def drop(self) -> None:
        """It was refused: the next login is with the password."""
        self._ticket = None

    def headers(self, method: str) -> dict[str, str]:
        """For a request; those that change something need the CSRF token too."""
        if isinstance(self._login, Token):
            return {"Authorization": f"PVEAPIToken={self._login.name}={quote(self._login.secret, safe='')}"}
        if self._ticket is None:
            return {}
        cookie = {"Cookie": f"PVEAuthCookie={quote(self._ticket.ticket, safe='')}"}
        return cookie if method == "GET" else {**cookie, "CSRFPreventionToken": self._ticket.csrf}
