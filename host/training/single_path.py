"""One network as a supernet of a single path, so that it is trained by the same code."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol, cast

import torch
from typing_extensions import override

from boardfront.search.space import NetworkSpace, Space

if TYPE_CHECKING:
    import numpy as np


class BuildableSpace(Space, NetworkSpace, Protocol):
    """A space whose members can be built."""


class SinglePath(torch.nn.Module):
    """A network that is asked like a supernet and has one path."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, images: torch.Tensor, encoding: str) -> torch.Tensor:
        """Map (batch, channels, height, width) to logits (batch, classes)."""
        del encoding
        return cast("torch.Tensor", self.network(images))


class SingleSpace:
    """The space of one architecture: a Space and a SupernetSpace.

    Args:
        space: That builds it.
        encoding: The architecture.
    """

    def __init__(self, space: BuildableSpace, encoding: str) -> None:
        self._space = space
        self._encoding = encoding

    @property
    def size(self) -> int:
        """One."""
        return 1

    def validate(self, encoding: str) -> None:
        """Raise InvalidEncodingError unless `encoding` is a member of the whole space."""
        self._space.validate(encoding)

    def sample(self, rng: np.random.Generator) -> str:
        """Return the architecture."""
        del rng
        return self._encoding

    def mutate(self, encoding: str, rng: np.random.Generator) -> str:
        """Fail: there is no other member."""
        raise NotImplementedError

    def crossover(self, first: str, second: str, rng: np.random.Generator) -> str:
        """Return the architecture."""
        del first, second, rng
        return self._encoding

    def build_supernet(self) -> SinglePath:
        """Build the network, with the initial weights that torch's global generator gives."""
        return SinglePath(self._space.build(self._encoding))

    def inherit(self, supernet: torch.nn.Module, encoding: str) -> torch.nn.Module:
        """Return a copy of the network."""
        del encoding
        return copy.deepcopy(cast("SinglePath", supernet).network)
