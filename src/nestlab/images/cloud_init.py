"""NoCloud seeds: the identity of a machine whose image is the user's own, read by cloud-init at first boot.

The seed is an ISO 9660 image with the volume id `cidata`. Its files are JSON, which is YAML as cloud-init reads it.
Pure, but for pycdlib, which is imported when an image is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from ipaddress import IPv6Interface, ip_interface
from typing import Any

from nestlab.images import proxmox_identity
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import digest_of
from nestlab.network.network_script import IPV6_MTU, bridge_name, management_address

VOLUME = "cidata"
_SSHD = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
Settings = dict[str, Any]


def seed(
    spec: Spec,
    authorized_keys: str,
    host_key_private: str,
    host_key_public: str,
    management_mac: str | None,
    dhcp_mac: str | None = None,
) -> bytes:
    """The ISO image for `spec`: the user of its image can log in with `authorized_keys`, and nobody with a password,
    unless the `cloud_init` of its image says otherwise.

    `management_mac`: None for a machine without a card that leads to its host. `dhcp_mac`: the card on a network that
    is not nestlab's, whose addresses come by DHCP.
    It holds the private host key: keep it readable by its owner only.
    """
    files = {
        "user-data": user_data(spec, authorized_keys, host_key_private, host_key_public),
        "meta-data": meta_data(spec),
        "network-config": network_config(spec, management_mac, dhcp_mac),
    }
    if proxmox_identity.is_for(spec):
        files[proxmox_identity.NAME] = proxmox_identity.script(
            spec, authorized_keys, host_key_private, host_key_public, management_mac, dhcp_mac
        )
    return iso({name: text.encode() for name, text in files.items()})


def user_data(spec: Spec, authorized_keys: str, host_key_private: str, host_key_public: str) -> str:
    """What cloud-init is to do. Root is let in only where the image's user is root."""
    keys, user = authorized_keys.splitlines(), spec.machine.image.user
    settings: Settings = {
        "hostname": spec.machine.name,
        "preserve_hostname": False,
        "manage_etc_hosts": False,
        "write_files": [{"path": "/etc/hosts", "content": spec.hosts, "owner": "root:root", "permissions": "0644"}],
        "ssh_pwauth": False,
        "disable_root": user != "root",
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key_private, "ed25519_public": host_key_public.strip() + "\n"},
        "ssh_authorized_keys": keys,
        "ssh": {"emit_keys_to_console": False},
        "package_update": False,
        "package_upgrade": False,
    }
    if user != "root":
        # The image's own default user stays; where it is this one, cloud-init merges the two.
        own = {"name": user, "lock_passwd": True, "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": keys}
        settings["users"] = ["default", own]
    theirs: Settings = json.loads(spec.machine.image.cloud_init or "{}")
    return "#cloud-config\n" + _json(_at_once(merged(settings, theirs)))


def _at_once(settings: Settings) -> Settings:
    """With what `ssh_pwauth` says written before sshd starts, into the file that cloud-init would write it to. It does
    so when sshd runs, and restarts that for what is new: a login at that moment, by which a machine may just have been
    known to be up, would be cut off (cloudinit/config/cc_set_passwords.py, cloudinit/ssh_util.py)."""
    allowed = settings["ssh_pwauth"]
    if not isinstance(allowed, bool):
        return settings
    text = f"PasswordAuthentication {'yes' if allowed else 'no'}\n"
    file = {"path": _SSHD, "content": text, "owner": "root:root", "permissions": "0600"}
    first, *others = settings["write_files"]
    return {**settings, "write_files": [first, file, *others]}


