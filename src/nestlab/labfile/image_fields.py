"""What a lab file may say about an image: the part of the table in `fields` that is about one."""

from __future__ import annotations

from nestlab import kinds
from nestlab.labfile.shapes import (
    Choice,
    CloudConfig,
    Either,
    Field,
    GuestPath,
    ListOf,
    LocalPath,
    MapOf,
    Mode,
    Record,
    Ref,
    Text,
)

PACKAGE = Text("the name of a Debian package", r"[a-z0-9][a-z0-9+.-]+")
USER = Text("the name of a user", r"[a-z_][a-z0-9_-]{0,31}")
MIRROR = Text("the URL of a Debian mirror", r"(https?|file|copy)://?[!-~]+")
SUITES = ("bookworm", "trixie", "forky", "sid")
KERNEL = Text("`cloud`, `generic` or the name of a kernel's package", r"cloud|generic|linux-image-[a-z0-9+.-]+")

IMAGE = Record(
    "image",
    "an image",
    "What a machine boots: either one of nestlab's images with additions (`from`), or a disk file of yours (`file`).",
    (
        Field(
            "from",
            Choice(kinds.images()),
            "The image of nestlab's to start from.",
            example="debian",
            misnomers=("base", "parent", "image"),
        ),
        Field(
            "packages",
            ListOf(PACKAGE),
            "Debian packages to add.",
            example="[curl, tcpdump]",
            misnomers=("package", "apt", "install"),
        ),
        Field(
            "files",
            MapOf(GuestPath(), Either((Text("the text of the file"), Ref("entry")))),
            "Files to put into the image, by their path in it: the text, or more about it.",
            example="{/etc/motd: welcome}",
            misnomers=("copy", "upload"),
        ),
        Field(
            "script",
            Text("a shell script"),
            "A shell script that runs as root in the image while it is built, after packages and files.",
            example="systemctl enable chrony",
            misnomers=("run", "commands", "provision"),
        ),
        Field(
            "suite",
            Choice(SUITES),
            "The release of Debian to make it from.",
            default="trixie",
            example="bookworm",
            misnomers=("release", "distribution", "codename", "version", "dist"),
        ),
        Field(
            "kernel",
            KERNEL,
            "Its kernel: Debian's for virtual machines (`cloud`), with the drivers of all hardware (`generic`), or that"
            " of a package.",
            default="cloud",
            example="generic",
            misnomers=("linux",),
        ),
        Field("mirror", MIRROR, "Where Debian packages come from.", default="as mmdebstrap chooses"),
        Field(
            "file",
            LocalPath(),
            "A disk of your own, which boots by its own boot loader. It is never written to.",
            example="./disk.qcow2",
            misnomers=("path", "disk", "source", "url"),
        ),
        Field(
            "format",
            Choice(("qcow2", "raw", "iso")),
            "What the file is.",
            default="by the ending of its name: .qcow2, .raw, .img, .iso",
        ),
        Field("user", USER, "Who logs in to a disk of yours by ssh; cloud-init gives them the key.", default="root"),
        Field(
            "cloud_init",
            CloudConfig(),
            "What else the cloud-init of a disk of yours is to do at the first boot of each machine, beside what"
            " nestlab tells it: a cloud-config, or the path of a file with one. Lists are joined, mappings merged.",
            example="{packages: [nginx]}",
            misnomers=("user_data", "userdata", "cloud-init", "cloudinit", "cloud_config", "seed"),
        ),
    ),
    example="""\
images:
  mine:
    from: debian
    packages: [curl]
    files:
      /etc/motd: "welcome\\n"
      /usr/local/bin/probe: {source: ./probe.sh, mode: 0o755}
    script: |
      useradd -m alice
  old: {from: debian, suite: bookworm, kernel: generic}
  own:
    file: ./disk.qcow2
    user: admin
    cloud_init:
      packages: [nginx]
      runcmd: [systemctl enable --now nginx]
""",
)

ENTRY = Record(
    "entry",
    "a file",
    "A file to put into an image or, by `setup`, into a machine: its `text`, or a `source`.",
    (
        Field("text", Text("the text of the file"), "What is in it.", misnomers=("content", "contents", "data")),
        Field("source", LocalPath(), "A file on this computer to copy.", misnomers=("src", "from", "file", "path")),
        Field("mode", Mode(), "Its permissions.", default="0o644", misnomers=("permissions", "chmod")),
    ),
)
