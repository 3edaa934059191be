"""A kind's way of making clusters for tests, as plain as can be: nodes say words, and get words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest

from nestlab import kinds
from nestlab.kinds.clustering import (
    Action,
    Done,
    Goal,
    Known,
    Member,
    Refused,
    Request,
    Requests,
    View,
    Wait,
)
from nestlab.lab.model import MIB


class PlainClustering:
    """A node says `CLUSTER MEMBER,MEMBER yes|no` (is it usable). It is told the same."""

    at_once = True
    off_first = False
    empty_first = False
    memory = 320 * MIB
    extra = 150 * MIB
    qdevice_packages: tuple[str, ...] | None = ("corosync-qdevice",)
    ask = "tell"

    def read(self, said: str) -> View:
        words = said.split()
        if len(words) != 3:
            return View(why="it says nothing")
        names = words[1].split(",")
        members = tuple(Member(name, number, 1, True) for number, name in enumerate(names, 1))
        return View(words[0], 1, members, usable=words[2] == "yes", why="" if words[2] == "yes" else "it is slow")

    def next(self, goal: Goal, known: Known) -> Action:
        for name, why in known.silent.items():
            return Refused(f"{name} says nothing", detail=why)
        wanted = [node.name for node in goal.nodes if node.name in goal.running]
        if goal.do == "leave":
            wanted = [name for name in wanted if name not in goal.who]
        line = f"{goal.cluster} {','.join(wanted)}"
        views = {name: known.views[name] for name in wanted}
        wrong = [name for name, view in views.items() if {each.name for each in view.members} != set(wanted)]
        if wrong:
            requests = tuple(Request(name, "telling it", "be", (line,), goal.secrets["authkey"]) for name in wrong)
            return Requests(requests)
        slow = [name for name, view in views.items() if not view.usable]
        return Wait(f"{slow[0]} is slow", 5) if slow else Done("all are one")


class SerialClustering(PlainClustering):
    """Nodes join one after the other, empty, and are off when they leave."""

    at_once = False
    off_first = True
    empty_first = True


@contextmanager
def clustered(clustering: PlainClustering | None, kind: str = "kvm") -> Iterator[None]:
    """Meanwhile, a kind makes clusters that way."""
    known = kinds.kinds()
    changed = MappingProxyType({**known, kind: replace(known[kind], clustering=clustering)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "kinds", lambda: changed)
        yield
