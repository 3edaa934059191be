"""The named formats of Proxmox VE's parameters: name -> what is wrong with a value, or None.

The texts are those that PVE 9.1 answers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

Check = Callable[[str], str | None]

CONTENTS = {"images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"}
CPU_FLAGS = [
    "aes",
    "amd-no-ssb",
    "amd-ssbd",
    "hv-evmcs",
    "hv-tlbflush",
    "ibpb",
    "md-clear",
    "nested-virt",
    "pcid",
    "pdpe1gb",
    "spec-ctrl",
    "ssbd",
    "virt-ssbd",
]
CPU_MODELS = {
    "486",
    "Broadwell",
    "Broadwell-IBRS",
    "Broadwell-noTSX",
    "Broadwell-noTSX-IBRS",
    "Cascadelake-Server",
    "Cascadelake-Server-v2",
    "Cascadelake-Server-noTSX",
    "Conroe",
    "Cooperlake",
    "Cooperlake-v2",
    "EPYC",
    "EPYC-IBPB",
    "EPYC-Milan",
    "EPYC-Milan-v2",
    "EPYC-Rome",
    "EPYC-Rome-v2",
    "EPYC-Rome-v3",
    "EPYC-Rome-v4",
    "EPYC-Genoa",
    "EPYC-v3",
    "EPYC-v4",
    "GraniteRapids",
    "Haswell",
    "Haswell-IBRS",
    "Haswell-noTSX",
    "Haswell-noTSX-IBRS",
    "Icelake-Client",
    "Icelake-Client-noTSX",
    "Icelake-Server",
    "Icelake-Server-noTSX",
    "Icelake-Server-v3",
    "Icelake-Server-v4",
    "Icelake-Server-v5",
    "Icelake-Server-v6",
    "IvyBridge",
    "IvyBridge-IBRS",
    "KnightsMill",
    "Nehalem",
    "Nehalem-IBRS",
    "Opteron_G1",
    "Opteron_G2",
    "Opteron_G3",
    "Opteron_G4",
    "Opteron_G5",
    "Penryn",
    "SandyBridge",
    "SandyBridge-IBRS",
    "SapphireRapids",
    "SapphireRapids-v2",
    "SierraForest",
    "Skylake-Client",
    "Skylake-Client-IBRS",
    "Skylake-Client-noTSX-IBRS",
    "Skylake-Client-v4",
    "Skylake-Server",
    "Skylake-Server-IBRS",
    "Skylake-Server-noTSX-IBRS",
    "Skylake-Server-v4",
    "Skylake-Server-v5",
    "Westmere",
    "Westmere-IBRS",
    "athlon",
    "core2duo",
    "coreduo",
    "host",
    "kvm32",
    "kvm64",
    "max",
    "pentium",
    "pentium2",
    "pentium3",
    "phenom",
    "qemu32",
    "qemu64",
    "x86-64-v2",
    "x86-64-v2-AES",
    "x86-64-v3",
    "x86-64-v4",
}
DRIVE = re.compile(r"(ide[0-3]|sata[0-5]|scsi([0-9]|[12][0-9]|30)|virtio([0-9]|1[0-5])|efidisk0|tpmstate0)")
BOOTABLE = re.compile(DRIVE.pattern[:-1].replace("|efidisk0|tpmstate0", "") + r"|net\d+|usb\d+|hostpci\d+)")


def matches(pattern: str, text: str) -> Check:
    """A check that a value matches, or else the text, in which {} is the value."""
    known = re.compile(pattern)
    return lambda value: None if known.fullmatch(value) else text.format(value)


def network(value: str, version: int | None = None) -> bool:
    if "/" not in value:
        return False
    try:
        found = ipaddress.ip_interface(value)
    except ValueError:
        return False
    return version in (None, found.version)


def address(value: str, version: int | None = None) -> bool:
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return False
    return version in (None, found.version)


def truth(check: Callable[[str], bool], text: str) -> Check:
    return lambda value: None if check(value) else text


def cidr(version: int | None) -> Check:
    kind = f"IPv{version} " if version else ""
    return truth(lambda value: network(value, version), f"value does not look like a valid {kind}CIDR network\n")


def guest_address(version: int) -> Check:
    words = ("dhcp", "manual") if version == 4 else ("dhcp", "auto", "manual")
    text = f"value does not look like a valid ipv{version} network configuration\n"
    return truth(lambda value: value in words or network(value, version), text)


def mac(value: str) -> str | None:
    known = re.fullmatch(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}", value)
    return None if known else "value does not look like a valid unicast MAC address\n"


def tag(value: str) -> str | None:
    return None if re.fullmatch(r"(?i)[a-z0-9_][a-z0-9_\-+.]*", value) else "invalid characters in tag\n"


def content(value: str) -> str | None:
    return None if value in CONTENTS else f"invalid content type '{value}'\n"


def cpu(value: str) -> str | None:
    """A VM's cpu property: built-in models only, and of the flags those that PVE lets a VM choose."""
    parts = [part.partition("=") for part in value.split(",") if part]
    options = {(key if sign else "cputype"): (text if sign else key) for key, sign, text in parts}
    model = options.get("cputype", "")
    flags = options.get("flags", "")
    if flags and not re.fullmatch(r"[+-][a-zA-Z0-9\-_.]+(;[+-][a-zA-Z0-9\-_.]+)*", flags):
        return "format error\ncpu.flags: value does not match the regex pattern\n"
    if not model:
        return "CPU is missing cputype\n"
    if model.startswith("custom-"):
        return f"Custom cputype '{model.removeprefix('custom-')}' not found\n"
    if model not in CPU_MODELS:
        return f"Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)\n"
    if any(flag[1:] not in CPU_FLAGS for flag in flags.split(";") if flag):
        return f"VM-specific CPU flags must be a subset of: {', '.join(CPU_FLAGS)}\n"
    return None


