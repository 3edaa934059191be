"""Who may do what: users, tokens, tickets, roles, access control lists, and PVE's permission checks."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nestlab.testing.fake_pve.refusals import Refusal, denied
from nestlab.testing.fake_pve.roles import builtin, privileges

LIFE = 7200
"""Seconds a ticket lives (AccessControl.pm)."""
ROOT = "root@pam"
Acl = dict[tuple[str, str, str, str], int]
TOPS = ("access", "mapping", "nodes", "pool", "sdn", "storage", "vms")


@dataclass
class Token:
    """An API token; `privsep` 1 has only what its own ACL entries and its user's both allow."""

    value: str
    privsep: int = 1
    expire: int = 0
    comment: str = ""


@dataclass
class User:
    """A user with its tokens by name."""

    password: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    tokens: dict[str, Token] = field(default_factory=dict)


class Access:
    """The access control of one cluster."""

    def __init__(self, major: int, password: str) -> None:
        self.major = major
        self.users: dict[str, User] = {ROOT: User(password)}
        self.groups: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, frozenset[str]] = dict(builtin(major))
        self.builtin = frozenset(self.roles)
        self.privileges = privileges(major)
        self.acl: Acl = {}
        self.pool_of: dict[str, str] = {}
        self.tickets: dict[str, tuple[str, str, float]] = {}

    def ticket(self, userid: str) -> tuple[str, str]:
        """A new ticket and the CSRF token that belongs to it."""
        now = time.time()
        ticket = f"PVE:{userid}:{int(now):08X}::{secrets.token_urlsafe(48)}"
        csrf = f"{int(now):08X}:{secrets.token_urlsafe(32)}"
        self.tickets[ticket] = (userid, csrf, now)
        return ticket, csrf

    def expire_tickets(self) -> None:
        """Every ticket given out so far is older than its life."""
        self.tickets = {ticket: (who, csrf, 0.0) for ticket, (who, csrf, _) in self.tickets.items()}

    def ticket_user(self, ticket: str) -> tuple[str, str] | None:
        """The user and CSRF token of a ticket that is still good."""
        who, csrf, made = self.tickets.get(ticket, ("", "", 0.0))
        return (who, csrf) if who and time.time() - made < LIFE else None

    def token_user(self, text: str) -> str | None:
        """USER@REALM!TOKENID of `USER@REALM!TOKENID=UUID` when that is a token that is good."""
        name, sign, value = text.partition("=" if "=" in text else " ")
        userid, mark, tokenid = name.partition("!")
        token = self.users[userid].tokens.get(tokenid) if userid in self.users and mark else None
        if not sign or token is None or token.value != value or 0 < token.expire < time.time():
            return None
        return name

    def new_token(self, userid: str, name: str, **options: Any) -> Token:
        token = Token(str(uuid.uuid4()), **options)
        self.users[userid].tokens[name] = token
        return token

    def paths(self) -> set[str]:
        return {path for path, *_ in self.acl}

    def entries(self, path: str, kind: str, who: set[str]) -> dict[str, int]:
        return {
            role: propagate
            for (where, sort, ugid, role), propagate in self.acl.items()
            if where == path and sort == kind and ugid in who
        }

    def roles_at(self, name: str, path: str) -> dict[str, int]:
        """The roles of a user or token at a path: the deepest entry wins, a user's entry over a group's."""
        userid, _, tokenid = name.partition("!")
        found: dict[str, int] = {}
        for prefix in prefixes(path):
            kinds = ["token"] if tokenid else ["user", "group"]
            for kind in kinds:
                who = self.users[userid].groups if kind == "group" else {name}
                entries = self.entries(prefix, kind, who)
                valid = {role: spread for role, spread in entries.items() if spread or prefix == path}
                if valid:
                    found = valid
                    break
        return {} if "NoAccess" in found else found

    def held(self, name: str, path: str) -> dict[str, int]:
        """The privileges at a path, each with whether it propagates."""
        userid, _, tokenid = name.partition("!")
        if userid not in self.users:
            return {}
        if tokenid and self.users[userid].tokens[tokenid].privsep:
            own, user = self.granted(name, path), self.held(userid, path)
            return {privilege: spread for privilege, spread in own.items() if privilege in user}
        if userid == ROOT:
            return dict.fromkeys(self.privileges, 1)
        return self.granted(userid, path)

    def granted(self, name: str, path: str) -> dict[str, int]:
        found: dict[str, int] = {}
        pools = self.pool_of.get(path)
        for where in (path, f"/pool/{pools}" if pools else None):
            for role, spread in self.roles_at(name, where).items() if where else ():
                for privilege in self.roles.get(role, ()):
                    found[privilege] = max(spread, found.get(privilege, 0))
        return found

    def has(self, name: str, path: str, *wanted: str, any_of: bool = False) -> bool:
        """Whether a user or token has all of the privileges at a path (or any of them)."""
        held = self.held(name, path)
        return (any if any_of else all)(privilege in held for privilege in wanted)

    def need(self, name: str, path: str, *wanted: str, any_of: bool = False) -> None:
        """Refusal 403 in PVE's words, unless the user has the privileges."""
        if not path or not self.has(name, path, *wanted, any_of=any_of):
            raise denied(f"{path}, {('|' if any_of else ', ').join(wanted)}")


