"""A board's table from another board's table and 10 or 20 measurements: what that is worth.

From two finished tables of the same space, both with whole networks: a seeded draw of the second
board's networks is what was "measured" there, and all of its other networks are predicted by

- transfer: what `boardfront table transfer` makes of the first table and the draw;
- source x one factor: the first table's times, at the draw's level;
- multiply-accumulates: a line through the draw, errors relative to the times;
- without source: the transfer's model on sizes and counts of blocks alone;
- counts ridge: how often each block occurs, learned from the draw alone;
- own table: the second board's own blocks, all measured, calibrated on the same draw: what the
  whole build is worth.

Each model is judged on the same networks. `covers` is the share of measured times inside the
model's own 95 % intervals. The noise floor is of repeats on the second board.

Usage: python benchmarks/table_transfer.py A.json B.json [--samples 10 20] [--draws 20] [--spread]
    [--json]
With --spread the judged networks are drawn first, half of those that can be spared, and the
samples are chosen among the others as the command does it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.chain_writer import TableSpace
from boardfront.latency_models.accuracy import assess, noise_floor
from boardfront.latency_models.predictors import (
    AdditiveModel,
    BlockTimes,
    RidgeModel,
    TransferModel,
)
from boardfront.latency_models.table import Table, target_text
from boardfront.latency_models.table_transfer import Source, by_macs, scaled_by
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.latency_models.blocks import Decomposition
    from boardfront.latency_models.predictors import LatencyModel
    from boardfront.latency_models.predictors.base import FloatArray
    from boardfront.latency_models.table_parts import NetworkTime

_FEWEST_JUDGED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Boards:
    """Two boards, and the networks of the second that both tables cover."""

    source: Source
    own: Table
    networks: list[NetworkTime]
    decompositions: list[Decomposition]
    times_s: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a method is worth after one draw."""

    spearman: float
    mape: float
    within_5: float
    within_10: float
    covers: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a method is worth from so many samples, over the draws."""

    samples: int
    judged: int
    method: str
    spearman_mean: float
    spearman_sd: float
    spearman_least: float
    mape_mean: float
    mape_sd: float
    within_5_mean: float
    within_10_mean: float
    covers_mean: float | None


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path, help="the table that is known")
    parser.add_argument("b", type=Path, help="the new board's own table, to judge by")
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        boards = read(options.a, options.b)
        rows = [
            row
            for samples in options.samples
            for row in compare(boards, samples, options.draws, spread=options.spread)
        ]
    except BoardfrontError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    if options.json:
        content = {"about": about(boards), "rows": [asdict(row) for row in rows]}
        print(json.dumps(content, indent=1))
        return 0
    for name, value in about(boards).items():
        print(f"{name}: {value}")
    print(f"draws: {options.draws}, {'spread' if options.spread else 'at random'}\n")
    print("| samples | judged | method | Spearman | least | mean error | 5 % | 10 % | covers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        covers = "" if row.covers_mean is None else f"{row.covers_mean:.0%}"
        print(
            f"| {row.samples} | {row.judged} | {row.method} "
            f"| {row.spearman_mean:.3f} +- {row.spearman_sd:.3f} | {row.spearman_least:.3f} "
            f"| {row.mape_mean:.2%} +- {row.mape_sd:.2%} | {row.within_5_mean:.0%} "
            f"| {row.within_10_mean:.0%} | {covers} |"
        )
    return 0


def read(a: Path, b: Path) -> Boards:
    """Return two tables of one space."""
    known, own = Table.load(a), Table.load(b)
    space = TableSpace(own.space, own.space_settings)
    if known.space != own.space or vars(space.space) != vars(
        TableSpace(known.space, known.space_settings).space
    ):
        raise WrongInputError(
            f"expected two tables of the same space and settings, got {known.space} "
            f"{dict(known.space_settings)} and {own.space} {dict(own.space_settings)}"
        )
    both = [
        one
        for one in own.networks
        if own.covers(one.decomposition) and known.covers(one.decomposition)
    ]
    return Boards(
        source=Source(known, a.name, space.sizes),
        own=own,
        networks=both,
        decompositions=[one.decomposition for one in both],
        times_s=np.array([one.time_s for one in both]),
    )


def about(boards: Boards) -> dict[str, str]:
    """Return what the figures are of."""
    own, source = boards.own, boards.source.table
    repeats = [one.repeats_s for one in boards.networks]
    floor = noise_floor(boards.times_s, repeats) if any(repeats) else None
    spread = float(np.std(boards.times_s) / np.mean(boards.times_s))
    return {
        "from": f"{boards.source.file}, {target_text(source)}, {source.task.kind.value}, "
        f"batch {source.task.batch}",
        "to": f"{target_text(own)}, {own.task.kind.value}, batch {own.task.batch}",
        "networks": f"{len(boards.networks)} of {own.space}, spread {spread:.1%}",
        "noise floor": "unknown" if floor is None else f"{floor.mape:.2%} ({floor.repeats})",
    }


def compare(boards: Boards, samples: int, draws: int, *, spread: bool) -> list[Row]:
    """Return one row a method."""
    networks = len(boards.networks)
    if networks < samples + _FEWEST_JUDGED:
        raise WrongInputError(
            f"expected at least {samples + _FEWEST_JUDGED} whole networks that both tables "
            f"cover, got {networks}: ask for fewer --samples"
        )
    found: dict[str, list[Score]] = {}
    judged = 0
    for number in range(draws):
        known, rest = drawn(
            boards, samples, np.random.default_rng([samples, number]), spread=spread
        )
        judged = len(rest)
        for name, score in scores(boards, known, rest).items():
            found.setdefault(name, []).append(score)
    return [summary(samples, judged, name, made) for name, made in found.items()]


def drawn(
    boards: Boards, samples: int, rng: np.random.Generator, *, spread: bool
) -> tuple[list[int], list[int]]:
    """Return the places of the samples and of those judged."""
    networks = len(boards.networks)
    if not spread:
        order = rng.permutation(networks).tolist()
        return order[:samples], order[samples:]
    judged = max(_FEWEST_JUDGED, (networks - samples) // 2)
    made = boards.source.draw(boards.decompositions, samples, judged, rng)
    return list(made.samples), list(made.held_out)


def scores(boards: Boards, known: Sequence[int], rest: Sequence[int]) -> dict[str, Score]:
    """Return what each method is worth from these samples."""
    samples, times_s = [boards.decompositions[i] for i in known], boards.times_s[known]
    fresh, truth_s = [boards.decompositions[i] for i in rest], boards.times_s[rest]
    source = boards.source
    models: dict[str, LatencyModel] = {
        "transfer": source.transfer_model(),
        "without source": TransferModel(None, source.features, source.blocks),
        "counts ridge": RidgeModel(source.blocks),
        "own table": AdditiveModel(BlockTimes.of_table(boards.own)),
    }
    factor = scaled_by(source.model, samples, times_s)
    lines: dict[str, Callable[[Sequence[Decomposition]], FloatArray] | None] = {
        "source x one factor": lambda wanted: factor * source.model.predict(wanted).median_s,
        "multiply-accumulates": by_macs(source, samples, times_s),
    }
    found = {}
    for name, model in models.items():
        model.fit(samples, times_s)
        answer = model.predict(fresh)
        inside = (answer.low_s <= truth_s) & (truth_s <= answer.high_s)
        found[name] = scored(answer.median_s, truth_s, float(inside.mean()))
    for name, line in lines.items():
        if line is not None:
            found[name] = scored(line(fresh), truth_s, None)
    return found


def scored(predicted_s: FloatArray, truth_s: FloatArray, covers: float | None) -> Score:
    """Return the errors; Spearman is 0 where all predictions are the same."""
    found = assess(predicted_s, truth_s)
    return Score(
        spearman=found.spearman or 0.0,
        mape=found.mape,
        within_5=found.within_5.value,
        within_10=found.within_10.value,
        covers=covers,
    )


def summary(samples: int, judged: int, method: str, made: Sequence[Score]) -> Row:
    """Return mean and spread over the draws."""
    ranks, errors = [one.spearman for one in made], [one.mape for one in made]
    covers = [one.covers for one in made if one.covers is not None]
    freedom = min(1, len(made) - 1)
    return Row(
        samples=samples,
        judged=judged,
        method=method,
        spearman_mean=float(np.mean(ranks)),
        spearman_sd=float(np.std(ranks, ddof=freedom)),
        spearman_least=float(min(ranks)),
        mape_mean=float(np.mean(errors)),
        mape_sd=float(np.std(errors, ddof=freedom)),
        within_5_mean=float(np.mean([one.within_5 for one in made])),
        within_10_mean=float(np.mean([one.within_10 for one in made])),
        covers_mean=float(np.mean(covers)) if covers else None,
    )


if __name__ == "__main__":
    sys.exit(main())
