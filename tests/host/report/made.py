"""Runs that nobody waited for: records of a seeded generator, written as a run writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.latency_models import samples

from boardfront.host import front as fronts
from boardfront.host import journal_records as records
from boardfront.host.finalists import WholeTime
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.view.follow import read_run
from boardfront.latency_models import strict_json
from boardfront.latency_models.outcome_json import outcome_to_json
from boardfront.protos.records import Circumstances, FailureKind, Origin, Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from boardfront.host.view.run_view import CandidateView, RunView

BEGAN_UNIX_S = 1_790_000_000.0
TARGETS = ("pi5", "rock5b")
NAMES = {record: name for name, record in records.TYPES.items()}
SPACE = {
    "resolution": 16,
    "classes": 10,
    "in_channels": 1,
    "stem_channels": 24,
    "stem_stride": 1,
    "stages": [[48, 4], [96, 8]],
    "last_channels": 192,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What run is wanted.

    Args:
        evaluations: That are asked for.
        done: That were made; None: all.
        seed: Of everything.
        targets: One or two of them.
        timed: The target whose time is an objective; empty: the first.
        settings: Further lines of a target in the experiment, by its name.
        limit_ms: On the target whose time is an objective; 0: none.
        over: How much longer whole networks take than the search said.
        verdict: Of every third re-measured time.
        ended: Whether finalists were measured and the front shipped.
        origin: Of the raw measurements.
        population: Candidates a generation.
    """

    evaluations: int = 60
    done: int | None = None
    seed: int = 1
    targets: tuple[str, ...] = TARGETS
    timed: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    limit_ms: float = 0.8
    over: float = 1.02
    verdict: Verdict = Verdict.CONTENDED
    ended: bool = True
    origin: Origin = Origin.MEASURED
    population: int = 12

    @property
    def objective_target(self) -> str:
        """The target whose time is an objective."""
        return self.timed or self.targets[0]


def make(folder: Path, plan: Plan, name: str = "made") -> RunFolder:
    """Write a run below a folder, which must be there."""
    file = folder / f"{name}.toml"
    file.write_text(experiment_text(plan))
    run = create_run(folder / "runs", name, file)
    _journal(run, _history(plan))
    if plan.ended:
        view = read_run(run)
        _journal(run, _finalists(view, plan))
        _ship(run, read_run(run), plan)
    return run


def experiment_text(plan: Plan) -> str:
    """Return the experiment file of a plan."""
    space = "\n".join([f"{key} = {json.dumps(value)}" for key, value in SPACE.items()])
    target = '[[target]]\nname = "{}"\ndevice = "local"\nbackend = "fake"\n'
    target += "options = {{ noise = 0.01 }}\n"
    limit = f"limit_ms = {plan.limit_ms}\n" if plan.limit_ms else ""
    return (
        f'seed = {plan.seed}\n\n[space]\nname = "spos"\n{space}\n\n[data]\nname = "digits"\n\n'
        "[supernet]\nepochs = 40\nbatch = 64\nlearning_rate = 0.2\n\n"
        f"[search]\npopulation = {plan.population}\nevaluations = {plan.evaluations}\n\n"
        + "\n".join(target.format(one) + plan.settings.get(one, "") for one in plan.targets)
        + '\n[[objective]]\nname = "accuracy"\nkind = "accuracy"\n'
        + '\n[[objective]]\nname = "latency"\nkind = "latency"\n'
        + f'target = "{plan.objective_target}"\n'
        + limit
    )


def latency(median_s: float, verdict: Verdict = Verdict.OK, half: float = 0.01) -> Latency:
    """Return a time with an interval."""
    return Latency(
        median_s=median_s,
        low_s=median_s * (1 - half),
        high_s=median_s * (1 + half),
        verdict=verdict,
        measurement_id=1,
    )


def _journal(run: RunFolder, history: Iterable[records.Record]) -> None:
    """Append records as `Journal` does, without waiting for the disk after each."""
    with run.journal.open("a", encoding="utf-8") as file:
        for record in history:
            body = strict_json.encode(record)
            assert isinstance(body, dict)
            file.write(json.dumps({"v": 1, "type": NAMES[type(record)], **body}) + "\n")


