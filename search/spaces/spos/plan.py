"""What a SPOS network consists of, layer by layer, as plain records.

The torch module, the ONNX writer and the counts read the same plan, so they cannot describe
different networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.search.spaces.conv import ConvPlan
from boardfront.search.spaces.spos.encoding import parse_choices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.search.spaces.spos.settings import SposSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """A choice block.

    With stride 1 the channels are shuffled and split: one half passes, the other goes through
    `main`, `projection` is empty. With stride 2 all channels go through both branches. The
    outputs are concatenated, the passed or projected ones first.

    Args:
        choice: One of 3, 5, 7, x.
        inputs: Input channels of the block, before the split.
        outputs: Output channels.
        stride: 1 or 2.
        main: Layers of the main branch.
        projection: Layers of the projection branch.
    """

    choice: str
    inputs: int
    outputs: int
    stride: int
    main: tuple[ConvPlan, ...]
    projection: tuple[ConvPlan, ...]

    def output_resolution(self, resolution: int) -> int:
        """Height and width that come out when `resolution` goes in."""
        return -(-resolution // self.stride)

    def convolutions(self, resolution: int) -> Iterator[tuple[ConvPlan, int]]:
        """Yield every convolution with the resolution that goes into it, pixels."""
        for branch in (self.projection, self.main):
            inner = resolution
            for conv in branch:
                yield conv, inner
                inner = conv.output_resolution(inner)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkPlan:
    """A whole network: stem, blocks, head, global average pooling, classifier.

    Args:
        resolution: Height and width of an input image in pixels.
        stem: First convolution.
        blocks: Choice blocks in order.
        head: 1x1 convolution before the pooling.
        classes: Outputs of the classifier, a linear layer without bias.
    """

    resolution: int
    stem: ConvPlan
    blocks: tuple[BlockPlan, ...]
    head: ConvPlan
    classes: int

    def convolutions(self) -> Iterator[tuple[ConvPlan, int]]:
        """Yield every convolution with the resolution that goes into it."""
        yield self.stem, self.resolution
        resolution = self.stem.output_resolution(self.resolution)
        for block in self.blocks:
            yield from block.convolutions(resolution)
            resolution = block.output_resolution(resolution)
        yield self.head, resolution


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlace:
    """Where a block stands: channels in and out, and its stride."""

    inputs: int
    outputs: int
    stride: int


def block_places(settings: SposSettings) -> tuple[BlockPlace, ...]:
    """List the places that the choices fill; they do not depend on the choices."""
    places = []
    inputs = settings.stem_channels
    for channels, repeat in settings.stages:
        for index in range(repeat):
            stride = 2 if index == 0 else 1
            places.append(BlockPlace(inputs=inputs, outputs=channels, stride=stride))
            inputs = channels
    return tuple(places)


def plan_block(choice: str, place: BlockPlace) -> BlockPlan:
    """Lay out the layers of one choice at one place.

    Args:
        choice: One of 3, 5, 7 (kernel of the depthwise convolution) and x (Xception-like).
        place: Channels and stride.

    Source: Guo et al. 2020, "Single Path One-Shot", figure 6 and the authors' published code;
        Zhang et al. 2024, figure 6. The middle of a block has outputs // 2 channels.
    """
    inputs = place.inputs if place.stride == 2 else place.inputs // 2
    outputs = place.outputs - inputs
    middle = place.outputs // 2
    if choice == "x":
        kernel = 3
        main = _separable(inputs, middle, place.stride)
        main += _separable(middle, middle, 1)
        main += _separable(middle, outputs, 1)
    else:
        kernel = int(choice)
        main = (
            ConvPlan(inputs=inputs, outputs=middle, kernel=1),
            _depthwise(middle, kernel, place.stride),
            ConvPlan(inputs=middle, outputs=outputs, kernel=1),
        )
    projection: tuple[ConvPlan, ...] = ()
    if place.stride == 2:
        projection = (
            _depthwise(inputs, kernel, 2),
            ConvPlan(inputs=inputs, outputs=inputs, kernel=1),
        )
    return BlockPlan(
        choice=choice,
        inputs=place.inputs,
        outputs=place.outputs,
        stride=place.stride,
        main=main,
        projection=projection,
    )


def plan_stem(settings: SposSettings) -> ConvPlan:
    """Lay out the first convolution."""
    return ConvPlan(
        inputs=settings.in_channels,
        outputs=settings.stem_channels,
        kernel=3,
        stride=settings.stem_stride,
    )


def plan_head(settings: SposSettings) -> ConvPlan:
    """Lay out the last convolution."""
    return ConvPlan(inputs=settings.stages[-1][0], outputs=settings.last_channels, kernel=1)


def plan_network(encoding: str, settings: SposSettings) -> NetworkPlan:
    """Lay out a whole network.

    Raises:
        InvalidEncodingError: `encoding` is no member of the space.
    """
    choices = parse_choices(encoding, settings.repeats)
    places = block_places(settings)
    return NetworkPlan(
        resolution=settings.resolution,
        stem=plan_stem(settings),
        blocks=tuple(plan_block(c, p) for c, p in zip(choices, places, strict=True)),
        head=plan_head(settings),
        classes=settings.classes,
    )


def _depthwise(channels: int, kernel: int, stride: int) -> ConvPlan:
    return ConvPlan(
        inputs=channels,
        outputs=channels,
        kernel=kernel,
        stride=stride,
        groups=channels,
        relu=False,
    )


def _separable(inputs: int, outputs: int, stride: int) -> tuple[ConvPlan, ...]:
    return (_depthwise(inputs, 3, stride), ConvPlan(inputs=inputs, outputs=outputs, kernel=1))
