"""What a job's windows come to: a result with its verdict, and its ratio to the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.protos.normalisation import RatioStatistics, elasticity, judge_ratio, normalise
from boardfront.protos.records import (
    Circumstances,
    Failure,
    FailureKind,
    Normalised,
    Origin,
    Result,
)
from boardfront.protos.statistics import judge, summarize

if TYPE_CHECKING:
    from boardfront.device_agent.session import Session
    from boardfront.protos.records import Job


def result_of(
    job: Job, session: Session, reference: Session | None, circumstances: Circumstances
) -> Result | Failure:
    """Return what a subject's windows come to.

    Args:
        job: That it is of.
        session: The subject's, all windows taken.
        reference: That of the network which it was alternated with, while it lives.
        circumstances: Of the whole job.
    """
    statistics = summarize(session.windows, final=True)
    if statistics is None:
        return Failure(
            kind=FailureKind.UNSTABLE,
            message=f"no interval can be given from {len(session.windows)} windows within "
            f"{job.deadlines.run_s:g} s: raise the run deadline",
        )
    own = replace(circumstances, worker_peak_rss_bytes=session.peak_rss_bytes)
    # What else the machine did does not touch times that were programmed.
    programmed = session.prepared.origin is Origin.PROGRAMMED
    counted = Circumstances() if programmed else own
    judgement = judge(statistics, job.precision, session.windows, counted)
    return Result(
        subject_id=session.subject_id,
        artifact_sha256=session.prepared.subject.artifact_sha256,
        artifact_bytes=session.prepared.artifact.stat().st_size,
        target=session.target,
        origin=session.prepared.origin,
        verdict=judgement.verdict,
        evidence=judgement.evidence,
        statistics=statistics,
        precision=job.precision,
        windows=tuple(session.windows),
        warm_up_s=session.warm_up_s,
        first_run_s=session.warm_up_s[0],
        load_s=session.load_s,
        compile_s=session.compile_s,
        run_s=session.run_s,
        circumstances=own,
        normalised=_normalised(job, session, reference, counted),
        energy=session.energy(),
        parts_s=session.parts_s,
        tuned_fraction=session.tuned_fraction,
    )


def _normalised(
    job: Job, session: Session, reference: Session | None, circumstances: Circumstances
) -> Normalised | None:
    if reference is None or job.reference is None or reference is session:
        return None
    ratio = normalise(session.windows, reference.windows, final=True)
    if ratio is None:
        return None
    return _judged(job, session, reference, ratio, circumstances)


def _judged(
    job: Job,
    session: Session,
    reference: Session,
    ratio: RatioStatistics,
    circumstances: Circumstances,
) -> Normalised:
    windows, its_windows = session.windows, reference.windows
    judgement = judge_ratio(ratio, job.precision, windows, its_windows, circumstances)
    asked = job.reference
    return Normalised(
        reference_subject_id=reference.subject_id,
        reference_sha256=reference.prepared.subject.artifact_sha256,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        windows=ratio.windows,
        merged=ratio.merged,
        autocorrelation=ratio.autocorrelation,
        elasticity=elasticity(windows, its_windows),
        reference_median_s=ratio.reference_median_s,
        reference_quiet_s=asked.quiet_s if asked else None,
        verdict=judgement.verdict,
        evidence=judgement.evidence,
    )
