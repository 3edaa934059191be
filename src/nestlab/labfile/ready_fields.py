"""What a lab file may say about when a machine is up: the part of the table in `fields` that is about it."""

from __future__ import annotations

from nestlab.lab.console_pattern import LONGEST
from nestlab.labfile.shapes import Choice, Either, Field, Integer, Record, Ref, Text

OF_READY = (
    Field(
        "ready",
        Either((Choice(("ssh", "agent", "none")), Ref("ready"))),
        "How it is known that it is up. By all but `ssh`, nestlab does not log in to it.",
        default="`ssh`; `none` for a medium (ISO) and for a hypervisor that nestlab does not work in",
        example="agent",
        misnomers=("login", "communicator", "wait_for", "waitfor", "up_when", "healthcheck", "ssh", "agent"),
    ),
)

READY = Record(
    "ready",
    "`ready`",
    "How it is known that a machine is up: `ready: ssh` (it takes a login with the lab's key), `ready: agent` (its QEMU"
    " guest agent answers), one of those below, or `ready: none` (nothing is expected of it: it is up as soon as its"
    " QEMU runs it). nestlab logs in to machines with `ssh` only: `exec`, `cp`, `ssh`, `setup` and `ssh_keys` are for"
    " those. Another `ready` is no reason to restart a machine.",
    (
        Field(
            "port",
            Integer(1, 65535),
            "It takes connections on this TCP port of its first card, where QEMU gives it an address by DHCP; on a"
            " Proxmox VE, at its address on a segment with a `bridge`.",
            example="3389",
            misnomers=("tcp",),
        ),
        Field(
            "console",
            Text("a regular expression", limit=LONGEST),
            "A line of its serial console matches this regular expression: letters, `.`, `[a-z]`, `\\d`, `\\w`, `\\s`,"
            " `(a|b)`, `*`, `+`, `?`, `{2,5}`, `^`, `$`, and `(?i)` at its beginning. There are no references back and"
            " no looking around.",
            example='"login: ?$"',
            misnomers=("serial", "text", "regex", "match", "pattern"),
        ),
        Field(
            "screen",
            Choice(("still",)),
            "`still`: its screen stays as it is, but for a blinking cursor, and shows something: no firmware, no menu"
            " of a boot loader, no screen of death, as far as nestlab can read it, which is a BIOS's text, and not"
            " UEFI's. It needs a screen (`display: true`). What it shows is for you to judge: `nestlab screenshot`.",
            example="still",
            misnomers=("display", "picture", "vga"),
        ),
        Field(
            "for",
            Text("a time such as `30s` or `2m`", r"[1-9][0-9]{0,2}s|[1-9]m"),
            "With `screen`: how long it stays as it is, up to `2m`. Where the machine is emulated, it is as many times"
            " longer as emulation is slower.",
            default="30s",
            example="60s",
            misnomers=("seconds", "duration", "since"),
        ),
    ),
    example="""\
machines:
  win:
    image: {file: ./windows.qcow2}
    ready: {port: 3389}
  box:
    image: {file: ./appliance.qcow2}
    ready: {console: "login: ?$"}
  desk:
    image: {file: ./desktop.qcow2}
    ready: {screen: still}
""",
)
