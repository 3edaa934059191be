"""A member of a cluster lies, floods or hangs: nobody waits for it for ever, it is named, the others are looked at, and
they lose nothing that is theirs. On hypervisors with corosync at level 1 and at level 2, and on nodes of Proxmox VE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.kinds import corosync
from nestlab.kinds.clustering import Action, Clustering, Done, Goal, Known, Node, Refused, Request, Requests, View, Wait
from nestlab.kinds.corosync import Corosync
from nestlab.verbs import cluster_work
from nestlab.wire import command_streams
from rooted import HANGS, needs_sshd, program, rooted
from sshd import Sshd, sshd
from test_pvecm_dialogue import formed, whole
from waiting import LONG

MEMBERS = ("hv1", "hv2")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs is given up sooner, and who floods with less."""
    real = cluster_work.look

    async def look(host: Host, clustering: Clustering) -> View:
        return await real(host, clustering, 3.0 if host.path.endswith("hv2") else LONG)

    monkeypatch.setattr(cluster_work, "look", look)
    monkeypatch.setattr(command_streams, "MOST", 1 << 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@asynccontextmanager
async def cluster(server: Sshd, level: int, folder: Path) -> AsyncIterator[tuple[dict[str, SshHost], Goal]]:
    """Two members, the programs of each in a directory of its name, and what is to be reached."""
    async with rooted(server, level, folder) as hypervisor:
        made = {name: hypervisor(name) for name in MEMBERS}
        nodes = tuple(Node(name, name, (f"10.77.0.{at}",)) for at, name in enumerate(MEMBERS, 11))
        yield made, Goal("duo", "form", MEMBERS, nodes, frozenset(MEMBERS), secrets={"authkey": b"secret"})


LIES = {
    "it hangs": HANGS,
    "it floods": "exec cat /dev/zero",
    "it floods its errors": "exec cat /dev/zero >&2",
    "it says lines for ever": "while :; do echo key evil; done",
    "escapes": "printf '\\033]0;evil\\007\\nconf\\ntotem {\\n cluster_name: \\033[2J\\n}\\n'",
    "no text": "head -c 1000 /dev/urandom; printf '\\nconf\\n'; head -c 100000 /dev/urandom",
    "it ends by a signal": "kill -9 $$",
}


class Asking(Corosync):
    """As corosync's, but that a test decides what is asked. `asked`: which answers came."""

    def __init__(self, next_one: Callable[[Known], Action]) -> None:
        self._next = next_one
        self.seen: list[Known] = []

    def next(self, goal: Goal, known: Known) -> Action:
        self.seen.append(known)
        return self._next(known)


@needs_sshd
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
async def test_a_member_that_hangs_floods_or_says_nonsense_leaves_the_others_seen(
    server: Sshd, tmp_path: Path, level: int, lie: str
) -> None:
    program(tmp_path / "hv2", "sh", lie)
    async with cluster(server, level, tmp_path) as (hosts, goal), asyncio.timeout(LONG):

        async def host(path: str) -> Host:
            return hosts[path]

        how = Asking(lambda _: Done("looked"))
        assert await cluster_work.reach(goal, how, host, lambda _: None) == "looked"
    [known] = how.seen
    assert known.views["hv1"].cluster == ""
    assert known.views["hv1"].why
    if (why := known.silent.get("hv2")) is not None:
        assert hosts["hv2"].path in why
        assert one_line(why) == why
    else:
        odd = known.views["hv2"]
        assert (odd.cluster, odd.members) == ("", ())
        assert one_line(odd.why) == odd.why


@needs_sshd
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
async def test_a_member_that_is_told_something_and_does_not_do_it_ends_the_step_with_its_name(
    server: Sshd, tmp_path: Path, level: int, lie: str
) -> None:
    """What it is told, with the key by stdin: an answer, or one error."""

    def ask(known: Known) -> Action:
        if known.last is not None:
            return Refused("hv2 does not become a member.", detail=known.last.err or known.last.out)
        program(tmp_path / "hv2", "sh", lie)
        request = Request("hv2", "writing", corosync.PUT, ("x", "key", ""), b"secret", 3.0)
        return Requests((request,))

    async with cluster(server, level, tmp_path) as (hosts, goal), asyncio.timeout(LONG):

        async def host(path: str) -> Host:
            return hosts[path]

        with pytest.raises(LabError) as told:
            await cluster_work.reach(goal, Asking(ask), host, lambda _: None)
    assert "hv2" in told.value.what
    assert one_line(told.value.what) == told.value.what
    assert "\x1b" not in told.value.detail
    assert len(told.value.detail) < 10_000
    assert "secret" not in f"{told.value}"


# -- nodes of Proxmox VE ----------------------------------------------------------------------------------------------


def test_a_node_that_says_the_cluster_forgot_another_takes_no_guest_from_it() -> None:
    """The newest configuration counts, and root of a member writes what it likes."""
    world = formed("pve1", "pve2", "pve3")
    store = world.nodes["pve1"].store
    assert store is not None
    store.guests[100] = "pve2"
    lie = replace(store, version=99, nodes={name: each for name, each in store.nodes.items() if name != "pve2"})
    world.nodes["pve1"].store = lie
    ended = world.reach(world.goal("join", "pve2"))
    assert isinstance(ended, Refused)
    assert "does not list pve2 any more, which has guests (100)" in ended.what
    assert store.guests == {100: "pve2"}
    assert world.nodes["pve2"].store is store


def test_a_node_that_says_it_is_of_another_cluster_is_refused_and_the_others_are_whole() -> None:
    world = formed("pve1", "pve2", "pve3")
    store = world.nodes["pve1"].store
    assert store is not None
    world.nodes["pve3"].store = replace(store, name="evil", version=99)
    ended = world.reach(world.goal("join", "pve3"))
    assert isinstance(ended, Refused)
    assert "pve3 is a member of another cluster: evil" in ended.what
    world.nodes["pve3"].store = store
    whole(world, "pve1", "pve2", "pve3")


@pytest.mark.parametrize("said", ["", "\x1b[2J", "\n== name\n\n== node\nyes\n\n== job\nfor ever\nactive\n\n== log\n"])
def test_a_node_that_is_at_work_for_ever_or_says_nothing_is_waited_for_or_refused_and_nothing_is_done(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long is `cluster_work`'s: see test_cluster_work."""
    world = formed("pve1", "pve2", "pve3")
    honest = world.said
    monkeypatch.setattr(world, "said", lambda node: said if node.name == "pve3" else honest(node))
    ended = world.reach(world.goal("join", "pve3"))
    assert isinstance(ended, Refused | Wait)
    assert "pve3" in ended.what
    assert one_line(ended.what) == ended.what
    assert not [line for line in world.done if "forgetting" in line]
    whole(world, "pve1", "pve2", "pve3")
