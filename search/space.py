"""What a search space guarantees.

Four Protocols, each for one kind of user: the search needs `Space`, measuring needs
`NetworkSpace`, supernet training needs `SupernetSpace`, tables of block times need
`DecomposableSpace`. A space class may offer all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import onnx
    import torch

    from boardfront.latency_models.blocks import BlockKey, Decomposition


class InvalidEncodingError(WrongInputError):
    """An encoding breaks a rule of its space.

    Args:
        encoding: The text as given.
        position: Index of the first wrong character, counted from 0.
        rule: What the space expects there, and what came.
    """

    def __init__(self, encoding: str, position: int, rule: str) -> None:
        self.encoding = encoding
        self.position = position
        self.rule = rule
        super().__init__(f"invalid encoding {encoding!r} at position {position}: {rule}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Size of a network.

    Args:
        params: Trainable parameters.
        macs: Multiply-accumulates of convolutions and linear layers for one image.
        activations: Elements of all convolution outputs for one image.
    """

    params: int
    macs: int
    activations: int


@runtime_checkable
class Space(Protocol):
    """A set of architectures, each written as an encoding that a person can read and paste.

    Guarantees: every method is pure; all randomness comes from the generator passed in; every
    encoding returned is canonical (one architecture has exactly one) and passes `validate`.
    """

    @property
    def size(self) -> int:
        """Number of distinct architectures."""

    def validate(self, encoding: str) -> None:
        """Raise InvalidEncodingError, with position and rule, unless `encoding` is a member."""

    def sample(self, rng: np.random.Generator) -> str:
        """Return a member drawn uniformly."""

    def mutate(self, encoding: str, rng: np.random.Generator) -> str:
        """Return another member, one small step away; never `encoding` itself."""

    def crossover(self, first: str, second: str, rng: np.random.Generator) -> str:
        """Return a member that takes each of its parts from one of the two parents."""


@runtime_checkable
class NetworkSpace(Protocol):
    """A space whose members are image classifiers that can be built.

    Guarantees: `write_onnx` and `build` describe the same network, `count` counts it without
    building it, and `write_onnx` needs milliseconds (no torch exporter).
    """

    @property
    def resolution(self) -> int:
        """Height and width of an input image in pixels."""

    @property
    def classes(self) -> int:
        """Number of outputs."""

    def count(self, encoding: str) -> Counts:
        """Count parameters, multiply-accumulates and activations."""

    def build(self, encoding: str) -> torch.nn.Module:
        """Build the stand-alone torch module.

        Its forward maps float images (batch, in_channels, resolution, resolution) to logits
        (batch, classes).
        """

    def write_onnx(
        self,
        encoding: str,
        *,
        batch: int,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
        seed: int = 0,
    ) -> onnx.ModelProto:
        """Write the network in inference form, opset 18, BatchNormalization kept.

        Args:
            encoding: The architecture.
            batch: Fixed batch size of the input "images", named output "logits".
            weights: State of `build(encoding)` by its names; None writes a weightless file:
                notes of normal-scale values stand in place of the weights, as times do not
                depend on trained ones (see protos/weightless.py).
            seed: Of the notes.
        """


@runtime_checkable
class SupernetSpace(Protocol):
    """A space whose architectures can share the weights of one supernet."""

    def build_supernet(self) -> torch.nn.Module:
        """Build the module that holds every choice.

        Its forward takes (images, encoding) and runs the single path that `encoding` selects.
        """

    def inherit(self, supernet: torch.nn.Module, encoding: str) -> torch.nn.Module:
        """Return the stand-alone module of `encoding`, holding a copy of its supernet weights."""


@runtime_checkable
class DecomposableSpace(Protocol):
    """A space whose networks run one block after the other, so that block times can be added.

    Guarantees: every method is pure. What `write_chain` writes for the blocks of a member has
    the layers, and so the structure hash, of what `write_onnx` writes for the member; blocks put
    into a chain add their layers and change no other.
    """

    def decompose(self, encoding: str) -> Decomposition:
        """Return the blocks of a member, stem first, head last.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """

    def block_kinds(self) -> Sequence[BlockKey] | None:
        """List every block that some member has, none twice, in an order that never changes.

        None where there are too many to list.
        """

    def write_chain(
        self,
        chain: Sequence[BlockKey],
        *,
        batch: int,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
        seed: int = 0,
    ) -> onnx.ModelProto:
        """Write blocks in a row as a network, in the form of `NetworkSpace.write_onnx`.

        Args:
            chain: A stem of the space, blocks of any number and order whose channels and
                resolution follow from the one before, a head. It need not be a member's.
            batch: Fixed batch size of the input "images", named output "logits".
            weights: By the names that a member's have; None writes notes in their place.
            seed: Of the notes.

        Raises:
            InvalidEncodingError: A block's kind is no block of the space.
            WrongInputError: The chain does not fit together, or `batch` is not positive.
        """
