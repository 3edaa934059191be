"""Names and addresses of a lab for other programs: lines of /etc/hosts, a table, shell variables. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nestlab.base.paint import PLAIN, Paint, Style, columns
from nestlab.base.printable import one_line
from nestlab.lab.blueprint import Blueprint, Nic
from nestlab.lab.hosts_file import dotted
from nestlab.show.ssh_config import SshEntry, ssh_name


def etc_hosts(blueprint: Blueprint) -> str:
    """One line for each address: `web.hv1.pair.internal` is a machine on its first segment, `web.hv1-SEGMENT.…` on each
    further one. All names end in the lab's, so none takes the place of another host's."""
    lines = [f"# Lab {one_line(blueprint.lab)}: reached from machines on the same segment."]
    for spec in blueprint.specs:
        for at, nic in enumerate(nic for nic in spec.nics if nic.addresses):
            name = dotted(spec.path) + (f"-{nic.segment}" if at else "")
            lines += [one_line(f"{address} {name}.{blueprint.lab}.internal") for address in _bare(nic)]
    return "\n".join(lines)


def address_rows(blueprint: Blueprint) -> list[dict[str, Any]]:
    """Every card of every machine as JSON data."""
    return [
        {"machine": spec.path, "segment": nic.segment, "mac": nic.mac, "addresses": _bare(nic)}
        for spec in blueprint.specs
        for nic in spec.nics
    ]


def address_table(blueprint: Blueprint, paint: Paint = PLAIN) -> str:
    """The same as a table."""
    head = ["MACHINE", "SEGMENT", "IPV4", "IPV6", "MAC"]
    cells, styles = [head], list[list[Style | None]]([["dim"] * len(head)])
    for row in address_rows(blueprint):
        four, six = [*row["addresses"], "-", "-"][:2]
        cells.append([row["machine"], row["segment"], four, six, row["mac"]])
        styles.append(["bold", None, None, None, "dim"])
    return "\n".join(columns(cells, styles, paint))


def _bare(nic: Nic) -> list[str]:
    return [each.split("/")[0] for each in nic.addresses]


def variables(blueprint: Blueprint, entries: Sequence[SshEntry], files: Mapping[str, str]) -> dict[str, str]:
    """Shell variables: `NESTLAB_LAB`; one for each of `files` (`SSH_CONFIG`: its path); and for a machine that can be
    reached `NESTLAB_HV1__WEB_SSH` (its name for ssh), `_USER`, `_PORT` where TCP leads to it, and of every machine
    `_ADDRESS` and `_ADDRESS6`, on its first segment, and `_ADDRESS_WIRE`, `_ADDRESS6_WIRE` on each.

    Of a name, `-` becomes `_` and `/` becomes `__`; where two machines would have the same, the later one's gets
    `_2`."""
    found = {"NESTLAB_LAB": blueprint.lab, **{f"NESTLAB_{name}": path for name, path in files.items()}}
    reached = {entry.path: entry for entry in entries}
    taken: set[str] = set()
    for spec in blueprint.specs:
        name = f"NESTLAB_{_shell_word(spec.path)}"
        while name in taken:
            name += "_2"
        taken.add(name)
        entry = reached.get(spec.path)
        if entry is not None:
            found[f"{name}_SSH"] = ssh_name(blueprint.lab, spec.path)
            if not entry.proxy:
                found[f"{name}_PORT"] = str(entry.port)
            found[f"{name}_USER"] = entry.user
        for nic in (nic for nic in spec.nics if nic.addresses):
            for family, address in zip(("", "6"), _bare(nic), strict=False):
                found.setdefault(f"{name}_ADDRESS{family}", address)
                found[f"{name}_ADDRESS{family}_{_shell_word(nic.segment)}"] = address
    return found


def _shell_word(name: str) -> str:
    return name.replace("/", "__").replace("-", "_").upper()


def exports(found: Mapping[str, str]) -> str:
    """The variables as lines for `eval` in a POSIX shell."""
    return "\n".join(f"export {_variable(name)}={shlex.quote(one_line(value))}" for name, value in found.items())


def _variable(name: str) -> str:
    """A name that a shell takes, and no more than that: `eval` reads it."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)
