"""Proxmox's installers (VE, Backup Server, Mail Gateway, Datacenter Manager): an answer.toml, asked for over HTTPS.

Tables, keys and rules: pve-installer, proxmox-auto-installer (its parser, tests/resources/parse_answer_fail) and its
documentation "Automated Installation". The mode file is what `proxmox-auto-install-assistant prepare-iso` puts on the
ISO. Keys with dashes are of 8.4 and later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nestlab.answers.model import Answers, ServerAddress

Table = dict[str, Any]
Mistake = tuple[str, str, str]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MODE_FILE = "/auto-installer-mode.toml"
CAPABLE = "/auto-installer-capable"
"""A file on every ISO whose installer takes answers (Proxmox VE 8.2 and later)."""

FIRST_BOOT = "/proxmox-first-boot"
"""What an installed system runs when it boots first, on the ISO (pve-installer: FIRST_BOOT_EXEC_NAME)."""

IDENTITY = "identity.sh"
"""The file on a machine's seed, a volume called `cidata`, that says who it is."""

HOOK = f"""\
#!/bin/sh
# From nestlab: before its network is configured, at every boot, this system is told who it is. Without a seed it stays
# what it was.
set -eu
me=/usr/local/sbin/nestlab-identity
if [ "$0" != "$me" ]; then
    cp "$0" "$me"
    chmod 755 "$me"
    cat >/etc/systemd/system/nestlab-identity.service <<'UNIT'
[Unit]
Description=Identity of this machine, from nestlab
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service systemd-udev-trigger.service
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/nestlab-identity

[Install]
WantedBy=network.target
UNIT
    mkdir -p /etc/systemd/system/network.target.wants
    ln -sf ../nestlab-identity.service /etc/systemd/system/network.target.wants/nestlab-identity.service
fi
udevadm settle || :
[ -e /dev/disk/by-label/cidata ] || exit 0
at=$(mktemp -d)
mount -o ro /dev/disk/by-label/cidata "$at"
status=0
sh "$at/{IDENTITY}" || status=$?
umount "$at"
rmdir "$at"
exit "$status"
"""

CMDLINE = ("ro", "ramdisk_size=16777216", "rw", "quiet", "splash=silent", "proxmox-start-auto-installer")
"""Words for the installer's kernel, where it is started without the ISO's boot loader."""

KEYBOARDS = _words("de de-ch dk en-gb en-us es fi fr fr-be fr-ca fr-ch hu is it jp lt mk nl no pl pt pt-br se si tr")
FILESYSTEMS = ("ext4", "xfs", "zfs", "btrfs")
LEAST_DISKS = {"raid0": 1, "raid1": 2, "raid10": 4, "raidz-1": 3, "raidz-2": 4, "raidz-3": 5}