def _history(plan: Plan) -> Iterator[records.Record]:
    yield records.RunStarted(
        experiment_digest="d",
        seed=plan.seed,
        time_unix_s=BEGAN_UNIX_S,
        versions={"boardfront": "0.1.0", "torch": "2.13.0"},
    )
    for target in plan.targets:
        yield records.ReferenceTimed(
            target=target, encoding="3333-33333333", latency=latency(7e-4)
        )
    for epoch in range(1, 41):
        yield records.TrainingProgress(
            epoch=epoch,
            epochs=40,
            loss=0.5 + 1.8 / (1 + epoch / 4),
            learning_rate=0.2 * (1 - epoch / 40),
            elapsed_s=1.7 * epoch,
            validation_accuracy=0.9 - 0.8 / (1 + epoch / 3) if epoch % 4 == 0 else None,
        )
        if plan.done == 0 and epoch == 7:
            return
    yield records.EstimatorReady(state_id="s")
    done = plan.evaluations if plan.done is None else plan.done
    for index, evaluation in zip(range(done), _evaluations(plan), strict=False):
        yield evaluation
        if (index + 1) % plan.population == 0:
            yield records.GenerationDone(generation=index // plan.population, front_size=3)


def _evaluations(plan: Plan) -> Iterator[records.Evaluation]:
    space = catalog.load("spos", SPACE)
    rng = np.random.default_rng(plan.seed)
    seen: set[str] = set()
    while True:
        encoding = space.sample(rng)
        if encoding in seen:
            continue
        seen.add(encoding)
        yield _evaluation(encoding, len(seen) - 1, plan, rng)


def _evaluation(
    encoding: str, index: int, plan: Plan, rng: np.random.Generator
) -> records.Evaluation:
    """Return a candidate: the later, the faster and the better; a few fail."""
    late = index / plan.evaluations
    big = sum("357x".index(sign) for sign in encoding if sign != "-") / 36
    first_s = 5.5e-4 + 4e-4 * big + 1.2e-4 * (1 - late) * float(rng.random())
    accuracy = 0.90 + 0.045 * big**0.6 - 0.05 * (1 - late) * float(rng.random())
    common: dict[str, Any] = {
        "index": index,
        "generation": index // plan.population,
        "encoding": encoding,
        "validation_accuracy": accuracy,
        "estimator_state_id": "s",
        "elapsed_s": 0.7,
    }
    if index % 29 == 11:
        return records.Evaluation(
            **common,
            scores={"accuracy": accuracy, "latency": None},
            failure=EvaluationFailure(
                message="the worker was killed by signal 9: <out of memory> & gone",
                kind=FailureKind.OUT_OF_MEMORY,
                target=plan.targets[-1],
            ),
        )
    verdict = Verdict.UNSTABLE if index % 7 == 3 else Verdict.OK
    each_s = [first_s, 2.1 * first_s * (1 + 0.08 * float(rng.normal()))]
    times_s = dict(zip(plan.targets, each_s, strict=False))
    return records.Evaluation(
        **common,
        scores={"accuracy": accuracy, "latency": times_s[plan.objective_target]},
        latencies={target: latency(time_s, verdict) for target, time_s in times_s.items()},
    )


def _finalists(view: RunView, plan: Plan) -> Iterator[records.Record]:
    for target in plan.targets:
        for place, member in enumerate(view.front):
            whole = _whole(member, target, place, plan)
            limit_s = plan.limit_ms / 1e3 if target == plan.objective_target else 0.0
            yield records.FinalistMeasured(
                encoding=member.encoding,
                target=target,
                predicted_s=member.latencies[target].median_s,
                predicted_low_s=member.latencies[target].low_s,
                predicted_high_s=member.latencies[target].high_s,
                latency=whole,
                process_medians_s=tuple(whole.median_s * f for f in (0.997, 1.0, 1.004)),
                over_limit=bool(limit_s) and whole.median_s > limit_s,
            )
    yield records.RunFinished(
        status=records.RunStatus.COMPLETED, time_unix_s=BEGAN_UNIX_S + 1234.0
    )


def _whole(member: CandidateView, target: str, place: int, plan: Plan) -> Latency:
    wander = 1 + 0.006 * ((place * 7) % 5 - 2)
    searched_s = member.latencies[target].median_s
    verdict = plan.verdict if place % 3 == 1 else Verdict.OK
    return latency(searched_s * plan.over * wander, verdict, 0.006)


def _ship(run: RunFolder, view: RunView, plan: Plan) -> None:
    """Write what only a finished run has: its front with test accuracies, raw measurements."""
    space = catalog.load("spos", SPACE)
    front = sorted(view.front, key=lambda one: one.latencies[plan.objective_target].median_s)
    wholes = {(one.encoding, one.target): one for one in view.finalists}
    members = tuple(
        fronts.FrontMember(
            index=index,
            encoding=one.encoding,
            counts=space.count(one.encoding),  # type: ignore[attr-defined]
            validation_accuracy=one.accuracy or 0.0,
            test_accuracy=(one.accuracy or 0.0) - 0.004,
            searched=one.latencies,
            whole={
                target: WholeTime(
                    encoding=one.encoding, latency=wholes[one.encoding, target].latency
                )
                for target in plan.targets
            },
            model=f"models/{index:02d}-{one.encoding}.onnx",
        )
        for index, one in enumerate(front)
    )
    fronts.write_json(
        run.front_json,
        fronts.FrontReport(
            name=run.path.name,
            targets=plan.targets,
            evaluations=len(view.candidates),
            failures=0,
            members=members,
            agreement={t: fronts.order_agreement(members, t) for t in plan.targets},
        ),
    )
    run.measurements.write_text("".join(_raw(plan, number) for number in range(24)))


def _raw(plan: Plan, number: int) -> str:
    """Return a line of raw measurements: two boards, one of which gets hot."""
    is_second = number % 2 == 1 and len(plan.targets) > 1
    throttled = is_second and number % 6 == 5
    found = replace(
        samples.result(verdict=Verdict.THROTTLED if throttled else Verdict.OK),
        evidence=(f"the hardware held itself back {number} times",) if throttled else (),
        origin=plan.origin,
        circumstances=Circumstances(
            governor="performance" if is_second else "schedutil",
            frequency_before_hz=1.8e9 + 1e6 * number,
            frequency_max_hz=2.4e9,
            temperature_before_c=41.0 + number / 2,
            temperature_max_c=48.0 + number,
            load_average=0.1 * number,
            other_cpu_fraction=0.002 * number,
            throttle_events=3 if throttled else 0,
        ),
    )
    measured = samples.measurement(found, job_id=f"job-{number}")
    entry = {
        "id": number,
        "key": {**_encoded(measured.key), "origin": plan.origin.value},
        "device_id": f"{int(is_second)}" * 16,
        "device_name": plan.targets[int(is_second)],
        "agent_version": measured.agent_version,
        "purpose": measured.purpose.value,
        "outcome": outcome_to_json(found),
    }
    return json.dumps(entry) + "\n"


def _encoded(value: object) -> dict[str, object]:
    body = strict_json.encode(value)
    assert isinstance(body, dict)
    return body
