"""What a lab file may say about the packages of a Proxmox VE: a part of the table in `fields`."""

from __future__ import annotations

from nestlab.lab.pve_packages import COMPONENT, LATEST, MIRROR, RELEASES
from nestlab.labfile.shapes import Either, Field, Integer, Record, Ref, Repository, Text, UrlOrPath

SUITE = Text("the name of a suite", r"[a-z0-9][a-z0-9./-]{0,63}")
COMPONENTS = Text("the name of a component", r"[a-z0-9][a-z0-9./-]{0,63}")

MIRROR_FIELD = Field(
    "pve_mirror",
    Either((Repository(), Ref("pve_mirror"))),
    "Where the packages of Proxmox VE come from: a URL (http or https), the path of a repository on this computer, or"
    " more about it. Said at the left margin it is for all `pve` of the lab.",
    default=MIRROR,
    example="http://mirror.example.org/proxmox/debian/pve",
    misnomers=("pve_repository", "pve_repo", "proxmox_mirror"),
)

OF_IMAGE = (
    Field(
        "version",
        Integer(min(RELEASES), LATEST),
        "Of `from: pve`: the major version of Proxmox VE.",
        default="9",
        example="8",
    ),
    MIRROR_FIELD,
)
"""Keys of an image that is made `from: pve`."""

RECORD = Record(
    "pve_mirror",
    "the repository of Proxmox VE",
    "A repository of Debian packages with Proxmox VE in it. It is signed; nothing is installed from one that is not.",
    (
        Field(
            "url",
            Repository(),
            "A URL (http or https), or the path of a repository on this computer that every user may read.",
            default=MIRROR,
            example="/srv/mirror/pve",
            misnomers=("mirror", "path", "uri", "from"),
        ),
        Field("suite", SUITE, "Its suite.", default="`trixie` for version 9, `bookworm` for 8"),
        Field("component", COMPONENTS, "Its component.", default=COMPONENT, example="pvetest"),
        Field(
            "keyring",
            UrlOrPath(),
            "A file with the OpenPGP keys of which one must have signed it, or the URL of one. That of Proxmox is"
            " downloaded once, and must be the one whose digest Proxmox publishes.",
            default="Proxmox's for that version",
            example="./pve.gpg",
            misnomers=("signed_by", "key", "gpg_key"),
        ),
        Field(
            "sha256",
            Text("64 hex digits", "[0-9A-Fa-f]{64}"),
            "The SHA-256 of `keyring`; needed where that is a URL.",
            misnomers=("checksum", "digest", "sha256sum"),
        ),
    ),
    example="""\
pve_mirror:
  url: /srv/mirror/pve
  component: pve-no-subscription
  keyring: ./pve.gpg
""",
)
