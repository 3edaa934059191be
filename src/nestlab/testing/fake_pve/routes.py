"""The table of endpoints, and how a request comes to one: who asks, may they, is it well said, then the endpoint."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from nestlab.testing.fake_pve.access import allowed
from nestlab.testing.fake_pve.forms import Upload
from nestlab.testing.fake_pve.published import Schema, schema
from nestlab.testing.fake_pve.refusals import Refusal, denied, untouched, wrong
from nestlab.testing.fake_pve.tasks import Task, Tasks, Work
from nestlab.testing.fake_pve.verify import verified
from nestlab.testing.fake_pve.world import Guest, World

Handler = Callable[["Ask"], Any]
TABLE: dict[tuple[str, str], Handler] = {}
GUEST_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
LOOKUP = "hostname lookup '{0}' failed - failed to get address info for: {0}: Temporary failure in name resolution"


@dataclass
class Ask:
    """One request on its way to an endpoint: who asks, and its parameters, those of the path included."""

    world: World
    tasks: Tasks
    user: str
    given: Mapping[str, Any]
    method: str = "GET"
    path: str = ""
    upload: Upload | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.given.get(name, default)

    def on(self, name: str, default: bool = False) -> bool:
        """A boolean parameter."""
        return bool(int(self.given.get(name, default) or 0))

    @property
    def node(self) -> str:
        return str(self.given["node"])

    @property
    def vmid(self) -> int:
        return int(self.given["vmid"])

    @property
    def kind(self) -> str:
        return "lxc" if "/lxc" in self.path else "qemu"

    @property
    def root(self) -> bool:
        """root@pam itself; a token of root is not."""
        return self.user == "root@pam"

    def guest(self) -> Guest:
        return self.world.guest(self.node, self.kind, self.vmid)

    def need(self, path: str, *wanted: str, any_of: bool = False) -> None:
        """Refusal 403 unless whoever asks has the privileges."""
        self.world.access.need(self.user, path, *wanted, any_of=any_of)

    def has(self, path: str, *wanted: str, any_of: bool = False) -> bool:
        return self.world.access.has(self.user, path, *wanted, any_of=any_of)

    def only_root(self, *names: str) -> None:
        """These options are refused to everyone but root@pam with a ticket."""
        for name in names:
            if self.given.get(name) is not None and not self.root:
                raise wrong(name, "Only root may use this option.")

    def worker(self, kind: str, ident: str | int, work: Work, *, locks: tuple[int, ...] = ()) -> str:
        """Start a task of this user on the node that was asked, and return its UPID."""
        return self.tasks.start(self.node, kind, str(ident), self.user, work, locks=locks)

    def locked_worker(self, kind: str, work: Callable[[Task, Guest], None]) -> str:
        """A task that looks for its guest and takes its lock only once it runs, as most of PVE's do."""

        def run(task: Task) -> None:
            guest = self.guest()
            if self.busy():
                task.say("trying to acquire lock...")
            task.hold(self.vmid)
            work(task, guest)

        return self.worker(kind, self.vmid, run, locks=(self.vmid,))

    def busy(self) -> bool:
        return bool(self.world.held.get(self.vmid))


def serve(method: str, *templates: str) -> Callable[[Handler], Handler]:
    """Put a function into the table of endpoints."""

    def put(handler: Handler) -> Handler:
        for template in templates:
            TABLE[method, template] = handler
        return handler

    return put


@functools.cache
def patterns(version: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every known path as a pattern, literal segments before variable ones."""
    from nestlab.testing.fake_pve import endpoints

    endpoints.load()
    known = {template for _, template in TABLE} | schema(version).templates()
    return tuple((template, compiled(template)) for template in sorted(known, key=literal_first))


def literal_first(template: str) -> tuple[int, list[tuple[bool, str]]]:
    return -template.count("/"), [(part.startswith("{"), part) for part in template.split("/")]


def compiled(template: str) -> re.Pattern[str]:
    parts = []
    for part in template.split("/"):
        if part == "{volume}":
            parts.append("(?P<volume>.+)")
        elif part.startswith("{"):
            parts.append(f"(?P<{part[1:-1].replace('-', '_')}>[^/]+)")
        else:
            parts.append(re.escape(part))
    return re.compile("/".join(parts) + "$")


def place(version: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The template of a path and the variables in it. `{volume}` may hold slashes, plain or percent-encoded."""
    for template, pattern in patterns(version):
        if match := pattern.match(path):
            names = re.findall(r"\{([^}]+)\}", template)
            return template, {name: unquote(match[name.replace("-", "_")]) for name in names}
    return None


def answer(ask: Ask) -> Any:
    """The data of one request. Rights come before parameters, and the node before both is asked (RESTHandler.pm)."""
    version = ask.world.version
    found = place(version, ask.path)
    published = schema(version)
    if found is None:
        raise untouched(ask.method, ask.path)
    template, variables = found
    handler = TABLE.get((ask.method, template))
    info = published.method(ask.method, template)
    if info is None and (handler is None or template in published.templates()):
        raise untouched(ask.method, ask.path)
    clash = {name for name in variables if name in ask.given and str(ask.given[name]) != variables[name]}
    if clash:
        raise wrong(min(clash), "duplicate parameter (already defined in URI) with conflicting values!")
    given = {**ask.given, **variables}
    if info is not None:
        permitted(ask, template, info, given)
    if "node" in variables:
        reachable(ask.world, variables["node"])
    if not ask.world.quorate and ask.method != "GET" and template != "/access/ticket":
        raise Refusal(500, "cluster not ready - no quorum?")
    if info is not None:
        given = verified(info, given)
    ask.given = typed(given)
    if handler is not None:
        return handler(ask)
    if ask.method == "GET" and published and (info or {}).get("returns", {}).get("links"):
        return index(published, template, info or {})
    raise Refusal(501, f"the fake does not play {ask.method} {template}")


def typed(given: dict[str, Any]) -> dict[str, Any]:
    return {name: int(value) if name in ("vmid", "newid") else value for name, value in given.items()}


def permitted(ask: Ask, template: str, info: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    rule = info.get("permissions")
    if "!" in ask.user and not info.get("allowtoken"):
        raise denied(f"URI '{ask.path}' not available with API token, need proper ticket.\n")
    if template.startswith(GUEST_AGENT) and ask.world.major < 9:
        rule = {"check": ["perm", "/vms/{vmid}", ["VM.Monitor"]]}
    if (rule or {}).get("user") == "world":
        return
    allowed(ask.world.access, ask.user, rule, given)


def reachable(world: World, node: str) -> None:
    if node == "localhost":
        return
    if node not in world.nodes:
        raise Refusal(500, LOOKUP.format(node))
    if not world.nodes[node].online:
        raise Refusal(595, "No route to host")


def index(published: Schema, template: str, info: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is below a path, under the name that its schema links it by."""
    href = str(info["returns"]["links"][0].get("href", "{subdir}"))
    return [{href.strip("{}"): child} for child in published.children(template)]


def mistakes(version: str, method: str, path: str, params: Mapping[str, Any]) -> dict[str, str] | None:
    """What the published API of a version has against a request, by parameter; None where it has no such method.

    For tests of whoever makes requests: `mistakes("9.2", "POST", "/nodes/n/qemu", {"vmid": 100}) == {}`.
    """
    found = place(version, path)
    info = schema(version).method(method, found[0]) if found else None
    if found is None or info is None:
        return None
    try:
        verified(info, {**params, **found[1]})
    except Refusal as refusal:
        return refusal.errors or {}
    return {}