def merged(ours: Settings, theirs: Settings) -> Settings:
    """Both cloud-configs in one: lists are joined, ours first, mappings merged; of anything else theirs counts. Of a
    user that both name, so are the settings. (The lab file does not let them say what is nestlab's alone.)"""
    result = dict(ours)
    for key, value in theirs.items():
        mine = result.get(key)
        if key == "users" and isinstance(mine, list):
            result[key] = _users(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            result[key] = mine + [each for each in value if each not in mine]
        elif isinstance(mine, dict) and isinstance(value, dict):
            result[key] = merged(mine, value)
        else:
            result[key] = value
    return result


def _users(ours: list[Any], theirs: Any) -> list[Any]:
    result = list(ours)
    for user in theirs if isinstance(theirs, list) else [theirs]:
        name = user.get("name") if isinstance(user, dict) else user
        known = next((at for at, each in enumerate(result) if isinstance(each, dict) and each.get("name") == name), -1)
        if known >= 0 and isinstance(user, dict):
            result[known] = merged(result[known], user)
        elif known < 0 and user not in result:
            result.append(user)
    return result


def meta_data(spec: Spec) -> str:
    """With other cards or another configuration it is another instance: cloud-init does all of its work again."""
    image = replace(spec.machine.image, name=None, said=None)
    instance = digest_of(spec.path, spec.nics, spec.management, spec.machine.internet, image)
    return _json({"instance-id": f"nestlab-{instance}", "local-hostname": spec.machine.name})


def network_config(spec: Spec, management_mac: str | None, dhcp_mac: str | None = None) -> str:
    """Version 2, with static addresses but on the card with `dhcp_mac` (`out0`). Cards are found by MAC address and get
    names of ours, `mgmt0`, `lab0`, …: some of cloud-init's back ends know cards by name only."""
    cards: Settings = {"mgmt0": _management(spec, management_mac)} if management_mac else {}
    if dhcp_mac:
        cards["out0"] = _card("out0", dhcp_mac) | {"dhcp4": True}
    bridges: Settings = {}
    for number, nic in enumerate(spec.nics):
        name = f"lab{number}"
        cards[name] = _card(name, nic.mac) | {"mtu": nic.mtu}
        if nic.bridge:
            bridge = {"interfaces": [name], "macaddress": nic.mac.lower(), "mtu": nic.mtu}
            parameters = {"stp": False, "forward-delay": 0}
            bridges[bridge_name(nic.segment)] = _QUIET | bridge | {"parameters": parameters} | _addresses(nic)
        else:
            cards[name] |= _addresses(nic)
    settings: Settings = {"version": 2, "ethernets": cards}
    return _json(settings | ({"bridges": bridges} if bridges else {}))


def iso(files: Mapping[str, bytes]) -> bytes:
    """A `cidata` volume with these files, under these names in both Rock Ridge and Joliet."""
    import pycdlib

    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=VOLUME)
    for number, (name, data) in enumerate(files.items()):
        plain = f"/F{number}.;1"
        image.add_fp(BytesIO(data), len(data), plain, rr_name=name, joliet_path=f"/{name}", file_mode=0o100400)
    made = BytesIO()
    image.write_fp(made)
    image.close()
    return made.getvalue()


_QUIET: Settings = {"dhcp4": False, "dhcp6": False, "accept-ra": False, "optional": True}


def _card(name: str, mac: str) -> Settings:
    return {"match": {"macaddress": mac.lower()}, "set-name": name} | _QUIET


def _management(spec: Spec, mac: str) -> Settings:
    prefix = spec.management.rpartition("/")[2]
    card = _card("mgmt0", mac) | {"addresses": [f"{management_address(spec, 15)}/{prefix}"]}
    if spec.machine.internet:
        card["routes"] = [{"to": "0.0.0.0/0", "via": str(management_address(spec, 2))}]
        card["nameservers"] = {"addresses": [str(management_address(spec, 3))]}
    return card


def _addresses(nic: Nic) -> Settings:
    possible = list(_possible(nic))
    return {"addresses": possible} if possible else {}


def _possible(nic: Nic) -> Iterator[str]:
    for address in map(ip_interface, nic.addresses):
        if nic.mtu >= IPV6_MTU or not isinstance(address, IPv6Interface):
            yield str(address)


def _json(settings: Settings) -> str:
    return json.dumps(settings, indent=2) + "\n"
