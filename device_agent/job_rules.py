"""What a job must be to be taken: checked before anything is named after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.protos.records import Job

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check(job: Job) -> None:
    """Raise if a job breaks the rules.

    Raises:
        WrongInputError: If its id, its subjects, its precision or its reference cannot be.
    """
    if not _JOB_ID.fullmatch(job.job_id):
        raise WrongInputError(
            f"job id {job.job_id[:140]!r}: expected 1 to 128 letters, digits, '_' or '-'"
        )
    names = [subject.subject_id for subject in job.subjects]
    if not 1 <= len(names) <= 32 or len(set(names)) != len(names) or "" in names:
        raise WrongInputError(
            f"job {job.job_id} has subjects {names[:40]}: expected 1 to 32 with distinct names"
        )
    _check_reference(job, names)
    precision, deadlines = job.precision, job.deadlines
    if not 0 < precision.relative_half_width < 1 or precision.min_windows < 6:
        raise WrongInputError(
            f"job {job.job_id} asks for +-{precision.relative_half_width:g} from "
            f"{precision.min_windows} windows: expected 0 < precision < 1 and 6 windows or more"
        )
    if not 0 < precision.min_duration_s <= deadlines.run_s or deadlines.compile_s <= 0:
        raise WrongInputError(
            f"job {job.job_id} asks for {precision.min_duration_s:g} s of windows within "
            f"{deadlines.run_s:g} s after at most {deadlines.compile_s:g} s of compiling: "
            "expected positive durations, the windows shorter than the run deadline"
        )
    if precision.max_duration_s < 0:
        raise WrongInputError(
            f"job {job.job_id} gives up after {precision.max_duration_s:g} s: expected 0 (never) "
            "or more"
        )
    for task in (job.task, *(subject.task for subject in job.subjects)):
        if task is not None and task.batch < 1:
            raise WrongInputError(f"job {job.job_id} asks for batch {task.batch}: expected >= 1")


def _check_reference(job: Job, names: Sequence[str]) -> None:
    reference = job.reference
    if reference is None:
        return
    if reference.subject_id not in names or len(names) < 2:
        raise WrongInputError(
            f"job {job.job_id} has the reference {reference.subject_id!r}: expected one of its "
            f"subjects {list(names)}, and another one to divide"
        )
    if reference.quiet_s is not None and reference.quiet_s <= 0:
        raise WrongInputError(
            f"job {job.job_id} says its reference takes {reference.quiet_s:g} s: expected a "
            "positive time, or none"
        )
