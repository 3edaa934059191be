"""Commands that other tools have, by what does the same here. Data."""

from __future__ import annotations

from collections.abc import Mapping

_MEANT = {
    "up": "create apply deploy provision run launch bring-up build-lab make",
    "down": "destroy delete rm remove undefine teardown clean purge",
    "stop": "halt poweroff shutdown off",
    "start": "boot poweron resume on",
    "restart": "reload reboot reset",
    "recreate": "rebuild redeploy reinstall",
    "ls": "list ps labs",
    "status": "info show state inspect describe",
    "ssh": "shell login enter connect attach sh",
    "exec": "run-command command cmd",
    "cp": "copy scp push pull upload download",
    "logs": "log console-log journal dmesg",
    "verify": "test prove check-lab proof",
    "validate": "lint check syntax",
    "plan": "diff preview dry-run",
    "view": "vnc spice screen display gui",
    "type": "send-text sendtext",
    "keys": "send-key sendkey send-keys",
    "forward": "port-forward portforward tunnel expose port",
    "unforward": "unexpose",
    "open": "browse web dashboard",
    "kill": "crash power-cut",
    "cut": "unplug disconnect partition",
    "heal": "repair reconnect plug",
    "impair": "netem degrade",
    "capture": "tcpdump sniff pcap",
    "graph": "draw diagram topology",
    "init": "new generate scaffold example examples",
    "migrate": "move live-migrate",
    "snapshot": "checkpoint save savevm",
    "restore": "revert rollback loadvm",
    "park": "suspend hibernate managedsave sleep",
    "unpark": "wake unsuspend",
    "doctor": "diagnose",
    "images": "image box boxes template templates",
}
"""By command: words of virsh, Vagrant, Docker, Terraform, Proxmox VE and others for it."""

MISNOMERS: Mapping[str, str] = {word: command for command, words in _MEANT.items() for word in words.split()}
