"""How nodes of Proxmox VE become a cluster: `Clustering` of the kind `pve`. Pure; light to import."""

from __future__ import annotations

from nestlab.kinds.clustering import Action, Goal, Known, View
from nestlab.kinds.pvecm.question import ASK
from nestlab.lab.model import MIB


class PveClustering:
    """By `pvecm`, one node after the other."""

    at_once = False
    off_first = True
    empty_first = True
    # Measured: 800 to 1000 MiB in use as a member; with 768M the kernel ended corosync in the middle of a join.
    memory = 1536 * MIB
    extra = 0
    qdevice_packages: tuple[str, ...] | None = ("corosync-qdevice",)

    ask: str = ASK

    def read(self, said: str) -> View:
        """What a node printed for `ask`."""
        from nestlab.kinds.pvecm.ask import parse
        from nestlab.kinds.pvecm.situation import view

        return view(parse(said))

    def next(self, goal: Goal, known: Known) -> Action:
        """What to do, decided by its arguments alone."""
        from nestlab.kinds.pvecm.dialogue import next_action

        return next_action(goal, known)
