"""The time that a network was measured to take, with all that it is true for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.experiment import TargetSettings
    from boardfront.host.export.finished import FinishedRun, Member
    from boardfront.search.evaluation import Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """A finalist's time on a target.

    Args:
        target: Where it was measured, as the experiment says.
        time: The median over all processes; the interval holds all of theirs.
        verdict: The worst of theirs.
        process_medians_s: One a fresh process.
        limit_s: The experiment's hard limit; None for none.
        over_limit: Whether the time breaks it.
        devices: Names of those that measured, as they call themselves.
        device_ids: Likewise.
        backend_version: Of what executed it.
        options: Of the backend, complete.
        cpus: The cores; empty where nobody knows.
        origin: "measured", or how else the time came about.
        measured_unix_s: When the last process ended; None where the raw records are gone.
        evidence: What made the verdict, each reason once.
        reference: What it was divided by; empty for nothing.
    """

    target: TargetSettings
    time: Latency
    verdict: Verdict
    process_medians_s: tuple[float, ...] = ()
    limit_s: float | None = None
    over_limit: bool = False
    devices: tuple[str, ...] = ()
    device_ids: tuple[str, ...] = ()
    backend_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    origin: str = "measured"
    measured_unix_s: float | None = None
    evidence: tuple[str, ...] = ()
    reference: str = ""

    @property
    def is_trusted(self) -> bool:
        """Whether the time may be acted on: a good verdict, and a clock that took it."""
        return self.verdict is Verdict.OK and self.origin == "measured"

    @property
    def date(self) -> str:
        """When it was measured, in UTC."""
        if self.measured_unix_s is None:
            return "unknown: the run's raw records are gone"
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.measured_unix_s))

    def warning(self) -> str:
        """Return why the time must not be trusted; empty where it may."""
        if self.verdict is not Verdict.OK:
            return f"do not trust this time: {text.format_verdict(self.verdict, self.evidence)}"
        if self.origin != "measured":
            return f"do not trust this time: it was {self.origin}, not measured"
        return ""


def make_promise(run: FinishedRun, member: Member, target: TargetSettings) -> Promise:
    """Gather what the run knows of a member's time on a target."""
    time_ = member.times[target.name]
    if time_.verdict is None:
        raise AssertionError("finalists are measured, never predicted")
    taken = run.measurements(member, target.name)
    keys = [one["key"] for one in taken]
    last: dict[str, Any] = keys[-1] if keys else {}
    reference = run.references.get(target.name)
    return Promise(
        target=target,
        time=time_,
        verdict=time_.verdict,
        process_medians_s=member.process_medians_s.get(target.name, ()),
        limit_s=_limit_s(run, target.name),
        over_limit=target.name in member.over_limit,
        devices=_each_once(one["device_name"] for one in taken),
        device_ids=_each_once(one["device_id"] for one in taken),
        backend_version=last.get("backend_version", ""),
        options=dict(last.get("options", target.options.items())),
        cpus=last.get("cpus", target.cpus),
        origin=last.get("origin", "measured"),
        measured_unix_s=max((one["created_unix_s"] for one in taken), default=None),
        evidence=_each_once(why for one in taken for why in _evidence(one)),
        reference=reference.encoding if reference and target.reference != "none" else "",
    )


def _evidence(measurement: Mapping[str, Any]) -> Sequence[str]:
    body = measurement["outcome"]["body"]
    own: list[str] = body.get("evidence", [])
    ratio = body.get("normalised")
    # Where a time was divided, the ratio's verdict is the one that counts.
    return ratio["evidence"] if ratio else own


def _each_once(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _limit_s(run: FinishedRun, target: str) -> float | None:
    limits = [
        objective.limit
        for objective in run.experiment.objectives
        if objective.target == target and objective.limit is not None
    ]
    return min(limits, default=None)
