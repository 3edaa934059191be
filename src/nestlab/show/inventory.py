"""A lab as an Ansible inventory: the static YAML file, and the JSON of a dynamic inventory script. Pure.

Groups: `lab_pair`; `level_1`, …; `hypervisors` and `guests`, of these `containers`; `kind_kvm`; `segment_wire`;
`inside_hv1` (what runs in a hypervisor, at any depth; `/` becomes `__`). Ansible takes no `-` in a group's name: it
becomes `_`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nestlab.base.printable import one_line
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import parent_of
from nestlab.show.ssh_config import SshEntry


def inventory(blueprint: Blueprint, entries: Sequence[SshEntry], config: str) -> dict[str, Any]:
    """The output of an inventory script for `--list`: groups, and under `_meta` the variables of all hosts, so that
    Ansible need not ask for each. Only machines that can be reached are in it. `config`: the path of the ssh_config
    with their entries."""
    specs = blueprint.by_path()
    groups: dict[str, list[str]] = {}
    variables = {}
    for entry in entries:
        spec = specs[entry.path]
        variables[entry.name] = host_variables(spec, entry, config)
        for group in _groups(blueprint.lab, spec):
            groups.setdefault(group, []).append(entry.name)
    data: dict[str, Any] = {"_meta": {"hostvars": variables}, "all": {"children": [*sorted(groups), "ungrouped"]}}
    return data | {group: {"hosts": groups[group]} for group in sorted(groups)}


def host_variables(spec: Spec, entry: SshEntry, config: str) -> dict[str, Any]:
    """How Ansible reaches a machine: by its name in the ssh_config, and nothing of the user's own configuration."""
    addresses = {nic.segment: [each.split("/")[0] for each in nic.addresses] for nic in spec.nics if nic.addresses}
    return {
        "ansible_host": entry.name,
        "ansible_user": entry.user,
        "ansible_ssh_common_args": f"-F {shlex.quote(config)}",
        "nestlab_path": spec.path,
        "nestlab_level": spec.level,
        "nestlab_addresses": addresses,
    }


def _groups(lab: str, spec: Spec) -> list[str]:
    kind = spec.machine.hypervisor
    names = [f"lab_{lab}", f"level_{spec.level}", *(["hypervisors", f"kind_{kind}"] if kind else ["guests"])]
    names += ["containers"] if spec.machine.container else []
    names += [f"segment_{nic.segment}" for nic in spec.nics if nic.addresses]
    outer = spec.parent
    while outer:
        names.append(f"inside_{outer.replace('/', '__')}")
        outer = parent_of(outer)
    return [name.replace("-", "_") for name in dict.fromkeys(names)]


def as_yaml(data: Mapping[str, Any]) -> str:
    """The same as a static inventory file. Strings are written as JSON writes them, which is YAML too."""
    lines = ["all:", "  hosts:"]
    hosts = data["_meta"]["hostvars"]
    for name, variables in hosts.items():
        lines.append(f"    {_key(name)}:")
        lines += [f"      {key}: {_value(value)}" for key, value in variables.items()]
    if not hosts:
        lines[-1] += " {}"
        return "\n".join(lines) + "\n"
    lines.append("  children:")
    for group, members in data.items():
        if "hosts" in members:
            lines += [f"    {_key(group)}:", "      hosts:", *(f"        {_key(name)}:" for name in members["hosts"])]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """A key of a mapping: quoted, where it is more than a word."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) else _value(name)


def _value(value: Any) -> str:
    """The text as JSON writes it, with invisible characters escaped as YAML has them: it takes no surrogate pairs."""
    return one_line(json.dumps(value, ensure_ascii=False))
