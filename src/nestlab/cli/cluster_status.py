"""What `status` shows of clusters. Only labs that have some pay for it: members are asked over ssh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nestlab.cli.common import site
from nestlab.cli.exit_status import run
from nestlab.show import cluster_table

if TYPE_CHECKING:
    from collections.abc import Collection

    from nestlab.lab.blueprint import Blueprint
    from nestlab.plan.steps import Observed

ANSWER = 20.0
"""Nominal seconds in which a member answers."""


def rows(
    name: str, blueprint: Blueprint | None, observed: Observed, shown: Collection[str]
) -> list[cluster_table.ClusterRow]:
    """The clusters of a lab of which a member is shown, as its members say now."""
    if blueprint is None or not blueprint.clusters:
        return []
    into = [observed]
    run(_ask(name, into))
    found = cluster_table.rows(blueprint, into[0])
    return [row for row in found if any(node.path in shown for node in row.nodes)]


async def _ask(name: str, into: list[Observed]) -> None:
    from nestlab.verbs.session import looking

    async with looking(site(), name=name) as session:
        into[0] = replace(into[0], clusters=await session.nest.ask_clusters(into[0], ANSWER))
