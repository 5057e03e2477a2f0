"""Limits of an ET-NAS space: which channels, how many blocks, which stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.etnas.block import COMMON_BLOCKS, parse_block

STEMS = ("etnas", "resnet")

# Ratios go down to 1/4 and groups up to 4: multiples of 16 keep every channel count divisible.
CHANNEL_STEP = 16

STAGES = 4

COMMON = "common"
"""What stands for `COMMON_BLOCKS` in a configuration file."""

PARAMETERS: tuple[tuple[str, str], ...] = (
    ("resolution", "height and width of an input image, pixels"),
    ("classes", "number of outputs"),
    ("in_channels", "channels of an input image"),
    ("stem", "'etnas' (three 3x3 convolutions) or 'resnet' (one of 7x7, max pool)"),
    ("channels", "what CHANNEL may be: channels after the stem, multiples of 16"),
    ("last_channels", "what the output channels of the last block may be"),
    ("min_blocks", "fewest blocks of all four stages"),
    ("max_blocks", "most blocks of all four stages"),
    ("blocks", "what BLOCK may be; empty: every block; 'common': those of published models"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EtnasSettings:
    """Limits of an ET-NAS space; the defaults hold the published models and the ResNets.

    The macro phase of the paper's search is `min_blocks=10, last_channels=(512, 1024, 2048)`;
    the published ET-NAS-B ends in 256 channels and ResNet-18 has 8 blocks.

    Args:
        resolution: Height and width of an input image in pixels.
        classes: Number of outputs.
        in_channels: Channels of an input image.
        stem: "etnas", three 3x3 convolutions with strides 2, 1, 2; or "resnet", a 7x7
            convolution with stride 2 and a max pool with stride 2.
        channels: What the channels after the stem may be, ascending multiples of 16.
        last_channels: What the output channels of the last block may be, ascending.
        min_blocks: Fewest blocks of all four stages, at least 4: a stage has at least one.
        max_blocks: Most blocks of all four stages.
        blocks: What BLOCK may be, such as `COMMON_BLOCKS`; empty allows every block.

    Raises:
        WrongInputError: A value has the wrong type or lies outside its range.

    Source: "NASOA: Towards Faster Task-oriented Online Fine-tuning", 2020, sections B.1, B.3.2.
    """

    resolution: int = 224
    classes: int = 1000
    in_channels: int = 3
    stem: str = "etnas"
    channels: tuple[int, ...] = (32, 64, 128)
    last_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    min_blocks: int = 4
    max_blocks: int = 50
    blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("resolution", "classes", "in_channels", "min_blocks", "max_blocks"):
            _require_positive(name, getattr(self, name))
        if self.stem not in STEMS:
            raise WrongInputError(f"stem: expected one of {', '.join(STEMS)}, got {self.stem!r}")
        for name in ("channels", "last_channels"):
            _require_channels(name, getattr(self, name))
        if self.min_blocks < STAGES:
            raise WrongInputError(
                f"min_blocks: expected at least {STAGES}, one a stage, got {self.min_blocks}"
            )
        if self.max_blocks < self.min_blocks:
            raise WrongInputError(
                f"max_blocks: expected at least the {self.min_blocks} of min_blocks, "
                f"got {self.max_blocks}"
            )
        _require_blocks(self.blocks)


def read_settings(values: Mapping[str, object]) -> EtnasSettings:
    """Read settings as a configuration file gives them (lists for tuples).

    Args:
        values: Name -> value; what is absent keeps its default. `blocks` may be `COMMON`.

    Raises:
        WrongInputError: An unknown name (the message lists the allowed ones) or a wrong value.
    """
    allowed = [field.name for field in fields(EtnasSettings)]
    for name in values:
        if name not in allowed:
            raise WrongInputError(
                f"space etnas has no setting {name!r}: use one of {', '.join(allowed)}"
            )
    plain = dict(values)
    if plain.get("blocks") == COMMON:
        plain["blocks"] = COMMON_BLOCKS
    for name in ("channels", "last_channels", "blocks"):
        value = plain.get(name, ())
        if isinstance(value, Sequence) and not isinstance(value, str) and name in plain:
            plain[name] = tuple(value)
    return EtnasSettings(**plain)  # type: ignore[arg-type]  # __post_init__ checks the types


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongInputError(f"{name}: expected a whole number of at least 1, got {value!r}")


def _require_channels(name: str, value: object) -> None:
    if not isinstance(value, tuple) or not value:
        raise WrongInputError(f"{name}: expected a list of at least one number, got {value!r}")
    for channels in value:
        _require_positive(name, channels)
        if channels % CHANNEL_STEP:
            raise WrongInputError(
                f"{name}: expected multiples of {CHANNEL_STEP}, so that a quarter has four "
                f"groups, got {channels}"
            )
    if list(value) != sorted(set(value)):
        raise WrongInputError(f"{name}: expected ascending numbers, got {list(value)}")


def _require_blocks(value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(block, str) for block in value):
        raise WrongInputError(
            f"blocks: expected a list of blocks such as '020-', or {COMMON!r}, got {value!r}"
        )
    try:
        _ = [parse_block(block) for block in value]
    except WrongInputError as error:
        raise WrongInputError(f"blocks: {error}") from error
    if len(set(value)) < len(value):
        raise WrongInputError(f"blocks: expected each block once, got {list(value)}")
