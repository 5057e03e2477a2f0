"""`boardfront device verify`: does a device still give the times that the store holds of it?"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.host.fleet import audit
from boardfront.latency_models.store_location import shown
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.host.fleet.client import AgentClient
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.protos.records import DeviceDescription

AGREE = 0.02
"""Relative difference up to which two measurements agree; MLPerf calls more material."""

_NEARLY = 0.05
_EDGES = (-0.05, -0.02, -0.01, 0.01, 0.02, 0.05)
"""Of the histogram's bins; the outermost are open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyArguments:
    """What the person asked."""

    device: str
    sample: int
    seed: int
    as_json: bool
    store: str | Path
    fleet: Path | None = None


class NothingToVerifyError(BoardfrontError):
    """The store holds nothing that this device can measure again."""


def run_verify(arguments: VerifyArguments) -> int:
    """Measure a sample again, print how it agrees, and return 0 if all of it does, else 1."""
    from rich.console import Console

    from boardfront.host.fleet.lease import lease_request, leased_client
    from boardfront.host.fleet.select import select_one
    from boardfront.latency_models.store import MeasurementStore

    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    device = select_one(arguments.device, arguments.fleet, say=say)
    with (
        MeasurementStore(arguments.store) as store,
        contextlib.closing(device.address),
        leased_client(
            device.address,
            lease_request("device verify"),
            device=device.name,
            say=say,
        ) as client,
    ):
        return _verify(arguments, client, store)


def _verify(arguments: VerifyArguments, client: AgentClient, store: MeasurementStore) -> int:
    description = client.describe()
    selection = audit.select(
        store.trusted(device_id=description.device_id),
        description,
        count=arguments.sample,
        seed=arguments.seed,
        look=audit.Look(client, store),
    )
    if not selection.sample:
        raise NothingToVerifyError(_nothing(arguments, description, selection))
    checks: list[audit.Check] = []
    try:
        _check(client, store, description, selection, checks)
    except KeyboardInterrupt:
        # What was measured is in the store; say how far it came.
        if checks:
            _report(arguments, description, selection, checks)
        raise
    _report(arguments, description, selection, checks)
    summary = audit.summarize(checks)
    return 0 if summary.differences and summary.within(AGREE) == len(summary.differences) else 1


def _check(
    client: AgentClient,
    store: MeasurementStore,
    description: DeviceDescription,
    selection: audit.Selection,
    checks: list[audit.Check],
) -> None:
    """Fill `checks` one by one, so that an interrupted caller has those that were done."""
    from rich.console import Console

    from boardfront.host.fleet.kept_artifacts import KeptArtifacts

    auditor = audit.Auditor(KeptArtifacts(client, store), store, description)
    total = len(selection.sample)
    console = Console(stderr=True)
    with console.status(f"measuring again 1 of {total}", refresh_per_second=2) as status:
        for check in auditor.check(selection.sample):
            checks.append(check)
            if console.is_terminal:
                console.print(_line(check), markup=False, highlight=False)
            status.update(f"measuring again {min(len(checks) + 1, total)} of {total}")


def _report(
    arguments: VerifyArguments,
    description: DeviceDescription,
    selection: audit.Selection,
    checks: Sequence[audit.Check],
) -> None:
    if arguments.as_json:
        content = _to_json(arguments, description, selection, checks)
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        lines = _to_text(description, selection, checks)
        sys.stdout.write("\n".join(lines) + "\n")


def _to_text(
    description: DeviceDescription, selection: audit.Selection, checks: Sequence[audit.Check]
) -> list[str]:
    summary = audit.summarize(checks)
    compared = len(summary.differences)
    agree = (
        f"{summary.within(AGREE)} of {compared} agree within {AGREE:.0%}, "
        f"{summary.within(_NEARLY)} within {_NEARLY:.0%}"
    )
    lines = [f"{description.name}: {agree if compared else 'nothing could be compared'}"]
    if summary.median is not None and summary.worst is not None:
        worst = max((c for c in checks if c.is_comparable), key=lambda c: abs(c.difference))
        lines += [
            f"  difference  median {summary.median:.2%}, worst {summary.worst:+.2%} "
            f"(number {worst.old.id}: {_values(worst)})",
            *_histogram(summary.differences),
        ]
    for verdict, count in summary.not_ok.items():
        lines.append(f"  counted apart: {count} {verdict.value} this time, no comparison")
    if summary.failed:
        lines.append(f"  counted apart: {summary.failed} gave nothing to compare this time")
    if len(checks) < len(selection.sample):
        lines.append(f"  interrupted after {len(checks)} of {len(selection.sample)}")
    lines += _passed_over(selection)
    return lines


