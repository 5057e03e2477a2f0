"""Measuring the front whole: as it would be deployed, fresh, in several processes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.fleet.planned_job import room_together
from boardfront.latency_models.artifact import artifact_of
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.records import Purpose
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.measured_latency import gist
from boardfront.search.verdicts import MERIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx
    import torch

    from boardfront.host.targets import TargetMeasurer
    from boardfront.latency_models.base import Measurement, ReferenceModel
    from boardfront.search.measured_latency import TimingRule
    from boardfront.search.space import NetworkSpace


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
        reference: What the finalists are alternated with and divided by.
        job_seed: Names the run's jobs, so that a resumed run meets them.
    """

    target: str
    processes: int
    job_seed: str
    reference: ReferenceModel | None = None


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


def jobs_in_all(finalists: int, plan: RoundPlan) -> int:
    """Return how many jobs `measure_whole` makes of so many finalists."""
    return plan.processes * -(-finalists // room_together(plan.reference))


def measure_whole(
    models: Mapping[str, onnx.ModelProto],
    measurer: TargetMeasurer,
    rule: TimingRule,
    plan: RoundPlan,
    *,
    on_round: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[WholeTime]:
    """Measure finalists on one target, always fresh.

    Each round gives every finalist a new process; inside a round their windows are interleaved,
    so that a machine whose level wanders does not change their order. The boards of a pool share
    the rounds.

    Args:
        models: By encoding, in the order of the answers.
        measurer: Of the target's device.
        rule: What is timed, with the finalists' precision.
        plan: How often, under which names.
        on_round: Told (jobs done, jobs in all).
    """
    groups = _balanced(list(models), room_together(plan.reference))
    answers: dict[str, list[Measurement]] = defaultdict(list)
    total = jobs_in_all(len(models), plan)
    first = {encoding: _request(encoding, model, rule) for encoding, model in models.items()}
    rounds = (
        [
            replace(
                first[encoding],
                reference=plan.reference,
                job_seed=f"{plan.job_seed} finalists {number}",
            )
            for encoding in group
        ]
        for number in range(plan.processes)
        for group in groups
    )
    for done, found in enumerate(measurer.measure_groups(rounds)):
        for encoding, answer in zip(groups[done % len(groups)], found, strict=True):
            answers[encoding].append(answer)
        on_round(done + 1, total)
    for encoding in models:
        yield combine(encoding, answers[encoding], plan)


def combine(encoding: str, measurements: Sequence[Measurement], plan: RoundPlan) -> WholeTime:
    """Return one time from the processes of one finalist. One failed process fails it."""
    gists: list[Latency] = []
    for measurement in measurements:
        answer = gist(measurement, plan.reference)
        if isinstance(answer, EvaluationFailure):
            return WholeTime(encoding=encoding, failure=replace(answer, target=plan.target))
        gists.append(answer)
    medians_s = tuple(gist.median_s for gist in gists)
    middle_s = median(medians_s)
    nearest = min(gists, key=lambda one: abs(one.median_s - middle_s))
    return WholeTime(
        encoding=encoding,
        latency=replace(
            nearest,
            median_s=middle_s,
            low_s=min(one.low_s for one in gists),
            high_s=max(one.high_s for one in gists),
            verdict=max((one.measured_verdict for one in gists), key=MERIT.index),
            raw_median_s=_middle([one.raw_median_s for one in gists]),
        ),
        process_medians_s=medians_s,
        measurement_ids=tuple(
            one.measurement_id for one in gists if one.measurement_id is not None
        ),
    )


def _middle(values_s: Sequence[float | None]) -> float | None:
    known = [value for value in values_s if value is not None]
    return median(known) if known else None


def _request(encoding: str, network: onnx.ModelProto, rule: TimingRule) -> TimeRequest:
    model = artifact_of(network, rule.task)
    return TimeRequest(
        model=model.SerializeToString(deterministic=True),
        structure_hash=structure_hash(model),
        task=rule.task,
        backend=rule.backend,
        options=rule.options,
        cpus=rule.cpus,
        start_below_c=rule.start_below_c,
        precision=rule.precision,
        deadlines=rule.deadlines,
        purpose=Purpose.FINALIST,
        label=encoding,
        fresh=True,
    )


def _balanced(items: list[str], limit: int) -> list[list[str]]:
    """Split into as few groups of at most `limit` as possible, of nearly equal size."""
    count = -(-len(items) // limit)
    return [items[start::count] for start in range(count)]
