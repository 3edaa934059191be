"""The interface by which a kind of hypervisor makes its clusters: what nodes said comes in, what to ask next comes out.

**To plug a kind in**, write a class in a file of its own here that has what `Clustering` asks for, and say
`clustering=` with an instance of it in the `KIND` of that kind. Nothing else is needed: the lab file's checks, the
plan's steps, `status` and `verify` go by it. It is pure, so that every branch is a unit test.

**What happens.** A step of the plan (`Form`, `Join`, `Leave`) becomes a `Goal`. Then, until it is `Done` or `Refused`
(`verbs/cluster_work.py`):

1. Every node that may run is asked, all at once: `ask`, a POSIX sh script, runs in it as root over ssh. What it prints
   goes to `read`, which believes nothing of it (a node may be hostile) and gives a `View`. Who does not answer is in
   `Known.silent`.
2. `next(goal, known)` says what to do: `Requests` (scripts for nodes; several run at the same time), `Wait` (nothing
   can be done but look again), `Done`, or `Refused`.
3. Answers of requests are added to `Known.answers`, and it begins again at 1.

So nothing is remembered between two steps, and nothing need be: what is there decides. After kill -9 anywhere the next
`up` asks the nodes and goes on. A request that was already answered with success must not be decided on again for ever:
more than `REQUESTS` in one step is an error.

**Waits** are bounded here, not in a kind: `Wait.seconds` are nominal (`base.patience`), and begin anew whenever a
view changes or the text of `what` does. When they are over the step fails with `what`, which therefore says what is
still missing and on which node.

**Secrets** come in `Goal.secrets` and leave by `Request.input` (stdin of the script), never by its words: those are
arguments, which every process on the node may read. Progress (`title`, `what`) and errors are shown, so no secret is in
them either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from nestlab.base.frozen import frozen

REQUESTS = 100
"""Rounds of requests in one step, beyond which it goes round in circles."""

AUTHKEY = "authkey"
"""In `Goal.secrets`: 256 random bytes, made for the cluster and kept with the lab's keys (0600)."""

Do = Literal["form", "join", "leave"]


def password_of(node: str) -> str:
    """In `Goal.secrets`: the name of root's password on a node of Proxmox VE."""
    return f"password:{node}"


@frozen
class Node:
    """A machine that is, or was, to be a member. `name`: its host name, by which the cluster knows it.

    `links`: its IPv4 addresses (no prefix) on corosync's links, link 0 first; `address`: on the management network.
    """

    path: str
    name: str
    links: tuple[str, ...] = ()
    address: str = ""


@frozen
class Goal:
    """What a step is to reach.

    `form`: the machines `who` are members of the cluster, whether it is there yet or not. `join`: one more is, of a
    cluster that is there. `leave`: `who` is a member no longer, what others have of it is cleaned away, and where it
    runs it is in no cluster. In all cases, every member that runs then is fit for use, the cluster quorate if those
    that run are a majority.
    """

    cluster: str
    do: Do
    who: tuple[str, ...]
    """Names of nodes."""
    nodes: tuple[Node, ...] = ()
    """The members of the lab file, in its order, and those that leave, as far as they are known."""
    running: frozenset[str] = frozenset()
    """Names of the nodes that run, or are to: they are asked, and waited for."""
    apart: frozenset[str] = frozenset()
    """Those of them that the user cut off all links of corosync (`nestlab cut`): that is not undone, nor waited for."""
    networks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By role (`lab.clusters.ROLES`): the IPv4 network (CIDR) of its segment."""
    qdevice: Node | None = None
    """It is asked too (`ask`), under its name."""
    slowness: float = 1.0
    """How many times slower than at full speed the slowest of the nodes is (measured): what timeouts go by."""
    secrets: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def can_be_quorate(self) -> bool:
        """Whether those that run are a majority of the lab file's members, with the vote of a qdevice."""
        names = {node.name for node in self.nodes} - (set(self.who) if self.do == "leave" else set())
        extra = self.qdevice is not None
        return 2 * (len((names & self.running) - self.apart) + extra) > len(names) + extra


