"""`boardfront store`: what was measured, out of a store and into one."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.store_exchange import export_file, import_file, merge_store
from boardfront.latency_models.store_location import check_exists, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.host.progress import RunProgress
    from boardfront.latency_models.store_absorb import Absorbed
    from boardfront.latency_models.store_summary import StoreSummary

_QUIET_FOR_S = 2.0
_CONFLICTS_TOLD = 5


def run_info(location: str, *, as_json: bool) -> int:
    """Print what a store holds."""
    check_exists(location)
    with MeasurementStore(location) as store:
        summary = store.summary()
    if as_json:
        _write_json(asdict(summary))
    else:
        _print_summary(summary)
    return 0


def run_export(location: str, file: Path, *, overwrite: bool, as_json: bool) -> int:
    """Write a store's measurements to a file."""
    check_exists(location)
    try:
        with MeasurementStore(location) as store, _Late("exporting") as late:
            count = export_file(store, file, overwrite=overwrite, on_progress=late.show)
    except KeyboardInterrupt:
        sys.stderr.write("boardfront: interrupted; no file was written\n")
        return 130
    size_bytes = file.stat().st_size
    if as_json:
        _write_json({"file": str(file), "measurements": count, "size_bytes": size_bytes})
    else:
        sys.stdout.write(f"{_count(count, 'measurement')} in {file} ({size_bytes / 1e6:.1f} MB)\n")
    return 0


def run_import(location: str, files: Sequence[Path], *, as_json: bool) -> int:
    """Take files' measurements into a store; return 1 if some conflict with it."""

    def take(store: MeasurementStore, number: int, show: Callable[[int, int], None]) -> Absorbed:
        return import_file(store, files[number], on_progress=show)

    return _take_in(location, [str(file) for file in files], take, as_json=as_json)


def run_merge(location: str, sources: Sequence[str], *, as_json: bool) -> int:
    """Take other stores' measurements into a store; return 1 if some conflict with it."""

    def take(store: MeasurementStore, number: int, show: Callable[[int, int], None]) -> Absorbed:
        return merge_store(store, sources[number], on_progress=show)

    return _take_in(location, [shown(source) for source in sources], take, as_json=as_json)


def _take_in(
    location: str,
    names: Sequence[str],
    take: Callable[[MeasurementStore, int, Callable[[int, int], None]], Absorbed],
    *,
    as_json: bool,
) -> int:
    came: dict[str, Absorbed] = {}
    with MeasurementStore(location) as store:
        for number, name in enumerate(names):
            try:
                with _Late(name) as late:
                    came[name] = take(store, number, late.show)
            except KeyboardInterrupt:
                sys.stderr.write(
                    "boardfront: interrupted; what came in is kept, do it again for the rest\n"
                )
                return 130
            if not as_json:
                _print_absorbed(name, came[name], store.place)
        if as_json:
            _write_json(
                {"store": store.place, "sources": [_to_json(*item) for item in came.items()]}
            )
    return 1 if any(absorbed.conflicts for absorbed in came.values()) else 0


def _to_json(name: str, absorbed: Absorbed) -> dict[str, object]:
    conflicts = [{"job_id": job, "subject_id": subject} for job, subject in absorbed.conflicts]
    return {"source": name, **asdict(absorbed), "conflicts": conflicts}


def _print_absorbed(name: str, absorbed: Absorbed, place: str) -> None:
    said = [f"{absorbed.added} added", f"{absorbed.known} known"]
    if absorbed.quarantines:
        said.append(_count(absorbed.quarantines, "quarantine") + " added")
    if absorbed.conflicts:
        said.append(f"{len(absorbed.conflicts)} refused")
    sys.stdout.write(f"{name}: {', '.join(said)}\n")
    for job_id, subject_id in absorbed.conflicts[:_CONFLICTS_TOLD]:
        sys.stderr.write(
            f"boardfront: {name}: expected what {place} holds of job {job_id}, subject "
            f"{subject_id}, got something else: refused; one of the two was changed\n"
        )
    if len(absorbed.conflicts) > _CONFLICTS_TOLD:
        more = len(absorbed.conflicts) - _CONFLICTS_TOLD
        sys.stderr.write(f"boardfront: {name}: {more} more refused; --json names them all\n")


def _print_summary(summary: StoreSummary) -> None:
    from boardfront.host.table import print_pairs, print_table

    rows = [
        ("store", f"{summary.place} ({summary.database}, revision {summary.revision})"),
        ("measurements", str(summary.measurements)),
        ("results", _listed(summary.verdicts)),
        ("failures", _listed(summary.failures)),
        ("in quarantine", str(summary.quarantined)),
        ("networks, keys", f"{summary.networks}, {summary.keys}"),
        ("backends", _listed(summary.backends)),
    ]
    print_pairs(rows)
    if not summary.devices:
        return
    sys.stdout.write("\n")
    print_table(
        ("device", "id", "measurements", "first", "last"),
        [
            (
                one.name,
                one.device_id,
                str(one.measurements),
                _day(one.first_unix_s),
                _day(one.last_unix_s),
            )
            for one in summary.devices
        ],
        right={"measurements"},
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _day(time_unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_unix_s))


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _write_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


class _Late:
    """Progress of what takes longer than two seconds, in percent."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started_s = time.monotonic()
        self._progress: RunProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._progress is not None:
            self._progress.close()

    def show(self, done: int, total: int) -> None:
        """Say how far it is."""
        percent = 100 * done // max(total, 1)
        if self._progress is None:
            if time.monotonic() - self._started_s < _QUIET_FOR_S:
                return
            from boardfront.host.progress import make_progress

            self._progress = make_progress()
            self._progress.say(f"{self._name}: {percent} % done")
            self._progress.phase("percent", 100, percent)
        self._progress.step(percent, self._name)
