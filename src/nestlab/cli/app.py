"""The command line as a whole: which words are which verbs, and what --help says."""

from __future__ import annotations

from typing import Annotated

import typer

from nestlab.cli import (
    connect,
    copy,
    doctor,
    explain,
    faults,
    images,
    init,
    labs,
    logs,
    machines,
    migrate,
    ports,
    proxmox,
    rename,
    screens,
    snapshots,
    status,
    watching,
)
from nestlab.cli.command_words import WithCommand, WithShift
from nestlab.cli.exit_status import out
from nestlab.cli.narrow_help import FittedCommand, FittedTyper

HELP = """Nested virtualization labs from one file, with a proof for every level.

\b
Examples:
  nestlab up examples/pair.yaml          bring a lab up and prove it
  nestlab status                         its machines, as a tree
  nestlab ssh hv1/web                    a shell on a machine inside hv1
  nestlab exec 'hv*' -- uname -a         a command on several machines
  nestlab cp notes.txt hv1/web:/root/    copy a file to a machine
  nestlab logs hv1/web                   what its console said
  nestlab wait hv1/web --for port:80     until it serves
  nestlab ssh-config                     for ssh, scp, rsync and Ansible
  nestlab stop hv1/web                   shut one machine down
  nestlab down                           end the lab and delete it
  nestlab explain task.log               what the errors in a log mean

\b
Which lab: a lab file or a lab's name as the first word; left out, it is that
of lab.yaml or nestlab.yaml in the current directory, or the only lab there is.
Which machine: its path, such as hv1/web; with several labs, LAB:hv1/web.

\b
Waiting: --patience 5, with any verb, waits five times as long for everything;
NESTLAB_PATIENCE and `patience:` in the lab file do so too.

\b
Exit status: 0 done, 1 a bug in nestlab, 2 something for you to mend (also a
proof that fails), 130 interrupted. ssh and exec: the command's own.
"""

app = FittedTyper(
    name="nestlab",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from nestlab import __version__

        out(f"nestlab {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")]


Patience = Annotated[
    str,
    typer.Option("--patience", metavar="N", help="Wait N times as long for everything, on a slow or busy machine."),
]
"""For --help: `cli.main` takes it out of the words, wherever it stands."""


@app.callback()
def _nestlab(patience: Patience = "", version: Version = False) -> None:
    pass


_VERBS = (
    ("up", labs.up, "Bring a lab up as its file says, and prove it."),
    ("plan", labs.plan, "Show what `up` would do, and why."),
    ("status", status.status, "Show a lab's machines as a tree."),
    ("verify", labs.verify, "Prove a running lab, level by level."),
    ("ssh", machines.ssh, "A shell on a machine, or a command."),
    ("exec", machines.execute, "Run a command on one or many machines."),
    ("cp", copy.cp, "Copy files to, from and between machines."),
    ("console", machines.console, "Attach to a machine's serial console."),
    ("logs", logs.logs, "Print what a machine's console said."),
    ("screenshot", screens.screenshot, "Take a picture of a machine's screen, or read it."),
    ("view", screens.view, "Show a machine's screen in a VNC viewer."),
    ("type", screens.type_text, "Type a text on a machine's keyboard."),
    ("keys", screens.press_keys, "Press keys of a machine's keyboard."),
    ("forward", ports.forward, "Have a port of 127.0.0.1 lead to a machine's."),
    ("unforward", ports.unforward, "Undo `forward --keep`."),
    ("open", ports.open_page, "Open a machine's web page."),
    ("kill", faults.kill, "Cut the power of machines."),
    ("cut", faults.cut, "Take a machine's cable to a segment out."),
    ("impair", faults.impair, "Delay, lose or slow down frames."),
    ("clock", faults.clock, "Set a machine's clock ahead or behind."),
    ("heal", faults.heal, "Take back what these did."),
    ("wait", watching.wait, "Wait until machines are reached, proven or serve."),
    ("capture", watching.capture, "Capture a machine's frames on a segment as a pcap."),
    ("graph", watching.graph, "Draw a lab as text for Mermaid or Graphviz."),
    ("init", init.init, "Write a lab file to begin with, from an example."),
    ("ssh-config", connect.ssh_config, "Print how ssh, scp and rsync reach the machines."),
    ("inventory", connect.inventory, "Print an Ansible inventory."),
    ("hosts", connect.hosts, "Print the machines' addresses, as /etc/hosts has them."),
    ("env", connect.env, "Print how machines are reached as shell variables."),
    ("stop", labs.stop, "Shut machines down; disks stay."),
    ("start", labs.start, "Start machines that were stopped."),
    ("restart", labs.restart, "Stop and start machines; disks stay."),
    ("recreate", labs.recreate, "Delete machines and make them again."),
    ("rename", rename.rename, "Give a lab another name."),
    ("migrate", migrate.migrate, "Move a machine to another hypervisor or node."),
    ("snapshot", snapshots.snapshot, "Save a whole lab, memory included, at one moment."),
    ("restore", snapshots.restore, "Put a lab back to a snapshot."),
    ("snapshots", snapshots.snapshots, "List a lab's snapshots, or remove some."),
    ("park", snapshots.park, "Save a lab with its memory and end its machines."),
    ("unpark", snapshots.unpark, "Go on with a lab that was parked."),
    ("down", labs.down, "End machines or a lab, and delete them."),
    ("ls", status.ls, "List the labs on this machine."),
    ("gc", images.gc, "Remove what no lab uses any more."),
    ("doctor", doctor.doctor, "Say whether a host can nest; mend it, take it back."),
    ("explain", explain.explain, "Say what an error or a log means, and what to do."),
    ("validate", status.validate, "Check a lab file."),
    ("schema", status.schema, "Print the JSON Schema of lab files."),
)

_KINDS = {"ssh": WithCommand, "exec": WithCommand, "clock": WithShift}

for _name, _verb, _short in _VERBS:
    _cls = _KINDS.get(_name, FittedCommand)
    app.command(_name, cls=_cls, short_help=_short)(_verb)
app.add_typer(images.images, name="images", short_help="List, build, download, remove images.")
app.add_typer(proxmox.group, name="pve", short_help="Set up and check a Proxmox VE for labs.")
