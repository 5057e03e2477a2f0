"""`boardfront table export|import|diff`: tables as files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from boardfront.latency_models.table import Table
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.latency_models.table_diff import BaseDiff, TableDiff

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
        "base": None if found.base is None else _base_json(found.base),
        "ratio": found.ratio,
        "spearman": found.spearman,
        "apart": found.apart,
        "judged": found.judged,
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


def _base_json(base: BaseDiff) -> dict[str, object]:
    return {
        "encoding": base.encoding,
        "a_s": base.a_s,
        "b_s": base.b_s,
        "ratio": base.ratio,
        "low": base.low,
        "high": base.high,
    }


def _write_diff(found: TableDiff, a: Path, b: Path) -> None:
    from boardfront.host.table import print_pairs, print_table

    is_terminal = sys.stdout.isatty()
    print_pairs([("A", str(a)), ("B", str(b)), *_about(found)], beside_table=True)
    if is_terminal:
        sys.stdout.write("\n")
    shown = found.blocks[:_LISTED] if is_terminal else found.blocks
    words = {True: "yes", False: "no", None: "-"}
    print_table(
        ("block", "A ms", "B ms", "B over A", "apart"),
        [
            (
                one.block.text,
                f"{one.a_s * 1e3:.4f}",
                f"{one.b_s * 1e3:.4f}",
                "-" if one.ratio is None else f"{one.ratio:.3f}",
                words[one.apart],
            )
            for one in shown
        ],
        title=f"the {len(shown)} most different of {len(found.blocks)} blocks",
        right={"A ms", "B ms", "B over A"},
    )


def _about(found: TableDiff) -> Iterator[tuple[str, str]]:
    """Yield what is to be said of two tables besides their blocks."""
    for difference in found.differences:
        yield "differs in", difference
    base = found.base
    if base is not None:
        span = f"{base.low:.3f} .. {base.high:.3f}"
        yield "base", f"{base.ratio:.3f} ({span}), B over A, of {base.encoding}"
    if found.ratio is not None:
        ranks = "" if found.spearman is None else f", Spearman {found.spearman:.3f}"
        count = len(found.blocks)
        yield "blocks", f"{found.ratio:.3f}, B over A, in the middle of {count}{ranks}"
    if found.judged:
        yield "apart", f"{found.apart} of {found.judged}, with what the bases may be off"
    unknown = len(found.blocks) - found.judged
    if unknown:
        yield "imported", f"{unknown} of {len(found.blocks)}: no interval is known, no verdict"
    for name, only in (("only in A", found.only_a), ("only in B", found.only_b)):
        if only:
            yield name, f"{len(only)} blocks, e.g. {only[0]}"


def _write_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
