"""The archive on a machine's identity drive: host name, keys, network (docs/images.md, the guest contract). Pure."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from nestlab.engines import pve_node
from nestlab.guest import disks
from nestlab.home.key_pairs import KeyPair
from nestlab.home.node_secrets import NodeSecrets
from nestlab.lab.blueprint import Spec
from nestlab.network.network_script import dhcp, script


def files(
    spec: Spec,
    *,
    host_key: KeyPair,
    authorized: str,
    management_mac: str | None,
    dhcp_mac: str | None = None,
    node: NodeSecrets | None = None,
) -> dict[str, tuple[bytes, int]]:
    """The members of the archive: name -> (content, mode).

    `management_mac`: None for a machine without a card that leads to its host; its guest agent, the only way in, then
    starts at once. `dhcp_mac`: the card on a network that is not nestlab's, whose addresses come by DHCP. `node`: of a
    node of Proxmox VE."""
    members: dict[str, tuple[bytes, int]] = {
        "hostname": (spec.machine.name.encode() + b"\n", 0o644),
        "hosts": (spec.hosts.encode(), 0o644),
        "authorized_keys": (authorized.encode(), 0o600),
        "ssh_host_ed25519_key": (host_key.private.encode(), 0o600),
        "ssh_host_ed25519_key.pub": (host_key.public.encode() + b"\n", 0o644),
        "dropbear_ed25519_host_key": (host_key.dropbear, 0o600),
        "network.sh": (script(spec, management_mac=management_mac).encode(), 0o755),
    }
    if node is not None:
        members |= pve_node.members(spec, host_key, node, management_mac)
    if spec.machine.disks or spec.machine.cdroms:
        members["disks.sh"] = (disks_script(spec).encode(), 0o755)
        # All that init runs is network.sh. Where the root filesystem has the drivers, a unit does it later.
        later = f"sh {disks.PLACE} &" if spec.machine.image.base == "tiny" else f"sh {disks.PLACE} unit"
        head, _, rest = members["network.sh"][0].decode().partition("\n")
        members["network.sh"] = (f"{head}\n[ ! -e {disks.PLACE} ] || {later}\n{rest}".encode(), 0o755)
    if management_mac is None:
        members["agent"] = (b"", 0o644)
    elif spec.machine.internet:
        network = spec.management.rpartition(".")[0]
        members.setdefault("resolv.conf", (f"nameserver {network}.3\n".encode(), 0o644))
    if dhcp_mac:
        members["dhcp.sh"] = (dhcp(spec, dhcp_mac).encode(), 0o755)
    return members


def disks_script(spec: Spec) -> str:
    """See `guest.disks`."""
    return disks.script([(disk.bus, disk.serial) for disk in spec.machine.disks], cdroms=bool(spec.machine.cdroms))


def archive(members: dict[str, tuple[bytes, int]]) -> bytes:
    """A ustar archive, the same bytes for the same members: owned by root, dated 1970."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tree(members: Mapping[str, tuple[bytes, int]], links: Mapping[str, str]) -> bytes:
    """The same of files in folders and of symbolic links, by their paths: a folder comes before what is in it."""
    folders = {str(each) for path in (*members, *links) for each in PurePosixPath(path).parents if str(each) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(folders):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, (content, mode) in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        for name, target in sorted(links.items()):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return buffer.getvalue()
