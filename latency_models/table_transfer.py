"""A new board's table from another board's table and a few whole networks measured on the new.

No block is measured on the new board. `TransferModel` finds from the few networks how the other
board's times, the blocks' sizes and the blocks themselves make the new board's; all of these are
sums over blocks, so each block gets a time of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.accuracy import assess
from boardfront.latency_models.predictors import (
    AdditiveModel,
    BlockFeatures,
    BlockIndex,
    TransferModel,
)
from boardfront.latency_models.predictors.base import relative_weights
from boardfront.latency_models.predictors.ridge import fit_ridge
from boardfront.latency_models.table import missing_of, target_text
from boardfront.latency_models.table_models import predictor_of
from boardfront.latency_models.table_origin import Rival, TransferOrigin
from boardfront.latency_models.table_parts import EntryOrigin, NetworkRole, TableEntry
from boardfront.latency_models.table_residual import judge_networks
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.latency_models.predictors import BlockTimes, LatencyModel
    from boardfront.latency_models.predictors.base import FloatArray
    from boardfront.latency_models.table import Table
    from boardfront.latency_models.table_parts import NetworkTime

FEWEST = 3
"""Networks of the new board that a transfer is fitted on at least."""

SIZES = ("macs", "activations", "params")
"""What is known of a block without measuring."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_NEAR = 0.05
"""Share of the networks among which the most unlike one is taken."""

_SHORTEST_S = 1e-9
_ADDS_UP_WITHIN = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Which networks are measured on the new board.

    Args:
        samples: To fit on, in the order of need: each first part of them is spread as well.
        held_out: To judge by, drawn at random.
    """

    samples: tuple[int, ...]
    held_out: tuple[int, ...]


def draw(
    times_s: npt.ArrayLike,
    counts: npt.ArrayLike,
    samples: int,
    held_out: int,
    rng: np.random.Generator,
) -> Drawn:
    """Choose networks by what the other board says of them.

    The held-out ones are drawn first, each as likely as any other. The samples are spread evenly
    over the logarithms of the other board's times, from the fastest to the slowest: a line is
    known best from its ends, and errors count relative to the times. Their places go by the
    golden ratio, so that fewer than asked are spread too. Of those near a place the one is taken
    whose blocks are most unlike those of the ones before.

    Source: the additive recurrence with the golden ratio, H. Niederreiter, Random Number
    Generation and Quasi-Monte Carlo Methods, 1992, section 3.1; the most distant from those
    chosen, R. W. Kennard and L. A. Stone, Computer aided design of experiments, Technometrics
    11, 1969.

    Args:
        times_s: Shape (networks,), by the other board's table, seconds.
        counts: Shape (networks, blocks), how often each network has each block.
        samples: How many to fit on.
        held_out: How many to judge by.
        rng: Draws.

    Returns:
        Places in `times_s`.

    Raises:
        WrongInputError: There are fewer networks than that.
    """
    # A prediction that is cut off at 0 has no logarithm.
    logs = np.log(np.maximum(np.asarray(times_s, float), _SHORTEST_S))
    shapes = np.asarray(counts, float)
    if len(logs) < samples + held_out:
        raise WrongInputError(
            f"expected {samples + held_out} networks of which the source has all blocks, got "
            f"{len(logs)}: ask for fewer --samples or --held-out, or go on with the source's "
            "build"
        )
    order = rng.permutation(len(logs)).tolist()
    judges, free = order[:held_out], order[held_out:]
    low, high = logs[free].min(), logs[free].max()
    near = max(1, round(_NEAR * len(free)))
    place = float(rng.random())
    chosen: list[int] = []
    for _ in range(samples):
        away = np.abs(logs[free] - (low + place * (high - low)))
        nearest = np.argsort(away, kind="stable")[:near]
        unlike = [_distance(shapes[free[index]], shapes[chosen]) for index in nearest]
        chosen.append(free.pop(int(nearest[int(np.argmax(unlike))])))
        place = (place + _GOLDEN) % 1
    return Drawn(samples=tuple(chosen), held_out=tuple(judges))


def _distance(one: FloatArray, others: FloatArray) -> float:
    """Return the squared distance to the nearest of the others; 0 where there are none."""
    return float(((others - one) ** 2).sum(axis=1).min()) if len(others) else 0.0


class Source:
    """Another board's table, as a transfer uses it.

    Args:
        table: With entries.
        file: Name of its file.
        sizes: Of a block: `SIZES`, or nothing where the space cannot count them.

    Raises:
        WrongInputError: It has too few entries to predict a network.
    """

    def __init__(
        self, table: Table, file: str, sizes: Callable[[BlockKey], Sequence[float]]
    ) -> None:
        if not table.entries:
            raise WrongInputError(
                f"{file}: expected a table with blocks to transfer from, got one without any: go "
                "on with its build"
            )
        self.table = table
        self.file = file
        self.model: LatencyModel = predictor_of(table).model
        self.blocks = tuple(entry.block for entry in table.entries)
        values = [tuple(sizes(block)) for block in self.blocks]
        self.features = BlockFeatures(self.blocks, values, SIZES) if values[0] else None

    def origin(self) -> TransferOrigin:
        """Return what a transferred table says of this one."""
        table = self.table
        return TransferOrigin(
            file=self.file,
            device_name=table.device_name,
            target=target_text(table),
            digest=table.content_digest,
            task=f"{table.task.kind.value}, batch {table.task.batch}",
            mape=None if table.residual is None else table.residual.mape,
        )

    def draw(
        self,
        networks: Sequence[Decomposition],
        samples: int,
        held_out: int,
        rng: np.random.Generator,
    ) -> Drawn:
        """Choose networks to measure, all of whose blocks are in the table, see `draw`."""
        times_s = self.model.predict(networks).median_s
        counts = BlockIndex(self.blocks).counts(networks)
        return draw(times_s, counts, samples, held_out, rng)

    def transfer_model(self) -> TransferModel:
        """Return a model of a new board, not fitted yet."""
        return TransferModel(self.model, self.features, self.blocks)


def transferred(measured: Table, source: Source, kinds: Sequence[BlockKey]) -> Table:
    """Return a new board's table: whole networks were measured there, all blocks come from here.

    Its calibration networks are what the transfer is fitted on. While they are fewer than
    `FEWEST` it has no entries. Each prediction of the table is that of the `TransferModel`.

    Args:
        measured: Of the new board: a base and whole networks, no entries.
        source: The other board's.
        kinds: Blocks of the space; those that the source lacks are missing here as well.
    """
    samples = [one for one in measured.networks if one.role is NetworkRole.CALIBRATION]
    origin = source.origin()
    if len(samples) < FEWEST:
        missing = tuple(block.text for block in source.blocks)
        return replace(measured, missing=missing, transfer=origin, residual=None)
    model = source.transfer_model()
    model.fit([one.decomposition for one in samples], [one.time_s for one in samples])
    times = model.block_times(source.blocks, samples[0].decomposition)
    _check_adds_up(model, times, measured.networks)
    entries = _entries(times)
    table = replace(
        measured,
        fixed_s=times.fixed_s,
        fixed_low_s=times.fixed_s - times.fixed_half_s,
        fixed_high_s=times.fixed_s + times.fixed_half_s,
        entries=entries,
        missing=missing_of(kinds, entries),
        calibration=None,
        notes=(*measured.notes, *_notes(times)),
    )
    held_out = [one for one in measured.networks if one.role is NetworkRole.HELD_OUT]
    rivals = () if not held_out else _rivals(table, source, samples, held_out)
    origin = replace(origin, networks=len(samples), rivals=rivals)
    return replace(table, residual=judge_networks(table), transfer=origin)


def scaled_by(
    model: LatencyModel, networks: Sequence[Decomposition], times_s: FloatArray
) -> float:
    """Return the one factor that brings another board's predictions to measured times."""
    return float(np.median(times_s / model.predict(networks).median_s))


