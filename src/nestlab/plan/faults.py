"""What faults made on purpose mean for what is seen and for what is proven. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from nestlab.base.proofs import Proof, Verdict
from nestlab.lab.faults import Fault, cut_off, killed
from nestlab.lab.model import parent_of, within
from nestlab.plan.steps import Observed


def marked(observed: Observed, faults: Sequence[Fault]) -> Observed:
    """What is seen, where a machine that died because the user killed it is `killed`, with what the user cut off. What
    runs, runs."""
    cut = {each.path: cut_off(faults, each.path) for each in faults if each.kind == "cut"}
    ends = killed(faults) & observed.machines.keys()
    gone = {path for path in ends if observed.machines[path].state == "died"}
    if not gone and not cut:
        return observed
    machines = {
        path: replace(seen, state="killed", why="") if path in gone else seen
        for path, seen in observed.machines.items()
    }
    return replace(observed, machines=MappingProxyType(machines), cut=MappingProxyType(cut))


def blamed(verdict: Verdict, faults: Sequence[Fault], now: float) -> Verdict:
    """The verdict, where a claim that does not hold names the faults that are made on purpose in its way."""
    if not faults:
        return verdict
    return replace(verdict, proofs=tuple(_blamed(proof, faults, now) for proof in verdict.proofs))


def _blamed(proof: Proof, faults: Sequence[Fault], now: float) -> Proof:
    if proof.ok is not False:
        return proof
    causes = [each for each in faults if _in_the_way(each, proof)]
    if not causes:
        return proof
    return replace(proof, why="; ".join(each.said(now) for each in causes))


def _in_the_way(fault: Fault, proof: Proof) -> bool:
    """Whether a fault may be why a claim does not hold: of a machine that does not run, that it was killed, or what it
    is in; of a segment, whatever is wrong on it; of a cluster, what is wrong on the segments that it names."""
    if fault.kind == "kill":
        return within(proof.path, fault.path) or fault.path in _named(proof.seen)
    if proof.claim.startswith("cluster "):
        words = set(re.findall(r"[\w./-]+", proof.seen))
        return fault.kind in ("cut", "impair") and fault.segment in words
    on = proof.claim.removeprefix("segment ").partition(".")[0] if proof.claim.startswith("segment ") else ""
    return fault.kind in ("cut", "impair") and on == fault.segment


def _named(text: str) -> set[str]:
    """The machines that a proof may name, with what they are in."""
    words = {word.strip(".,;()") for word in text.split()}
    return words | {parent_of(word) for word in words if "/" in word}
