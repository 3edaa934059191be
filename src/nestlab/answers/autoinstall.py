"""Ubuntu's installer (subiquity): an autoinstall, from a NoCloud source over HTTP.

Keys: Ubuntu's autoinstall configuration reference manual. The mapping is written as JSON, which is YAML.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nestlab.answers.model import HOST_NAME, Answers, ServerAddress
from nestlab.answers.preseed import PACKAGES

Settings = dict[str, Any]


def cmdline(server: ServerAddress) -> tuple[str, ...]:
    """Words for the installer's kernel. A semicolon in them is the boot loader's to quote; a kernel started directly
    takes it as it is. `autoinstall` keeps it from asking whether the disk may be written."""
    return ("autoinstall", f"ds=nocloud;s={server.url}/", "ip=dhcp")


def text(answers: Answers, server: ServerAddress, disk: str) -> str:
    """The user-data."""
    settings: Settings = {
        "version": 1,
        "locale": answers.locale,
        "timezone": answers.timezone,
        "keyboard": _keyboard(answers.keyboard),
        "refresh-installer": {"update": False},
        "network": {"version": 2, "ethernets": {"any": {"match": {"name": "e*"}, "dhcp4": True}}},
        "storage": _storage(answers, disk),
        "ssh": {"install-server": True, "allow-pw": False, "authorized-keys": list(answers.ssh_keys)},
        "packages": list(dict.fromkeys((*PACKAGES, *answers.packages))),
        "updates": "security",
        "reporting": {"nestlab": {"type": "webhook", "endpoint": f"{server.url}/event", "level": "INFO"}},
        "early-commands": [_tell(server, "started")],
        "late-commands": [*_commands(answers, server), _tell(server, "installed")],
        "error-commands": [  # not its own answers, which are known here, and hold the hash of a password
            f"journalctl -b -n 500 | curl -s -T - {server.url}/log/journal || true",
            _tell(server, "failed"),
        ],
        "shutdown": "poweroff",
        **_account(answers),
    }
    if server.mirror is not None:
        host, path = server.mirror
        settings["apt"] = {
            "primary": [{"arches": ["default"], "uri": f"http://{host}{path}"}],
            "fallback": "offline-install",
        }
    theirs: Settings = json.loads(answers.extra or "{}")
    return "#cloud-config\n" + json.dumps({"autoinstall": _merged(settings, theirs)}, indent=2) + "\n"


def mistakes(answers: Answers) -> Iterator[tuple[str, str, str]]:
    """What subiquity would not take."""
    if answers.user == "root" and not answers.ssh_keys and not answers.password:
        yield "user", "Ubuntu's installer makes a user of its own, and root cannot log in", "Say `user: ubuntu`."
    if answers.extra:
        try:
            found = json.loads(answers.extra)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            yield "extra", "it is no mapping", "Write the keys of an autoinstall, without `autoinstall:` around them."
        elif "autoinstall" in found:
            yield "extra", "`autoinstall` stands around its keys", "Write the keys alone."
        elif found.get("version", 1) != 1:
            yield "extra", "the version of an autoinstall is 1", "Leave `version` out."


def _keyboard(keyboard: str) -> Settings:
    layout, _, variant = keyboard.partition("-")
    return {"layout": layout, "variant": variant}


def _account(answers: Answers) -> Settings:
    """Without a password nobody logs in with one: `!` is no hash of any."""
    if answers.user == "root":
        root: Settings = {"name": "root", "ssh_authorized_keys": list(answers.ssh_keys)}
        if answers.password:  # `passwd` is for users that are not there yet (cloud-init, Users and Groups)
            root |= {"hashed_passwd": answers.password, "lock_passwd": False}
        return {"user-data": {"disable_root": False, "users": [root]}}
    return {"identity": {"hostname": HOST_NAME, "username": answers.user, "password": answers.password or "!"}}


def _storage(answers: Answers, disk: str) -> Settings:
    """One partition for all, and one for the firmware: BIOS's boot loader or UEFI's, whichever is there."""
    if answers.filesystem == "zfs":
        return {"layout": {"name": "zfs", "match": {"serial": disk}}}
    if answers.filesystem == "ext4":
        return {"layout": {"name": "direct", "match": {"serial": disk}}, "swap": {"size": 0}}
    return {
        "swap": {"size": 0},
        "config": [
            {"type": "disk", "id": "disk", "match": {"serial": disk}, "ptable": "gpt", "wipe": "superblock-recursive",
             "grub_device": True},
            {"type": "partition", "id": "grub", "device": "disk", "size": "1M", "flag": "bios_grub"},
            {"type": "partition", "id": "root", "device": "disk", "size": -1},
            {"type": "format", "id": "fs", "volume": "root", "fstype": answers.filesystem},
            {"type": "mount", "id": "mount", "device": "fs", "path": "/"},
        ],
    }  # fmt: skip


def _commands(answers: Answers, server: ServerAddress) -> Iterator[str]:
    for number in range(len(answers.commands)):
        at = f"/target/tmp/nestlab-{number}"
        run = f"curtin in-target -- sh -eu /tmp/nestlab-{number}"
        yield f"curl -sf -o {at} {server.url}/command/{number} && {run} && rm {at}"
    yield server.sources("/target")
    yield "rm -f /target/etc/ssh/ssh_host_*; : > /target/etc/machine-id"


def _tell(server: ServerAddress, stage: str) -> str:
    return f"curl -s -o /dev/null {server.stage(stage)} || true"


def _merged(ours: Settings, theirs: Settings) -> Settings:
    """Of a key that both have, lists are joined, mappings merged, and of anything else theirs counts."""
    result = dict(ours)
    for key, value in theirs.items():
        mine = result.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[key] = _merged(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            result[key] = mine + [each for each in value if each not in mine]
        else:
            result[key] = value
    return result
