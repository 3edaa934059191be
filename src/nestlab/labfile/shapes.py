"""Shapes of values in a lab file: what the table of fields is written in.

`words` says in a message what was expected. Nothing here reads or checks: see `read` and `leaves`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

from nestlab.base.frozen import frozen
from nestlab.lab.model import format_size


@frozen
class Text:
    """Text that matches `pattern`; `words` says what that means. `whole`: a variable is all of it, or nothing."""

    words: str = "text"
    pattern: str | None = None
    limit: int | None = None
    whole: bool = False


@frozen
class Integer:
    """`why` is the reason for the limits, where there is one to say."""

    low: int
    high: int
    why: str = ""

    @property
    def words(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@frozen
class Size:
    """A number of bytes, written with a unit."""

    low: int
    high: int

    @property
    def words(self) -> str:
        return f"a size from {format_size(self.low)} to {format_size(self.high)}"


@frozen
class Boolean:
    words: ClassVar[str] = "true or false"


@frozen
class Choice:
    """`others`: values that somebody may expect, by their names in lower case, and what to say instead."""

    values: tuple[str, ...]
    others: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def words(self) -> str:
        return one_of(self.values)


@frozen
class Mode:
    """File permissions, octal as YAML 1.2 writes it."""

    words: ClassVar[str] = "permissions such as 0o644"


@frozen
class Name:
    """The name of something new."""

    of: str
    limit: int = 63

    @property
    def words(self) -> str:
        return f"a name for the {self.of}"


@frozen
class Reference:
    """The name of something that the file defines elsewhere."""

    to: str

    @property
    def words(self) -> str:
        return f"the name of {'an' if self.to[0] in 'aeiou' else 'a'} {self.to}"


@frozen
class LocalPath:
    """A path on this computer; read as an absolute one."""

    words: ClassVar[str] = "the path of a file"


@frozen
class UrlOrPath:
    """A URL as it is, or a path on this computer, read as an absolute one."""

    words: ClassVar[str] = "a URL (http or https), or the path of a file"


@frozen
class Repository:
    """A URL of a repository as it is, or the path of a folder on this computer (also as file://), read as an absolute
    one."""

    words: ClassVar[str] = "a URL (http or https), or the path of a folder"


@frozen
class SshKey:
    """Public keys, read as lines of authorized_keys."""

    words: ClassVar[str] = "a public ssh key, or the path of a .pub file"


@frozen
class CloudConfig:
    """User-data for cloud-init, read as JSON."""

    words: ClassVar[str] = "a cloud-config, or the path of a file with one"


@frozen
class Settings:
    """Settings of another program's: a mapping, read as JSON, or lines of text."""

    words: ClassVar[str] = "a mapping, or lines of text"


@frozen
class GuestPath:
    words: ClassVar[str] = "an absolute path inside the image"


@frozen
class Cidr:
    version: Literal[4, 6]

    @property
    def words(self) -> str:
        return f"an IPv{self.version} network such as {'10.77.0.0/24' if self.version == 4 else 'fd77::/64'}"


@frozen
class Address:
    """`version` None: of either."""

    version: Literal[4, 6] | None = None

    @property
    def words(self) -> str:
        if self.version is None:
            return "an address such as 10.77.0.11"
        return f"an IPv{self.version} address such as {'10.77.0.11' if self.version == 4 else 'fd77::11'}"


@frozen
class Mac:
    words: ClassVar[str] = "a MAC address such as 52:54:00:12:34:56"


@frozen
class PveAddress:
    """The address of a Proxmox VE; `local`: or the word `local`, for this computer, its libvirt, or the address of a
    host that ssh reaches."""

    local: bool = False

    @property
    def words(self) -> str:
        others = "`local`, `qemu:///system`, a host such as ssh://lab@server or " * self.local
        return f"{others}the address of a Proxmox VE such as pve://root@pam!lab@pve1"


@frozen
class Nothing:
    words: ClassVar[str] = "nothing"


@frozen
class ListOf:
    of: Shape

    @property
    def words(self) -> str:
        return "a list"


@frozen
class MapOf:
    keys: Name | Reference | GuestPath | Integer
    of: Shape

    @property
    def words(self) -> str:
        return f"a mapping from {self.keys.words}"


@frozen
class Ref:
    """A record of the table, by name."""

    record: str

    @property
    def words(self) -> str:
        return "a mapping"


@frozen
class Either:
    """One of several, told apart by what YAML shows: nothing, a scalar, a list, a mapping."""

    shapes: tuple[Shape, ...]

    @property
    def words(self) -> str:
        return one_of(tuple(shape.words for shape in self.shapes))


Leaf: TypeAlias = (
    Text
    | Integer
    | Size
    | Boolean
    | Choice
    | Mode
    | Name
    | Reference
    | LocalPath
    | UrlOrPath
    | Repository
    | SshKey
    | GuestPath
    | Cidr
    | Address
    | Mac
    | PveAddress
)
Shape: TypeAlias = Leaf | Nothing | CloudConfig | Settings | ListOf | MapOf | Ref | Either


@frozen
class Field:
    """One key of a record. `default` and `example` are YAML or words for people; `misnomers` are other programs'
    names for it, understood only to say the right one."""

    name: str
    shape: Shape
    doc: str
    default: str = ""
    example: str = ""
    required: bool = False
    misnomers: tuple[str, ...] = ()


@frozen
class Record:
    """A mapping with known keys. `called`: what messages call it. `refused`: keys that somebody may expect, and why
    they are none."""

    name: str
    called: str
    doc: str
    fields: tuple[Field, ...]
    example: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}


def one_of(words: tuple[str, ...]) -> str:
    """`a, b or c`."""
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
