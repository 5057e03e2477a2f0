"""Synthetic clocks, and the real stop rule driven by them.

A clock says how long each of the successive samples of about 5 ms takes. Unless said otherwise it
moves on with time, also in the gaps between windows; noise is normal and given as the standard
deviation of one sample. Only the sleeping and the running is synthetic: planning, summarising,
stopping and judging are what the agent does.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter

from boardfront.device_agent import timing
from boardfront.protos.intervals import is_look
from boardfront.protos.normalisation import judge_ratio, normalise
from boardfront.protos.records import Circumstances, Precision, Verdict, Window
from boardfront.protos.statistics import judge, summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

SAMPLE_S = 0.005
DEADLINE_S = 30.0
DEFAULT = Precision()
COARSE = Precision(relative_half_width=0.03, min_duration_s=0.1, max_duration_s=0.4)
PATIENT = Precision(relative_half_width=0.03, min_duration_s=0.1, max_duration_s=3.0)
SETTINGS = {"default": DEFAULT, "coarse": COARSE, "coarse, patient": PATIENT}


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticClock:
    """A process of sample times, relative to 1.

    Args:
        name: What the table calls it.
        make: Draws the given number of consecutive samples.
        moves_within_s: How long it stays at a level, 0 for noise about one level. Where that is
            longer than a window, or for ever on the move (inf), no look of that size is at one
            level; its true value then is the median of everything that the clock showed from
            the look's start to its end. Else it is the median of the stationary distribution.
        moves_in_gaps: Whether it moves on while nothing runs.
    """

    name: str
    make: Callable[[np.random.Generator, int, Precision], Values]
    moves_within_s: float = 0.0
    moves_in_gaps: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one look ended with."""

    verdict: Verdict | None
    covers: bool
    duration_s: float
    windows: int

    @property
    def is_ok(self) -> bool:
        """Whether the look was called ok."""
        return self.verdict is Verdict.OK


def noise(rng: np.random.Generator, n: int, sd: float, correlation: float = 0.0) -> Values:
    """Draw a stationary autoregressive process of the given lag-1 correlation."""
    white = rng.standard_normal(n)
    if not correlation:
        return sd * white
    start = [correlation * rng.standard_normal()]
    scaled = white * np.sqrt(1 - correlation**2)
    made, _ = lfilter([1.0], [1.0, -correlation], scaled, zi=np.asarray(start))
    return sd * np.asarray(made, dtype=np.float64)


def slow_share(rng: np.random.Generator, n: int, fast_s: float, slow_s: float) -> Values:
    """Draw which share of each sample a two-state process spends in its slow state.

    It stays `fast_s` and `slow_s` on average before it switches, exponentially distributed.
    """
    total_s = n * SAMPLE_S
    pairs = int(total_s / (fast_s + slow_s) * 1.5) + 50
    stays = np.empty(2 * pairs)
    stays[0::2] = rng.exponential(fast_s, pairs)
    stays[1::2] = rng.exponential(slow_s, pairs)
    if rng.random() < slow_s / (fast_s + slow_s):
        stays[0] = 0.0
    switches = np.concatenate([[0.0], np.cumsum(stays)])
    slow = np.concatenate([[0.0], np.cumsum(np.where(np.arange(2 * pairs) % 2, stays, 0.0))])
    edges = np.interp(np.arange(n + 1) * SAMPLE_S, switches, slow)
    return np.asarray(np.diff(edges) / SAMPLE_S, dtype=np.float64)


def _autoregressive(sd: float, correlation: float) -> Callable[..., Values]:
    return lambda rng, n, _: 1 + noise(rng, n, sd, correlation)


def _drifting(sd: float, change: float) -> Callable[..., Values]:
    """Move by `change` over twice the shortest look, and on at that pace up to 25 %."""

    def make(rng: np.random.Generator, n: int, precision: Precision) -> Values:
        moved = change * np.arange(n) * SAMPLE_S / precision.min_duration_s / 2
        return 1 + noise(rng, n, sd) + np.clip(moved, -0.25, 0.25)

    return make


def _delayed(sd: float, share: float, factor: float) -> Callable[..., Values]:
    """Delay single samples."""
    return lambda rng, n, _: (1 + noise(rng, n, sd)) * np.where(rng.random(n) < share, factor, 1.0)


