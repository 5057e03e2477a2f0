"""How a target's networks are timed, as its experiment says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Deadlines, Precision, Task, Verdict
from boardfront.search.measured_latency import TimingRule
from boardfront.search.verdicts import Reaction, VerdictPolicy

if TYPE_CHECKING:
    from boardfront.host.experiment import FinalistSettings, TargetSettings
    from boardfront.protos.records import DeviceDescription
    from boardfront.search.space import NetworkSpace

# On a restless machine the interval never gets narrow: after so many times the shortest look
# the rest is not worth the wait, and the verdict says what the time is worth.
_SEARCH_PATIENCE = 4.0
_FINALIST_PATIENCE = 1.5
_MIN_RUN_S = 60.0
_RUN_FACTOR = 20.0


def finalist_rule(rule: TimingRule, settings: FinalistSettings) -> TimingRule:
    """Return the rule by which finalists are timed."""
    return replace(
        rule,
        precision=Precision(
            relative_half_width=settings.precision,
            min_duration_s=settings.min_duration_s,
            max_duration_s=_FINALIST_PATIENCE * settings.min_duration_s,
        ),
        deadlines=_deadlines(settings.min_duration_s),
    )


def _deadlines(min_duration_s: float) -> Deadlines:
    return Deadlines(run_s=max(_MIN_RUN_S, _RUN_FACTOR * min_duration_s))


def timing_rule(
    target: TargetSettings, space: NetworkSpace, description: DeviceDescription
) -> TimingRule:
    """Return how a target's networks are timed.

    Raises:
        WrongInputError: If the device lacks the backend, or the backend an option.
    """
    info = description.backend(target.backend)
    if info is None or not info.available:
        known = sorted(b.name for b in description.backends if b.available)
        reason = f" ({info.reason})" if info else ""
        raise WrongInputError(
            f"target {target.name!r}: backend {target.backend!r} is not on device "
            f"{description.name}{reason}: expected one of {known}"
        )
    known_options = {option.name for option in info.options}
    for name in target.options:
        if name not in known_options:
            raise WrongInputError(
                f"target {target.name!r}: backend {target.backend} has no option {name!r}: "
                f"expected one of {sorted(known_options)}"
            )
    return TimingRule(
        task=Task(
            kind=target.task,
            batch=target.batch,
            resolution=space.resolution,
            classes=space.classes,
        ),
        backend=target.backend,
        options=target.options,
        precision=Precision(
            relative_half_width=target.precision,
            min_duration_s=target.min_duration_s,
            max_duration_s=_SEARCH_PATIENCE * target.min_duration_s,
        ),
        deadlines=_deadlines(target.min_duration_s),
        cpus=target.cpus,
        start_below_c=target.start_below_c,
        policy=VerdictPolicy(
            reactions={
                Verdict(verdict): Reaction(reaction)
                for verdict, reaction in target.verdicts.items()
            },
            retries=target.retries,
            cool_down_s=target.cool_down_s,
        ),
    )
