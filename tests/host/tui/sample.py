"""A run that never changes: its journal is written by a seeded generator, its clock stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tests.host.searching import EXPERIMENT

from boardfront.host import journal_records as records
from boardfront.host.journal import Journal
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.tui.app import MonitorApp, Source
from boardfront.host.view.fleet_view import BoardState, BoardView, FleetView, JobView
from boardfront.host.view.follow import RunFollower
from boardfront.host.view.run_view import RunState, RunView
from boardfront.protos.records import FailureKind, Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGAN_UNIX_S = 1_800_000_000.0
EVALUATIONS = 120
EPOCHS = 12
TARGETS = ("rock", "pi")
TEXT = (
    EXPERIMENT.replace("evaluations = 10", f"evaluations = {EVALUATIONS}")
    .replace("epochs = 3", f"epochs = {EPOCHS}")
    .replace('name = "here"', 'name = "rock"')
    .replace('target = "here"', 'target = "rock"\nlimit_ms = 4.5')
    .replace(
        "[[objective]]",
        '[[target]]\nname = "pi"\ndevice = "local"\nbackend = "fake"\n\n[[objective]]',
        1,
    )
)
FLEET = FleetView(
    time_unix_s=BEGAN_UNIX_S,
    boards=(
        BoardView(
            name="rock5b",
            state=BoardState.BUSY,
            holder="sample",
            temperature_c=51.0,
            frequency_hz=2.4e9,
            throttle_events=0,
            queued=2,
            jobs_per_minute=31.0,
            jobs=412,
            verdicts={"ok": 398, "contended": 14},
            job=JobView(job_id="0123abcd", owner="sample", phase="sampling", windows=12),
        ),
        BoardView(name="pi5", state=BoardState.AWAY, why="no answer for 40 s"),
    ),
)


def history() -> Iterator[records.Record]:
    """Yield all records of the run, to its end."""
    rng = np.random.default_rng(11)
    yield records.RunStarted(
        experiment_digest="d", seed=3, time_unix_s=BEGAN_UNIX_S, versions={"boardfront": "0.1.0"}
    )
    for name, time_s in zip(TARGETS, (0.002, 0.005), strict=True):
        yield records.ReferenceTimed(target=name, encoding="33-33", latency=latency(time_s))
    for epoch in range(1, EPOCHS + 1):
        yield records.TrainingProgress(
            epoch=epoch,
            epochs=EPOCHS,
            loss=0.6 + 2.0 / epoch,
            learning_rate=0.2,
            elapsed_s=7.0 * epoch,
            validation_accuracy=None if epoch % 2 else 0.5 + 0.035 * epoch,
        )
    yield records.EstimatorReady(state_id="s")
    drawn = rng.permutation(256)[:EVALUATIONS]
    for index, number in enumerate(int(draw) for draw in drawn):
        yield evaluation(index, number, rng)
        if index % 20 == 19:
            yield records.GenerationDone(
                generation=index // 20, front_size=3 + index // 20, hypervolume=1.0 + index / 100
            )
        if index == 45:
            yield records.Remeasured(
                target="rock", encoding=encoding_of(int(drawn[44])), latency=latency(0.0046)
            )
        if index == 61:
            yield records.Interrupted(
                reason="interrupted by the user", time_unix_s=BEGAN_UNIX_S + 300
            )
            yield records.RunStarted(
                experiment_digest="d", seed=3, time_unix_s=BEGAN_UNIX_S + 400, versions={}
            )
            yield records.EstimatorReady(state_id="s")


def evaluation(index: int, number: int, rng: np.random.Generator) -> records.Evaluation:
    """Return a candidate whose time and accuracy grow with its number, or one that failed."""
    encoding = encoding_of(number)
    accuracy = round(0.80 + 0.14 * (number / 255) ** 0.4 + 0.012 * float(rng.normal()), 4)
    rock_s = 0.0015 + 0.004 * number / 255 + 0.0002 * float(rng.random())
    common = {"index": index, "generation": index // 20, "encoding": encoding}
    if index % 31 == 17:
        return records.Evaluation(
            **common,  # type: ignore[arg-type]
            scores={"accuracy": accuracy, "latency": None},
            validation_accuracy=accuracy,
            failure=EvaluationFailure(
                message="the network needs 212 MiB of memory, the board has 180 MiB free",
                kind=FailureKind.OUT_OF_MEMORY,
                target="pi",
            ),
            estimator_state_id="s",
            elapsed_s=2.5,
        )
    verdict = Verdict.CONTENDED if index % 13 == 5 else Verdict.OK
    return records.Evaluation(
        **common,  # type: ignore[arg-type]
        scores={"accuracy": accuracy, "latency": rock_s},
        validation_accuracy=accuracy,
        latencies={"rock": latency(rock_s, verdict), "pi": latency(2.4 * rock_s + 0.0005)},
        estimator_state_id="s",
        elapsed_s=2.5,
    )


def finalists(view: RunView) -> Iterator[records.Record]:
    """Yield what ends the run: its front, measured whole."""
    for target in TARGETS:
        for member in view.front:
            searched_s = member.latencies[target].median_s
            yield records.FinalistMeasured(
                encoding=member.encoding,
                target=target,
                predicted_s=searched_s,
                latency=latency(searched_s * 1.012),
                process_medians_s=(searched_s * 1.011, searched_s * 1.013),
                measurement_ids=(1, 2),
            )
    yield records.RunFinished(status=records.RunStatus.COMPLETED, time_unix_s=BEGAN_UNIX_S + 900.0)


def latency(median_s: float, verdict: Verdict = Verdict.OK) -> Latency:
    """Return a time with an interval of 1 %."""
    return Latency(
        median_s=median_s,
        low_s=median_s * 0.995,
        high_s=median_s * 1.005,
        verdict=verdict,
        measurement_id=1,
    )


def encoding_of(number: int) -> str:
    """Return a member of the space; larger numbers have larger kernels first."""
    digits = [number >> shift & 3 for shift in (6, 4, 2, 0)]
    choices = "".join("357x"[digit] for digit in digits)
    return f"{choices[:2]}-{choices[2:]}"


def make(folder: Path, *, candidates: int = EVALUATIONS, ended: bool = False) -> RunFolder:
    """Make the run in a folder, as it was after so many candidates, or at its end."""
    file = folder / "sample.toml"
    file.write_text(TEXT)
    made = create_run(folder / "runs", "sample", file)
    done = 0
    with Journal(made.journal) as journal:
        for record in history():
            done += isinstance(record, records.Evaluation)
            if done > candidates:
                break
            journal.append(record)
        if ended:
            for record in finalists(RunFollower(made).poll()):
                journal.append(record)
    return made


def epochs_only(folder: Path) -> RunFolder:
    """Make the run as it was in its training."""
    made = make(folder, candidates=0)
    lines = made.journal.read_bytes().splitlines(keepends=True)
    made.journal.write_bytes(b"".join(lines[:9]))
    return made


def frozen(made: RunFolder, *, state: RunState | None = None) -> RunView:
    """Return the run as it stands, with a name, a folder and a clock that are always the same."""
    with Journal(made.journal):  # as if it went on
        view = RunFollower(made, clock=lambda: made.journal.stat().st_mtime).poll()
    is_over = view.state is RunState.COMPLETED
    return replace(
        view,
        name="sample",
        folder=Path("runs/sample"),
        state=state or (view.state if is_over else RunState.RUNNING),
        reason="",
        heard_unix_s=BEGAN_UNIX_S + 500.0,
        ended_unix_s=view.ended_unix_s if is_over else None,
    )


def app_of(made: RunFolder, view: RunView | None = None, *, control: bool = False) -> MonitorApp:
    """Return the screen of a run that stands still; requests go to the real folder."""
    shown = view or frozen(made)
    return MonitorApp(
        made,
        control=control,
        source=Source(run=lambda: shown, fleet=lambda: FLEET, clock=lambda: BEGAN_UNIX_S + 510.0),
    )