def _bimodal(
    sd: float, fast_s: float, slow_s: float, factor: float = 1.25
) -> Callable[..., Values]:
    def make(rng: np.random.Generator, n: int, _: Precision) -> Values:
        return (1 + noise(rng, n, sd)) * (1 + (factor - 1) * slow_share(rng, n, fast_s, slow_s))

    return make


CLOCKS = [
    *(
        SyntheticClock(name=f"independent, sd {100 * sd:g} %", make=_autoregressive(sd, 0.0))
        for sd in (0.005, 0.02)
    ),
    *(
        SyntheticClock(name=f"AR {r:g}, sd {100 * sd:g} %", make=_autoregressive(sd, r))
        for r in (0.5, 0.9)
        for sd in (0.005, 0.01, 0.02)
    ),
    *(
        SyntheticClock(
            name=f"AR {r:g} by runs, sd {100 * sd:g} %",
            make=_autoregressive(sd, r),
            moves_in_gaps=False,
        )
        for r, sd in ((0.5, 0.02), (0.9, 0.01), (0.9, 0.02))
    ),
    SyntheticClock(name="1 % of samples 3 x, sd 1 %", make=_delayed(0.01, 0.01, 3.0)),
    SyntheticClock(name="bursts of 100 ms 1.3 x, sd 1 %", make=_bimodal(0.01, 1.9, 0.1, 1.3)),
    SyntheticClock(name="bimodal 1 ms / 1 ms, sd 1 %", make=_bimodal(0.01, 0.001, 0.001)),
    SyntheticClock(
        name="bimodal 15 ms / 5 ms, sd 1 %",
        make=_bimodal(0.01, 0.015, 0.005),
        moves_within_s=0.015,
    ),
    SyntheticClock(
        name="bimodal 60 ms / 20 ms, sd 1 %", make=_bimodal(0.01, 0.06, 0.02), moves_within_s=0.06
    ),
    SyntheticClock(
        name="bimodal 1.5 s / 0.5 s, sd 1 %",
        make=_bimodal(0.01, 1.5, 0.5),
        moves_within_s=1.5,
    ),
    *(
        SyntheticClock(
            name=f"drift {100 * change:+g} %, sd {100 * sd:g} %",
            make=_drifting(sd, change),
            moves_within_s=float("inf"),
        )
        for change, sd in ((0.05, 0.005), (-0.05, 0.02))
    ),
]


@functools.cache
def true_median(clock: SyntheticClock) -> float:
    """Return the median of the clock's stationary distribution, from a million samples."""
    return float(np.median(clock.make(np.random.default_rng(0), 1_000_000, DEFAULT)))


def try_once(
    clock: SyntheticClock,
    precision: Precision,
    rng: np.random.Generator,
    scale_s: float = SAMPLE_S,
) -> Trial:
    """Measure a subject of `scale_s` a run, alone on its device, and compare with the truth."""
    plan = timing.plan_windows(scale_s, precision, alone=True)
    gap = round(plan.gap_s / SAMPLE_S) if clock.moves_in_gaps else 0
    longest_s = 1.0 + (timing.CORRELATED_PATIENCE * precision.max_duration_s or DEADLINE_S)
    # A level of 0.75 takes more samples to fill a time.
    shown = clock.make(rng, int(1.4 * longest_s / SAMPLE_S), precision)
    at, now_s, windows = 0, 0.0, list[Window]()
    while True:
        taken = shown[at + gap + 1 : at + gap + 1 + plan.samples]
        start_s = now_s + plan.gap_s + shown[at + gap] * scale_s
        now_s = start_s + float(taken.sum()) * scale_s
        at += gap + 1 + plan.samples
        windows.append(
            Window(start_s=start_s, loops=1, samples_s=tuple((taken * scale_s).tolist()))
        )
        progress = timing.Progress(
            windows=len(windows),
            elapsed_s=now_s - windows[0].start_s,
            run_s=now_s,
            sampling_s=now_s,
            run_left_s=DEADLINE_S - now_s,
        )
        statistics = summarize(windows) if _matters(progress, precision) else None
        if timing.should_stop(statistics, precision, progress):
            break
    final = summarize(windows, final=True)
    if final is None:
        return Trial(verdict=None, covers=False, duration_s=now_s, windows=len(windows))
    truth = (
        true_median(clock)
        if clock.moves_within_s <= plan.samples * scale_s
        else float(np.median(shown[:at]))
    )
    return Trial(
        verdict=judge(final, precision, windows, Circumstances()).verdict,
        covers=final.low_s <= truth * scale_s <= final.high_s,
        duration_s=now_s,
        windows=len(windows),
    )


