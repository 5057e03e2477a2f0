"""What an accuracy estimator guarantees."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Estimator(Protocol):
    """Estimates how accurate an architecture of one space would be.

    Guarantees: `validation_accuracy` is a function of (`state_id`, encoding) alone: the same
    pair gives the same number on the same machine, in whatever order architectures come. It
    never looks at test images. A change of anything that the number depends on (weights,
    calibration, validation set) changes `state_id`, so a journal may keep accuracies by the pair
    and knows when they are out of date.

    Calls come from one thread at a time. An architecture that is no member of the space raises
    InvalidEncodingError and leaves the estimator usable.
    """

    @property
    def state_id(self) -> str:
        """Version of everything that accuracies depend on, as short hexadecimal text."""

    def validation_accuracy(self, encoding: str) -> float:
        """Return the share of validation images classified rightly, from 0 to 1."""
