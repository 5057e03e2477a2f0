"""What a latency table holds: blocks' times, whole networks' times, how well they agree."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Verdict  # noqa: TC001 - strict_json resolves the annotations


class EntryOrigin(enum.Enum):
    """Where an entry's time comes from."""

    MEASURED = "measured"
    INTERPOLATED = "interpolated"
    IMPORTED = "imported"
    TRANSFERRED = "transferred"


class NetworkRole(enum.Enum):
    """What a whole network's time was measured for."""

    CALIBRATION = "calibration"
    HELD_OUT = "held-out"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableEntry:
    """A block's time in a network: what one more of it adds.

    Args:
        block: What it is.
        time_s: Seconds a run. A block may take less than can be seen: then it is about 0, and
            its interval says how far from it.
        low_s: Of its 95 % interval.
        high_s: Of its 95 % interval.
        verdict: Of the measurement that it comes from.
        count: Samples that it rests on; 0 where it was not measured.
        origin: Whether it was measured.
        copies: How many of the block were in the network that was timed.
        share: Part of that network's time that these copies took.
    """

    block: BlockKey
    time_s: float
    low_s: float
    high_s: float
    verdict: Verdict
    count: int
    origin: EntryOrigin = EntryOrigin.MEASURED
    copies: int = 1
    share: float | None = None

    def __post_init__(self) -> None:
        if not self.low_s <= self.time_s <= self.high_s:
            raise WrongInputError(
                f"block {self.block.text}: expected low_s <= time_s <= high_s, got {self.low_s}, "
                f"{self.time_s}, {self.high_s}: the table is damaged; build it anew"
            )

    @property
    def half_width_s(self) -> float:
        """Half of the interval's width."""
        return (self.high_s - self.low_s) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkTime:
    """A whole network of the space that was measured, and is no entry's source.

    Args:
        encoding: The network.
        blocks: Its decomposition, each block's text.
        role: What it was measured for.
        time_s: Seconds a run, at the level of the entries.
        low_s: Of its 95 % interval.
        high_s: Of its 95 % interval.
        verdict: Whether that can be trusted.
        repeats_s: What measuring it anew gave, at other moments of the build.
    """

    encoding: str
    blocks: tuple[str, ...]
    role: NetworkRole
    time_s: float
    low_s: float
    high_s: float
    verdict: Verdict
    repeats_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.low_s <= self.time_s <= self.high_s:
            raise WrongInputError(
                f"network {self.encoding}: expected 0 < low_s <= time_s <= high_s, got "
                f"{self.low_s}, {self.time_s}, {self.high_s}: the table is damaged; build it anew"
            )

    @property
    def decomposition(self) -> Decomposition:
        """Its blocks."""
        return Decomposition(blocks=tuple(BlockKey.parse(text) for text in self.blocks))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What turns a sum of blocks into a network's time: offset_s + slope * sum.

    Args:
        offset_s: Seconds.
        slope: About 1.
        networks: How many it was fitted on.
    """

    offset_s: float
    slope: float
    networks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionError:
    """How far predictions are from what was measured; errors are predicted over measured less 1.

    Args:
        networks: How many.
        mape: Mean of |error|.
        within_5: Share of networks whose |error| is at most 5 %, with its 95 % interval (Wilson).
        within_5_low: Of that interval.
        within_5_high: Of that interval.
        within_10: The same for 10 %.
        within_10_low: Of that interval.
        within_10_high: Of that interval.
        worst: Largest error, signed.
        worst_encoding: The network that has it.
        bias: Mean error.
        spearman: Rank correlation; None where the ranks do not tell.
    """

    networks: int
    mape: float
    within_5: float
    within_5_low: float
    within_5_high: float
    within_10: float
    within_10_low: float
    within_10_high: float
    worst: float
    worst_encoding: str
    bias: float
    spearman: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistRow:
    """How far the table was from the finalists of one search that went by it.

    They were chosen by their predicted times, so too fast a prediction is likelier among them
    than among networks drawn at random: never pooled with the `Residual`.

    Args:
        run: Name of the run's folder.
        target: Of the run's experiment.
        measured_unix_s: When they had been measured, in seconds since 1970 (UTC).
        table_digest: `Table.content_digest` of what predicted.
        model: What predicted, e.g. "additive, calibrated".
        error: Of the predicted seconds.
        inside: Networks whose measured time lies in the predicted 95 % interval.
        over_limit: Networks that were measured over the search's limit.
        level: What the base took in that run over what it takes in the table; None where the
            base was not measured.
        at_level: The error with predictions times `level`: what is left when the device as a
            whole is no slower or faster than it was.
        forced: How the device differed from the table's target, where it was used nevertheless.
    """

    run: str
    target: str
    measured_unix_s: float
    table_digest: str
    model: str
    error: PredictionError
    inside: int
    over_limit: int = 0
    level: float | None = None
    at_level: PredictionError | None = None
    forced: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual(PredictionError):  # noqa: N818 - an error of prediction, not an exception
    """How far whole networks, which built nothing in the table, are from what it says of them.

    Args:
        spread: Standard deviation of the measured times over their mean: where all networks take
            nearly as long, a rank correlation says little.
        kendall: Rank correlation (tau-b); None where the ranks do not tell.
        noise_floor: Mean of |repeat - measured| / measured; None where nothing was repeated. A
            perfect table would be off by 1 / sqrt(2) of it: repeats differ by two errors.
        repeats: How many repeats that is of.
        uncalibrated_mape: `mape` of the plain sum.
    """

    spread: float
    kendall: float | None
    noise_floor: float | None
    repeats: int
    uncalibrated_mape: float
