"""What a search algorithm guarantees, and what it is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.search.space import Space


class AskTellOrderError(BoardfrontError):
    """`ask` and `tell` were not called in turn, or other encodings were told than asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A measured architecture.

    Args:
        encoding: The architecture.
        values: One an objective, finite, minimised.
        violations: One a hard limit, finite, 0 where it is kept.
    """

    encoding: str
    values: tuple[float, ...]
    violations: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (*self.values, *self.violations)
        if not all(map(math.isfinite, numbers)) or any(v < 0 for v in self.violations):
            raise WrongInputError(
                f"expected finite values and violations of at least 0 for {self.encoding!r}, got "
                f"{self.values} and {self.violations}: tell Failed where there is no value",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """An architecture that could not be evaluated, and why. It has no values at all."""

    encoding: str
    reason: str


Scored: TypeAlias = Evaluated | Failed


@runtime_checkable
class SearchAlgorithm(Protocol):
    """Proposes architectures and learns from what they turned out to be.

    Guarantees:
        - `ask` and `tell` alternate; anything else raises AskTellOrderError and changes nothing.
        - The encodings of one `ask` differ from each other and, as long as the space has others,
          from all asked before. An empty `ask` means that the space is exhausted; it needs no
          `tell` and will stay empty.
        - `tell` takes one answer for each encoding asked, in any order; the order changes
          nothing.
        - A failed architecture never survives against a measured one.
        - Equal construction and equal tells give equal asks, on every machine with the same
          library versions. No global random state is read or changed. Resuming a run by
          replaying its journal rests on this.
        - Not safe for several threads.
    """

    def ask(self) -> tuple[str, ...]:
        """Return the encodings of the next generation."""

    def tell(self, scored: Sequence[Scored]) -> None:
        """Learn what the encodings of the last `ask` turned out to be."""


class AlgorithmFactory(Protocol):
    """How the catalogue's entries are called."""

    def __call__(
        self,
        space: Space,
        *,
        objectives: int,
        seed: int,
        population: int,
        crossover_probability: float,
        mutation_probability: float,
    ) -> SearchAlgorithm:
        """Make an algorithm in its first state."""
