"""A Proxmox VE that lies here and there: the client of the tests, whose answers are changed before they are read."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.https import Answer
from nestlab.wire.pve.login import Token
from nestlab.wire.pve.trust import Trust
from pve_lab import QUICK

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "x", "1", "9" * 5000, "../..",
    "a\nb", "\x1b[2J", "\ud800", [], [[]], {}, {"x": {}}, [{}], ["x"], [None], {"status": []},
]  # fmt: skip
"""Values that stand in the place of others."""


def spoiled(value: Any, chance: random.Random) -> Any:
    """The same with one value in it, or a few, replaced, or a key gone."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 1, 3])):
        places = list(_places(value))
        if not places or chance.random() < 0.1:
            return copy.deepcopy(chance.choice(ODD))
        container, key = chance.choice(places)
        if isinstance(container, dict) and chance.random() < 0.2:
            del container[key]
        else:
            container[key] = copy.deepcopy(chance.choice(ODD))
    return value


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(pairs):
        yield value, key
        yield from _places(below)


class Liar(Client):
    """`spoil`: is asked for each answer, by method and path, whether to spoil it."""

    async def __aenter__(self) -> Liar:
        return self

    spoil: Callable[[str, str], bool]
    chance: random.Random

    async def _let_in(self, method: str, address: str, body: Any, headers: dict[str, str]) -> Answer:
        answer = await super()._let_in(method, address, body, headers)
        if answer.status == 200 and self.spoil(method, address):
            return replace(answer, data=spoiled(answer.data, self.chance))
        return answer


def liar(fake: FakePve, seed: int, share: float) -> Liar:
    """One that spoils this share of all answers."""
    name, secret = fake.token
    found = Liar("127.0.0.1", Token.of(f"{name}={secret}"), Trust.of(fake.fingerprint), port=fake.port, patience=QUICK)
    found.chance = random.Random(seed)
    found.spoil = lambda method, path: found.chance.random() < share
    return found
