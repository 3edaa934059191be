"""Clusters of hypervisors as wanted: who is a member, and which networks they use for what. Pure."""

from __future__ import annotations

from nestlab.base.frozen import frozen

NAME_LIMIT = 15
"""Characters of a cluster's name that Proxmox VE allows (pve-cluster, PVE::Cluster::Setup); for every kind here, so
that a lab can change its kind."""

LINKS = ("link0", "link1")
ROLES = ("management", *LINKS, "storage", "migration")
"""What a segment may be for members of a cluster."""


@frozen
class Cluster:
    """Hypervisors of one kind that are one cluster. `members`: their paths, in the lab file's order.

    Of the roles, each is the name of a segment that all members are on. `links` are those that corosync uses, the
    first is link 0. `management`: where members call each other by name. `storage`, `migration`: which network guests'
    disks are reached by, and guests move by.
    """

    name: str
    members: tuple[str, ...]
    links: tuple[str, ...]
    management: str
    storage: str | None = None
    migration: str | None = None
    qdevice: str | None = None
    """The path of the machine that gives the vote that decides between equal halves."""

    @property
    def roles(self) -> dict[str, str]:
        """The segment of each role that one is known for."""
        links = dict(zip(LINKS, self.links, strict=False))
        said = {"management": self.management, **links, "storage": self.storage, "migration": self.migration}
        return {role: segment for role, segment in said.items() if segment is not None}

    @property
    def votes(self) -> int:
        """Votes of all members and the qdevice: that gives one where there are even members (`ffsplit`)."""
        return len(self.members) + (self.qdevice is not None)


def even(cluster: Cluster) -> str:
    """What is to be said of a cluster in which half of the members are no majority, "" of another."""
    count = len(cluster.members)
    if count % 2 or cluster.qdevice is not None:
        return ""
    return (
        f"Cluster {cluster.name} has {count} members: it has no quorum any more when {count // 2} of them"
        f" {'is' if count == 2 else 'are'} lost. An odd number stands more."
    )
