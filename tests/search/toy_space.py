"""A space small enough to enumerate: words of digits, two conflicting objectives."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class ToySpace:
    """All words of `length` digits below `choices`."""

    def __init__(self, length: int = 5, choices: int = 4) -> None:
        self.length = length
        self.choices = choices

    @property
    def size(self) -> int:
        return int(self.choices**self.length)

    def members(self) -> list[str]:
        digits = [str(digit) for digit in range(self.choices)]
        return ["".join(word) for word in itertools.product(digits, repeat=self.length)]

    def validate(self, encoding: str) -> None:
        assert encoding in self.members()

    def sample(self, rng: np.random.Generator) -> str:
        return "".join(str(d) for d in rng.integers(self.choices, size=self.length))

    def mutate(self, encoding: str, rng: np.random.Generator) -> str:
        place = int(rng.integers(self.length))
        step = int(rng.integers(1, self.choices))
        digit = (int(encoding[place]) + step) % self.choices
        return f"{encoding[:place]}{digit}{encoding[place + 1 :]}"

    def crossover(self, first: str, second: str, rng: np.random.Generator) -> str:
        return "".join(rng.choice(pair) for pair in zip(first, second, strict=True))


def toy_values(encoding: str) -> tuple[float, float]:
    """Cost grows with the digits, loss falls with them; late digits are the better deal."""
    digits = [int(digit) for digit in encoding]
    cost = sum(d * (1.0 + 0.3 * (i % 3)) for i, d in enumerate(digits))
    loss = sum((3 - d) ** 2 * (1.0 + 0.5 * i) for i, d in enumerate(digits))
    return cost, loss
