"""What is timed with torch: one inference, or one training step and its parts."""

from __future__ import annotations

import contextlib
import itertools
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.device_agent.backends.base import Clock

    Action = Callable[[], None]
    Parts = tuple[tuple[str, Action], ...]

LEARNING_RATE = 1e-6
"""So low that thousands of timed steps on one batch leave all values at their scale: a loss that
is fitted away, or that blows up, ends in denormals or in infinities, which have other times."""
MOMENTUM = 0.9
WEIGHT_DECAY = 4e-5
"""Source: NASOA, 2020, section B.3: how its models were trained. Neither changes a step's time."""

_SCALE_FOR_EVER = 2**31 - 1


class Step(Protocol):
    """One run of a task, as parts in the order in which they are done."""

    parts: Parts


class Inference:
    """One forward call in evaluation mode, without gradients.

    Args:
        network: Takes `inputs`.
        inputs: On the network's device.
        precision: What its operators compute in.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        precision: contextlib.AbstractContextManager[Any],
    ) -> None:
        self.outputs: Any = None
        self.parts: Parts = (("forward", self._forward),)
        self._network = network
        self._inputs = tuple(inputs)
        self._precision = precision

    def _forward(self) -> None:
        with torch.inference_mode(), self._precision:
            self.outputs = self._network(*self._inputs)


class TrainingStep:
    """Forward in training mode, cross-entropy, backward, SGD with momentum and weight decay.

    The loss is of the network's first output, (batch, classes) or (batch, classes, ...), against
    `labels`. Parameters that need no gradient are left alone; batch-norm statistics are updated
    all the same. Zeroing the gradients is part of the update.

    Args:
        network: Takes `inputs`.
        inputs: On the network's device.
        labels: Classes, on the same device.
        precision: What the operators of the forward pass compute in.
        scaled: Whether gradients are of half precision, so that the loss has to be scaled.
        learning_rate: Does not change the time.

    Raises:
        ValueError: No parameter is to be trained.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        labels: torch.Tensor,
        precision: contextlib.AbstractContextManager[Any],
        *,
        scaled: bool = False,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        self.loss = torch.zeros(())
        self.parts: Parts = (
            ("forward", self._forward),
            ("backward", self._backward),
            ("update", self._update),
        )
        self._network = network
        self._inputs = tuple(inputs)
        self._labels = labels
        self._precision = precision
        self._optimizer = torch.optim.SGD(
            [one for one in network.parameters() if one.requires_grad],
            lr=learning_rate,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        # A scale that grows would skip a step now and then: such a step has another time.
        self._scaler = torch.amp.GradScaler(
            labels.device.type, enabled=scaled, growth_interval=_SCALE_FOR_EVER
        )

    def _forward(self) -> None:
        with self._precision:
            outputs = self._network(*self._inputs)
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            self.loss = functional.cross_entropy(logits, self._labels)

    def _backward(self) -> None:
        self._scaler.scale(self.loss).backward()  # type: ignore[no-untyped-call]

    def _update(self) -> None:
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)


class Stopwatch(Protocol):
    """Times what a device does; the processor and CUDA have one each, all else is shared."""

    def laps_s(self, actions: Sequence[Action]) -> list[float]:
        """Do the actions one after the other; return the seconds of each once all are done."""


class ClockStopwatch:
    """For a device that has finished when a call returns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def laps_s(self, actions: Sequence[Action]) -> list[float]:
        """Read the clock before, between and after the actions."""
        marks_s = [self._clock.now_s()]
        for action in actions:
            action()
            marks_s.append(self._clock.now_s())
        return [end - begin for begin, end in itertools.pairwise(marks_s)]


class EventStopwatch:
    """For CUDA: events on the stream, so that nothing waits between the actions.

    The device is idle when the first event is recorded, since every call before has waited for
    its last one: a lap therefore holds the launches that the device has to wait for.
    """

    def laps_s(self, actions: Sequence[Action]) -> list[float]:
        """Record an event before, between and after the actions; wait for the last."""
        events = [_event() for _ in range(len(actions) + 1)]
        events[0].record()
        for event, action in zip(events[1:], actions, strict=True):
            action()
            event.record()
        events[-1].synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in itertools.pairwise(events)]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def run_once(step: Step) -> None:
    """Do all parts of a step."""
    for _, part in step.parts:
        part()


def time_runs(step: Step, stopwatch: Stopwatch, loops: int) -> float:
    """Return the seconds of `loops` whole steps, each begun when the one before has finished."""
    return sum(stopwatch.laps_s([lambda: run_once(step)])[0] for _ in range(loops))


def time_parts(step: Step, stopwatch: Stopwatch, runs: int) -> dict[str, float]:
    """Return the median seconds of each part over `runs` steps."""
    names, actions = zip(*step.parts, strict=True)
    laps_s = [stopwatch.laps_s(actions) for _ in range(runs)]
    return {
        name: median(part) for name, part in zip(names, zip(*laps_s, strict=True), strict=True)
    }


def autocast(device: str, *, half: bool) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass.

    Half precision is what a user of torch gets from autocast: float16 with a scaled loss on
    CUDA, where the V100 knows no other, and bfloat16 without one on a processor.
    """
    if not half:
        return contextlib.nullcontext()
    return torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16)