def boot(value: str) -> str | None:
    for part in value.split(","):
        key, _, text = part.partition("=")
        if key == "order":
            for device in filter(None, text.split(";")):
                if not BOOTABLE.fullmatch(device):
                    return f"format error\nboot.order: invalid format - invalid boot device '{device}'\n\n"
    return None


def ipconfig(value: str) -> str | None:
    """A cloud-init address: one per family, and a gateway only beside an address."""
    options = dict(part.partition("=")[::2] for part in value.split(",") if part)
    for family, version in (("ip", 4), ("ip6", 6)):
        gateway = "gw" if version == 4 else "gw6"
        if gateway in options and family not in options:
            return f"format error\nipconfig0.{family}: missing property required by 'ipconfig0.{gateway}'\n"
        if family in options and (text := guest_address(version)(options[family])):
            return f"format error\nipconfig0.{family}: invalid format - {text}\n"
    return None


def volume(value: str) -> str | None:
    ok = value == "none" or value == "cdrom" or value.startswith("/") or re.fullmatch(r"[a-zA-Z][\w.\-]*:.+", value)
    return None if ok else f"unable to parse volume ID '{value}'\n"


def subnet(value: str) -> str | None:
    """A network, or the id that PVE makes of a zone and a network."""
    _, _, rest = value.partition("-")
    known = network(value) or network("/".join(rest.rsplit("-", 1)) if "-" in rest else "")
    return None if known else "value does not look like a valid CIDR network\n"


def sdn_name(value: str) -> str | None:
    """A zone's or vnet's name: 9.1.10 says what is wrong in other words than the schema of 9.1.11 has for it."""
    if len(value) > 8:
        return "value may only be 8 characters long"
    return None if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]+", value) else "value does not match the regex pattern"


BARE = ("pve-sdn-vnet-id", "pve-sdn-zone-id")
"""Formats whose texts PVE does not begin with "invalid format"."""
DNS = r"(([a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?)\.)*([A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?)"
FORMATS: dict[str, Check] = {
    "CIDR": cidr(None),
    "CIDRv4": cidr(4),
    "CIDRv6": cidr(6),
    "dns-name": matches(DNS, "value does not look like a valid DNS name\n"),
    "ip": truth(address, "value does not look like a valid IP address\n"),
    "ipv4": truth(lambda value: address(value, 4), "value does not look like a valid ipv4 address\n"),
    "ipv6": truth(lambda value: address(value, 6), "value does not look like a valid ipv6 address\n"),
    "mac-addr": mac,
    "pve-bridge-id": matches(r"[-_.\w\d]+", "invalid bridge ID '{}'\n"),
    "pve-configid": matches(r"(?i)[a-z][a-z0-9_-]+", "invalid configuration ID '{}'\n"),
    "pve-iface": matches(r"[a-zA-Z][a-zA-Z0-9_]{1,20}([:.]\d+)?", "invalid network interface name '{}'\n"),
    "pve-ipv4-config": guest_address(4),
    "pve-ipv6-config": guest_address(6),
    "pve-node": matches(r"[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?", "value does not look like a valid node name\n"),
    "pve-hotplug-features": matches(
        r"[01]?|(network|disk|cpu|memory|usb|cloudinit)([\s,;]+(network|disk|cpu|memory|usb|cloudinit))*",
        "unable to parse hotplug option\n",
    ),
    "pve-poolid": matches(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", "pool name '{}' contains invalid characters\n"),
    "pve-qm-boot": boot,
    "pve-qm-ipconfig": ipconfig,
    "pve-storage-content": content,
    "pve-storage-id": matches(r"(?i)[a-z][a-z0-9\-_.]*[a-z0-9]", "storage ID '{}' contains illegal characters\n"),
    "pve-tag": tag,
    "pve-vm-cpu-conf": cpu,
    "pve-vmid": matches(r"[1-9][0-9]{2,8}", "value does not look like a valid VM ID\n"),
    "pve-volume-id": volume,
    "pve-volume-id-or-qm-path": volume,
    "pve-volume-id-or-absolute-path": volume,
    "pve-lxc-mp-string": volume,
    "pve-sdn-subnet-id": subnet,
    "pve-sdn-vnet-id": sdn_name,
    "pve-sdn-zone-id": sdn_name,
    "urlencoded": matches(r"[-%a-zA-Z0-9_.!~*'()]*", "invalid urlencoded string: {}\n"),
}


def check(name: str, value: str) -> str | None:
    """What is wrong with a value in a named format; a format that is not known is not checked."""
    if name in FORMATS:
        return FORMATS[name](value)
    base = name.removesuffix("-list").removesuffix("-opt")
    if base in FORMATS and base != name:
        items = re.split(r"[\s,;\0]+", value) if name.endswith("-list") else [value]
        return next((text for item in items if item and (text := FORMATS[base](item))), None)
    return None
