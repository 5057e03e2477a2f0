"""The network of a space that the space's other networks are timed against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from boardfront.search.space import NetworkSpace, Space

if TYPE_CHECKING:
    import numpy as np

_DRAWN = 31


class MeasurableSpace(Space, NetworkSpace, Protocol):
    """A space to draw from whose members can be counted."""


def choose_reference(space: MeasurableSpace, rng: np.random.Generator) -> str:
    """Return a member of middling size: the median of a few by multiply-accumulates.

    A network of the same space is slowed by what slows the others, which a network of another
    kind is not; of middling size, because ratios near one are the steadiest.
    """
    drawn = sorted({space.sample(rng) for _ in range(_DRAWN)})
    drawn.sort(key=lambda encoding: space.count(encoding).macs)
    return drawn[len(drawn) // 2]
