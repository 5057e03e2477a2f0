"""Ask many devices one question at once: who is frozen or away delays nobody."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from boardfront.host.fleet.select import Selected

_T = TypeVar("_T")


class NoAnswerError(DeviceUnreachableError):
    """A device that somebody listens at did not answer in time."""


class Asking(Generic[_T]):
    """One question to several devices, each in a thread and over a connection of its own.

    Args:
        devices: Whom to ask.
        question: Called once a device, in its thread, with a client of its own. A
            BoardfrontError that it raises is the device's answer; any other error is raised by
            `next_answer`.

    Used as a context: at its end connections are closed, and those still asked are abandoned.
    """

    def __init__(
        self, devices: Sequence[Selected], question: Callable[[Selected, AgentClient], _T]
    ) -> None:
        self._devices = devices
        self._question = question
        self._clients = [AgentClient(device.address) for device in devices]
        self._answers: queue.SimpleQueue[tuple[int, _T | BaseException]] = queue.SimpleQueue()
        self.waiting = set(range(len(devices)))
        """Indices of the devices that have not answered."""

    def __enter__(self) -> Self:
        for index in range(len(self._devices)):
            name = f"ask {self._devices[index].name}"
            # A daemon: who never answers must not keep the program from ending.
            threading.Thread(target=self._ask, args=(index,), name=name, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for index in self.waiting:
            self._clients[index].abandon()

    def next_answer(self, timeout_s: float) -> tuple[int, _T | BoardfrontError] | None:
        """Return the next device that answered, by index, and its answer.

        Returns:
            None if none does within `timeout_s`, or if all have.
        """
        if not self.waiting:
            return None
        try:
            index, answer = self._answers.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        self.waiting.discard(index)
        if isinstance(answer, BaseException) and not isinstance(answer, BoardfrontError):
            raise answer
        return index, answer

    def _ask(self, index: int) -> None:
        device, client = self._devices[index], self._clients[index]
        answer: _T | BaseException
        try:
            answer = self._question(device, client)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asked
            answer = error
        finally:
            client.close()
            device.address.close()
        self._answers.put((index, answer))


def ask_all(
    devices: Sequence[Selected],
    question: Callable[[Selected, AgentClient], _T],
    *,
    within_s: float,
    on_waiting: Callable[[Sequence[Selected]], None] = lambda _: None,
) -> list[_T | BoardfrontError]:
    """Ask all devices and return their answers in their order.

    Args:
        devices: Whom to ask.
        question: As for `Asking`.
        within_s: How long all may take, in seconds.
        on_waiting: Told after each answer who has not answered yet.

    Returns:
        One answer or error a device; NoAnswerError for who took longer.
    """
    deadline_s = time.monotonic() + within_s
    answers: list[_T | BoardfrontError] = [
        NoAnswerError(
            f"no answer within {within_s:g} s: expected the agent at {_where(device)} to say what "
            "it is; look whether the board hangs"
        )
        for device in devices
    ]
    with Asking(devices, question) as asking:
        while asking.waiting:
            on_waiting([devices[index] for index in sorted(asking.waiting)])
            found = asking.next_answer(deadline_s - time.monotonic())
            if found is None:
                break
            answers[found[0]] = found[1]
    return answers


def _where(device: Selected) -> str:
    return device.entry.address if device.entry else device.name
