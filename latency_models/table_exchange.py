"""Latency tables out of boardfront and into it: CSV, JSON, YAML, Parquet, once-for-all's YAML."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.latency_models import strict_json
from boardfront.latency_models.blocks import HEAD, STEM, BlockKey
from boardfront.latency_models.table import (
    FORMAT,
    VERSION,
    EntryOrigin,
    Table,
    TableEntry,
    from_json,
    target_text,
    to_json,
    write_whole,
)
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import (
    MEASUREMENT_PROTOCOL_VERSION,
    Origin,
    Target,
    Task,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CALL_ROW = "call"
"""Name of the row that holds what a call costs without any block."""

COLUMNS: tuple[tuple[str, type], ...] = (
    ("block", str),
    ("kind", str),
    ("in_channels", int),
    ("out_channels", int),
    ("stride", int),
    ("resolution_pixels", int),
    ("time_s", float),
    ("low_s", float),
    ("high_s", float),
    ("verdict", str),
    ("count", int),
    ("origin", str),
    ("copies", int),
    ("share", float),
)
"""Of a row: names end in their units."""

NOT_KNOWN = "not known"
"""What stands for that which an imported table does not tell."""

_KNOWN = ".csv, .json, .yaml, .yml or .parquet"
_NOT_READ = {".csv", ".parquet"}
_OFA_UNIT_S = 1e-3
_OFA_LAYER = re.compile(r"(?P<kind>[A-Za-z_0-9]+)-input:(?P<input>\d+(?:x\d+)*)(?P<rest>.*)")
_OFA_FIRST, _OFA_LAST = "Conv", "Logits"
_LARGEST_BYTES = 1 << 26


class MissingPackageError(BoardfrontError):
    """A form needs a package that is not installed."""


def export_table(table: Table, path: Path, *, overwrite: bool = False) -> None:
    """Write a table in the form that the file's name asks for; it appears whole or not at all.

    Args:
        table: What to write.
        path: Ends in .csv, .json, .yaml, .yml or .parquet.
        overwrite: Replace a file that is there.

    Raises:
        WrongInputError: Another ending, a file that is there, or no place to write to.
        MissingPackageError: The form needs a package that is not installed.
    """
    writers: dict[str, Callable[[Table, Path], None]] = {
        ".csv": _write_csv,
        ".json": _write_json,
        ".yaml": _write_yaml,
        ".yml": _write_yaml,
        ".parquet": _write_parquet,
    }
    writer = writers.get(path.suffix)
    if writer is None:
        raise WrongInputError(f"{path}: expected a name that ends in {_KNOWN}: choose one")
    if path.exists() and not overwrite:
        raise WrongInputError(f"{path} is there: expected a new name, or --overwrite")
    writer(table, path)


def rows(table: Table) -> list[dict[str, object]]:
    """Return a row a block, the call without any block first; times in seconds.

    None stands for what is not known: of imported times the interval and the verdict.
    """
    call: dict[str, object] = dict.fromkeys((name for name, _ in COLUMNS), None)
    call |= {"block": CALL_ROW, "kind": CALL_ROW}
    if table.base:
        call |= {
            "time_s": table.fixed_s,
            "low_s": table.fixed_low_s,
            "high_s": table.fixed_high_s,
        }
    return [call, *(_row(entry) for entry in table.entries)]


def about(table: Table) -> list[tuple[str, str]]:
    """Return what a table is of and how far it can be trusted, as names and values of one line.

    Names end in their units. What has parts is JSON.
    """
    base_s = [table.base_s, table.base_low_s, table.base_high_s]
    built = datetime.fromtimestamp(table.built_unix_s, timezone.utc).isoformat(timespec="seconds")
    is_own = bool(table.base)
    found: dict[str, object] = {
        "format": f"{FORMAT} {VERSION}",
        "unit": table.unit,
        "space": table.space,
        "space_settings": dict(table.space_settings),
        "task": table.task.kind.value,
        "batch": table.task.batch,
        "resolution_pixels": table.task.resolution,
        "target": target_text(table) if is_own else f"{table.device_name}, else {NOT_KNOWN}",
        "fingerprint": table.target.fingerprint if is_own else NOT_KNOWN,
        "built": built if is_own else f"file of {built}",
        "protocol": table.measurement_protocol_version if is_own else NOT_KNOWN,
        "origin": table.origin.value if is_own else EntryOrigin.IMPORTED.value,
        "precision": table.precision if is_own else NOT_KNOWN,
        "base": table.base or NOT_KNOWN,
        "base_s": base_s[0] if is_own else NOT_KNOWN,
        "base_interval_s": base_s[1:] if is_own else NOT_KNOWN,
        "transferred": strict_json.encode(table.transfer),
        "calibration": strict_json.encode(table.calibration),
        "residual": strict_json.encode(table.residual),
        "missing": list(table.missing),
        "notes": list(table.notes),
    }
    return [(name, _one_line(value)) for name, value in found.items()]


def _one_line(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value)


def import_ofa(data: object, path: Path, *, name: str) -> Table:
    """Read a latency table in the form that once-for-all publishes: YAML, milliseconds.

    Its keys name layers, e.g.
    `expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0`, and
    each has a `mean` in milliseconds, often a `count`. What executed them on which device is not
    in the file, so nothing measured here is compared with it by itself, and there are no
    intervals.

    Args:
        data: What the file holds.
        path: The file, for errors and its date.
        name: Of the device, for people.

    Raises:
        WrongInputError: It is no such file.

    Source: Cai et al. 2020, "Once for All", `latency_lookup_table.py` of the authors' code.
    """
    if not isinstance(data, dict) or not data:
        raise _not_ofa(path, f"{type(data).__name__} without layers")
    entries: dict[BlockKey, TableEntry] = {}
    for layer, value in data.items():
        entry = _ofa_entry(path, layer, value)
        if entry.block in entries:
            raise _not_ofa(path, f"two layers that are {entry.block.text!r}")
        entries[entry.block] = entry
    notes = ("imported: no intervals, and what executed the layers is not known",)
    return Table(
        space="once-for-all",
        space_settings={},
        task=Task(),
        target=Target(fingerprint="imported", backend="imported", backend_version="", options={}),
        origin=Origin.MEASURED,
        device_id="",
        device_name=name,
        agent_version="",
        built_unix_s=path.stat().st_mtime,
        measurement_protocol_version=MEASUREMENT_PROTOCOL_VERSION,
        base="",
        base_s=1.0,
        base_low_s=1.0,
        base_high_s=1.0,
        fixed_s=0.0,
        fixed_low_s=0.0,
        fixed_high_s=0.0,
        entries=tuple(entries.values()),
        notes=notes,
    )


def import_any(path: Path, *, name: str) -> Table:
    """Read a table that is a JSON or YAML export of ours, or in once-for-all's form.

    Args:
        path: The file.
        name: Of the device, for people, where the file does not say it.

    Raises:
        WrongInputError: It is none of these.
        MissingPackageError: PyYAML is not installed.
    """
    if path.suffix in _NOT_READ:
        raise WrongInputError(
            f"{path}: expected .json, .yaml or .yml, got {path.suffix}: only these can be "
            "imported; export the table as .json"
        )
    if path.suffix not in {".yaml", ".yml"}:
        return Table.load(path)
    data = _read_yaml(path)
    if isinstance(data, dict) and data.get("format") == FORMAT:
        return from_json(data, str(path))
    return import_ofa(data, path, name=name)


def _row(entry: TableEntry) -> dict[str, object]:
    block = entry.block
    is_known = entry.origin is not EntryOrigin.IMPORTED
    return {
        "block": block.text,
        "kind": block.kind,
        "in_channels": block.in_channels,
        "out_channels": block.out_channels,
        "stride": block.stride,
        "resolution_pixels": block.resolution,
        "time_s": entry.time_s,
        "low_s": entry.low_s if is_known else None,
        "high_s": entry.high_s if is_known else None,
        "verdict": entry.verdict.value if is_known else None,
        "count": entry.count,
        "origin": entry.origin.value,
        "copies": entry.copies,
        "share": entry.share,
    }


def _write_csv(table: Table, path: Path) -> None:
    text = io.StringIO()
    text.writelines(f"# {name}: {value}\n" for name, value in about(table))
    writer = csv.DictWriter(text, [name for name, _ in COLUMNS], lineterminator="\n")
    writer.writeheader()
    for row in rows(table):
        # A number's shortest form that reads back as the same number; nothing for what is not.
        writer.writerow({name: "" if value is None else value for name, value in row.items()})
    write_whole(path, text.getvalue())


def _write_json(table: Table, path: Path) -> None:
    table.save(path)


def _write_yaml(table: Table, path: Path) -> None:
    yaml = _yaml()
    write_whole(path, yaml.safe_dump(to_json(table), sort_keys=False, allow_unicode=True))


def _write_parquet(table: Table, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: expected the package pyarrow for Parquet, got none: "
            "run pip install 'boardfront[parquet]'"
        ) from error
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    body = {name: value for name, value in to_json(table).items() if name != "entries"}
    schema = pa.schema(
        [(name, kinds[kind]) for name, kind in COLUMNS],
        metadata={"boardfront": json.dumps(body)},
    )
    content = pa.Table.from_pylist(rows(table), schema=schema)
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            pq.write_table(content, part)
            Path(part).chmod(0o644)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as problem:
        raise WrongInputError(
            f"{path}: expected a place to write to, got {problem.strerror}: choose another"
        ) from problem


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError(
            "expected the package PyYAML for YAML, got none: run pip install 'boardfront[yaml]'"
        ) from error
    return yaml


def _read_yaml(path: Path) -> object:
    yaml = _yaml()
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _not_ofa(path, f"more than {_LARGEST_BYTES >> 20} MiB")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise WrongInputError(
            f"{path}: expected a YAML file, got {problem.strerror}: check the path"
        ) from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        first = " ".join(str(problem).split())[:120]
        raise WrongInputError(
            f"{path}: expected YAML, got {first}: the file is damaged; fetch it again"
        ) from problem


def _ofa_entry(path: Path, layer: object, value: object) -> TableEntry:
    time_s = _ofa_time(path, layer, value)
    count = value.get("count", 0) if isinstance(value, dict) else 0
    return TableEntry(
        block=_ofa_block(path, layer),
        time_s=time_s,
        low_s=time_s,
        high_s=time_s,
        verdict=Verdict.OK,
        count=count if isinstance(count, int) else 0,
        origin=EntryOrigin.IMPORTED,
    )


def _ofa_time(path: Path, layer: object, value: object) -> float:
    mean = value.get("mean") if isinstance(value, dict) else value
    if isinstance(mean, bool) or not isinstance(mean, int | float) or not 0 <= mean < math.inf:
        raise _not_ofa(path, f"the mean {mean!r:.30} of layer {layer!r:.80}")
    return float(mean) * _OFA_UNIT_S


def _ofa_block(path: Path, layer: object) -> BlockKey:
    """Return a layer as a block: what is not a shape becomes part of its kind."""
    found = _OFA_LAYER.fullmatch(layer) if isinstance(layer, str) else None
    if found is None:
        raise _not_ofa(path, f"the layer {layer!r:.80}")
    fields = dict(part.split(":", 1) for part in found["rest"].split("-") if ":" in part)
    given = [int(number) for number in found["input"].split("x")]
    output = fields.pop("output", "")
    if not re.fullmatch(r"\d+(x\d+)*", output):
        raise _not_ofa(path, f"the layer {layer!r:.80} without an output")
    gives = [int(number) for number in output.split("x")]
    name = found["kind"]
    kind = {_OFA_FIRST: STEM, _OFA_LAST: HEAD}.get(name, name)
    details = [f"{key}{text}" for key, text in fields.items() if key != "stride"]
    resolution = given[0] if len(given) > 1 else 1
    out_resolution = gives[0] if len(gives) > 1 else resolution
    stride = int(fields["stride"]) if fields.get("stride", "").isdigit() else 0
    return BlockKey(
        kind="-".join([kind, *details]),
        in_channels=given[-1],
        out_channels=gives[-1],
        stride=stride or max(1, -(-resolution // out_resolution)),
        resolution=resolution,
    )


def _not_ofa(path: Path, got: str) -> WrongInputError:
    return WrongInputError(
        f"{path}: expected once-for-all's latency table (layer names with a mean in ms), got "
        f"{got}: give a file in its published form"
    )
