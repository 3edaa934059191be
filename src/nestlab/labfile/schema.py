"""The JSON Schema of lab files, by which editors complete and check: made from the table in `labfile.fields`. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from nestlab.kinds import images
from nestlab.lab.model import NAME
from nestlab.labfile.fields import RECORDS, RESERVED
from nestlab.labfile.shapes import (
    Address,
    Boolean,
    Choice,
    Cidr,
    CloudConfig,
    Either,
    Field,
    GuestPath,
    Integer,
    ListOf,
    LocalPath,
    Mac,
    MapOf,
    Mode,
    Name,
    Nothing,
    PveAddress,
    Record,
    Ref,
    Reference,
    Repository,
    Settings,
    Shape,
    Size,
    SshKey,
    Text,
    UrlOrPath,
)

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""What stands for a value until `${VAR}` is replaced."""

_HEX = "[0-9A-Fa-f]"
_FOUR = r"[0-9]{1,3}(\.[0-9]{1,3}){3}"
_SIX = "[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12. It accepts every valid lab file; what takes more than one value to judge, nestlab judges."""
    definitions = {name: _record(record) for name, record in RECORDS.items() if name != "lab"}
    root = _record(RECORDS["lab"])
    # What is required may come from an included file.
    required = root.pop("required")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nestlab lab file",
        **root,
        "anyOf": [{"required": required}, {"required": ["lab", "include"]}],
        "$defs": {"variable": _VARIABLE, **definitions},
    }


def text() -> str:
    """The schema as it is written to `lab.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _record(record: Record) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "description": record.doc,
        "properties": {field.name: _field(field) for field in record.fields},
        "additionalProperties": False,
    }
    required = [field.name for field in record.fields if field.required]
    if required:
        made["required"] = required
    if record.name == "image":
        made["oneOf"] = [{"required": [each]} for each in ("from", "file", "url", "install")]
    if record.name == "entry":
        made["oneOf"] = [{"required": ["text"]}, {"required": ["source"]}]
    return made


def _field(field: Field) -> dict[str, Any]:
    doc = f"{field.doc} Default: {field.default}." if field.default else field.doc
    return {"description": doc, **_shape(field.shape)}


def _shape(shape: Shape) -> dict[str, Any]:
    match shape:
        case Either():
            return {"anyOf": [_shape(each) for each in shape.shapes]}
        case Ref():
            return {"$ref": f"#/$defs/{shape.record}"}
        case ListOf():
            return {"type": "array", "items": _shape(shape.of)}
        case MapOf():
            return {"type": "object", "propertyNames": _key(shape.keys), "additionalProperties": _shape(shape.of)}
        case Nothing():
            return {"type": "null"}
        case Text() if shape.pattern is None and shape.limit is None:
            return {"type": "string"}
        case CloudConfig() | Settings():
            return {"anyOf": [{"type": "object"}, {"type": "string", "minLength": 1}]}
        case LocalPath() | UrlOrPath() | Repository() | SshKey():
            return {"type": "string", "minLength": 1}
        case Reference(to="image"):
            return {"type": "string", "minLength": 1, "examples": list(images())}
        case Reference():
            return {"type": "string", "minLength": 1}
    return {"anyOf": [_leaf(shape), {"$ref": "#/$defs/variable"}]}


def _key(shape: Shape) -> dict[str, Any]:
    """A number is a text where it is a key."""
    return {"type": "string", "pattern": "^[0-9]{1,5}$"} if isinstance(shape, Integer) else _shape(shape)


def _leaf(shape: Shape) -> dict[str, Any]:
    match shape:
        case Integer():
            return {"type": "integer", "minimum": shape.low, "maximum": shape.high}
        case Size():
            return {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTkmgt](i?[Bb])?|i?[Bb])$"}
        case Boolean():
            return {"type": "boolean"}
        case Choice():
            return {"enum": list(shape.values)}
        case Mode():
            return {"type": "integer", "minimum": 0, "maximum": 0o7777}
        case Name():
            made = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": shape.limit}
            return {**made, "not": {"enum": sorted(RESERVED)}}
        case GuestPath():
            return {"type": "string", "pattern": "^/[^/]"}
        case Cidr():
            address = _FOUR if shape.version == 4 else _SIX
            return {"type": "string", "pattern": f"^{address}/[0-9]{{1,3}}$"}
        case Address():
            address = {4: _FOUR, 6: _SIX}.get(shape.version or 0, f"({_FOUR}|{_SIX})")
            return {"type": "string", "pattern": f"^{address}$"}
        case Mac():
            return {"type": "string", "pattern": f"^{_HEX}{{2}}(:{_HEX}{{2}}){{5}}$"}
        case PveAddress():
            others = r"local|qemu:///system|qemu\+ssh://[^=\s]+/system|ssh://[^=\s]+|" * shape.local
            words = rf"{others}pve\+local"
            return {"type": "string", "pattern": rf"^({words}|pve(\+ssh)?://[^=\s]+)$"}
        case Text():
            made = {"type": "string"}
            if shape.pattern is not None:
                made["pattern"] = f"^{_ecma(shape.pattern)}$"
            if shape.limit is not None:
                made["maxLength"] = shape.limit
            return made
    raise TypeError(f"no schema for {shape}")


def _ecma(pattern: str) -> str:
    """The pattern in the dialect that JSON Schema shares with Python; grouped, for the anchors around it."""
    return f"({pattern})" if "|" in re.sub(r"\([^()]*\)", "", pattern) else pattern
