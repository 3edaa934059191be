"""Keys that other tools have, and what says the same here: hints for who writes them. Data."""

from __future__ import annotations

from collections.abc import Mapping

_SEVERAL = "Each machine has its own name, and an anchor repeats the rest: `hv1: &node {…}`, then `hv2: *node`."
_NESTED = "Leave it out: every machine with `hypervisor:` is shown vmx or svm, and what it can do is proven."
_START = "Leave it out: `nestlab start` starts a lab; nothing starts it with the computer."
_PASSWORD = "Machines are entered by the key of their lab: `nestlab ssh`. A command of `setup` can set a password."
_OF_CARD = "It is said of a card: `segments: {wire: {address: 10.77.0.11}}`."
_NAME = "What stands before the colon is its name."
_DEVICES = "Devices of this computer are not handed to machines."
_ORDER = "Leave it out: `nestlab wait` waits until a machine is up."
_OUT = "Nothing leaves a segment. `internet: true` of a machine gives it a card that leads out."
_DHCP = "nestlab gives machines their addresses. `netboot` serves DHCP to those that boot from the network."


def _each(hint: str, *words: str) -> dict[str, str]:
    return dict.fromkeys(words, hint)


OF_MACHINE: Mapping[str, str] = {
    **_each(_SEVERAL, "count", "replicas", "copies", "instances", "number"),
    **_each(_NESTED, "nested", "nesting", "vmx", "svm", "nested_virtualization", "nested_virt"),
    **_each(_START, "autostart", "onboot", "start_on_boot"),
    **_each(_PASSWORD, "password", "passwd", "root_password", "credentials"),
    **_each(_OF_CARD, "ip", "ipv4", "ipv6", "ip_address", "ipaddr", "address", "mac", "mac_address"),
    **_each(_NAME, "name", "hostname", "host_name"),
    **_each(_DEVICES, "passthrough", "hostpci", "pci", "usb", "hostdev"),
    **_each(_ORDER, "depends_on", "depends", "after", "order"),
    "version": "It is said of an image: `image: {from: pve, version: 8}`, or `{from: debian, suite: bookworm}`.",
}

OF_SEGMENT: Mapping[str, str] = {
    **_each(_OUT, "gateway", "router", "nat", "dns", "forward", "internet", "uplink"),
    **_each(_DHCP, "dhcp", "dhcp4", "dhcp_range"),
    **_each(_NAME, "name"),
}

OF_CLUSTER: Mapping[str, str] = _each(_NAME, "name", "cluster_name")
