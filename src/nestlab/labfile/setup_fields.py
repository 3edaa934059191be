"""What a lab file may say about the first time a machine is up: the part of the table in `fields` that is about it."""

from __future__ import annotations

from nestlab.labfile.shapes import Either, Field, GuestPath, ListOf, MapOf, Record, Ref, SshKey, Text

COMMAND = Text("a shell command", limit=65536)

FIRST_BOOT = (
    Field(
        "ssh_keys",
        Either((SshKey(), ListOf(SshKey()))),
        "Keys of yours that may log in beside the lab's own: public keys, or paths of .pub files.",
        example="[~/.ssh/id_ed25519.pub]",
        misnomers=("authorized_keys", "ssh_authorized_keys", "ssh_key", "public_keys", "sshkeys", "keys"),
    ),
    Field(
        "setup",
        Either((ListOf(COMMAND), Ref("setup"))),
        "What is done in it once, when it is up for the first time: commands, or files and then commands.",
        example="[apt-get update]",
        misnomers=("provision", "provisioner", "run", "script", "commands", "runcmd"),
    ),
)

SETUP = Record(
    "setup",
    "`setup`",
    "What is done in a machine as root, once, when it is up for the first time: files are written, then the commands"
    " run, one after the other, each a script of POSIX sh. One that fails ends `up`, and the next goes on with it. What"
    " is done stands in the machine (`/var/lib/nestlab/setup`): where something changes in the lab file, it and what"
    " follows it is done again. `tiny` keeps nothing when it stops, and is set up at each start. The machines inside"
    " a hypervisor wait for its setup.",
    (
        Field(
            "files",
            MapOf(GuestPath(), Either((Text("the text of the file"), Ref("entry")))),
            "Files to write, by their path: the text, or more about it.",
            example="{/etc/motd: welcome}",
            misnomers=("copy", "upload", "write_files"),
        ),
        Field(
            "commands",
            ListOf(COMMAND),
            "Commands to run, in order. Each ends at its first command that fails (`sh -eu`).",
            example="[systemctl restart ssh]",
            misnomers=("run", "runcmd", "script", "exec", "shell", "command"),
        ),
    ),
    example="""\
machines:
  web:
    ssh_keys: [~/.ssh/id_ed25519.pub]
    setup:
      files:
        /srv/index.html: {source: ./index.html}
      commands:
        - apt-get update
        - |
          for name in alice bob; do
            useradd -m $$name
          done
""",
)
