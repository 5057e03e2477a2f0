"""From spreads to intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from boardfront.latency_models.predictors.base import FloatArray, Prediction
from boardfront.protos.intervals import CONFIDENCE

NORMAL_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Half-widths of an interval of 95 % are so many standard deviations."""

_MOST_FREEDOM = 1000
"""From so many degrees of freedom on Student's distribution is the normal one."""


def student_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return t so that a Student variable lies in -t..t with this probability.

    Args:
        freedom: Degrees of freedom, rounded down, at least 1: fewer give a wider interval.
        confidence: 0 to 1.

    Source: M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and
    26.7.4 (the distribution as a finite sum for whole degrees of freedom), inverted by bisection
    over the angle.
    """
    whole = max(1, math.floor(freedom))
    if whole > _MOST_FREEDOM:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _central_probability(middle, whole) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(whole) * math.tan(low)


def around(median_s: FloatArray, half_s: FloatArray) -> Prediction:
    """Return predictions with intervals of these half-widths; none reaches below 0.

    A median below 0 is no time: it becomes 0, and the interval reaches as far as it did.
    """
    high_s = np.maximum(median_s + half_s, 0.0)
    low_s = np.maximum(median_s - half_s, 0.0)
    return Prediction(median_s=np.maximum(median_s, 0.0), low_s=low_s, high_s=high_s)


def conformal_quantile(scores: FloatArray, confidence: float = CONFIDENCE) -> float:
    """Return the score that a new one, exchangeable with these, is under with this probability.

    Where there are too few scores for a finite answer free of distribution (19 for 95 %), the
    largest is stretched as Student's distribution would: such an interval is not guaranteed.

    Source: V. Vovk, A. Gammerman and G. Shafer, Algorithmic Learning in a Random World, 2005: the
    ceil((n + 1) * confidence)-th smallest of n. The stretch is our own.

    Args:
        scores: Shape (scores,), at least one, 0 or above.
        confidence: 0 to 1.
    """
    ordered = np.sort(scores)
    rank = math.ceil((len(ordered) + 1) * confidence - 1e-9)
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    spread = math.sqrt(float(np.mean(ordered**2)) * (1 + 1 / len(ordered)))
    return max(float(ordered[-1]), student_quantile(len(ordered), confidence) * spread)


def _central_probability(angle: float, freedom: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        term, total = cosine, 0.0
        for k in range(1, (freedom - 1) // 2 + 1):
            total += term
            term *= cosine * cosine * 2 * k / (2 * k + 1)
        return 2 / math.pi * (angle + sine * total)
    term, total = 1.0, 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= cosine * cosine * (2 * k - 1) / (2 * k)
    return sine * total
