"""/access: tickets, users, tokens, roles, access control lists, permissions."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve.access import ROOT, TOPS, User, acl_path, realm
from nestlab.testing.fake_pve.refusals import Refusal, died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve

REALMS = ("pam", "pve")
FIELDS = ("comment", "email", "firstname", "lastname", "expire", "enable", "keys")
COMMON = [
    "/",
    "/access",
    "/access/groups",
    "/nodes",
    "/pool",
    "/sdn",
    "/sdn/zones",
    "/sdn/zones/localnetwork",
    "/storage",
    "/vms",
]
"""The paths that PVE tells of beside those with entries."""
CAPS = {
    "dc": ("/", "Sys.Audit", "Sys.Modify", "SDN."), "vms": ("/vms", "VM.", "Permissions."),
    "storage": ("/storage", "Datastore.", "Permissions."), "nodes": ("/nodes", "Sys.", "Permissions."),
    "sdn": ("/sdn", "SDN.", "Permissions."), "mapping": ("/mapping", "Mapping.", "Permissions."),
    "access": ("/access", "User.", "Group.", "Permissions."),
}  # fmt: skip
"""What a login is told of its privileges: path and beginnings of names."""
TOKENS = "/access/users/{userid}/token"


@serve("POST", "/access/ticket")
def ticket(ask: Ask) -> Any:
    """Log in by password, or with a ticket that is still good as the password."""
    access = ask.world.access
    userid = f"{ask['username']}@{ask['realm']}" if ask.get("realm") else ask["username"]
    password = str(ask["password"])
    user = access.users.get(userid)
    renewed = access.ticket_user(password) if password.startswith("PVE:") else None
    good = (renewed and renewed[0] == userid) or (user and user.password and user.password == password)
    if not good or user is None or user.options.get("enable") == 0:
        raise Refusal(401, "authentication failure")
    made, csrf = access.ticket(userid)
    cap = {
        top: {name: 1 for name in access.held(userid, CAPS[top][0]) if name.startswith(CAPS[top][1:])} for top in CAPS
    }
    found = {"username": userid, "ticket": made, "CSRFPreventionToken": csrf, "cap": cap}
    return {**found, "clustername": ask.world.clustername} if ask.world.clustername else found


@serve("GET", "/access/ticket")
def no_ticket(ask: Ask) -> Any:
    return None


@serve("PUT", "/access/password")
def password(ask: Ask) -> Any:
    known(ask).password = ask["password"]


def known(ask: Ask) -> User:
    userid = ask["userid"]
    if userid not in ask.world.access.users:
        raise died(f"no such user ('{userid}')")
    return ask.world.access.users[userid]


def user_row(user: User) -> dict[str, Any]:
    return {"enable": 1, "expire": 0, **user.options}


@serve("GET", "/access/users")
def users(ask: Ask) -> Any:
    rows = []
    for userid, user in sorted(ask.world.access.users.items()):
        mine = userid == ask.user.partition("!")[0]
        if not (mine or ask.has("/access/groups", "User.Modify", "Sys.Audit", any_of=True)):
            continue
        row = {"userid": userid, "realm-type": realm(userid), **user_row(user)}
        if ask.on("full"):
            row["groups"] = ",".join(sorted(user.groups))
            row["tokens"] = [{"tokenid": name, "expire": one.expire, "privsep": one.privsep}
                             for name, one in user.tokens.items()]  # fmt: skip
        rows.append(row)
    return [row for row in rows if "!" not in ask.user or row["userid"] != ROOT or ask.has("/access", "Sys.Audit")]


@serve("POST", "/access/users")
def create_user(ask: Ask) -> Any:
    userid = ask["userid"]
    if realm(userid) not in REALMS:
        raise died(f"create user failed: auth domain '{realm(userid)}' does not exist")
    if userid in ask.world.access.users:
        raise died(f"create user failed: user '{userid}' already exists")
    options = {name: ask[name] for name in FIELDS if ask.get(name) is not None}
    groups = set(filter(None, str(ask.get("groups", "")).split(",")))
    ask.world.access.users[userid] = User(ask.get("password", ""), options, groups)


@serve("GET", "/access/users/{userid}")
def read_user(ask: Ask) -> Any:
    user = known(ask)
    tokens = {name: {"expire": one.expire, "privsep": one.privsep} for name, one in user.tokens.items()}
    return {**user_row(user), "groups": sorted(user.groups), "tokens": tokens or None}


@serve("PUT", "/access/users/{userid}")
def update_user(ask: Ask) -> Any:
    user = known(ask)
    user.options.update({name: ask[name] for name in FIELDS if ask.get(name) is not None})
    if ask.get("groups") is not None:
        new = set(filter(None, ask["groups"].split(",")))
        user.groups = user.groups | new if ask.on("append") else new


@serve("DELETE", "/access/users/{userid}")
def delete_user(ask: Ask) -> Any:
    known(ask)
    access = ask.world.access
    del access.users[ask["userid"]]
    access.acl = {key: spread for key, spread in access.acl.items() if key[2].partition("!")[0] != ask["userid"]}


@serve("GET", TOKENS)
def tokens(ask: Ask) -> Any:
    return [{"tokenid": name, "expire": token.expire, "privsep": token.privsep,
             **({"comment": token.comment} if token.comment else {})}
            for name, token in known(ask).tokens.items()]  # fmt: skip


@serve("GET", f"{TOKENS}/{{tokenid}}")
def read_token(ask: Ask) -> Any:
    token = known(ask).tokens.get(ask["tokenid"])
    if token is None:
        raise died(f"no such token '{ask['tokenid']}' for user '{ask['userid']}'")
    found = {"expire": token.expire, "privsep": token.privsep}
    return {**found, "comment": token.comment} if token.comment else found


@serve("POST", f"{TOKENS}/{{tokenid}}")
def create_token(ask: Ask) -> Any:
    """A token; its value is told this once."""
    user = known(ask)
    if ask["tokenid"] in user.tokens:
        raise wrong("tokenid", "Token already exists.")
    given = {name: ask[name] for name in ("expire", "comment", "privsep") if ask.get(name) is not None}
    options = {"privsep": 1, **given}
    token = ask.world.access.new_token(ask["userid"], ask["tokenid"], **options)
    info = {name: str(value) for name, value in options.items()}
    return {"full-tokenid": f"{ask['userid']}!{ask['tokenid']}", "value": token.value, "info": info}


@serve("DELETE", f"{TOKENS}/{{tokenid}}")
def delete_token(ask: Ask) -> Any:
    if known(ask).tokens.pop(ask["tokenid"], None) is None:
        raise died(f"no such token '{ask['tokenid']}' for user '{ask['userid']}'")


@serve("GET", "/access/groups")
def groups(ask: Ask) -> Any:
    return [{"groupid": name, **group} for name, group in ask.world.access.groups.items()]


@serve("POST", "/access/groups")
def create_group(ask: Ask) -> Any:
    name = ask["groupid"]
    if name in ask.world.access.groups:
        raise died(f"create group failed: group '{name}' already exists")
    ask.world.access.groups[name] = {"comment": ask.get("comment", "")}


@serve("DELETE", "/access/groups/{groupid}")
def delete_group(ask: Ask) -> Any:
    if ask.world.access.groups.pop(ask["groupid"], None) is None:
        raise died(f"delete group failed: group '{ask['groupid']}' does not exist")


@serve("GET", "/access/roles")
def roles(ask: Ask) -> Any:
    access = ask.world.access
    rows: list[dict[str, Any]] = []
    for name, held in sorted(access.roles.items()):
        row: dict[str, Any] = {"roleid": name, "privs": ",".join(sorted(held))}
        rows.append({**row, "special": 1} if name in access.builtin else {**row, "special": 0})
    return rows


def listed(ask: Ask) -> frozenset[str]:
    names = [name for name in re.split(r"[\s,;]+", str(ask.get("privs") or "")) if name]
    for name in names:
        if name not in ask.world.access.privileges:
            raise wrong("privs", f"invalid format - invalid privilege '{name}'\n")
    return frozenset(names)


@serve("POST", "/access/roles")
def create_role(ask: Ask) -> Any:
    name, access = ask["roleid"], ask.world.access
    if name.lower().startswith("pve"):
        raise wrong("roleid", "cannot use role ID starting with the (case-insensitive) 'PVE' namespace")
    privileges = listed(ask)
    if name in access.roles:
        raise died(f"create role failed: role '{name}' already exists")
    access.roles[name] = privileges


def role(ask: Ask, done: str, what: str) -> frozenset[str]:
    name, access = ask["roleid"], ask.world.access
    if name in access.builtin and done:
        raise died(f"auto-generated role '{name}' cannot be {done}")
    if name not in access.roles:
        raise died(f"{what}role '{name}' does not exist")
    return access.roles[name]


@serve("GET", "/access/roles/{roleid}")
def read_role(ask: Ask) -> Any:
    return dict.fromkeys(sorted(role(ask, "", "")), 1)


@serve("PUT", "/access/roles/{roleid}")
def update_role(ask: Ask) -> Any:
    old = role(ask, "modified", "")
    ask.world.access.roles[ask["roleid"]] = listed(ask) | (old if ask.on("append") else frozenset())


@serve("DELETE", "/access/roles/{roleid}")
def delete_role(ask: Ask) -> Any:
    role(ask, "deleted", "delete role failed: ")
    del ask.world.access.roles[ask["roleid"]]


@serve("GET", "/access/acl")
def acl(ask: Ask) -> Any:
    """The entries of all paths for who may see them."""
    if not ask.has("/access", "Sys.Audit", "Permissions.Modify", any_of=True):
        return []
    return [{"path": path, "type": kind, "ugid": who, "roleid": role, "propagate": spread}
            for (path, kind, who, role), spread in sorted(ask.world.access.acl.items())]  # fmt: skip


def named(ask: Ask, kind: str) -> list[str]:
    return [name for name in re.split(r"[\s,;]+", str(ask.get(f"{kind}s") or "")) if name]


def exists(ask: Ask, kind: str, who: str) -> None:
    access = ask.world.access
    userid, _, tokenid = who.partition("!")
    if kind == "group":
        if who not in access.groups:
            raise died(f"ACL update failed: group '{who}' does not exist")
    elif userid not in access.users:
        raise died(f"ACL update failed: user '{userid}' does not exist")
    elif kind == "token" and tokenid not in access.users[userid].tokens:
        raise died(f"ACL update failed: no such token '{tokenid}' for user '{userid}'")


@serve("PUT", "/access/acl")
def update_acl(ask: Ask) -> Any:
    access = ask.world.access
    kinds = ("user", "group", "token")
    if not any(ask.get(f"{kind}s") for kind in kinds):
        text = "either 'users', 'groups' or 'tokens' is required."
        raise Refusal(400, "Parameter verification failed.", {f"{kind}s": text for kind in kinds})
    path = acl_path(ask["path"])
    if not path or (path != "/" and path.split("/")[1] not in TOPS):
        raise wrong("path", f"invalid ACL path '{ask['path']}'")
    for name in named(ask, "role"):
        if name not in access.roles:
            raise died(f"ACL update failed: role '{name}' does not exist")
        for kind in kinds:
            for who in named(ask, kind):
                exists(ask, kind, who)
                if ask.on("delete"):
                    access.acl.pop((path, kind, who, name), None)
                else:
                    access.acl[path, kind, who, name] = int(ask.get("propagate", 1))


@serve("GET", "/access/permissions")
def permissions(ask: Ask) -> Any:
    """Privileges by path: one's own, or anybody's for who may audit."""
    userid = ask.get("userid") or ask.user
    own = userid == ask.user or userid.startswith(f"{ask.user}!")
    if not own:
        ask.need("/access", "Sys.Audit")
    access = ask.world.access
    wanted = ask.get("path")
    paths = {wanted} if wanted else {*access.paths(), *COMMON, *access.pool_of}
    if userid.startswith(ROOT) and not wanted:
        paths.add("/sdn/zones/localnetwork/vmbr0")
    return {path: held for path in sorted(paths) if (held := access.held(userid, path))}
