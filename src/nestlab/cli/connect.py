"""Verbs that tell other programs how a lab is reached: ssh-config, inventory, hosts, env."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli.common import made, one_lab, paint, print_json, site
from nestlab.cli.exit_status import guarded, out, run, say
from nestlab.cli.options import Debug, Json, LabWord

if TYPE_CHECKING:
    from nestlab.verbs.connections import Connections
    from nestlab.verbs.session import Session


@guarded
def ssh_config(words: LabWord = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Print an ssh_config by which ssh, scp, rsync, editors and Ansible reach the machines that run, through as many
    levels as there are, each by a name such as pair.hv1.web and with its pinned key.

    It is also kept as `ssh_config` in the lab's directory, and from then on written anew whenever machines of the lab
    start or stop: one Include is enough for all labs.

    \b
    Examples:
      nestlab ssh-config pair > pair.conf; ssh -F pair.conf pair.hv1.web
      echo 'Include ~/.local/state/nestlab/labs/*/ssh_config' >> ~/.ssh/config
      rsync -a site/ pair.hv1:/srv/site/         with that Include at the top level
    """
    return run(_ssh_config(one_lab(words), as_json=as_json))


async def _ssh_config(name: str, *, as_json: bool) -> None:
    async with _connected(name) as (_, known, text):
        if not as_json:
            out(text, end="")
            return
        entries = [{"name": each.name, "jump": each.jump, **vars(each)} for each in known.entries]
        print_json({"lab": name, "entries": entries, "left_out": dict(known.left_out)})


@asynccontextmanager
async def _connected(name: str) -> AsyncIterator[tuple[Session, Connections, str]]:
    """A lab that is looked at, with its connections, which are written down, and the text of its ssh_config."""
    from nestlab.verbs import connections
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=name) as session:
        known, text = await connections.write(session)
        yield session, known, text


ListAll = Annotated[bool, typer.Option("--list", help="JSON for Ansible: all groups and hosts (the same as --json).")]
HostName = Annotated[str, typer.Option("--host", metavar="NAME", help="JSON for Ansible: the variables of one host.")]


@guarded
def inventory(
    words: LabWord = None, listed: ListAll = False, host: HostName = "", as_json: Json = False, debug: Debug = False
) -> int | None:
    """Print an Ansible inventory of the machines that run: YAML, or JSON as a dynamic inventory script does. Groups:
    lab_pair, level_1, hypervisors, guests, kind_kvm, segment_wire, inside_hv1. Ansible connects by `ssh-config`.

    \b
    Examples:
      nestlab inventory pair > inventory.yaml
      ansible -i inventory.yaml level_1 -m ping
      ansible -i inventory.yaml all -m raw -a uptime        also where there is no Python (tiny)

    \b
    As a dynamic inventory, a file that may be executed with these two lines:
      #!/bin/sh
      exec nestlab inventory pair "$@"
    """
    return run(_inventory(one_lab(words), host, as_json=listed or as_json))


async def _inventory(name: str, host: str, *, as_json: bool) -> None:
    from nestlab.show import inventory as shown

    async with _connected(name) as (session, known, _):
        data = shown.inventory(session.blueprint, known.entries, str(session.place.ssh_config))
    if host:
        variables = data["_meta"]["hostvars"]
        if host not in variables:
            reached = ", ".join(variables) or "none"
            raise LabError(f"No host {host} can be reached in lab {name}.", hint=f"Hosts: {reached}.")
        print_json(variables[host])
    elif as_json:
        print_json(data)
    else:
        out(shown.as_yaml(data), end="")
    _tell_left_out(known)


def _tell_left_out(known: Connections) -> None:
    for path, why in known.left_out.items():
        say(brief(f"left out: {path}: {why}"))


Table = Annotated[bool, typer.Option("--table", help="A table of all cards, with their MAC addresses.")]


@guarded
def hosts(words: LabWord = None, table: Table = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Print the addresses of a lab's machines, as lines for /etc/hosts. They lead somewhere only on the lab's own
    segments: machines know them already; from this host, connect by `ssh-config`.

    \b
    Examples:
      nestlab hosts pair
      nestlab hosts pair --table                 with segments and MAC addresses, for a person
    """
    from nestlab.show import addresses

    name = one_lab(words)
    blueprint = made(name)
    if as_json:
        print_json({"lab": name, "cards": addresses.address_rows(blueprint)})
    else:
        out(addresses.address_table(blueprint, paint()) if table else addresses.etc_hosts(blueprint))
    return None


@guarded
def env(words: LabWord = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Print shell variables with how a lab's machines are reached: addresses, ports, users, the paths of the key and of
    the ssh_config. Every value is quoted for a POSIX shell.

    \b
    Examples:
      eval "$(nestlab env pair)"
      ssh -F "$NESTLAB_SSH_CONFIG" "$NESTLAB_HV1__WEB_SSH"
      nestlab exec hv2 -- ping -c 1 "$NESTLAB_HV1__WEB_ADDRESS"
    """
    return run(_env(one_lab(words), as_json=as_json))


async def _env(name: str, *, as_json: bool) -> None:
    from nestlab.show import addresses

    async with _connected(name) as (session, known, _):
        place = session.place
        files = {"SSH_CONFIG": place.ssh_config, "SSH_KEY": place.key, "KNOWN_HOSTS": place.known_hosts}
        paths = {key: str(path) for key, path in files.items()}
        found = addresses.variables(session.blueprint, known.entries, paths)
    if as_json:
        print_json(found)
    else:
        out(addresses.exports(found))
    _tell_left_out(known)
