"""What a run makes of a device that measures nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from boardfront.host import journal_records as records
from boardfront.host.config import load_experiment
from boardfront.host.journal import Journal, read_journal
from boardfront.host.progress import LineProgress
from boardfront.host.run_folder import RunFolder
from boardfront.host.search_part import DeviceLostError, RunObserver, known_candidates
from boardfront.protos.records import FailureKind
from boardfront.search.evaluation import Candidate, EvaluationFailure

_EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.toml"


class _Quiet(LineProgress):
    def __init__(self) -> None:
        """Need no console."""

    @override
    def step(self, done: int, note: str) -> None:
        del done, note


def _failed(encoding: str, kind: FailureKind) -> Candidate:
    failure = EvaluationFailure(message="no room for a worker", kind=kind, target="here")
    return Candidate(
        encoding=encoding, estimator_state_id="s", accuracy=float("nan"), failure=failure
    )


def test_a_device_that_loses_all_ends_the_run_and_its_candidates_are_tried_again(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    folder.control.mkdir()
    journal = Journal(folder.journal)
    observer = RunObserver(load_experiment(_EXAMPLE), folder, journal, _Quiet(), {})
    kinds = [FailureKind.DEVICE_LOST] * 2 + [FailureKind.CRASHED] + [FailureKind.DEVICE_LOST] * 3
    *before, last = [_failed(f"net{n}", kind) for n, kind in enumerate(kinds)]
    for index, candidate in enumerate(before):
        observer.scored(index, 0, candidate)
    with pytest.raises(DeviceLostError, match=r"here: 3 candidates in a row .*no room.* resume"):
        observer.scored(5, 0, last)
    journal.close()
    history = read_journal(folder.journal).records
    assert len([one for one in history if isinstance(one, records.Evaluation)]) == 6
    # The network that crashed did so by itself.
    assert list(known_candidates(history)) == ["net2"]