def _passed_over(selection: audit.Selection) -> list[str]:
    lines = []
    if selection.gone:
        lines.append(f"  passed over: {selection.gone} whose networks the agent no longer has")
    if selection.other_conditions:
        lines.append(
            f"  not comparable: {selection.other_conditions} measured under another kernel, "
            "governor, backend version or rules of timing"
        )
    return lines


def _histogram(differences: Sequence[float]) -> list[str]:
    names = (
        f"below {_EDGES[0]:+.0%}",
        *(f"{low:+.0%} .. {high:+.0%}" for low, high in itertools.pairwise(_EDGES)),
        f"above {_EDGES[-1]:+.0%}",
    )
    counts = _bins(differences)
    # Forty marks at the most: a sample may be large.
    per_mark = max(1.0, max(counts) / 40)
    return [
        f"    {name:>10}  {count:4d}  {'#' * round(count / per_mark)}".rstrip()
        for name, count in zip(names, counts, strict=True)
    ]


def _bins(differences: Sequence[float]) -> list[int]:
    """Count by bin; a difference on an edge is in the bin that is nearer to zero."""
    counts = [0] * (len(_EDGES) + 1)
    for difference in differences:
        side = bisect.bisect_left if difference > 0 else bisect.bisect_right
        counts[side(_EDGES, difference)] += 1
    return counts


def _line(check: audit.Check) -> str:
    label = f"number {check.old.id}"
    if check.is_comparable:
        return f"{label}: {check.difference:+.2%} ({_values(check)})"
    new = check.new
    if new is None:
        return f"{label}: the agent no longer has its network"
    if new.failure is not None:
        return f"{label}: {new.failure.kind.value}: {new.failure.message}"
    verdict = audit.verdict(new)
    return f"{label}: {verdict.value if verdict else 'unknown'} this time"


def _values(check: audit.Check) -> str:
    old, new = audit.value(check.old), audit.value(check.new) if check.new else None
    assert old is not None  # noqa: S101 - called for what compares
    assert new is not None  # noqa: S101
    if check.old.sampled_in_turn:
        return f"ratio {old:.4g} then, {new:.4g} now"
    return f"{text.format_time(old)} then, {text.format_time(new)} now"


def _to_json(
    arguments: VerifyArguments,
    description: DeviceDescription,
    selection: audit.Selection,
    checks: Sequence[audit.Check],
) -> dict[str, Any]:
    summary = audit.summarize(checks)
    return {
        "device": {"id": description.device_id, "name": description.name},
        "fingerprint": description.fingerprint,
        "seed": arguments.seed,
        "sampled": len(selection.sample),
        "checked": len(checks),
        "compared": len(summary.differences),
        "within_2_percent": summary.within(AGREE),
        "within_5_percent": summary.within(_NEARLY),
        "median_relative_difference": summary.median,
        "worst_relative_difference": summary.worst,
        "histogram": {"edges": list(_EDGES), "counts": _bins(summary.differences)},
        "not_ok": {verdict.value: count for verdict, count in summary.not_ok.items()},
        "not_comparable": summary.failed,
        "artifact_gone": selection.gone,
        "other_conditions": selection.other_conditions,
        "checks": [_check_json(check) for check in checks],
    }


def _check_json(check: audit.Check) -> dict[str, Any]:
    verdict = audit.verdict(check.new) if check.new else None
    return {
        "id": check.old.id,
        "new_id": check.new.id if check.new else None,
        "is_ratio": check.old.sampled_in_turn,
        "verdict": verdict.value if verdict else None,
        "relative_difference": check.difference if check.is_comparable else None,
    }


def _nothing(
    arguments: VerifyArguments, description: DeviceDescription, selection: audit.Selection
) -> str:
    seen = []
    if selection.gone:
        seen.append(f"the agent no longer has the networks of {selection.gone}")
    if selection.other_conditions:
        seen.append(
            f"{selection.other_conditions} were measured under another kernel, governor, backend "
            "version or rules of timing"
        )
    reason = f" ({'; '.join(seen)})" if seen else ""
    return (
        f"nothing to verify: {shown(arguments.store)} holds no good measurement of "
        f"{description.name} that can be taken again{reason}: measure something "
        f"first, e.g. boardfront measure net.onnx --device {arguments.device}"
    )
