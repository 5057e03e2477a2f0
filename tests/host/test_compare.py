"""`boardfront compare`, and the networks and tasks that it and `measure` can be asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net, dynamic_net

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.searching import Place

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

_QUICK = ("--duration", "0.1", "--precision", "0.2")
_TINY = (
    *("--space", "spos", "--set", "resolution=8", "--set", "classes=10"),
    *("--set", "in_channels=1", "--set", "stem_channels=8", "--set", "stages=[[16, 2]]"),
    *("--set", "last_channels=32"),
)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@pytest.fixture
def compare(boardfront: Command, device: str) -> Command:
    return lambda *arguments: boardfront("compare", *arguments, "--device", device, *_QUICK)


@pytest.fixture
def measure(boardfront: Command, device: str) -> Command:
    return lambda *arguments: boardfront(
        "measure", *arguments, "--device", device, "--no-sentinel", *_QUICK
    )


def _json(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, told = answer
    assert (code, told) == (0, "")
    content: dict[str, Any] = json.loads(out)
    return content


def test_the_faster_encoding_is_named_with_its_ratio(compare: Command) -> None:
    content = _json(compare("33", "xx", *_TINY, "--backend", "fake", "--json"))
    a_s, b_s = content["a"]["median_s"], content["b"]["median_s"]
    assert content["faster"] == ("a" if a_s < b_s else "b")
    assert content["ratio"] == pytest.approx(a_s / b_s, rel=1e-3)
    low, high = content["interval"]
    assert low <= content["ratio"] <= high
    assert not low <= 1 <= high
    assert (content["a"]["name"], content["b"]["name"]) == ("spos 33", "spos xx")


def test_what_is_the_same_cannot_be_told_apart(compare: Command) -> None:
    code, out, _ = compare("33", "33", *_TINY, "--backend", "fake")
    assert code == 0
    assert "no difference can be told" in out


def test_for_people_the_faster_one_comes_first(compare: Command) -> None:
    code, out, _ = compare(
        *("33", "33", *_TINY, "--backend", "fake"),
        *("--option", "time_s=0.002", "--option-b", "time_s=0.001"),
    )
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith("B is faster: 2.00")
    assert any("time_s=0.002" in line for line in rest)


def test_two_backends_and_two_batches(compare: Command, place: Place) -> None:
    (place.folder / "net.onnx").write_bytes(dynamic_net())
    shapes = ("--shape", "x=4x3x8x8")
    content = _json(
        compare("net.onnx", "net.onnx", *shapes, "--backend-b", "fake", "--batch-b", "4", "--json")
    )
    assert content["a"]["target"]["backend"] == "onnxruntime"
    assert content["b"]["target"]["backend"] == "fake"
    assert "batch 4" in content["b"]["name"]


def test_a_side_that_fails_is_said_in_one_line(compare: Command, place: Place) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net())
    code, out, told = compare(
        "net.onnx", "net.onnx", "--backend", "fake", "--option-b", "fault=crash-run"
    )
    assert (code, out) == (1, "")
    assert "net.onnx was not measured: crashed" in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nothing", "else"), "'nothing' is no file"),
        (("33", "3?", *_TINY), "position 1"),
        (("33", "33", *_TINY, "--task", "singing"), "--task 'singing': expected one of"),
        (("33", "33", *_TINY, "--frozen-stages", "1"), "expected a training task"),
        (("a.onnx", "b.onnx"), "cannot read a.onnx"),
    ],
    ids=["no-file", "encoding", "task", "frozen", "missing"],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    compare: Command, arguments: tuple[str, ...], text: str
) -> None:
    code, out, told = compare(*arguments)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert text in told


def test_an_encoding_is_measured_with_its_task_in_full(measure: Command) -> None:
    content = _json(
        measure(*_TINY, "--encoding", "3x", "--batch", "4", "--backend", "fake", "--json")
    )
    task = content["task"]
    assert (task["batch"], task["resolution"], task["classes"]) == (4, 8, 10)
    assert content["memory"]["artifact_bytes"] < 20_000


@pytest.mark.parametrize("task", ["training-step", "training-step-graph"])
def test_steps_of_training_are_tasks_of_their_own(measure: Command, task: str) -> None:
    asked = (*_TINY, "--encoding", "3x", "--batch", "4", "--task", task, "--json")
    backend = "torch" if task == "training-step" else "onnxruntime"
    content = _json(measure(*asked, "--backend", backend))
    assert content["task"]["kind"] == task
    assert content["median_s"] > 0
    parts = content["parts_s"]
    assert set(parts) == ({"forward", "backward", "update"} if backend == "torch" else set())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no network was named"),
        (("--space", "spos"), "expected an ONNX file, or --space and --encoding"),
        (("net.onnx", "--space", "spos"), "expected one of them"),
        (("net.onnx", "--tune", "ten"), "--tune 'ten': expected minutes=10"),
        (("net.onnx", "--tune", "minutes=-1"), "expected minutes=10"),
    ],
    ids=["nothing", "half", "both", "tune", "negative"],
)
def test_measure_says_what_it_expects(
    measure: Command, place: Place, arguments: tuple[str, ...], text: str
) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net())
    code, out, told = measure(*arguments)
    assert (code, out) == (2, "")
    assert text in told
