"""What a lab file may say about an image that is installed: the part of the table in `fields` that is about it."""

from __future__ import annotations

from nestlab.answers import FAMILIES
from nestlab.answers.model import DOMAIN, KEYBOARD, LOCALE, TIMEZONE
from nestlab.labfile.setup_fields import COMMAND
from nestlab.labfile.shapes import (
    Boolean,
    Choice,
    Either,
    Field,
    Integer,
    ListOf,
    LocalPath,
    Record,
    Ref,
    Settings,
    Size,
    SshKey,
    Text,
)

_MIB, _TIB = 1 << 20, 1 << 40
RELEASES = ("bookworm", "trixie")
PACKAGES = Text("the name of a package", r"[A-Za-z0-9@][A-Za-z0-9+._:@-]*", limit=200)

INSTALL = Record(
    "install",
    "`install`",
    "An image that is made by running an installer once, unattended, in a machine of its own. What it asks, nestlab's"
    " answer server answers; nothing else of this computer or its networks does it reach, but a mirror of its packages."
    " Machines are made from the disk that it leaves, each with its own name, keys and addresses (by cloud-init).",
    (
        Field(
            "system",
            Choice(FAMILIES),
            "Whose installer it is: `debian` reads a preseed, `ubuntu` an autoinstall, `redhat` (Fedora and its kin) a"
            " kickstart, `proxmox` an answer.toml.",
            required=True,
            example="debian",
            misnomers=("family", "os", "distribution", "distro", "type", "installer"),
        ),
        Field(
            "iso",
            Either((LocalPath(), Ref("image"))),
            "The installer's ISO: a path, or where it is downloaded from (`{url: …, sha256: …}`). It stays as it is.",
            default="for `debian`, the netboot installer from Debian's packages",
            example="./ubuntu-24.04-live-server-amd64.iso",
            misnomers=("file", "medium", "cdrom", "image", "from"),
        ),
        Field(
            "release",
            Choice(RELEASES),
            "The release of Debian that its netboot installer installs.",
            default="trixie",
            misnomers=("suite", "version", "codename"),
        ),
        Field(
            "mirror",
            Text("the URL of a mirror", r"https?://[!-~]+", whole=True),
            "A mirror of its packages, which the answer server passes on.",
            default="the ISO alone; for Debian's netboot, where mmdebstrap gets its packages",
        ),
        Field("disk", Size(1024 * _MIB, 64 * _TIB), "Size of the disk that it installs on.", default="8G"),
        Field("memory", Size(256 * _MIB, 16 * _TIB), "Memory of the machine that it runs in.", default="1G"),
        Field("cpus", Integer(1, 512), "CPUs of that machine.", default="1"),
        Field(
            "firmware",
            Choice(("bios", "uefi", "secure")),
            "Firmware of that machine, and so of those that are made from the image.",
            default="bios",
            misnomers=("bios", "uefi", "efi", "boot"),
        ),
        Field(
            "internet",
            Boolean(),
            "Whether the installer reaches the networks of the computer that nestlab runs on.",
            default="false",
        ),
        Field(
            "locale",
            Text("a locale such as en_US.UTF-8", LOCALE.pattern),
            "Language and country.",
            default="en_US.UTF-8",
            misnomers=("lang", "language"),
        ),
        Field("keyboard", Text("a keyboard such as us or de-ch", KEYBOARD.pattern), "The keyboard.", default="us"),
        Field(
            "timezone",
            Text("a time zone such as Europe/Vienna", TIMEZONE.pattern),
            "The time zone.",
            default="UTC",
            misnomers=("tz", "time_zone"),
        ),
        Field("domain", Text("a domain", DOMAIN.pattern), "The domain of its name.", default="lab.internal"),
        Field(
            "filesystem",
            Choice(("ext4", "xfs", "btrfs", "zfs")),
            "The file system; not every installer makes each.",
            default="ext4",
            misnomers=("fs", "fstype"),
        ),
        Field(
            "password",
            Text("the hash of a password, as `mkpasswd` prints it", r"\$[!-~]{4,255}", whole=True),
            "The hash of the password of the image's `user` (root, if that is not said).",
            default="nobody logs in with a password",
            example="${ROOT_HASH}",
            misnomers=("root_password", "passwd", "password_hash", "root_password_hashed"),
        ),
        Field(
            "ssh_keys",
            Either((SshKey(), ListOf(SshKey()))),
            "Keys that may log in to whatever is made from it, in any lab.",
            misnomers=("authorized_keys", "ssh_authorized_keys", "keys"),
        ),
        Field("packages", ListOf(PACKAGES), "Packages to install.", example="[curl]", misnomers=("package",)),
        Field(
            "commands",
            ListOf(COMMAND),
            "Commands to run as root in the installed system, in order, before the installer ends.",
            misnomers=("late_commands", "late-commands", "post", "run", "script"),
        ),
        Field(
            "extra",
            Settings(),
            "What else its installer reads, in its own words: lines of a preseed or a kickstart, or keys of an"
            " autoinstall or an answer.toml. Where they contradict the rest, they count.",
            example='"d-i apt-setup/contrib boolean true"',
            misnomers=("answers", "preseed", "kickstart", "autoinstall", "answer", "ks"),
        ),
    ),
    example="""\
images:
  server:
    install:
      system: debian
      disk: 8G
      packages: [curl]
      commands: [systemctl enable fstrim.timer]
  pve:
    install:
      system: proxmox
      iso: ./proxmox-ve_9.1-1.iso
      disk: 32G
      memory: 2G
      password: ${ROOT_HASH}
      extra:
        disk-setup: {filesystem: ext4, lvm: {swapsize: 0}}
""",
)