def by_macs(
    source: Source, networks: Sequence[Decomposition], times_s: FloatArray
) -> Callable[[Sequence[Decomposition]], FloatArray] | None:
    """Return times as a line over multiply-accumulates; None where they are not known."""
    if source.features is None:
        return None
    features = source.features

    def column(wanted: Sequence[Decomposition]) -> FloatArray:
        # In millions: the penalty is searched over a range of sizes.
        return features.sums(wanted)[:, :1] / 1e6

    fit = fit_ridge(column(networks), times_s, relative_weights(times_s))
    return lambda wanted: fit.predict(column(wanted))


def _rivals(
    table: Table,
    source: Source,
    samples: Sequence[NetworkTime],
    held_out: Sequence[NetworkTime],
) -> tuple[Rival, ...]:
    """Return what the transfer and simpler ways are worth on networks held out."""
    known = [one.decomposition for one in samples]
    times_s = np.array([one.time_s for one in samples])
    fresh = [one.decomposition for one in held_out]
    factor = scaled_by(source.model, known, times_s)
    said = {
        "transferred": np.array([table.predict_s(one) for one in fresh]),
        f"source x {factor:.4g}": factor * source.model.predict(fresh).median_s,
    }
    line = by_macs(source, known, times_s)
    if line is not None:
        said["multiply-accumulates"] = line(fresh)
    alone = TransferModel(None, source.features, source.blocks)
    alone.fit(known, times_s)
    said["without the source"] = alone.predict(fresh).median_s
    truth_s = np.array([one.time_s for one in held_out])
    return tuple(rival(name, predicted_s, truth_s) for name, predicted_s in said.items())


def rival(name: str, predicted_s: FloatArray, truth_s: FloatArray) -> Rival:
    """Return what predictions are worth, in short."""
    found = assess(predicted_s, truth_s)
    return Rival(
        name=name,
        mape=found.mape,
        within_5=found.within_5.value,
        within_10=found.within_10.value,
        bias=found.bias,
        spearman=found.spearman,
    )


def _entries(times: BlockTimes) -> tuple[TableEntry, ...]:
    return tuple(
        TableEntry(
            block=block,
            time_s=float(times.times_s[index]),
            low_s=float(times.low_s[index]),
            high_s=float(times.high_s[index]),
            verdict=Verdict.OK,
            count=0,
            origin=EntryOrigin.TRANSFERRED,
        )
        for index, block in enumerate(times.blocks)
    )


def _check_adds_up(
    model: TransferModel, times: BlockTimes, networks: Sequence[NetworkTime]
) -> None:
    """Make sure that the blocks' times say what the model says."""
    known = BlockIndex(times.blocks)
    decompositions = [
        one.decomposition for one in networks if not known.split([one.decomposition])[1]
    ]
    said_s = model.predict(decompositions).median_s
    sums_s = AdditiveModel(times).sums_s(decompositions)
    if not np.allclose(np.maximum(sums_s, 0.0), said_s, rtol=_ADDS_UP_WITHIN, atol=0.0):
        raise WrongInputError(
            f"expected a source whose predictions are sums over blocks, got {model.name}: take a "
            "table that `boardfront table build` wrote"
        )


def _notes(times: BlockTimes) -> tuple[str, ...]:
    none = int((times.times_s <= 0).sum())
    if not none:
        return ()
    return (
        f"{none} of {len(times.blocks)} blocks came out at no time above 0: only sums over whole "
        "networks mean something",
    )
