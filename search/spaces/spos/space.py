"""The SPOS space: encoding, counts and networks behind the Protocols of `search.space`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from boardfront.search.spaces.catalog import SpaceInfo
from boardfront.search.spaces.spos.counting import count_network
from boardfront.search.spaces.spos.decomposition import (
    count_block,
    decompose,
    list_block_kinds,
    plan_chain,
)
from boardfront.search.spaces.spos.encoding import (
    CHOICES,
    cross_choices,
    format_choices,
    mutate_choices,
    parse_choices,
    sample_choices,
)
from boardfront.search.spaces.spos.plan import plan_network
from boardfront.search.spaces.spos.settings import PARAMETERS, SposSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import onnx
    import torch

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.search.space import Counts


class SposSpace:
    """ShuffleNetV2 choice blocks: kernel 3, 5, 7 or an Xception-like block at every place.

    An encoding has one character a block, `3`, `5`, `7` or `x`, and a dash between stages:
    `3357-x7x3-33573x57-5xx3`. Implements Space, NetworkSpace, SupernetSpace and
    DecomposableSpace. Torch and onnx are imported by the methods that need them only.

    Args:
        settings: Size of the space.

    Source: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
        Sampling", section 4 and figure 6, in the sizes of Zhang et al. 2024, Table 7.
        Deviations: see `mutate_choices` and `SposSupernet`.
    """

    def __init__(self, settings: SposSettings) -> None:
        self.settings = settings

    @classmethod
    def info(cls) -> SpaceInfo:
        """Describe the space."""
        defaults = {field.name: str(field.default) for field in fields(SposSettings)}
        return SpaceInfo(
            name="spos",
            summary="ShuffleNetV2 choice blocks of SPOS: kernel 3, 5, 7 or Xception-like.",
            parameters=tuple((name, defaults[name], text) for name, text in PARAMETERS),
            networks=True,
            supernet=True,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> SposSpace:
        """Make the space from settings as a configuration file gives them.

        Raises:
            WrongInputError: A setting is unknown or wrong.
        """
        return cls(read_settings(settings))

    @property
    def size(self) -> int:
        """Number of architectures: four choices a block."""
        return int(len(CHOICES) ** self.settings.blocks)

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
        parse_choices(encoding, self.settings.repeats)

    def sample(self, rng: np.random.Generator) -> str:
        """Return a member drawn uniformly."""
        return self._format(sample_choices(self.settings.blocks, rng))

    def mutate(self, encoding: str, rng: np.random.Generator) -> str:
        """Return `encoding` with another choice in one block."""
        return self._format(mutate_choices(self._parse(encoding), rng))

    def crossover(self, first: str, second: str, rng: np.random.Generator) -> str:
        """Return a member that takes each block from one of the two parents."""
        return self._format(cross_choices(self._parse(first), self._parse(second), rng))

    def count(self, encoding: str) -> Counts:
        """Count parameters, multiply-accumulates and activations of one image."""
        return count_network(plan_network(encoding, self.settings))

    def build(self, encoding: str) -> torch.nn.Module:
        """Build the stand-alone module, with torch's default initial weights.

        Its forward maps images (batch, in_channels, resolution, resolution) to logits
        (batch, classes).
        """
        from boardfront.search.spaces.spos.network import SposNetwork

        return SposNetwork(encoding, self.settings)

    def build_supernet(self) -> torch.nn.Module:
        """Build the supernet, with torch's default initial weights.

        Its forward maps (images, encoding) to logits (batch, classes).
        """
        from boardfront.search.spaces.spos.network import SposSupernet

        return SposSupernet(self.settings)

    def inherit(self, supernet: torch.nn.Module, encoding: str) -> torch.nn.Module:
        """Return the stand-alone module of `encoding`, holding a copy of its supernet weights.

        It stands on the supernet's device and in its mode (training or evaluation).

        Raises:
            WrongInputError: `supernet` is of another space or other settings.
        """
        from boardfront.search.spaces.spos.network import inherit_path

        return inherit_path(supernet, encoding, self.settings)

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
            WrongInputError: `batch` is not positive, or `weights` do not fit the network.
        """
        from boardfront.search.spaces.spos.onnx_writer import write_network

        plan = plan_network(encoding, self.settings)
        return write_network(plan, batch=batch, weights=weights, seed=seed)

    def decompose(self, encoding: str) -> Decomposition:
        """Return the blocks of a member, stem first, head last.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        return decompose(encoding, self.settings)

    def block_kinds(self) -> Sequence[BlockKey]:
        """List the stem, the four choices at each distinct place, and the head."""
        return list_block_kinds(self.settings)

    def count_block(self, block: BlockKey) -> Counts:
        """Count one block, stem or head; those of a member's blocks add up to `count`.

        Raises:
            InvalidEncodingError: The block's kind is no choice.
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
        """Write the space's stem, blocks in a row, and a head as a network.

        Args:
            chain: See `plan_chain`.
            batch: Fixed batch size of "images" (batch, in_channels, resolution, resolution).
            weights: By the names of `build()`'s state; None writes notes in their place.
            seed: Of the notes.

        Raises:
            InvalidEncodingError: A block's kind is no choice.
            WrongInputError: The chain does not fit together, `batch` is not positive, or
                `weights` do not fit the chain.
        """
        from boardfront.search.spaces.spos.onnx_writer import write_network

        plan = plan_chain(chain, self.settings)
        return write_network(plan, batch=batch, weights=weights, seed=seed)

    def _parse(self, encoding: str) -> str:
        return parse_choices(encoding, self.settings.repeats)

    def _format(self, choices: str) -> str:
        return format_choices(choices, self.settings.repeats)
