"""Entries as a Parquet table: typed columns with their units, and the whole entry in the last."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from boardfront.latency_models.store_columns import (
    COLUMNS,
    FORMAT,
    RECORD,
    VERSION,
    cells,
    check_cells,
    check_record_heading,
)
from boardfront.latency_models.store_csv import read_record
from boardfront.latency_models.store_json import compact
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boardfront.latency_models.store import Snapshot
    from boardfront.latency_models.store_entry import EntryJson

_ROWS_A_GROUP = 500


def write_parquet(snapshot: Snapshot, file: IO[bytes]) -> Iterator[int]:
    """Write a table; yield after each row how many there are.

    Raises:
        BoardfrontError: pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    schema = _schema(pa)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting: list[EntryJson] = []
        for number, entry in enumerate(snapshot.entries, 1):
            waiting.append(entry)
            if len(waiting) == _ROWS_A_GROUP:
                writer.write_batch(_batch(pa, schema, waiting))
                waiting = []
            yield number
        if waiting:
            writer.write_batch(_batch(pa, schema, waiting))


def read_parquet(file: IO[bytes], place: str) -> Iterator[tuple[str, EntryJson]]:
    """Yield the entries of a table, each with where it was.

    Raises:
        WrongInputError: It is no such table, or it was edited.
        BoardfrontError: pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    number = 0
    try:
        table = pq.ParquetFile(file)
        record = _record_column(table.schema_arrow.names, place)
        for batch in table.iter_batches(batch_size=_ROWS_A_GROUP):
            for row in batch.to_pylist():
                number += 1
                where = f"{place}, row {number}"
                entry = read_record(str(row.pop(record)), where)
                check_cells(entry, row, where)
                yield where, entry
    except (pa.ArrowException, OSError) as problem:
        raise WrongInputError(
            f"{place}: expected a Parquet file of boardfront store export, got "
            f"{str(problem)!r:.80}: give a file that it wrote"
        ) from problem


def _record_column(names: Sequence[str], place: str) -> str:
    for name in names:
        if check_record_heading(name, place):
            return name
    raise WrongInputError(
        f"{place}: expected the columns of boardfront store export, got "
        f"{', '.join(names)[:80]!r}: give a file that it wrote"
    )


def _schema(pa: Any) -> Any:
    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
    }
    fields = [
        # Columns keep their plain names: the unit is in the field's metadata.
        pa.field(column.name, types[column.kind], metadata={"unit": column.unit})
        for column in COLUMNS
    ]
    about = {"format": FORMAT, "version": VERSION}
    return pa.schema(
        [*fields, pa.field(RECORD, pa.string())], metadata={"boardfront": json.dumps(about)}
    )


def _batch(pa: Any, schema: Any, entries: Sequence[EntryJson]) -> Any:
    rows = [{**cells(entry), RECORD: compact(entry)} for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as problem:
        raise BoardfrontError(
            f"expected pyarrow for Parquet files, got {problem}: "
            "run pip install 'boardfront[parquet]', or choose CSV or JSON"
        ) from problem
    return pa, pq
