"""What it means for what is seen and proven that machines were moved to other hypervisors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType

from nestlab.base.proofs import Proof, Verdict
from nestlab.lab.model import level_of, parent_of, within
from nestlab.lab.moved_machines import Away, Passage
from nestlab.plan.steps import Observed


def settled_only(observed: Observed, passages: Iterable[Passage]) -> Observed:
    """What is seen, without what migrations that are not over have made or left at their other end."""
    hidden = [each.unseen for each in passages]
    machines = {
        path: seen for path, seen in observed.machines.items() if not any(within(path, each) for each in hidden)
    }
    return replace(observed, machines=MappingProxyType(machines)) if hidden else observed


def noted(verdict: Verdict, aways: Sequence[Away], now: float) -> Verdict:
    """The verdict, which says of machines that are away from home that they are."""
    away = {each.path: each for each in aways if not each.at_home}
    if not away:
        return verdict
    proofs: list[Proof] = []
    for proof in verdict.proofs:
        if proof.path in away:
            proofs.append(_place(away.pop(proof.path), now))
        proofs.append(proof)
    return replace(verdict, proofs=(*proofs, *(_place(each, now) for each in away.values())))


def _place(away: Away, now: float) -> Proof:
    where = f"{parent_of(away.path)}, not {parent_of(away.home)}, where the lab file has it"
    return Proof(away.path, level_of(away.path), "place", None, where, away.said(now))