_ENGLISH = {"us": "en-us", "gb": "en-gb", "uk": "en-gb"}
_HASH = re.compile(r"\$(1|2[abxy]|5|6|7|y|gy)\$[./A-Za-z0-9$=,]{8,}")
_MAIL = re.compile(r"[\w+.~-]+(\.[\w+~-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

_KEYS: Mapping[str, frozenset[str]] = {
    "global": frozenset(
        _words(
            "country keyboard timezone fqdn mailto root-password root-password-hashed root-ssh-keys reboot-on-error"
            " reboot-mode subscription-key"
        )
    ),
    "network": frozenset(_words("source cidr dns gateway filter interface-name-pinning")),
    "disk-setup": frozenset(_words("filesystem disk-list filter filter-match lvm zfs btrfs")),
    "post-installation-webhook": frozenset(_words("url cert-fingerprint auth-token")),
    "first-boot": frozenset(_words("source ordering url cert-fingerprint")),
}
"""The tables and keys that the installer knows: with any other it ends."""

_OF_FILESYSTEM: Mapping[str, frozenset[str]] = {
    "lvm": frozenset(_words("hdsize swapsize maxroot maxvz minfree")),
    "zfs": frozenset(_words("raid ashift arc-max checksum compress copies hdsize")),
    "btrfs": frozenset(_words("raid compress hdsize")),
}


def mode(server: ServerAddress) -> str:
    """The file that tells the installer where to ask, with the certificate it may trust and its secret."""
    http = {"url": f"{server.tls_url}/answer", "cert_fingerprint": server.fingerprint, "token": server.token}
    return toml({"mode": "http", "partition_label": "proxmox-ais", "http": http})


def text(answers: Answers, server: ServerAddress, disk: str) -> str:
    """The answer.toml."""
    return toml(_tables(answers, disk, server))


def mistakes(answers: Answers) -> Iterator[Mistake]:
    """What the installer would not take."""
    if answers.user != "root":
        yield "user", "Proxmox's installer makes no user but root", "Leave `user` out."
    if not answers.password:
        hint = "Give `password` a hash, such as `mkpasswd` prints."
        yield "password", "Proxmox's installer wants a password of root's", hint
    elif not _HASH.fullmatch(answers.password):
        yield "password", "it is no hash of a password", "Write what `mkpasswd` prints (it begins with `$y$`)."
    if answers.commands or answers.packages:
        key = "commands" if answers.commands else "packages"
        yield key, "Proxmox's installer runs and installs nothing else", "Use `setup` of the machines."
    if answers.extra:
        try:
            theirs = json.loads(answers.extra)
        except ValueError:
            theirs = None
        if not isinstance(theirs, dict):
            yield (
                "extra",
                "it is no mapping",
                "Write tables of an answer.toml, such as `disk-setup`.",
            )
            return
    keyboard = _ENGLISH.get(answers.keyboard, answers.keyboard)
    if keyboard not in KEYBOARDS:
        yield "keyboard", f"Proxmox's installer knows no keyboard {answers.keyboard}", f"Take {', '.join(KEYBOARDS)}."
    yield from ((_key(key), what, hint) for key, what, hint in wrong(_tables(answers, "disk", None)))


def wrong(tables: Table) -> Iterator[Mistake]:
    """What the installer refuses in an answer.toml, whoever wrote it: the key as `TABLE.KEY`, what, what to do."""
    for name, keys in _KEYS.items():
        table = tables.get(name, {})
        if not isinstance(table, dict):
            yield name, "it is no table", "Write its keys inside it."
            return
        for key in table:
            if key not in keys:
                yield f"{name}.{key}", "the installer knows no such key", f"It knows {', '.join(sorted(keys))}."
    for name in tables:
        if name not in _KEYS:
            yield name, "the installer knows no such table", f"It knows {', '.join(_KEYS)}."
    yield from _wrong_global(tables.get("global", {}))
    yield from _wrong_network(tables.get("network", {}))
    yield from _wrong_disks(tables.get("disk-setup", {}))


def medium(answers: Answers, server: ServerAddress) -> dict[str, str]:
    """The files that its ISO needs, by path: where it asks, and what its machines run first, unless the user says what
    that is."""
    theirs = json.loads(answers.extra or "{}")
    return {MODE_FILE: mode(server), **({} if _hooks(theirs) else {FIRST_BOOT: HOOK})}


def _hooks(theirs: Any) -> bool:
    return isinstance(theirs, dict) and "first-boot" in theirs


def _tables(answers: Answers, disk: str, server: ServerAddress | None) -> Table:
    general: Table = {
        "country": answers.country,
        "keyboard": _ENGLISH.get(answers.keyboard, answers.keyboard),
        "timezone": answers.timezone,
        "fqdn": answers.fqdn,
        "mailto": f"root@{answers.domain}",
        "root-password-hashed": answers.password,
        "root-ssh-keys": list(answers.ssh_keys),
        "reboot-on-error": False,
        "reboot-mode": "power-off",
    }
    disks: Table = {"filesystem": answers.filesystem, "filter": {"ID_SERIAL": f"*{disk}*"}}
    if answers.filesystem in ("zfs", "btrfs"):
        disks[answers.filesystem] = {"raid": "raid0"}
    tables: Table = {"global": general, "network": {"source": "from-dhcp"}, "disk-setup": disks}
    if server is not None:
        tables["post-installation-webhook"] = {
            "url": f"{server.tls_url}/installed",
            "cert-fingerprint": server.fingerprint,
        }
    theirs = json.loads(answers.extra or "{}")
    if not _hooks(theirs):
        tables["first-boot"] = {"source": "from-iso", "ordering": "before-network"}
    for name, table in theirs.items() if isinstance(theirs, dict) else ():
        if not isinstance(table, dict) or not isinstance(tables.get(name, {}), dict):
            tables[name] = table
            continue
        kept = dict(tables.get(name, {}))
        if name == "disk-setup" and ({"disk-list", "filter"} & table.keys()):
            kept.pop("filter", None)
        if name == "disk-setup" and "filesystem" in table:
            for other in ("zfs", "btrfs"):
                kept.pop(other, None)
        tables[name] = {**kept, **table}
    return tables


def _wrong_global(table: Table) -> Iterator[Mistake]:
    fqdn = table.get("fqdn")
    if isinstance(fqdn, str):
        labels = fqdn.split(".")
        if len(fqdn) > 253 or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[0].isdigit():
            hint = "It needs a domain, and a first part that is no number, such as pve1.lab.internal."
            yield "global.fqdn", f"{fqdn} is none that the installer takes", hint
    mail = table.get("mailto")
    if not isinstance(mail, str) or not _MAIL.fullmatch(mail) or mail == "mail@example.invalid":
        yield (
            "global.mailto",
            f"{mail!r} is no address that the installer takes",
            "Write one such as root@lab.internal.",
        )
    plain, hashed = table.get("root-password"), table.get("root-password-hashed")
    if plain and hashed:
        yield "global.root-password", "both a password and its hash are said", "Leave the password out."
    if isinstance(plain, str) and len(plain) < 8:
        yield "global.root-password", "it has fewer than 8 characters", "Take a longer one."
    if table.get("keyboard") not in KEYBOARDS:
        yield "global.keyboard", "the installer does not know it", f"Take {', '.join(KEYBOARDS)}."
    if table.get("reboot-mode", "reboot") not in ("reboot", "power-off"):
        yield "global.reboot-mode", "it is neither reboot nor power-off", "Leave it out."


def _wrong_network(table: Table) -> Iterator[Mistake]:
    source = table.get("source", "from-dhcp")
    if source not in ("from-dhcp", "from-answer"):
        yield "network.source", "it is neither from-dhcp nor from-answer", "Leave it out."
    if source == "from-answer":
        for key in ("cidr", "dns", "gateway", "filter"):
            if not table.get(key):
                yield f"network.{key}", "`source: from-answer` needs it", "Say it, or leave `source` out."
    for mac, name in _mapping(table, "interface-name-pinning", "mapping").items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{1,14}", name):
            hint = "A name has 2 to 15 characters and begins with a letter."
            yield "network.interface-name-pinning", f"{name!r} for {mac} is no name of a card", hint


def _wrong_disks(table: Table) -> Iterator[Mistake]:
    filesystem, listed = table.get("filesystem"), table.get("disk-list")
    if filesystem not in FILESYSTEMS:
        yield "disk-setup.filesystem", f"{filesystem!r} is none", f"Take {', '.join(FILESYSTEMS)}."
        return
    if bool(listed) == bool(table.get("filter")):
        yield "disk-setup.disk-list", "either `disk-list` or `filter` must say which disks", "Say one of them."
    for name, keys in _OF_FILESYSTEM.items():
        said = table.get(name, {})
        for key in said if isinstance(said, dict) else ():
            if key not in keys:
                yield (
                    f"disk-setup.{name}",
                    f"the installer knows no {name}.{key}",
                    f"It knows {', '.join(sorted(keys))}.",
                )
    if isinstance(listed, list):
        if len(set(map(str, listed))) != len(listed):
            yield "disk-setup.disk-list", "it names a disk twice", "Name each once."
        if filesystem in ("ext4", "xfs") and len(listed) != 1:
            yield "disk-setup.disk-list", f"{filesystem} takes one disk", "Name one, or take zfs or btrfs."
    lvm = _mapping(table, "lvm")
    size, swap = lvm.get("hdsize"), lvm.get("swapsize")
    if isinstance(size, int | float) and isinstance(swap, int | float) and swap > size / 2:
        yield "disk-setup.lvm", "swapsize is more than half of hdsize", "Make it smaller."
    yield from _wrong_raid(table, str(filesystem), listed)


def _wrong_raid(table: Table, filesystem: str, listed: Any) -> Iterator[Mistake]:
    if filesystem not in ("zfs", "btrfs"):
        return
    raid = _mapping(table, filesystem).get("raid")
    least = LEAST_DISKS.get(raid) if isinstance(raid, str) else None
    if least is None or (filesystem == "btrfs" and str(raid).startswith("raidz")):
        hint = "Take raid0, raid1 or raid10" + (", raidz-1, raidz-2 or raidz-3." if filesystem == "zfs" else ".")
        yield f"disk-setup.{filesystem}", f"{raid!r} is no raid of {filesystem}", hint
    elif isinstance(listed, list) and len(listed) < least:
        yield "disk-setup.disk-list", f"{raid} needs {least} disks", "Name more, or take raid0."


def _mapping(table: Table, *keys: str) -> Table:
    found: Any = table
    for key in keys:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _key(key: str) -> str:
    """The key of a lab file for one of an answer.toml."""
    return {"global.fqdn": "domain", "global.keyboard": "keyboard"}.get(key, "extra")


def toml(tables: Table) -> str:
    """A TOML document. Of values it knows text, numbers, booleans, lists of them, and tables; None is left out."""
    lines: list[str] = []
    _write(tables, (), lines)
    return "\n".join(lines) + "\n"


def _write(table: Table, path: tuple[str, ...], lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict) and value is not None}
    if path and (plain or not table):
        lines.append(f"[{'.'.join(map(_name, path))}]")
    lines.extend(f"{_name(key)} = {_value(value)}" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, dict):
            _write(value, (*path, key), lines)


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """JSON's strings, numbers and booleans are TOML's, as long as no character is escaped as two."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_name(key)} = {_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