def prefixes(path: str) -> Iterator[str]:
    yield "/"
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        if parts[0]:
            yield "/" + "/".join(parts[:count])


def acl_path(path: str) -> str:
    """A path of an ACL without doubled or closing slashes; empty where PVE cannot read it."""
    parts = [part for part in path.split("/") if part]
    plain = all(set(part) <= ACL_LETTERS for part in parts)
    return "/" + "/".join(parts) if path.startswith("/") and plain else ""


ACL_LETTERS = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@")


def allowed(access: Access, name: str, rule: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Refusal 403 unless the published permissions of a method let this user call it with these parameters."""
    if rule is None:
        if name != ROOT:
            raise denied(f"user != {ROOT}")
        return
    if "check" in rule and rule.get("user") != "all" and name != ROOT:
        checked(access, name, rule["check"], given)


def checked(access: Access, name: str, check: list[Any], given: Mapping[str, Any], *, quiet: bool = False) -> None:
    kind, *rest = check
    if kind == "and":
        for part in rest:
            checked(access, name, part, given, quiet=quiet)
    elif kind == "or":
        for part in rest:
            try:
                return checked(access, name, part, given, quiet=True)
            except Refusal:
                continue
        raise denied()
    elif kind == "perm":
        options = dict(zip(rest[2::2], rest[3::2], strict=False))
        if "require_param" in options and options["require_param"] not in given:
            raise denied()
        access.need(name, filled(rest[0], given), *rest[1], any_of=bool(options.get("any")))
    elif kind == "perm-modify":
        path = filled(rest[0], given)
        extra = {"storage": "Datastore.Allocate", "vms": "VM.Allocate", "pool": "Pool.Allocate"}
        top = path.split("/")[1] if path.count("/") else ""
        access.need(name, path or "/", "Permissions.Modify", *filter(None, [extra.get(top)]), any_of=True)
    elif kind == "userid-param":
        userid = str(given.get("userid", ""))
        if rest[0] == "self":
            if userid != name or userid not in access.users:
                raise denied()
        else:
            access.need(name, f"/access/realm/{realm(userid)}", rest[0])
    elif kind == "userid-group":
        groups = access.users.get(str(given.get("userid", "")), User()).groups
        if "userid" in given and given["userid"] not in access.users and "groups_param" not in rest:
            raise denied() if quiet else Refusal(500, f"no such user ('{given['userid']}')")
        if not any(access.has(name, f"/access/groups/{group}", *rest[0]) for group in groups):
            access.need(name, "/access/groups", *rest[0], any_of=True)
    return None


def realm(userid: str) -> str:
    """The realm of a user id; the id is checked here already, so a bad one is a 500 and no 400."""
    user, sign, found = userid.partition("@")
    if not sign or not user or set(user) & set(" :/,"):
        raise Refusal(500, f"value '{userid}' does not look like a valid user name")
    return found


def filled(template: str, given: Mapping[str, Any]) -> str:
    """A permission's path with the parameters put in; empty when one is missing or no name."""
    parts = []
    for part in template.split("/"):
        if part.startswith("{") and part.endswith("}"):
            value = given.get(part[1:-1], "")
            if not isinstance(value, str | int):
                return ""
            part = str(value)
        parts.append(part)
    return acl_path("/".join(parts))
