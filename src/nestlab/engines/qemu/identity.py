"""Who a machine is, as the archive on its identity drive (see docs/images.md, the guest contract). Pure."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

from nestlab.blueprint import Spec
from nestlab.network_script import script


@dataclass(frozen=True)
class HostKey:
    """A machine's ssh host key in every form a guest may want. `private` is OpenSSH text, `public` one line."""

    private: str
    public: str
    dropbear: bytes


def files(spec: Spec, *, host_key: HostKey, authorized: str, management_mac: str) -> dict[str, tuple[bytes, int]]:
    """The members of the archive: name -> (content, mode)."""
    members: dict[str, tuple[bytes, int]] = {
        "hostname": (spec.machine.name.encode() + b"\n", 0o644),
        "hosts": (spec.hosts.encode(), 0o644),
        "authorized_keys": (authorized.encode(), 0o600),
        "ssh_host_ed25519_key": (host_key.private.encode(), 0o600),
        "ssh_host_ed25519_key.pub": (host_key.public.encode() + b"\n", 0o644),
        "dropbear_ed25519_host_key": (host_key.dropbear, 0o600),
        "network.sh": (script(spec, management_mac=management_mac).encode(), 0o755),
    }
    if spec.machine.internet:
        network = spec.management.rpartition(".")[0]
        members["resolv.conf"] = (f"nameserver {network}.3\n".encode(), 0o644)
    return members


def archive(members: dict[str, tuple[bytes, int]]) -> bytes:
    """A ustar archive, the same bytes for the same members: owned by root, dated 1970."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
