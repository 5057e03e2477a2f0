"""The ET-NAS space: encoding, counts and networks behind the Protocols of `search.space`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.catalog import SpaceInfo
from boardfront.search.spaces.etnas.counting import count_network
from boardfront.search.spaces.etnas.decomposition import (
    count_block,
    decompose,
    list_block_kinds,
    plan_chain,
)
from boardfront.search.spaces.etnas.encoding import decode, encode
from boardfront.search.spaces.etnas.members import count_members, sample_architecture
from boardfront.search.spaces.etnas.moves import cross_architectures, mutate_architecture
from boardfront.search.spaces.etnas.plan import plan_network
from boardfront.search.spaces.etnas.settings import PARAMETERS, EtnasSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import onnx
    import torch

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.search.space import Counts
    from boardfront.search.spaces.etnas.plan import NetworkPlan


class EtnasSpace:
    """Blocks of one to three operators with skips, stacked in four stages.

    An encoding is BLOCK_CHANNEL_MACRO, such as `02031-a02_64_111-2111-21111-211`; docs/spaces.md
    says how it reads. Implements Space, NetworkSpace and DecomposableSpace. Torch and onnx are
    imported by the methods that need them only.

    Args:
        settings: Limits of the space.

    Raises:
        WrongInputError: The limits leave no architecture, or one only.

    Source: "NASOA: Towards Faster Task-oriented Online Fine-tuning", 2020, sections 3.1 and B.
        Deviations: see `sample_architecture`, `mutate_architecture`, `cross_architectures`.
    """

    def __init__(self, settings: EtnasSettings) -> None:
        self.settings = settings
        self._size = count_members(settings)
        if not self._size:
            raise WrongInputError(
                f"last_channels: expected one that channels {list(settings.channels)} times "
                f"digits from 1 to 9 can give, got {list(settings.last_channels)}"
            )
        if self._size == 1:
            raise WrongInputError(
                f"blocks: expected limits that leave two architectures or more, got one block "
                f"{settings.blocks[0]} and one macro: allow more blocks or a larger max_blocks"
            )

    @classmethod
    def info(cls) -> SpaceInfo:
        """Describe the space."""
        defaults = {
            field.name: f'"{field.default}"' if field.name == "stem" else str(field.default)
            for field in fields(EtnasSettings)
        }
        return SpaceInfo(
            name="etnas",
            summary="ET-NAS of NASOA: blocks of one to three operators with skips, four stages.",
            parameters=tuple((name, defaults[name], text) for name, text in PARAMETERS),
            networks=True,
            supernet=False,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> EtnasSpace:
        """Make the space from settings as a configuration file gives them.

        Raises:
            WrongInputError: A setting is unknown or wrong.
        """
        return cls(read_settings(settings))

    @property
    def size(self) -> int:
        """Number of architectures: blocks times macros."""
        return self._size

    @property
    def resolution(self) -> int:
        """Height and width of an input image in pixels."""
        return self.settings.resolution

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.settings.classes

    def validate(self, encoding: str) -> None:
        """Raise InvalidEncodingError, with position and rule, unless `encoding` is a member."""
        decode(encoding, self.settings)

    def sample(self, rng: np.random.Generator) -> str:
        """Return a member drawn uniformly."""
        return encode(sample_architecture(self.settings, rng))

    def mutate(self, encoding: str, rng: np.random.Generator) -> str:
        """Return another member, one step of `mutate_architecture` away."""
        return encode(mutate_architecture(decode(encoding, self.settings), self.settings, rng))

    def crossover(self, first: str, second: str, rng: np.random.Generator) -> str:
        """Return a member with block, channels and each stage from one of the two parents."""
        parents = decode(first, self.settings), decode(second, self.settings)
        return encode(cross_architectures(*parents, self.settings, rng))

    def plan(self, encoding: str) -> NetworkPlan:
        """Lay out the network: its stem and every block with place and convolutions."""
        return plan_network(encoding, self.settings)

    def count(self, encoding: str) -> Counts:
        """Count parameters, multiply-accumulates and activations of one image."""
        return count_network(self.plan(encoding))

    def build(self, encoding: str) -> torch.nn.Module:
        """Build the stand-alone module, with torch's default initial weights.

        Its forward maps images (batch, in_channels, resolution, resolution) to logits
        (batch, classes).
        """
        from boardfront.search.spaces.etnas.network import EtnasNetwork

        return EtnasNetwork(self.plan(encoding))

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
            batch: Fixed batch size of "images" (batch, in_channels, resolution, resolution).
            weights: State of `build(encoding)` by its names; None writes notes in their place.
            seed: Of the notes.

        Raises:
            WrongInputError: `batch` is not positive, `weights` do not fit the network, or they
                take 2 GiB, more than an ONNX model can hold.
        """
        from boardfront.search.spaces.etnas.onnx_writer import write_network

        return write_network(self.plan(encoding), batch=batch, weights=weights, seed=seed)

    def decompose(self, encoding: str) -> Decomposition:
        """Return the blocks of a member, stem first, head last.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        return decompose(encoding, self.settings)

    def block_kinds(self) -> Sequence[BlockKey] | None:
        """List stems, blocks and heads where the settings list few blocks; None otherwise."""
        return list_block_kinds(self.settings)

    def count_block(self, block: BlockKey) -> Counts:
        """Count one block, stem or head; those of a member's blocks add up to `count`.

        Raises:
            InvalidEncodingError: The block's kind is no block.
            WrongInputError: The block has a shape that no block has.
        """
        return count_block(block, self.settings)

    def write_chain(
        self,
        chain: Sequence[BlockKey],
        *,
        batch: int,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
        seed: int = 0,
    ) -> onnx.ModelProto:
        """Write a stem of the space, blocks in a row, and a head as a network.

        Args:
            chain: See `plan_chain`.
            batch: Fixed batch size of "images" (batch, in_channels, resolution, resolution).
            weights: By the names of `build()`'s state; None writes notes in their place.
            seed: Of the notes.

        Raises:
            InvalidEncodingError: A block's kind is no block.
            WrongInputError: The chain does not fit together, `batch` is not positive, `weights`
                do not fit the chain, or they take 2 GiB, more than an ONNX model can hold.
        """
        from boardfront.search.spaces.etnas.onnx_writer import write_network

        plan = plan_chain(chain, self.settings)
        return write_network(plan, batch=batch, weights=weights, seed=seed)
