"""How well a table's sums give the times of whole networks, and the calibration of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.latency_models.accuracy import assess, mape
from boardfront.latency_models.table import Calibration, NetworkRole, Residual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.accuracy import Accuracy
    from boardfront.latency_models.table import NetworkTime, Table

    _Times = npt.NDArray[np.float64]

_FEWEST_TO_SCALE = 3
_FEWEST_TO_SHIFT = 6


def networks_of(table: Table, role: NetworkRole) -> list[NetworkTime]:
    """Return the whole networks of a role all of whose blocks have an entry."""
    known = table.times_s.keys()
    return [
        one
        for one in table.networks
        if one.role is role and known >= set(one.decomposition.blocks)
    ]


def calibrate(table: Table) -> Calibration | None:
    """Fit what turns sums into times, as far as the networks for it allow.

    Of the plain sum, a factor, and a factor with an offset, the one counts whose error on
    networks left out of the fit is the least: few networks that take nearly as long say nothing
    of an offset.

    Returns:
        None where there are fewer than three networks, or where the plain sum is best.
    """
    networks = networks_of(table, NetworkRole.CALIBRATION)
    if len(networks) < _FEWEST_TO_SCALE:
        return None
    sums = np.array(table.sums_s(one.decomposition for one in networks))
    times = np.array([one.time_s for one in networks])
    fits: list[Callable[[_Times, _Times], tuple[float, float]]] = [_plain, _factor]
    if len(networks) >= _FEWEST_TO_SHIFT:
        fits.append(_line)
    errors = [_left_out_error(fit, sums, times) for fit in fits]
    best = fits[int(np.argmin(errors))]
    if best is _plain:
        return None
    offset_s, slope = best(sums, times)
    return Calibration(offset_s=offset_s, slope=slope, networks=len(networks))


def judge_networks(table: Table) -> Residual | None:
    """Return how far held-out networks are from what the table says; None where there are none."""
    networks = networks_of(table, NetworkRole.HELD_OUT)
    if not networks:
        return None
    sums_s = table.sums_s(one.decomposition for one in networks)
    predicted_s = [table.calibrated_s(sum_s) for sum_s in sums_s]
    return residual_of(networks, predicted_s, [one.time_s for one in networks], sums_s)


def residual_of(
    networks: Sequence[NetworkTime],
    predicted_s: Sequence[float],
    measured_s: Sequence[float],
    sums_s: Sequence[float],
) -> Residual:
    """Return how far predictions are from the truth.

    Args:
        networks: Whose, with their repeats.
        predicted_s: Seconds, one a network.
        measured_s: Seconds, one a network.
        sums_s: The plain sums, one a network.
    """
    found = assess(predicted_s, measured_s, [one.repeats_s for one in networks])
    floor = found.noise_floor
    return Residual(
        **error_fields(found, [one.encoding for one in networks]),
        spread=found.spread,
        kendall=found.kendall,
        noise_floor=None if floor is None else floor.mape,
        repeats=0 if floor is None else floor.repeats,
        uncalibrated_mape=mape(sums_s, measured_s),
    )


def error_fields(found: Accuracy, encodings: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a `PredictionError`, also those of a `Residual`, by name.

    Args:
        found: About the networks.
        encodings: Of the networks, in the same order.
    """
    return {
        "networks": found.networks,
        "mape": found.mape,
        "within_5": found.within_5.value,
        "within_5_low": found.within_5.low,
        "within_5_high": found.within_5.high,
        "within_10": found.within_10.value,
        "within_10_low": found.within_10.low,
        "within_10_high": found.within_10.high,
        "worst": found.worst,
        "worst_encoding": encodings[found.worst_index],
        "bias": found.bias,
        "spearman": found.spearman,
    }


def _plain(sums: _Times, times: _Times) -> tuple[float, float]:
    del sums, times
    return 0.0, 1.0


def _factor(sums: _Times, times: _Times) -> tuple[float, float]:
    return 0.0, float(np.median(times / sums))


def _line(sums: _Times, times: _Times) -> tuple[float, float]:
    """Fit a line by least squares of the relative errors."""
    design = np.stack([1 / times, sums / times], axis=1)
    (offset_s, slope), *_ = np.linalg.lstsq(design, np.ones(len(times)), rcond=None)
    return float(offset_s), float(slope)


def _left_out_error(
    fit: Callable[[_Times, _Times], tuple[float, float]], sums: _Times, times: _Times
) -> float:
    errors = []
    for index in range(len(sums)):
        others = np.arange(len(sums)) != index
        offset_s, slope = fit(sums[others], times[others])
        errors.append(abs(offset_s + slope * sums[index] - times[index]) / times[index])
    return float(np.mean(errors))
