"""Measuring an exported network as its time was promised, and saying whether that holds."""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.finalists import RoundPlan, measure_whole
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.host.timing_rules import finalist_rule
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    import onnx

    from boardfront.host.export.finished import FinishedRun
    from boardfront.host.export.promise import Promise
    from boardfront.host.progress import RunProgress
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import Latency
    from boardfront.search.space import NetworkSpace


class Holding(enum.Enum):
    """How a time stands to what was promised."""

    WITHIN = "within"
    OVERLAPPING = "overlapping"
    SLOWER = "slower"
    FASTER = "faster"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """A promise and the time that was measured again.

    Args:
        promised: In the run.
        found: Now, as many processes, to the same precision.
        holding: How the second stands to the first.
    """

    promised: Latency
    found: Latency
    holding: Holding

    @property
    def holds(self) -> bool:
        """Whether the network is no slower than promised, as far as the two can tell."""
        return self.holding is not Holding.SLOWER

    def words(self) -> str:
        """Return one sentence for a person."""
        change = self.found.median_s / self.promised.median_s - 1
        shown = (
            f"{text.format_latency(self.found)} (95 % interval "
            f"{text.format_interval(self.found.low_s, self.found.high_s)})"
        )
        promised = text.format_interval(self.promised.low_s, self.promised.high_s)
        ends = {
            Holding.WITHIN: f"the promise holds: within {promised}",
            Holding.OVERLAPPING: f"the promise holds as far as the two can tell: {change:+.1%}, "
            f"and the interval meets {promised}",
            Holding.SLOWER: f"the promise does not hold: {change:+.1%}, beyond {promised}",
            Holding.FASTER: f"faster than promised: {change:+.1%}, below {promised}",
        }
        doubt = ""
        if self.found.verdict is not Verdict.OK:
            doubt = "; the verdict is not ok, so measure again on a quiet device before you act"
        return f"measured again: {shown}: {ends[self.holding]}{doubt}"


def judge(promised: Latency, found: Latency) -> Verification:
    """Hold a time to what was promised."""
    if promised.low_s <= found.median_s <= promised.high_s:
        holding = Holding.WITHIN
    elif found.low_s > promised.high_s:
        holding = Holding.SLOWER
    elif found.high_s < promised.low_s:
        holding = Holding.FASTER
    else:
        holding = Holding.OVERLAPPING
    return Verification(promised=promised, found=found, holding=holding)


def verify(
    run: FinishedRun,
    promise: Promise,
    space: NetworkSpace,
    model: onnx.ModelProto,
    where: tuple[MeasurementStore, RunProgress],
) -> Verification:
    """Measure a model on its target in fresh processes, beside the same reference.

    Args:
        run: That promised.
        promise: The time.
        space: Of the network.
        model: As it was exported.
        where: Keeps the measurements, and shows how far they are.

    Raises:
        BoardfrontError: If the device does not answer, or cannot measure it.
    """
    store, progress = where
    settings, name = run.experiment.finalists, promise.target.name
    seed = f"export {secrets.token_hex(8)}"
    around = TargetSurroundings(
        store=store, job_seed=seed, say=progress.say, run=f"export of {run.folder.path.name}"
    )
    targets = Targets([promise.target], space, around)
    try:
        timed = run.references.get(name)
        if timed is not None and promise.reference:
            targets.divide_by(name, timed.encoding, timed.latency.median_s)
        target = targets.by_name[name]
        plan = RoundPlan(
            target=name,
            processes=settings.processes,
            job_seed=seed,
            reference=target.source.reference,
        )
        progress.phase("verify", settings.processes)
        (whole,) = measure_whole(
            {"exported": model},
            target.measurer,
            finalist_rule(target.rule, settings),
            plan,
            on_round=lambda done, _all: progress.step(done, ""),
        )
    except KeyboardInterrupt:
        targets.close(cancel=True)
        raise
    finally:
        targets.close()
    if whole.latency is None:
        reason = whole.failure.message if whole.failure else "nobody knows why"
        raise BoardfrontError(f"the exported network was not measured on {name}: {reason}")
    return judge(promise.time, whole.latency)