def _matters(progress: timing.Progress, precision: Precision) -> bool:
    """Whether the interval can change what the rule says; to be fast, it is not asked for else."""
    if is_look(progress.windows, precision.min_windows):
        return True
    impatient = 0 < precision.max_duration_s <= progress.run_s
    return impatient or progress.run_left_s < 3 * progress.sampling_s / progress.windows


TURN_S = 0.001
RATIO = 1.3


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticPair:
    """Two subjects that share a wandering level, alternated turn by turn of about 1 ms.

    The level is a random walk that doubles or halves within minutes, times shared noise of 2 %
    that is correlated over some 10 ms.

    Args:
        name: What the table calls it.
        own_sd: Of the noise that each has for itself.
        own_correlation: Of that, between turns.
        drift: How far the ratio moves over twice the shortest look, and on at that pace.
    """

    name: str
    own_sd: float
    own_correlation: float = 0.0
    drift: float = 0.0


PAIRS = [
    SyntheticPair(name="ratio, own noise 1 %", own_sd=0.01),
    SyntheticPair(name="ratio, own noise 2 %", own_sd=0.02),
    SyntheticPair(name="ratio, own noise AR 0.9 1 %", own_sd=0.01, own_correlation=0.9),
    SyntheticPair(name="ratio, own noise AR 0.9 2 %", own_sd=0.02, own_correlation=0.9),
    SyntheticPair(name="ratio drifts by 5 %, 1 %", own_sd=0.01, drift=0.05),
]


def try_pair_once(pair: SyntheticPair, precision: Precision, rng: np.random.Generator) -> Trial:
    """Measure a subject alternately with a reference, and compare their ratio with the truth."""
    turns = int(1.4 * DEADLINE_S / TURN_S) // 2 * 2
    walk = np.cumsum(rng.normal(0.0, np.log(2.0) / np.sqrt(60.0 / TURN_S), turns))
    level = TURN_S * np.exp(walk) * (1 + noise(rng, turns, 0.02, 0.98))
    level *= 1 + noise(rng, turns, pair.own_sd, pair.own_correlation)
    moved = pair.drift * np.arange(turns // 2) * 2 * TURN_S / precision.min_duration_s / 2
    ratio = RATIO * (1 + moved)
    own_s, other_s = level[0::2] * ratio, level[1::2]
    loops, samples = timing.plan_together([RATIO * TURN_S, TURN_S], precision)
    assert loops == (1, 1)
    at, now_s, windows, others = 0, 0.0, list[Window](), list[Window]()
    while True:
        for kept, shown in ((windows, own_s), (others, other_s)):
            taken = tuple(shown[at : at + samples].tolist())
            kept.append(Window(start_s=now_s, loops=1, samples_s=taken))
        at += samples
        now_s += sum(windows[-1].samples_s) + sum(others[-1].samples_s)
        progress = timing.Progress(
            windows=len(windows),
            elapsed_s=now_s,
            run_s=sum(sum(window.samples_s) for window in windows),
            # The deadline counts the time of both here.
            sampling_s=now_s,
            run_left_s=min(DEADLINE_S - now_s, (len(ratio) - at - 2 * samples) * TURN_S),
        )
        found = normalise(windows, others) if _matters(progress, precision) else None
        if timing.should_stop(found, precision, progress):
            break
    final = normalise(windows, others, final=True)
    if final is None:
        return Trial(verdict=None, covers=False, duration_s=now_s, windows=len(windows))
    return Trial(
        verdict=judge_ratio(final, precision, windows, others, Circumstances()).verdict,
        covers=final.low <= float(np.median(ratio[:at])) <= final.high,
        duration_s=now_s,
        windows=len(windows),
    )
