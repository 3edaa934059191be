"""The identity of a machine whose image Proxmox's installer made, which has no cloud-init: a script on its seed. Pure.

The hook that the installer leaves (`answers.proxmox.HOOK`) runs it at every boot before the network is configured, and
so before pmxcfs, which asks for name and address, before sshd and before what makes certificates. A machine that was
never booted has none of these yet; what the installer made for all its machines alike is made anew. Files are as
pve-installer (Proxmox/Install.pm) and pve-common (PVE/INotify.pm) write them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, ip_interface

from nestlab.answers.proxmox import IDENTITY
from nestlab.lab.blueprint import Spec
from nestlab.network.network_script import management_address

NAME = IDENTITY

_HEAD = """\
#!/bin/sh
# Who this machine is. usage: identity.sh [ROOT]; what it did once it does again only if something of it is new.
set -eu
umask 077
root=${1-}
stamp=$root/var/lib/nestlab/identity
[ "$(cat "$stamp" 2>/dev/null || :)" != @DIGEST@ ] || exit 0
put() {
    mkdir -p "$(dirname "$root$1")"
    base64 -d >"$root$1.new"
    chmod "$2" "$root$1.new"
    mv -f "$root$1.new" "$root$1"
}
"""

_TAIL = """\
for path in "$root"/sys/class/net/*; do
    [ -e "$path/device" ] || continue
    read -r address <"$path/address"
    sed -i "s/@$address@/${path##*/}/g" "$root/etc/network/interfaces"
done
rm -f "$root"/etc/ssh/ssh_host_rsa_key* "$root"/etc/ssh/ssh_host_ecdsa_key*
ssh-keygen -A ${root:+-f "$root"} >/dev/null
[ ! -e "$root/etc/postfix/main.cf" ] || sed -i "s/^myhostname *=.*/myhostname=@FQDN@/" "$root/etc/postfix/main.cf"
[ -n "$root" ] || hostname @NAME@
mkdir -p "${stamp%/*}"
echo @DIGEST@ >"$stamp.new"
mv -f "$stamp.new" "$stamp"
"""

_SSHD = "PermitRootLogin prohibit-password\nAuthorizedKeysFile .ssh/authorized_keys /etc/ssh/nestlab_authorized_keys\n"
"""Proxmox VE makes /root/.ssh/authorized_keys a link into its cluster's file system."""


def is_for(spec: Spec) -> bool:
    """Whether a machine is told so who it is."""
    install = spec.machine.image.install
    return install is not None and install.family == "proxmox"


def script(
    spec: Spec, authorized: str, key_private: str, key_public: str, management_mac: str | None, dhcp_mac: str | None
) -> str:
    """A POSIX sh script, `identity.sh [ROOT]`. It holds the private host key."""
    unique = hashlib.sha256(key_public.encode()).hexdigest()
    full = f"{spec.machine.name}.{_domain(spec)}"
    initiator = f"InitiatorName=iqn.1993-08.org.debian:01:{unique[40:52]}\n"
    files = {
        "/etc/hostname": (f"{spec.machine.name}\n".encode(), 0o644),
        "/etc/mailname": (f"{full}\n".encode(), 0o644),
        "/etc/hosts": (hosts(spec).encode(), 0o644),
        "/etc/machine-id": (f"{unique[:32]}\n".encode(), 0o444),
        "/etc/hostid": (bytes.fromhex(unique[32:40]), 0o644),
        "/etc/iscsi/initiatorname.iscsi": (initiator.encode(), 0o600),
        "/etc/network/interfaces": (interfaces(spec, management_mac, dhcp_mac).encode(), 0o644),
        "/etc/ssh/ssh_host_ed25519_key": (key_private.encode(), 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": (f"{key_public.strip()}\n".encode(), 0o644),
        "/etc/ssh/nestlab_authorized_keys": (authorized.encode(), 0o644),
        "/etc/ssh/sshd_config.d/nestlab.conf": (_SSHD.encode(), 0o644),
    }
    total = hashlib.sha256(b"".join(path.encode() + data for path, (data, _) in sorted(files.items()))).hexdigest()
    puts = "".join(
        f"put {path} {mode:o} <<'E'\n{base64.encodebytes(data).decode()}E\n" for path, (data, mode) in files.items()
    )
    said = {"@DIGEST@": total, "@NAME@": spec.machine.name, "@FQDN@": full}
    text = _HEAD + puts + _TAIL
    for word, value in said.items():
        text = text.replace(word, value)
    return text


def hosts(spec: Spec) -> str:
    """/etc/hosts, in which its own name stands for one address, of IPv4 and no loopback: pmxcfs asks for that."""
    own = ("::1", "ff", "fe")
    lines = [line for line in spec.hosts.splitlines() if ":" not in line.split(" ")[0] or line.startswith(own)]
    if not any(nic.addresses for nic in spec.nics):
        name = spec.machine.name
        lines.append(f"{management_address(spec, 15)} {name}.{_domain(spec)} {name}")
    return "".join(f"{line}\n" for line in lines)


def _domain(spec: Spec) -> str:
    """Of the machine's name, by its /etc/hosts."""
    own = spec.machine.name
    found = (line.split()[1:] for line in spec.hosts.splitlines())
    full = next((names[0] for names in found if own in names and names[0].startswith(f"{own}.")), "")
    return full.partition(".")[2] or "nestlab.internal"


def interfaces(spec: Spec, management_mac: str | None, dhcp_mac: str | None) -> str:
    """/etc/network/interfaces: a bridge on each card of a segment, `vmbr0` on the first, as a node's machines want it.
    `@MAC@` stands for the names of cards."""
    parts = ["auto lo\niface lo inet loopback\n"]
    if management_mac is not None:
        lines = [f"address {management_address(spec, 15)}/{IPv4Network(spec.management).prefixlen}"]
        lines += [f"gateway {management_address(spec, 2)}"] if spec.machine.internet else []
        parts.append(_card(management_mac, "static", lines))
    if dhcp_mac is not None:
        parts.append(_card(dhcp_mac, "dhcp", []))
    for number, nic in enumerate(spec.nics):
        parts.append(f"iface @{nic.mac.lower()}@ inet manual\n")
        parts.extend(_bridge(f"vmbr{number}", nic.mac.lower(), nic.mtu, nic.addresses))
    return "\n".join([*parts, "source /etc/network/interfaces.d/*\n"])


def _card(mac: str, way: str, lines: list[str]) -> str:
    return f"auto @{mac.lower()}@\niface @{mac.lower()}@ inet {way}\n" + _indented(lines)


def _bridge(name: str, mac: str, mtu: int, addresses: tuple[str, ...]) -> Iterator[str]:
    found = [ip_interface(text) for text in addresses]
    four = [f"address {each}" for each in found if isinstance(each, IPv4Interface)]
    six = [f"address {each}" for each in found if not isinstance(each, IPv4Interface)]
    ports = [f"bridge-ports @{mac}@", "bridge-stp off", "bridge-fd 0", *([f"mtu {mtu}"] if mtu != 1500 else [])]
    yield f"auto {name}\niface {name} inet {'static' if four else 'manual'}\n{_indented([*four, *ports])}"
    if six:
        yield f"iface {name} inet6 static\n{_indented(six)}"


def _indented(lines: list[str]) -> str:
    return "".join(f"\t{line}\n" for line in lines)
