"""What an ET-NAS network consists of, block by block, as plain records.

The torch module, the ONNX writer and the counts read the same plan, so they cannot describe
different networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from boardfront.search.spaces.conv import ConvPlan
from boardfront.search.spaces.etnas.block import RATIOS, Block, format_block
from boardfront.search.spaces.etnas.encoding import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.search.spaces.etnas.encoding import Architecture
    from boardfront.search.spaces.etnas.settings import EtnasSettings

POINTWISE = "1"
DEPTHWISE = "4"
GROUPS = {"0": 1, "1": 1, "2": 2, "3": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlace:
    """Where a block stands; with the block's encoding it says all about the block.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        stride: 1, or 2 for the first block of stages 2 to 4.
        resolution: Height and width that go in, pixels.
    """

    inputs: int
    outputs: int
    stride: int
    resolution: int

    @property
    def output_resolution(self) -> int:
        """Height and width that come out, pixels."""
        return -(-self.resolution // self.stride)


@dataclass(frozen=True, kw_only=True, slots=True)
class SkipPlan:
    """A skip inside a block.

    Args:
        name: As in the encoding, such as "a02".
        source: Node that it comes from.
        target: Node that it goes into.
        added: Whether it adds; it concatenates otherwise.
        projection: Brings the source to the target's shape; None where it has that already.
    """

    name: str
    source: int
    target: int
    added: bool
    projection: ConvPlan | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """A block at its place.

    Node 0 is the input, node k the value after operator k and its skips: first the added ones,
    then the concatenated ones, then a ReLU. The last node has its ReLU after the residual.

    Args:
        encoding: OPS-SKIPS.
        place: Channels, stride, resolution.
        operators: One convolution a node.
        strided: Index of the operator that has the stride.
        skips: In the order in which they are joined.
        squeeze: Brings a widened last node back to the block's channels.
        residual: Projects the block's input where channels or resolution change.
    """

    encoding: str
    place: BlockPlace
    operators: tuple[ConvPlan, ...]
    strided: int
    skips: tuple[SkipPlan, ...]
    squeeze: ConvPlan | None
    residual: ConvPlan | None

    @property
    def output_resolution(self) -> int:
        """Height and width that come out, pixels."""
        return self.place.output_resolution

    def node_resolution(self, node: int) -> int:
        """Height and width of a node, pixels."""
        return self.output_resolution if node > self.strided else self.place.resolution

    def skips_into(self, node: int, *, added: bool) -> tuple[SkipPlan, ...]:
        """List the skips of one kind that go into a node."""
        return tuple(s for s in self.skips if s.target == node and s.added == added)

    def convolutions(self) -> Iterator[tuple[ConvPlan, int]]:
        """Yield every convolution with the resolution that goes into it, pixels."""
        for index, conv in enumerate(self.operators):
            yield conv, self.node_resolution(index)
        for skip in self.skips:
            if skip.projection is not None:
                yield skip.projection, self.node_resolution(skip.source)
        if self.squeeze is not None:
            yield self.squeeze, self.output_resolution
        if self.residual is not None:
            yield self.residual, self.place.resolution


@dataclass(frozen=True, kw_only=True, slots=True)
class StemPlan:
    """What stands before the blocks.

    Args:
        layers: Convolutions in order.
        pooled: Whether a 3x3 max pool with stride 2 follows.
    """

    layers: tuple[ConvPlan, ...]
    pooled: bool

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.layers[-1].outputs

    def convolutions(self, resolution: int) -> Iterator[tuple[ConvPlan, int]]:
        """Yield every convolution with the resolution that goes into it, pixels."""
        for conv in self.layers:
            yield conv, resolution
            resolution = conv.output_resolution(resolution)

    def output_resolution(self, resolution: int) -> int:
        """Height and width that come out when `resolution` goes in."""
        for conv in self.layers:
            resolution = conv.output_resolution(resolution)
        return -(-resolution // 2) if self.pooled else resolution


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkPlan:
    """A whole network: stem, blocks, global average pooling, classifier.

    Args:
        resolution: Height and width of an input image in pixels.
        stem: What stands before the blocks.
        blocks: In order.
        classes: Outputs of the classifier, a linear layer with bias.
    """

    resolution: int
    stem: StemPlan
    blocks: tuple[BlockPlan, ...]
    classes: int

    @property
    def features(self) -> int:
        """Inputs of the classifier."""
        return self.blocks[-1].place.outputs if self.blocks else self.stem.outputs

    def convolutions(self) -> Iterator[tuple[ConvPlan, int]]:
        """Yield every convolution with the resolution that goes into it, pixels."""
        yield from self.stem.convolutions(self.resolution)
        for block in self.blocks:
            yield from block.convolutions()


def plan_network(encoding: str, settings: EtnasSettings) -> NetworkPlan:
    """Lay out a whole network.

    Raises:
        InvalidEncodingError: `encoding` is no member of the space.
    """
    architecture = decode(encoding, settings)
    places = block_places(architecture, settings)
    return NetworkPlan(
        resolution=settings.resolution,
        stem=plan_stem(architecture.channels, settings),
        blocks=tuple(plan_block(architecture.block, place) for place in places),
        classes=settings.classes,
    )


def block_places(architecture: Architecture, settings: EtnasSettings) -> Iterator[BlockPlace]:
    """Yield where the blocks of an architecture stand, in order."""
    channels = architecture.channels
    resolution = plan_stem(channels, settings).output_resolution(settings.resolution)
    for number, stage in enumerate(architecture.stages):
        for index, digit in enumerate(stage):
            place = BlockPlace(
                inputs=channels,
                outputs=channels * int(digit),
                stride=2 if number and not index else 1,
                resolution=resolution,
            )
            yield place
            channels, resolution = place.outputs, place.output_resolution


def plan_stem(channels: int, settings: EtnasSettings) -> StemPlan:
    """Lay out the stem.

    The paper is silent on its own: what stands here gives the figures of its Table 10.
    """
    images = settings.in_channels
    if settings.stem == "resnet":
        wide = ConvPlan(inputs=images, outputs=channels, kernel=7, stride=2)
        return StemPlan(layers=(wide,), pooled=True)
    half = channels // 2
    layers = (
        ConvPlan(inputs=images, outputs=half, kernel=3, stride=2),
        ConvPlan(inputs=half, outputs=half, kernel=3),
        ConvPlan(inputs=half, outputs=channels, kernel=3, stride=2),
    )
    return StemPlan(layers=layers, pooled=False)


def plan_block(block: Block, place: BlockPlace) -> BlockPlan:
    """Lay out a block at a place.

    Source: NASOA, section B.1; where it is silent, what gives the figures of its Table 10. Not
        settled by either: a depthwise convolution whose channels change has as many groups as
        divide both sides, and a concatenated skip from before the stride is projected to the
        lower resolution with its channels kept.
    """
    strided = next((i for i, kind in enumerate(block.operators) if kind != POINTWISE), 0)
    outputs = [int(place.outputs * RATIOS[digit]) for digit in block.ratios] + [place.outputs]
    operators: list[ConvPlan] = []
    skips: list[SkipPlan] = []
    widths = [place.inputs]
    for index, kind in enumerate(block.operators):
        stride = place.stride if index == strided else 1
        operators.append(_plan_operator(kind, widths[index], outputs[index], stride))
        # Added skips join before concatenated ones: "a" sorts before "c".
        joined = [s for s in block.skips if int(s[2]) == index + 1]
        crossed = [place.stride if int(s[1]) <= strided <= index else 1 for s in joined]
        planned = [
            _plan_skip(s, widths[int(s[1])], outputs[index], stride)
            for s, stride in zip(joined, crossed, strict=True)
        ]
        skips += planned
        concatenated = sum(widths[s.source] for s in planned if not s.added)
        widths.append(outputs[index] + concatenated)
    widened = widths[-1] > place.outputs
    reshaped = place.stride > 1 or place.inputs != place.outputs
    return BlockPlan(
        encoding=format_block(block),
        place=place,
        operators=tuple(operators),
        strided=strided,
        skips=tuple(skips),
        squeeze=_pointwise(widths[-1], place.outputs) if widened else None,
        residual=_pointwise(place.inputs, place.outputs, place.stride) if reshaped else None,
    )


def _plan_operator(kind: str, inputs: int, outputs: int, stride: int) -> ConvPlan:
    return ConvPlan(
        inputs=inputs,
        outputs=outputs,
        kernel=1 if kind == POINTWISE else 3,
        stride=stride,
        groups=gcd(inputs, outputs) if kind == DEPTHWISE else GROUPS[kind],
        relu=False,
    )


def _plan_skip(name: str, inputs: int, outputs: int, stride: int) -> SkipPlan:
    added = name[0] == "a"
    target = outputs if added else inputs
    fits = stride == 1 and inputs == target
    return SkipPlan(
        name=name,
        source=int(name[1]),
        target=int(name[2]),
        added=added,
        projection=None if fits else _pointwise(inputs, target, stride),
    )


def _pointwise(inputs: int, outputs: int, stride: int = 1) -> ConvPlan:
    return ConvPlan(inputs=inputs, outputs=outputs, kernel=1, stride=stride, relu=False)
