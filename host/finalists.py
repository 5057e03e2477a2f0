"""Measuring the front whole: as it would be deployed, fresh, in several processes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.fleet.measurer import MAX_TOGETHER
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.records import Purpose, Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx
    import torch

    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.latency_models.base import Measurement
    from boardfront.search.measured_latency import TimingRule
    from boardfront.search.space import NetworkSpace

_MERIT = (
    Verdict.OK,
    Verdict.UNSTABLE,
    Verdict.DRIFTED,
    Verdict.CONTENDED,
    Verdict.THROTTLED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeTime:
    """What a target says of one finalist, over all processes.

    Args:
        encoding: The architecture.
        latency: Median of the processes' medians; the interval holds all their intervals, so the
            spread between processes is part of it; the verdict is the worst. None: failed.
        process_medians_s: One a process.
        measurement_ids: Of these processes, in the store.
        failure: Why there is no time.
    """

    encoding: str
    latency: Latency | None = None
    process_medians_s: tuple[float, ...] = ()
    measurement_ids: tuple[int, ...] = ()
    failure: EvaluationFailure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundPlan:
    """How finalists are measured on one target.

    Args:
        target: Its name, for failures.
        processes: Rounds; each gives every finalist a fresh process.
        job_seed: Names the run's jobs, so that a resumed run meets them.
    """

    target: str
    processes: int
    job_seed: str


def write_deployable(
    space: NetworkSpace, encoding: str, module: torch.nn.Module, *, batch: int
) -> onnx.ModelProto:
    """Write the ONNX of an architecture with the weights of `module`."""
    weights = {
        name: tensor.detach().cpu().numpy().astype(np.float32)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
    return space.write_onnx(encoding, batch=batch, weights=weights)


def measure_whole(
    models: Mapping[str, onnx.ModelProto],
    measurer: DeviceMeasurer,
    rule: TimingRule,
    plan: RoundPlan,
    *,
    on_round: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[WholeTime]:
    """Measure finalists on one target, always fresh.

    Each round gives every finalist a new process; inside a round their windows are interleaved,
    so that a machine whose level wanders does not change their order.

    Args:
        models: By encoding, in the order of the answers.
        measurer: Of the target's device.
        rule: What is timed, with the finalists' precision.
        plan: How often, under which names.
        on_round: Told (jobs done, jobs in all).
    """
    groups = _balanced(list(models), MAX_TOGETHER)
    answers: dict[str, list[Measurement]] = defaultdict(list)
    total = plan.processes * len(groups)
    for number in range(plan.processes):
        for place, group in enumerate(groups):
            requests = [
                _request(encoding, models[encoding], rule, f"{plan.job_seed} finalists {number}")
                for encoding in group
            ]
            for encoding, answer in zip(group, measurer.measure_together(requests), strict=True):
                answers[encoding].append(answer)
            on_round(number * len(groups) + place + 1, total)
    for encoding in models:
        yield combine(encoding, answers[encoding], target=plan.target)


def combine(encoding: str, measurements: Sequence[Measurement], *, target: str) -> WholeTime:
    """Return one time from the processes of one finalist. One failed process fails it."""
    for measurement in measurements:
        if measurement.failure is not None:
            failure = EvaluationFailure(
                message=measurement.failure.message, kind=measurement.failure.kind, target=target
            )
            return WholeTime(encoding=encoding, failure=failure)
    gists = [Latency.of(measurement) for measurement in measurements]
    medians_s = tuple(gist.median_s for gist in gists)
    middle_s = median(medians_s)
    nearest = min(gists, key=lambda gist: abs(gist.median_s - middle_s))
    return WholeTime(
        encoding=encoding,
        latency=replace(
            nearest,
            median_s=middle_s,
            low_s=min(gist.low_s for gist in gists),
            high_s=max(gist.high_s for gist in gists),
            verdict=max((gist.verdict for gist in gists), key=_MERIT.index),
        ),
        process_medians_s=medians_s,
        measurement_ids=tuple(gist.measurement_id for gist in gists),
    )


def _request(
    encoding: str, model: onnx.ModelProto, rule: TimingRule, job_seed: str
) -> TimeRequest:
    return TimeRequest(
        model=model.SerializeToString(deterministic=True),
        structure_hash=structure_hash(model),
        task=rule.task,
        backend=rule.backend,
        options=rule.options,
        precision=rule.precision,
        deadlines=rule.deadlines,
        purpose=Purpose.FINALIST,
        label=encoding,
        fresh=True,
        job_seed=job_seed,
    )


def _balanced(items: list[str], limit: int) -> list[list[str]]:
    """Split into as few groups of at most `limit` as possible, of nearly equal size."""
    count = -(-len(items) // limit)
    return [items[start::count] for start in range(count)]
