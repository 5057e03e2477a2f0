"""`boardfront table export|import|diff`: tables as files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from boardfront.latency_models.table import Table
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.latency_models.table_diff import TableDiff

_LISTED = 30


def run_export(file: Path, output: Path, *, overwrite: bool, as_json: bool) -> int:
    """Write a table in another form."""
    from boardfront.latency_models.table_exchange import export_table

    table = Table.load(file)
    export_table(table, output, overwrite=overwrite)
    if as_json:
        _write_json({"file": str(output), "entries": len(table.entries), "unit": table.unit})
    else:
        sys.stdout.write(f"{len(table.entries)} blocks in {output}, times in seconds\n")
    return 0


def run_import(file: Path, output: Path, *, name: str, overwrite: bool, as_json: bool) -> int:
    """Make a table of a file in once-for-all's form, or of an export of ours."""
    from boardfront.latency_models.table_exchange import import_any

    if output.exists() and not overwrite:
        raise WrongInputError(f"{output} is there: expected a new name, or --overwrite")
    table = import_any(file, name=name or file.stem)
    table.save(output)
    if as_json:
        _write_json({"file": str(output), "entries": len(table.entries), "unit": table.unit})
    else:
        sys.stdout.write(f"{len(table.entries)} blocks in {output}, times in seconds\n")
    return 0


def run_diff(a: Path, b: Path, *, as_json: bool) -> int:
    """Print how two tables differ."""
    from boardfront.latency_models.table_diff import diff

    found = diff(Table.load(a), Table.load(b))
    if as_json:
        _write_json(_to_json(found))
    else:
        _write_diff(found, a, b)
    return 0


def _to_json(found: TableDiff) -> dict[str, object]:
    return {
        "differences": list(found.differences),
        "ratio": found.ratio,
        "spearman": found.spearman,
        "apart": found.apart,
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "blocks": [
            {
                "block": one.block.text,
                "a_s": one.a_s,
                "b_s": one.b_s,
                "ratio": one.ratio,
                "apart": one.apart,
            }
            for one in found.blocks
        ],
    }


def _write_diff(found: TableDiff, a: Path, b: Path) -> None:
    from boardfront.host.table import print_table

    for difference in found.differences:
        sys.stdout.write(f"differs in {difference}\n")
    if found.ratio is not None:
        ranks = "" if found.spearman is None else f", Spearman {found.spearman:.3f}"
        sys.stdout.write(
            f"{b.name} over {a.name}: {found.ratio:.4g} in the middle of {len(found.blocks)} "
            f"blocks{ranks}; of {found.apart} the intervals are apart\n"
        )
    for path, only in ((a, found.only_a), (b, found.only_b)):
        if only:
            sys.stdout.write(f"only in {path.name}: {len(only)} blocks, e.g. {only[0]}\n")
    print_table(
        ("block", f"{a.stem} ms", f"{b.stem} ms", "ratio", "apart"),
        [
            (
                one.block.text,
                f"{one.a_s * 1e3:.4f}",
                f"{one.b_s * 1e3:.4f}",
                "-" if one.ratio is None else f"{one.ratio:.3f}",
                "apart" if one.apart else "",
            )
            for one in found.blocks[:_LISTED]
        ],
        title="the most different blocks",
        right={f"{a.stem} ms", f"{b.stem} ms", "ratio"},
    )


def _write_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
