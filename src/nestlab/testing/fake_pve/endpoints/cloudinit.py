"""/cloudinit: what cloud-init in a machine would be told."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import unquote

from nestlab.testing.fake_pve.endpoints.drives import content_of
from nestlab.testing.fake_pve.endpoints.options import CLOUDINIT, base
from nestlab.testing.fake_pve.endpoints.settings import ONE, shown
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Guest


@serve("GET", f"{ONE}/cloudinit")
def pending(ask: Ask) -> Any:
    config = shown(ask.guest().config)
    names = [key for key in config if key in CLOUDINIT or base(key) == "ipconfig"]
    return [{"key": key, "value": config[key]} for key in names if key not in ("cicustom",)]


@serve("PUT", f"{ONE}/cloudinit")
def regenerate(ask: Ask) -> Any:
    """Write the drive anew; a custom file that is not there is an error only now."""
    guest = ask.guest()
    for part in filter(None, str(guest.config.get("cicustom", "")).split(",")):
        volid = part.partition("=")[2]
        content_of(volid, ask.world.storage(volid.partition(":")[0]))
        if ask.world.volume(volid, guest.node) is None:
            raise died(f"volume '{volid}' does not exist")


@serve("GET", f"{ONE}/cloudinit/dump")
def dump(ask: Ask) -> Any:
    guest = ask.guest()
    return {"user": user, "network": network, "meta": meta}[ask["type"]](guest)


def user(guest: Guest) -> str:
    config = {**guest.config, **guest.pending}
    name = str(config.get("name", f"VM{guest.vmid}"))
    domain = f".{config['searchdomain']}" if config.get("searchdomain") else ""
    lines = ["#cloud-config", f"hostname: {name.partition('.')[0]}", "manage_etc_hosts: true", f"fqdn: {name}{domain}"]
    if config.get("ciuser"):
        lines.append(f"user: {config['ciuser']}")
    if config.get("cipassword"):
        lines.append(f"password: {config['cipassword']}")
    if config.get("sshkeys"):
        keys = unquote(str(config["sshkeys"]), encoding="latin-1").splitlines()
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in keys if key)]
    lines += ["chpasswd:", "  expire: False", "users:", "  - default"]
    lines += ["package_upgrade: true"] if str(config.get("ciupgrade", 1)) == "1" else []
    return "\n".join(lines) + "\n"


def network(guest: Guest) -> str:
    config = {**guest.config, **guest.pending}
    lines = ["version: 1", "config:"]
    for key in sorted(key for key in config if re.fullmatch(r"net\d+", key)):
        number = key[3:]
        mac = re.search(r"=((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})", str(config[key]))
        lines += [
            "    - type: physical",
            f"      name: eth{number}",
            f"      mac_address: '{(mac or [''])[1].lower()}'",
        ]
        options = dict(part.partition("=")[::2] for part in str(config.get(f"ipconfig{number}", "")).split(",") if part)
        lines += ["      subnets:", *subnets(options)]
    lines.append("    - type: nameserver")
    return "\n".join(lines) + "\n"


def subnets(options: dict[str, str]) -> list[str]:
    lines: list[str] = []
    if options.get("ip") == "dhcp" or not options:
        lines.append("      - type: dhcp4")
    elif "ip" in options:
        address = ipaddress.ip_interface(options["ip"])
        lines += ["      - type: static", f"        address: '{address.ip}'", f"        netmask: '{address.netmask}'"]
        lines += [f"        gateway: '{options['gw']}'"] if "gw" in options else []
    if options.get("ip6") == "auto":
        lines.append("      - type: ipv6_slaac")
    return lines


def meta(guest: Guest) -> str:
    return f"instance-id: {guest.vmid}\n"
