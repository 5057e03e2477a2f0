"""Size of a SPOS space: the numbers that turn Table 7 into one concrete space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from boardfront.protos.errors import WrongInputError

PARAMETERS: tuple[tuple[str, str], ...] = (
    ("resolution", "height and width of an input image, pixels"),
    ("classes", "number of outputs"),
    ("in_channels", "channels of an input image"),
    ("stem_channels", "outputs of the first 3x3 convolution"),
    ("stem_stride", "stride of the first convolution, 1 or 2"),
    ("stages", "(channels, repeat) of each stage; the first block of a stage has stride 2"),
    ("last_channels", "outputs of the 1x1 convolution before the pooling"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SposSettings:
    """Size of a SPOS space; the defaults are the ImageNet space of 20 blocks.

    Args:
        resolution: Height and width of an input image in pixels.
        classes: Number of outputs.
        in_channels: Channels of an input image.
        stem_channels: Outputs of the first 3x3 convolution.
        stem_stride: Its stride, 1 or 2.
        stages: (channels, repeat) of each stage. Channels are even and grow from stage to
            stage: the channel split halves them, and a stride-2 block adds channels to those
            that it passes on.
        last_channels: Outputs of the 1x1 convolution before the pooling.

    Raises:
        WrongInputError: A value has the wrong type or lies outside its range.

    Source: Zhang et al. 2024, "Boosting Order-Preserving and Transferability for Neural
        Architecture Search", Table 7, which repeats Guo et al. 2020, "Single Path One-Shot".
    """

    resolution: int = 224
    classes: int = 1000
    in_channels: int = 3
    stem_channels: int = 16
    stem_stride: int = 2
    stages: tuple[tuple[int, int], ...] = ((64, 4), (160, 4), (320, 8), (640, 4))
    last_channels: int = 1024

    def __post_init__(self) -> None:
        for name in ("resolution", "classes", "in_channels", "stem_channels", "last_channels"):
            _require_positive(name, getattr(self, name))
        if self.stem_stride not in (1, 2):
            raise WrongInputError(f"stem_stride: expected 1 or 2, got {self.stem_stride!r}")
        _require_stages(self.stages, self.stem_channels)

    @property
    def repeats(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(repeat for _, repeat in self.stages)

    @property
    def blocks(self) -> int:
        """Number of blocks of all stages."""
        return sum(self.repeats)


def read_settings(values: Mapping[str, object]) -> SposSettings:
    """Read settings as a configuration file gives them (lists for tuples).

    Args:
        values: Name -> value; what is absent keeps its default.

    Raises:
        WrongInputError: An unknown name (the message lists the allowed ones) or a wrong value.
    """
    allowed = [field.name for field in fields(SposSettings)]
    for name in values:
        if name not in allowed:
            raise WrongInputError(
                f"space spos has no setting {name!r}: use one of {', '.join(allowed)}"
            )
    plain = dict(values)
    if "stages" in plain:
        plain["stages"] = _read_stages(plain["stages"])
    return SposSettings(**plain)  # type: ignore[arg-type]  # __post_init__ checks the types


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongInputError(f"{name}: expected a whole number of at least 1, got {value!r}")


def _require_stages(stages: object, stem_channels: int) -> None:
    if not isinstance(stages, tuple) or not stages:
        raise WrongInputError(f"stages: expected at least one (channels, repeat), got {stages!r}")
    before = stem_channels
    for index, stage in enumerate(stages):
        if not isinstance(stage, tuple) or len(stage) != 2:
            raise WrongInputError(f"stages[{index}]: expected (channels, repeat), got {stage!r}")
        channels, repeat = stage
        _require_positive(f"channels of stages[{index}]", channels)
        _require_positive(f"repeat of stages[{index}]", repeat)
        if channels % 2 or channels <= before:
            raise WrongInputError(
                f"channels of stages[{index}]: expected an even number above the {before} "
                f"channels that come in, got {channels}"
            )
        before = channels


def _read_stages(value: object) -> object:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise WrongInputError(f"stages: expected a list of [channels, repeat], got {value!r}")
    return tuple(tuple(stage) if isinstance(stage, list) else stage for stage in value)
