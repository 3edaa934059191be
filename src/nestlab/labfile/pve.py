"""The Proxmox VE keys of a lab file as a value, and which of them mean nothing where they stand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nestlab.base.did_you_mean import meant
from nestlab.lab.model import Machine
from nestlab.lab.places import LIBVIRT, Libvirt, On, Pve, Ssh
from nestlab.labfile import on_libvirt
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.nodes import Items, Scalar
from nestlab.labfile.read import Section

_ELSEWHERE = "Leave it out, or say `on: pve://HOST`: it is about a Proxmox VE."


def is_local(root: Section) -> bool:
    """Whether the lab runs on this computer; False too when what is said of that is wrong."""
    return "on" not in root.at or root.values.get("on") == "local"


def is_here(root: Section) -> bool:
    """Whether the outermost machines are on this computer, whatever runs them there."""
    return is_local(root) or root.values.get("on") == LIBVIRT


def is_embedded(root: Section) -> bool:
    """Whether the outermost machines are on no Proxmox VE: the embedded engine makes them, here or on a host that ssh
    reaches, or a libvirt does."""
    return is_local(root) or is_ssh(root) or is_libvirt(root)


def is_ssh(root: Section) -> bool:
    """Whether the lab runs on a host that ssh reaches."""
    on = root.values.get("on")
    return isinstance(on, str) and on.startswith("ssh://")


def is_libvirt(root: Section) -> bool:
    """Whether a libvirt runs the outermost machines."""
    on = root.values.get("on")
    return isinstance(on, str) and on.startswith("qemu")


def place(root: Section) -> On | None:
    """The place of the lab; None for this computer, or when its address is wrong."""
    on = root.values.get("on", "local")
    if not isinstance(on, Section):
        if on == "local":
            return None
        return Ssh(on) if is_ssh(root) else Libvirt(on) if is_libvirt(root) else Pve(on)
    if "pve" not in on.values:
        return None
    said = {name: value for name, value in on.values.items() if name not in ("pve", "nodes")}
    return Pve(on.values["pve"], nodes=tuple(node for _, node in on.values.get("nodes", ())), **said)


def is_named(root: Section) -> bool:
    """Whether the user said its address: on the command line, or as a variable that is all of it. What a file says
    somebody else may have written."""
    on = root.values.get("on")
    node = on.at.get("pve") if isinstance(on, Section) else root.at.get("on")
    return node is not None and (node.source.by_user or (isinstance(node, Scalar) and node.whole))


def of_lab(root: Section, machines: Sequence[Machine], uses: Sequence[Use]) -> Iterator[Complaint]:
    """Mistakes in `on` itself, with `defaults` for a lab on no Proxmox VE, and in what machines and their cards say
    that not every place can."""
    if is_libvirt(root):
        yield from on_libvirt.of_cards(uses)
        yield from on_libvirt.of_machines(root, machines)
    on, defaults = root.values.get("on"), root.values.get("defaults")
    if isinstance(on, Section) and "nodes" in on.values:
        nodes = on.values["nodes"]
        said = on.at["nodes"]
        if isinstance(said, Items) and not said.items:
            yield said, "on.nodes", "there is no node in it", "Name one, or leave `nodes` out to allow all."
        seen: set[str] = set()
        for node, name in nodes:
            if name in seen:
                yield node, "on.nodes", f"`{name}` is here twice", "Name each node once."
            seen.add(name)
    if isinstance(defaults, Section) and is_embedded(root):
        yield from _elsewhere(defaults, "node")


def of_segment(section: Section, root: Section) -> Iterator[Complaint]:
    """Mistakes in a segment's `bridge` and `vlan`, and in what not every place can."""
    if is_libvirt(root):
        yield from on_libvirt.of_segment(section)
    if is_embedded(root):
        yield from _elsewhere(section, "bridge", "vlan")
    netboot = section.values.get("netboot")
    if is_ssh(root) and isinstance(netboot, Section) and netboot.values.get("files"):
        what = "`files` means nothing here: a folder of this computer is not sent to the host that the lab is on"
        hint = "Say `kernel` and `initrd`, or `image`; or run a DHCP and TFTP server in a machine of the lab."
        yield netboot.keys["files"], f"{netboot.key}.files", what, hint


def of_machine(section: Section, path: str, root: Section) -> Iterator[Complaint]:
    """Mistakes in a machine's own `node`, at its place in the nest."""
    if is_embedded(root):
        yield from _elsewhere(section, "node")
    elif "/" in path and section.values.get("node"):
        name = path.rpartition("/")[2]
        what = f"`node` means nothing here: {name} runs inside another machine, not on the Proxmox VE itself"
        yield section.keys["node"], f"{section.key}.node", what, "Leave it out: it is for outermost machines."


def of_node(section: Section, root: Section) -> Iterator[Complaint]:
    """Mistakes in the node that a machine or `defaults` names."""
    on, node = root.values.get("on"), section.values.get("node")
    allowed = [name for _, name in on.values.get("nodes", ())] if isinstance(on, Section) else []
    if node is not None and allowed and node not in allowed:
        what = f"`nodes` of the lab's `on` does not allow {node}"
        yield section.at["node"], f"{section.key}.node", what, meant(node, allowed, listed=True)


def _elsewhere(section: Section, *keys: str) -> Iterator[Complaint]:
    for key in keys:
        # What is false, or wrong and told already, asks for nothing.
        if section.values.get(key):
            what = f"`{key}` means nothing here: the lab runs on no Proxmox VE"
            yield section.keys[key], f"{section.key}.{key}", what, _ELSEWHERE
