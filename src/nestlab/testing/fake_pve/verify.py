"""Parameters against the published schema, in the order and the words of PVE's own check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nestlab.testing.fake_pve import formats
from nestlab.testing.fake_pve.published import described, properties
from nestlab.testing.fake_pve.refusals import Refusal

UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
ABSENT = "property is missing and it is not optional"
FILE = {"type": "string", "format": "pve-volume-id", "optional": 1}
NESTED = {"pve-qm-cicustom": dict.fromkeys(("meta", "network", "user", "vendor"), FILE)}
"""Property strings that the schema names without spelling them out."""


def verified(info: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, numbers and booleans as int; Refusal 400 with all mistakes at once."""
    known = properties(info)
    errors: dict[str, str] = {}
    result: dict[str, Any] = {}
    for name, value in given.items():
        rule = described(known, name)
        if rule is None:
            errors[name] = UNKNOWN
        elif (text := mistake(name, value, rule)) is not None:
            errors[name] = text
        else:
            result[name] = converted(value, rule)
    for name, rule in known.items():
        if name not in given and not name.endswith("[n]") and not rule.get("optional"):
            errors[name] = ABSENT
    for name in given:
        needs = (described(known, name) or {}).get("requires")
        if isinstance(needs, str) and needs not in given:
            errors[needs] = f"missing property required by '{name}'"
    if errors:
        raise Refusal(400, "Parameter verification failed.", errors)
    return result


def converted(value: Any, rule: Mapping[str, Any]) -> Any:
    kind = rule.get("type")
    if value is None:
        return None
    if kind == "array":
        return list(value) if isinstance(value, list) else [value]
    if kind in ("integer", "boolean"):
        return int(value)
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def mistake(name: str, value: Any, rule: Mapping[str, Any]) -> str | None:
    """What is wrong with one value, or None. JSON's null passes: PVE dies of it later."""
    if value is None:
        return None
    if rule.get("type") == "array":
        items = value if isinstance(value, list) else [value]
        inner = rule.get("items") or {}
        return next((text for item in items if (text := mistake(name, item, inner))), None)
    if isinstance(value, list | dict):
        return f"type check ('{rule.get('type', 'string')}') failed"
    text = str(int(value)) if isinstance(value, bool) else str(value)
    return (
        mistyped(text, rule)
        or misformatted(name, text, rule)
        or out_of_range(text, rule)
    )  # fmt: skip


def mistyped(text: str, rule: Mapping[str, Any]) -> str | None:
    kind = rule.get("type", "string")
    patterns = {"integer": r"[+-]?\d+", "boolean": "[01]", "number": r"[+-]?\d*\.?\d+([eE][+-]?\d+)?"}
    if kind in patterns and not re.fullmatch(patterns[kind], text):
        return f"type check ('{kind}') failed - got '{text}'"
    return None


def misformatted(name: str, text: str, rule: Mapping[str, Any]) -> str | None:
    form = rule.get("format")
    if isinstance(form, dict):
        wrong = property_string(name, text, form)
        return f"invalid format - format error\n{wrong}" if wrong else None
    if form in NESTED:
        return misformatted(name, text, {"format": NESTED[form]})
    wrong = formats.check(form, text) if isinstance(form, str) else None
    return wrong if form in formats.BARE else f"invalid format - {wrong}" if wrong else None


def out_of_range(text: str, rule: Mapping[str, Any]) -> str | None:
    pattern, among = rule.get("pattern"), rule.get("enum")
    if pattern and not re.search(f"^(?:{perl(pattern)})$", text):
        return "value does not match the regex pattern"
    if among and text not in [str(item) for item in among]:
        return f"value '{text}' does not have a value in the enumeration '{', '.join(map(str, among))}'"
    if "maxLength" in rule and len(text) > int(rule["maxLength"]):
        return f"value may only be {rule['maxLength']} characters long"
    if "minLength" in rule and len(text) < int(rule["minLength"]):
        return f"value must be at least {rule['minLength']} characters long"
    if rule.get("type") in ("integer", "number"):
        if "minimum" in rule and float(text) < float(rule["minimum"]):
            return f"value must have a minimum value of {rule['minimum']}"
        if "maximum" in rule and float(text) > float(rule["maximum"]):
            return f"value must have a maximum value of {rule['maximum']}"
    return None


def perl(pattern: str) -> str:
    """A Perl pattern as Python reads it; the schema prints Perl's compiled ones as (?^:…)."""
    return re.sub(r"\(\?\^([a-z]*):", lambda match: f"(?{match[1]}:" if match[1] else "(?:", pattern)


def property_string(name: str, text: str, form: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of comma separated properties such as `virtio,bridge=vmbr0`."""
    found: dict[str, str] = {}
    default = next((key for key, rule in form.items() if rule.get("default_key")), None)
    for part in text.split(","):
        key, sign, value = part.partition("=")
        if not sign:
            key, value = default or "", part
            if not default:
                return f"{name}: value without key, but schema does not define a default key\n"
        for _ in range(2):
            rule = form.get(key, {})
            if "keyAlias" in rule:
                found[rule["keyAlias"]] = key
            key = rule.get("alias", key)
        found[key] = value
    return told(name, found, form)


def told(name: str, found: Mapping[str, str], form: Mapping[str, Any]) -> str | None:
    wrong = ""
    for key, value in found.items():
        if key not in form:
            wrong += f"{name}.{key}: {UNKNOWN}\n"
            continue
        rule = form[key]
        if rule.get("type") == "boolean" and value.lower() in ("on", "off", "yes", "no", "true", "false"):
            continue
        if (text := mistake(f"{name}.{key}", value, rule)) is not None:
            wrong += f"{name}.{key}: {text}\n"
    for key, rule in form.items():
        if key not in found and not rule.get("optional") and "alias" not in rule and "default" not in rule:
            wrong += f"{name}.{key}: {ABSENT}\n"
        needs = rule.get("requires")
        if key in found and isinstance(needs, str) and needs not in found:
            wrong += f"{name}.{needs}: missing property required by '{name}.{key}'\n"
    return wrong or None
