"""Proofs about a running lab: claims, the evidence for each, and the verdict over all of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from nestlab.base.frozen import frozen


@frozen
class Proof:
    """One claim about one machine (`path` "" and `level` 0: the lab's own host), and what was seen.

    `ok` None: the claim was looked at and decides nothing, such as an emulated host without /dev/kvm; `why` says
    what follows from it. `ok` False: the claim does not hold, and `why` says what it means or what to do.
    """

    path: str
    level: int
    claim: str
    ok: bool | None
    seen: str
    why: str = ""
    where: str = "this machine"
    """What the lab's own host is called, where `path` is ""."""


@frozen
class Verdict:
    """All proofs of one lab, outer machines before what runs inside them."""

    lab: str
    proofs: tuple[Proof, ...] = ()

    @property
    def ok(self) -> bool:
        """No claim failed, and at least one was proven: an empty verdict proves nothing."""
        return any(proof.ok for proof in self.proofs) and not any(proof.ok is False for proof in self.proofs)

    def failed(self) -> Iterator[Proof]:
        """The claims that do not hold."""
        return (proof for proof in self.proofs if proof.ok is False)

    def data(self) -> dict[str, Any]:
        """The verdict as JSON data."""
        return {"lab": self.lab, "ok": self.ok, "proofs": [asdict(proof) for proof in self.proofs]}
