"""What a lab file may say about an image: the part of the table in `fields` that is about one."""

from __future__ import annotations

from nestlab import kinds
from nestlab.lab.model import MIB, TIB
from nestlab.labfile.pve_package_fields import OF_IMAGE
from nestlab.labfile.scalars import URL
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
    Size,
    Text,
    UrlOrPath,
)

URL_TEXT = Text("a URL (http or https)", URL, whole=True)
FORMATS = ("qcow2", "raw", "iso", "vmdk", "vhdx", "vdi", "ova", "tar")
PACKAGE = Text("the name of a Debian package", r"[a-z0-9][a-z0-9+.-]+")
USER = Text("the name of a user", r"[a-z_][a-z0-9_-]{0,31}")
MIRROR = Text("the URL of a Debian mirror", r"(https?|file|copy)://?[!-~]+", whole=True)
SUITES = ("bookworm", "trixie", "forky", "sid")
KERNEL = Text("`cloud`, `generic` or the name of a kernel's package", r"cloud|generic|linux-image-[a-z0-9+.-]+")

DOWNLOADED = (
    Field(
        "url",
        URL_TEXT,
        "Where to download a disk or an ISO from, once, into the cache. What must be there is said by `sha256`,"
        " `sha512` or `sums`: nothing else is ever booted.",
        example="https://example.org/disk.qcow2",
        misnomers=("uri", "link", "href", "download"),
    ),
    Field(
        "sha256",
        Text("64 hex digits", "[0-9A-Fa-f]{64}"),
        "The SHA-256 of what is at `url`, as it is downloaded (still packed).",
        misnomers=("checksum", "digest", "hash", "sha256sum"),
    ),
    Field(
        "sha512",
        Text("128 hex digits", "[0-9A-Fa-f]{128}"),
        "Its SHA-512.",
        misnomers=("sha512sum",),
    ),
    Field(
        "sums",
        UrlOrPath(),
        "A checksum file that names it, as `sha256sum` and `sha512sum` write it (also with `--tag`). It is read"
        " once, and what it says is kept until `nestlab images pull --update`.",
        example="https://example.org/SHA256SUMS",
        misnomers=("checksums", "checksum_file", "sha256sums", "sha512sums"),
    ),
    Field(
        "signed_by",
        LocalPath(),
        "A file with OpenPGP keys, of which one must have signed `sums`: in a file beside it (.sign, .gpg, .asc,"
        " .sig), or in itself (clear-signed).",
        example="./vendor.asc",
        misnomers=("key", "gpg_key", "keyring", "signature"),
    ),
    Field(
        "compression",
        Choice(("none", "xz", "zst", "gz", "bz2")),
        "How what is at `url` is packed.",
        default="by the ending of its name: .xz, .zst, .gz, .bz2",
        misnomers=("compressed",),
    ),
    Field(
        "max_size",
        Size(MIB, 64 * TIB),
        "What is at `url` is refused where it has more than this, unpacked or as a disk.",
        default="128G",
        misnomers=("size_limit", "maxsize"),
    ),
)
"""Of what is downloaded, and what says that it is the right thing."""

IMAGE = Record(
    "image",
    "an image",
    "What a machine boots: one of nestlab's images with additions (`from`), a disk file of yours (`file`), or one that"
    " is downloaded (`url`).",
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
            misnomers=("package", "apt"),
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
            "A shell script that runs as root in the image while it is built, after packages and files: it sees"
            " nothing of this computer, and no network.",
            example="systemctl enable chrony",
            misnomers=("run", "commands", "provision"),
        ),
        Field(
            "suite",
            Choice(SUITES),
            "The release of Debian to make it from.",
            default="trixie",
            example="bookworm",
            misnomers=("release", "distribution", "codename", "dist"),
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
        *OF_IMAGE,
        Field(
            "file",
            LocalPath(),
            "A disk of your own, which boots by its own boot loader. It is never written to.",
            example="./disk.qcow2",
            misnomers=("path", "disk", "source"),
        ),
        Field(
            "format",
            Choice(FORMATS),
            "What the file is. vmdk, vhdx, vdi and ova only with `url`: they are converted once. tar, a container"
            " template, which is packed as xz, zst or gz, only with `url` too; of a `file` its name tells it.",
            default="by the ending of its name: .qcow2, .raw, .img, .iso, .tar.zst",
        ),
        *DOWNLOADED,
        Field(
            "install",
            Ref("install"),
            "How it is made by running an installer.",
            example="{system: debian}",
            misnomers=("installer", "unattended", "autoinstall", "preseed", "kickstart"),
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
  cloud:
    url: https://cloud.example.org/trixie/generic-amd64.qcow2
    sums: https://cloud.example.org/trixie/SHA512SUMS
    signed_by: ./vendor.asc
    user: debian
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
