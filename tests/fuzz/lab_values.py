"""Values of keys of lab files, right ones and such as somebody would write who means harm."""

from __future__ import annotations

NAMED = {
    "ready": [
        "agent",
        "none",
        "{port: 22}",
        "{console: 'login: ?$'}",
        "{console: '(a+)+$'}",
        "{console: '(((a?){99}){99})'}",
        "{console: '[^a]{2,1}'}",
        r'{console: "\x1b[2J(?i)"}',
        "{console: '" + "(" * 60 + "a" + ")" * 60 + "'}",
        "{screen: still, for: 60s}",
        "{screen: still, for: 1e9h}",
    ],
    "ports": ["[80]", "{8006: 18006}", "{80: 80}", "[80, 80]", "{22: 2222}", "[65535, 65536, 0, -1]", "['80; id']"],
    "netboot": [
        "{image: tiny}",
        r'{kernel: disk.raw, initrd: disk.raw, cmdline: "a\x1b[2J --"}',
        "{files: folder, bios: ../x}",
        "{files: folder, bios: disk.raw, uefi: /etc/passwd}",
        "{files: /proc, ipxe: self/mem}",
        "{kernel: pipe}",
    ],
    "install": [
        "{system: debian}",
        "{system: proxmox, iso: disk.raw, password: x}",
        "{system: ubuntu, iso: pipe}",
        r"""{system: debian, extra: "d-i x string \\\n", commands: ["a'b", "$(id)"], packages: ["-x", "a b"]}""",
        r"""{system: redhat, iso: /dev/zero, locale: "C\nx", domain: "%h", filesystem: "\""}""",
    ],
    "disks": [
        "{data: 1G}",
        "[1G, 1G]",
        "{a: {size: 1G, bus: nvme, serial: 'x,format=raw'}}",
        "{a: {file: ./disk.qcow2}}",
        "{'a,b': 1G, '../x': 1G}",
    ],
    "cdroms": [
        "[disk.raw]",
        "[./disk.qcow2]",
        "[pipe]",
        "['disk.raw,readonly=off']",
        "[{url: 'https://h/x.iso'}]",
    ],
    "smbios": [
        "{serial: 'a,b=c'}",
        r'{product: "x\0y"}',
        "{uuid: 6f3ca5a4-4f53-4b0c-9d6e-4a5a3a4c1d20}",
    ],
    "container": ["true", "false"],
}

NAMES = [
    "-oProxyCommand=x",
    "a,b=c",
    "$(id)",
    "%h",
    "'{{ x }}'",
    r'"a\nb"',
    r'"x\x1b[2J"',
    "'?'",
    "a b",
    "m",
    "lock",
]
"""Names of machines, segments, disks and all else that a lab file names."""