@frozen
class Member:
    """A node as another one, or itself, knows it."""

    name: str
    nodeid: int
    votes: int = 1
    online: bool = False
    addresses: tuple[str, ...] = ()
    """On corosync's links, link 0 first."""


@frozen
class View:
    """What one node says of its cluster. Every node has its own, and they may differ: that is what is to be seen.

    `cluster`: the name of the one that it is configured for, "" for none. `usable`: all that a member is for works
    (`why` says what does not): of a kind whose members have more than a quorum, that too. `facts`: what only `next` of
    its own kind knows.
    """

    cluster: str = ""
    nodeid: int = 0
    members: tuple[Member, ...] = ()
    quorate: bool = False
    expected: int = 0
    total: int = 0
    """Votes: those that it expects, and those that it has."""
    usable: bool = False
    why: str = ""
    qdevice: str = ""
    """The state of the qdevice as it says, "" where it has none."""
    down: tuple[str, ...] = ()
    """Links of corosync that do not carry now: `link1 to hv2`."""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def online(self) -> frozenset[str]:
        """The names of those that it is together with, itself among them."""
        return frozenset(member.name for member in self.members if member.online)


@frozen
class Request:
    """A script to run in a node, as root, over ssh. `words`: its arguments, which everybody there may read; `input`:
    its stdin. `seconds`: nominal, for all of it."""

    node: str
    """Its name."""
    title: str
    """What is done, for progress: `writing corosync.conf`."""
    script: str = field(repr=False)
    words: tuple[str, ...] = ()
    input: bytes = field(default=b"", repr=False)
    seconds: float = 120.0


@frozen
class Answer:
    """How a request ended. `status` None: the node did not answer, or not in time; `err` says so."""

    request: Request
    status: int | None
    out: str = field(default="", repr=False)
    err: str = field(default="", repr=False)


@frozen
class Known:
    """Everything that `next` is told. `views` and `silent` are of now, by name."""

    views: Mapping[str, View] = field(default_factory=lambda: MappingProxyType({}))
    silent: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    answers: tuple[Answer, ...] = ()
    """To the requests made in this step, the oldest first."""

    @property
    def last(self) -> Answer | None:
        return self.answers[-1] if self.answers else None


@frozen
class Requests:
    """Run these at the same time, then look again. Their order is that of `Known.answers`."""

    requests: tuple[Request, ...]


@frozen
class Wait:
    """Look again after a while: `what` is missing. `seconds`: nominal, without any change."""

    what: str
    seconds: float = 60.0
    hint: str = ""


@frozen
class Done:
    """The goal is reached. `note`: what is to be known beside that."""

    note: str = ""


@frozen
class Refused:
    """It cannot be reached: what, what to do, and what was said (`detail`)."""

    what: str
    hint: str = ""
    detail: str = ""


Action: TypeAlias = Requests | Wait | Done | Refused


class Clustering(Protocol):
    """How a kind of hypervisor makes clusters. Instances have no state."""

    at_once: bool
    """`form` makes all machines members at the same time. False: `form` gets the first alone, and each other one joins,
    one after the other."""
    off_first: bool
    """A machine that goes from the lab is ended before it leaves. False: it leaves while it runs, if it does. One that
    stays in the lab, and only is no member any more, runs in either case."""
    empty_first: bool
    """A machine must have no guests when it joins: those inside are made after that."""
    memory: int
    """Bytes that a member needs at least."""
    extra: int
    """Bytes that it needs for being a member, beside what it needs for its machines and itself."""
    qdevice_packages: tuple[str, ...] | None
    """What the image of a member must have where the cluster has a qdevice; None: `next` sets none up."""
    ask: str
    """POSIX sh, run as root without arguments; it changes nothing, ends in seconds, and prints what `read` reads."""

    def read(self, said: str) -> View:
        """What a node said, typed and bounded. Of what is no answer of `ask` an empty View with the reason in `why`."""
        ...

    def next(self, goal: Goal, known: Known) -> Action:
        """What to do, decided by its arguments alone."""
        ...
