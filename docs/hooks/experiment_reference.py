"""The page of the experiment file, made of its schema."""

from __future__ import annotations

import json
import re
from typing import Any

from boardfront.host.experiment_file import ExperimentFile

_UNITS = {"_s": "seconds", "_ms": "milliseconds", "_c": "degrees Celsius", "_hz": "hertz"}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "over {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "table",
    "array": "list",
    "null": "",
}


def experiment_page() -> str:
    """Return the reference of the experiment file, in Markdown."""
    schema = ExperimentFile.model_json_schema()
    lines = [
        "# Experiment file",
        "",
        "TOML. Made from the schema that reads it: an unknown key, a wrong type or a value out of "
        "range is an error that names the file, the line and what is expected.",
        "",
        "[`examples/quickstart.toml`](../examples/quickstart.toml) is a whole one. Exactly one of "
        "`[supernet]` and `[training]` says where accuracy comes from.",
        "",
    ]
    plain = {n: p for n, p in schema["properties"].items() if _table_of(p, schema) is None}
    tables = {n: p for n, p in schema["properties"].items() if n not in plain}
    lines += ["## At the top {#top}", "", *_rows(plain, schema)]
    for name, content in tables.items():
        title = f"[[{name}]]" if content.get("type") == "array" else f"[{name}]"
        needed = "" if name in schema["required"] else " May be left out."
        table = _table_of(content, schema) or {}
        lines += ["", f"## {title} {{#{name}}}", "", _meaning(content)[0] + needed, ""]
        lines += _rows(table["properties"], table)
    return "\n".join(lines) + "\n"


def keys() -> dict[str, tuple[str, str]]:
    """Return (unit, meaning) of every key, by `table.key`; for the tests."""
    schema = ExperimentFile.model_json_schema()
    found = {}
    for name, content in schema["properties"].items():
        found[name] = ("table", _meaning(content)[0])
        table = _table_of(content, schema)
        if table is None:
            found[name] = (_unit(name, content), _meaning(content)[0])
            continue
        for key, inner in table["properties"].items():
            found[f"{name}.{key}"] = (_unit(key, inner), _meaning(inner)[0])
    return found


def _rows(properties: dict[str, Any], table: dict[str, Any]) -> list[str]:
    lines = ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
    for name, content in properties.items():
        default = "**needed**" if name in table.get("required", ()) else _default(content)
        cells = (f"`{name}`", _type(content), default, _unit(name, content), _meaning(content)[0])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _table_of(content: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    for one in (content, content.get("items", {}), *content.get("anyOf", ())):
        if "$ref" in one:
            found: dict[str, Any] = schema["$defs"][one["$ref"].rpartition("/")[2]]
            return found
    return None


def _type(content: dict[str, Any]) -> str:
    if "anyOf" in content:
        return " or ".join(text for text in map(_type, content["anyOf"]) if text)
    if "enum" in content:
        return " or ".join(f"`{_text(value)}`" for value in content["enum"])
    if "const" in content:
        return f"`{_text(content['const'])}`"
    kind = _TYPES[content.get("type", "object")]
    bounds = [text.format(content[name]) for name, text in _BOUNDS.items() if name in content]
    return ", ".join([kind, *bounds])


def _default(content: dict[str, Any]) -> str:
    if content.get("default") is None:
        return ""
    default = content["default"]
    if default == ["local"]:
        default = "local"
    return f"`{_text(default)}`"


def _text(value: object) -> str:
    return json.dumps(value)


def _meaning(content: dict[str, Any]) -> tuple[str, str]:
    """Return what a key means, and the unit that stands behind it in brackets."""
    text = " ".join(content.get("description", "").split())
    found = re.fullmatch(r"(?P<meaning>.*?)(?: \[(?P<unit>[^\]]+)\])?", text)
    return (found["meaning"], found["unit"] or "") if found else (text, "")


def _unit(name: str, content: dict[str, Any]) -> str:
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return unit
    unit = _meaning(content)[1]
    return "" if unit == "none" else unit
