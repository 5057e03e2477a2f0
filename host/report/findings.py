"""What a run found, put in order for whoever tells it: members of the front, residuals, counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.latency_models.accuracy import Accuracy, assess, spearman
from boardfront.protos.records import Verdict
from boardfront.search.objective import ObjectiveKind, minimised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boardfront.host.report.circumstances import Surroundings
    from boardfront.host.report.shipped import Shipped
    from boardfront.host.view.run_view import CandidateView, RunView
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.search.evaluation import Latency
    from boardfront.search.objective import Objective
    from boardfront.search.space import Counts


_PREDICTED = "predicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberTime:
    """What is known of a member's time on one target.

    Args:
        searched: By which it was searched.
        measured: Of the network as it would be deployed; None where that is still to come.
        predicted_s: What the search went by.
        predicted_low_s: Of its 95 % interval.
        predicted_high_s: Of that interval.
        predicted_by: The model that predicted that; empty where it had been measured.
        repeats_s: The medians of the fresh processes.
        limit_s: The hard limit; None is no limit.
        over_limit: Whether the re-measured time breaks it.
        failure: Why it could not be re-measured; empty where it was, or is still to come.
    """

    searched: Latency | None = None
    measured: Latency | None = None
    predicted_s: float | None = None
    predicted_low_s: float | None = None
    predicted_high_s: float | None = None
    predicted_by: str = ""
    repeats_s: tuple[float, ...] = ()
    limit_s: float | None = None
    over_limit: bool = False
    failure: str = ""

    @property
    def latency(self) -> Latency | None:
        """The best time there is: re-measured, else searched."""
        return self.measured or self.searched

    @property
    def is_trusted(self) -> bool:
        """Whether the best time there is can be acted upon."""
        return not self.failure and self.latency is not None and self.latency.verdict is Verdict.OK


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One network of the front.

    Args:
        index: Its number, from 0, as `boardfront export --pick` takes it.
        candidate: As it was searched.
        times: By target name, each target of the run.
        marks: "fastest", "knee", "best" (the most accurate), as `boardfront export` picks them.
        test_accuracy: Of images that no choice was made on; None before the front is final.
        counts: Its size; None where the space cannot tell.
        blocks: It, one after the other; empty where the space cannot tell.
        model: Its ONNX file, relative to the run's folder; empty where there is none yet.
    """

    index: int
    candidate: CandidateView
    times: Mapping[str, MemberTime]
    marks: tuple[str, ...] = ()
    test_accuracy: float | None = None
    counts: Counts | None = None
    blocks: tuple[BlockKey, ...] = ()
    model: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureCount:
    """A reason for which candidates have no scores, with one of its messages."""

    kind: str
    target: str
    message: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """A run, ready to be told.

    Args:
        view: All of it.
        members: Of the front, in order of their numbers.
        residuals: How far the searched times are from the re-measured, by target; only targets
            with both.
        agreement: By target: pairs of the front whose order of times is the "same", changed
            "within" the intervals, or is "broken".
        rank_agreement: Spearman's of all candidates' times on the first target and on another.
        verdicts: Of candidates by target, then verdict.
        measured_verdicts: The same of re-measured members.
        failures: Of candidates, most frequent first.
        accuracy_of: Which weights the accuracies are those of; empty before the front is final.
        surroundings: What the measurements were taken in; empty before the run wrote them.
        notes: What could not be told, and why.
    """

    view: RunView
    members: tuple[Member, ...] = ()
    residuals: Mapping[str, Accuracy] = field(default_factory=dict)
    agreement: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rank_agreement: Mapping[str, float | None] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    measured_verdicts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: tuple[FailureCount, ...] = ()
    accuracy_of: str = ""
    surroundings: tuple[Surroundings, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(target.name for target in self.view.targets)

    @property
    def scored(self) -> int:
        """How many candidates have all their scores."""
        return sum(candidate.failure is None for candidate in self.view.candidates)


def find(
    view: RunView,
    shipped: Shipped,
    surroundings: tuple[Surroundings, ...] = (),
    notes: tuple[str, ...] = (),
) -> Findings:
    """Put in order what a run found.

    Args:
        view: The run.
        shipped: What only a finished run's files know, and what its space says.
        surroundings: Of its measurements.
        notes: What could not be read.
    """
    targets = [target.name for target in view.targets]
    members = _members(view, shipped)
    return Findings(
        view=view,
        members=members,
        residuals={t: found for t in targets if (found := _residual(members, t)) is not None},
        agreement=shipped.agreement,
        rank_agreement={
            other: _rank_agreement(view.candidates, targets[0], other) for other in targets[1:]
        },
        verdicts={t: _verdicts(c.latencies.get(t) for c in view.candidates) for t in targets},
        measured_verdicts={t: _verdicts(m.times[t].measured for m in members) for t in targets},
        failures=_failures(view.candidates),
        accuracy_of=shipped.accuracy_of,
        surroundings=surroundings,
        notes=notes,
    )


def limit_s(view: RunView, target: str) -> float | None:
    """Return the hard limit on a target, or None."""
    limits = [
        objective.limit
        for objective in view.objectives
        if objective.target == target and objective.limit is not None
    ]
    return min(limits, default=None)


def accuracy_limit(view: RunView) -> float | None:
    """Return the hard limit on accuracy, a fraction, or None."""
    limits = [
        objective.limit
        for objective in view.objectives
        if objective.kind is ObjectiveKind.ACCURACY and objective.limit is not None
    ]
    return max(limits, default=None)


def _members(view: RunView, shipped: Shipped) -> tuple[Member, ...]:
    target = view.targets[0].name if view.targets else ""
    measured = {(one.encoding, one.target): one for one in view.finalists}
    found = []
    for index, candidate in _numbered(view, shipped):
        times = {}
        for name in (target.name for target in view.targets):
            whole = measured.get((candidate.encoding, name))
            times[name] = MemberTime(
                searched=candidate.latencies.get(name),
                measured=whole.latency if whole else None,
                predicted_s=whole.predicted_s if whole else None,
                predicted_low_s=whole.predicted_low_s if whole else None,
                predicted_high_s=whole.predicted_high_s if whole else None,
                predicted_by=whole.predicted_by if whole else "",
                repeats_s=whole.process_medians_s if whole else (),
                limit_s=limit_s(view, name),
                over_limit=bool(whole and whole.over_limit),
                failure=whole.failure.message if whole and whole.failure else "",
            )
        found.append(
            Member(
                index=index,
                candidate=candidate,
                times=times,
                test_accuracy=shipped.test_accuracies.get(candidate.encoding),
                counts=shipped.counts.get(candidate.encoding),
                blocks=shipped.blocks.get(candidate.encoding, ()),
                model=shipped.models.get(candidate.encoding, ""),
            )
        )
    return _marked(found, target) if target else tuple(found)


def _numbered(view: RunView, shipped: Shipped) -> list[tuple[int, CandidateView]]:
    """Return the front with its numbers, in their order.

    The front file has them. What it does not hold, which is everything before a run's end, comes
    behind, in the order in which the search puts its front (`search.loop.front_of`) and so the
    file to come.
    """
    front = sorted(view.front, key=lambda one: _order(one, view.objectives))
    first = max(shipped.indices.values(), default=-1) + 1
    fresh = (one.encoding for one in front if one.encoding not in shipped.indices)
    numbers = {**shipped.indices, **{one: first + i for i, one in enumerate(fresh)}}
    return sorted(((numbers[one.encoding], one) for one in front), key=lambda pair: pair[0])


def order_objective(objectives: Sequence[Objective]) -> Objective | None:
    """Return what the search puts its front in order by: its first time, else its first score."""
    return next((one for one in objectives if not one.is_maximised), next(iter(objectives), None))


def _order(candidate: CandidateView, objectives: Sequence[Objective]) -> float:
    objective = order_objective(objectives)
    if objective is None:
        return 0.0
    score = candidate.accuracy
    if objective.target is not None:
        latency = candidate.latencies.get(objective.target)
        score = latency.median_s if latency else None
    if score is None:
        return float("inf")
    (value,) = minimised([objective], {objective.name: score})
    return value


def _marked(members: Sequence[Member], target: str) -> tuple[Member, ...]:
    """Mark what `export --pick` takes by the same names, by the best times there are."""
    from boardfront.host.export.finished import Member as Shown
    from boardfront.host.export.pick import BEST, FASTEST, KNEE, pick

    shown = [
        Shown(
            index=member.index,
            encoding=member.candidate.encoding,
            params=0,
            macs=0,
            validation_accuracy=member.candidate.accuracy,
            test_accuracy=0.0,
            times={target: latency},
        )
        for member in members
        if (latency := member.times[target].latency)
        and member.candidate.accuracy is not None
        and not member.times[target].failure  # an export takes none without a measured time
    ]
    if len(shown) < 2:
        return tuple(members)
    taken = {rule: pick(shown, target, rule).member.index for rule in (FASTEST, KNEE, BEST)}
    if taken[KNEE] in {taken[FASTEST], taken[BEST]}:
        del taken[KNEE]
    return tuple(
        replace(one, marks=tuple(rule for rule, index in taken.items() if index == one.index))
        for one in members
    )


def _residual(members: Iterable[Member], target: str) -> Accuracy | None:
    rows = [
        (time.predicted_s, time.measured.median_s, time.repeats_s)
        for member in members
        if (time := member.times[target]).measured is not None and time.predicted_s is not None
    ]
    if not rows:
        return None
    predicted, measured, repeats = zip(*rows, strict=True)
    return assess(predicted, measured, repeats if any(len(one) > 1 for one in repeats) else ())


def _rank_agreement(candidates: Iterable[CandidateView], first: str, other: str) -> float | None:
    rows = [
        (one.latencies[first].median_s, one.latencies[other].median_s)
        for one in candidates
        if first in one.latencies and other in one.latencies
    ]
    if len(rows) < 3:
        return None
    return spearman(*zip(*rows, strict=True))


def _verdicts(latencies: Iterable[Latency | None]) -> dict[str, int]:
    counts = Counter(latency.word for latency in latencies if latency is not None)
    order = [*(verdict.value for verdict in Verdict), _PREDICTED]
    return {word: counts[word] for word in order if counts[word]}


def _failures(candidates: Iterable[CandidateView]) -> tuple[FailureCount, ...]:
    failures = [one.failure for one in candidates if one.failure is not None]
    keys = Counter(
        (one.kind.value if one.kind else "no score", one.target or "") for one in failures
    )
    messages: dict[tuple[str, str], str] = {}
    for one in failures:
        key = (one.kind.value if one.kind else "no score", one.target or "")
        messages.setdefault(key, one.message)
    return tuple(
        FailureCount(kind=kind, target=target, message=messages[kind, target], count=count)
        for (kind, target), count in keys.most_common()
    )
