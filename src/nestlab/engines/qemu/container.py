"""A container in a hypervisor: what runs it (`container_runner`), and what that is told. Pure.

It looks to the engine as a QEMU does: by the name in its command line, its monitor, its console and its port.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files

from nestlab.base.errors import LabError
from nestlab.engines.qemu.argv import Launch, name_of
from nestlab.home.lab_keys import LabKeys
from nestlab.lab.blueprint import Nic, Spec
from nestlab.network.network_script import bridge_name, management_address

_OWN = re.compile(r"^from nestlab\.\S+ import (?:\([^)]*\)|.*)\n", re.MULTILINE)
"""What the second part has of the first, which stands before it on a hypervisor."""

RUNNER = "runner.py"
"""In the machine's directory."""


def runner() -> bytes:
    """The program that runs a container, as one file."""
    here = files(__package__)
    sockets, main = ((here / name).read_text() for name in ("container_sockets.py", "container_runner.py"))
    future = "from __future__ import annotations\n"
    return (sockets + _OWN.sub("", main).replace(future, "")).encode()


def root_of(spec: Spec, there: Mapping[str, str]) -> dict[str, str]:
    """What its root filesystem is made from. `there`: the image's files on the hypervisor, by role. LabError where the
    image has none."""
    if "root" in there:
        return {"device": there["root"], "base": "disk"}
    if "initrd" in there:
        return {"archive": there["initrd"], "base": "initramfs"}
    what = f"{spec.path}: a container cannot be made from a disk that boots by itself."
    raise LabError(what, hint="Give it one of nestlab's own images: `image: debian`, or `image: tiny`.")


def compiler(spec: Spec, there: Mapping[str, str], keys: LabKeys) -> Callable[[Launch], list[str]]:
    """What makes the command line from what is to be started. See `root_of`."""
    return partial(argv, root=root_of(spec, there), host_key=keys.host_key(spec.path).private)


def argv(launch: Launch, root: Mapping[str, str], host_key: str) -> list[str]:
    """The command line of what runs a container. `host_key`: the private one, of which its machine-id is made."""
    spec = launch.spec
    cards = [_card(nic, cut=nic.segment in launch.cut) for nic in spec.nics]
    settings = {
        **root,
        "host": spec.machine.name,
        "memory": spec.machine.memory,
        "cpus": spec.machine.cpus,
        "port": launch.port,
        "address": str(management_address(spec, 15)),
        "machine_id": hashlib.sha256(host_key.encode()).hexdigest()[:32],
        "nics": cards,
    }
    told = json.dumps(settings, separators=(",", ":"))
    name = name_of(launch.lab, spec.path)
    return ["python3", "-IS", f"{launch.paths.root}/{RUNNER}", "-name", name, launch.paths.root, told]


def _card(nic: Nic, *, cut: bool = False) -> dict[str, object]:
    """What it is told of a card. A bridge that a VLAN is in tells VLANs apart by then (`vlan_ports.prepare`), so the
    card never is on another. `cut`: nor does it ever pass a frame until its link is healed."""
    own = {"bridge": bridge_name(nic.segment), "mac": nic.mac, "mtu": nic.mtu, "addresses": list(nic.addresses)}
    return {**own, "vlan": nic.vlan, "cut": cut}


def papers() -> dict[str, tuple[bytes, int]]:
    """What its directory has beside those of every machine."""
    return {RUNNER: (runner(), 0o600)}
