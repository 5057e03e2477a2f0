"""Each candidate is trained alone and once, and what is shipped is what was scored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from typing_extensions import override

from boardfront.host.data import Split
from boardfront.host.supernet import CheckpointError, SupernetTraining
from boardfront.host.supernet.checkpoint import hash_state
from boardfront.host.supernet.evaluation import measure_accuracy
from boardfront.host.training import ShortTraining, TrainingEstimator, UntrainableError
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind
from boardfront.search.estimator import Estimator
from boardfront.search.space import InvalidEncodingError
from boardfront.search.spaces.etnas import EtnasSpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.data import Dataset
    from boardfront.host.supernet.progress import TrainingReport

    Make = Callable[..., TrainingEstimator]

ENCODINGS = ("020-_16_1-1-1-1", "4-_16_1-2-1-1", "12131-a02_16_1-1-11-1")
ENCODING = ENCODINGS[0]


class KilledError(Exception):
    """Stands for the end of the process."""


class _Heard:
    """Remembers reports; at one of them the process ends."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.reports: list[tuple[str, int, int]] = []
        self._stop = stop

    def __call__(self, encoding: str, report: TrainingReport, /) -> None:
        self.reports.append((encoding, report.epoch, report.step))
        if (report.epoch, report.step) == self._stop:
            raise KilledError


def _weights(estimator: TrainingEstimator, encoding: str = ENCODING) -> str:
    return hash_state(estimator.deployable(encoding).state_dict())


def test_it_is_an_estimator(make: Make) -> None:
    assert isinstance(make(), Estimator)


def test_it_learns(make: Make, dataset: Dataset) -> None:
    estimator = make(dataset=dataset, epochs=4, batch=64, learning_rate=0.1)
    # Chance is 0.1; these networks reach about 0.9.
    assert estimator.validation_accuracy(ENCODING) > 0.6
    assert estimator.test_accuracy(ENCODING) > 0.6


def test_accuracy_depends_on_the_encoding_alone(make: Make) -> None:
    one, other = make(folder="one"), make(folder="other")
    forwards = {e: one.validation_accuracy(e) for e in ENCODINGS}
    torch.rand(7)  # the state of the global generator must not matter
    backwards = {e: other.validation_accuracy(e) for e in reversed(ENCODINGS)}
    assert forwards == backwards
    assert [_weights(one, e) for e in ENCODINGS] == [_weights(other, e) for e in ENCODINGS]


def test_the_seed_is_of_the_run_and_of_the_encoding(make: Make) -> None:
    assert _weights(make(folder="one", seed=1)) != _weights(make(folder="two", seed=2))
    stems = {
        hash_state({"stem": make().deployable(e).state_dict()["stem.0.conv.weight"]})
        for e in ENCODINGS
    }
    assert len(stems) == len(ENCODINGS)


def test_the_global_generator_is_left_alone(make: Make) -> None:
    before = torch.get_rng_state()
    estimator = make()
    estimator.validation_accuracy(ENCODING)
    estimator.deployable(ENCODING)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_trained_twice(make: Make) -> None:
    first, second = _Heard(), _Heard()
    accuracy = make(progress=first).validation_accuracy(ENCODING)
    assert first.reports == [(ENCODING, 1, 3), (ENCODING, 2, 3)]
    again = make(progress=second)
    assert again.validation_accuracy(ENCODING) == accuracy
    again.deployable(ENCODING)
    again.test_accuracy(ENCODING)
    assert second.reports == []


@pytest.mark.parametrize("stop", [(1, 3), (2, 3)], ids=["after an epoch", "before it is scored"])
def test_an_interrupted_candidate_goes_on(
    make: Make, tmp_path: Path, stop: tuple[int, int]
) -> None:
    whole = make(folder="whole")
    with pytest.raises(KilledError):
        make(progress=_Heard(stop)).validation_accuracy(ENCODING)
    (left,) = (tmp_path / "candidates").iterdir()
    assert left.name == f"{ENCODING}.unfinished.pt"
    heard = _Heard()
    estimator = make(progress=heard)
    assert estimator.validation_accuracy(ENCODING) == whole.validation_accuracy(ENCODING)
    assert heard.reports == [(ENCODING, epoch, 3) for epoch in range(stop[0] + 1, 3)]
    assert _weights(estimator) == _weights(whole)
    assert [path.name for path in left.parent.iterdir()] == [f"{ENCODING}.pt"]


def test_what_is_deployed_is_what_was_scored(make: Make, few: Dataset, space: EtnasSpace) -> None:
    estimator = make()
    accuracy = estimator.validation_accuracy(ENCODING)
    module = estimator.deployable(ENCODING)
    assert not module.training
    assert measure_accuracy(module, few.validation, batch=256) == accuracy
    onnxruntime = pytest.importorskip("onnxruntime")
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    images = few.validation.images
    model = space.write_onnx(ENCODING, batch=len(images), weights=weights)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = session.run(["logits"], {"images": images.numpy()})[0]
    found = float(np.mean(logits.argmax(axis=1) == few.validation.labels.numpy()))
    # One image may fall the other way: torch and onnxruntime add in different orders.
    assert found == pytest.approx(accuracy, abs=1.001 / len(images))


def test_search_never_looks_at_test_images(make: Make, few: Dataset) -> None:
    poison = Split(
        images=torch.full_like(few.test.images, float("nan")),
        labels=(few.test.labels + 1) % 10,
    )
    honest, poisoned = make(), make(dataset=replace(few, test=poison), folder="poisoned")
    assert poisoned.state_id == honest.state_id
    assert poisoned.validation_accuracy(ENCODING) == honest.validation_accuracy(ENCODING)
    assert _weights(poisoned) == _weights(honest)


def test_state_id_names_all_that_accuracies_depend_on(make: Make, few: Dataset) -> None:
    fewer = Split(images=few.validation.images[1:], labels=few.validation.labels[1:])
    less = Split(images=few.train.images[1:], labels=few.train.labels[1:])
    others = [
        make(epochs=3),
        make(seed=1),
        make(dataset=replace(few, validation=fewer)),
        make(dataset=replace(few, train=less)),
    ]
    assert make().state_id == make(folder="elsewhere").state_id
    assert len({estimator.state_id for estimator in [make(), *others]}) == 5


def test_a_loss_that_is_no_number_fails_the_candidate(make: Make, tmp_path: Path) -> None:
    estimator = make(learning_rate=1e30, gradient_clip=1e30)
    with pytest.raises(UntrainableError, match=rf"^{ENCODING}: loss .*lower learning_rate") as e:
        estimator.validation_accuracy(ENCODING)
    assert e.value.kind is None
    assert not list((tmp_path / "candidates").glob("*"))


class _Greedy(EtnasSpace):
    """One of its networks wants a million GiB."""

    @override
    def build(self, encoding: str) -> torch.nn.Module:
        if encoding == ENCODING:
            return torch.nn.Linear(1 << 25, 1 << 25, bias=False)
        return super().build(encoding)


def test_too_little_memory_fails_the_candidate(make: Make, space: EtnasSpace) -> None:
    estimator = make(space=_Greedy(space.settings))
    with pytest.raises(
        UntrainableError, match=r"needs more memory than there is \(.*lower batch"
    ) as e:
        estimator.validation_accuracy(ENCODING)
    assert e.value.kind is FailureKind.OUT_OF_MEMORY
    assert 0 <= estimator.validation_accuracy(ENCODINGS[1]) <= 1


class _Broken(EtnasSpace):
    """Its networks take no images."""

    @override
    def build(self, encoding: str) -> torch.nn.Module:
        return torch.nn.Linear(3, 10)


def test_a_programming_error_is_no_failed_candidate(make: Make, space: EtnasSpace) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        make(space=_Broken(space.settings)).validation_accuracy(ENCODING)


def test_weights_that_are_no_numbers_fail_the_candidate(make: Make, space: EtnasSpace) -> None:
    class Poisoned(EtnasSpace):
        @override
        def build(self, encoding: str) -> torch.nn.Module:
            module = super().build(encoding)
            module.register_buffer("spare", torch.tensor(float("inf")))
            return module

    with pytest.raises(UntrainableError, match="a weight is no longer a number"):
        make(space=Poisoned(space.settings)).validation_accuracy(ENCODING)


def test_wrong_encoding_leaves_the_estimator_usable(make: Make) -> None:
    estimator = make()
    with pytest.raises(InvalidEncodingError, match="position"):
        estimator.validation_accuracy("9-_16_1-1-1-1")
    assert 0 <= estimator.validation_accuracy(ENCODING) <= 1


def test_a_device_that_is_not_there_is_refused_at_once(
    space: EtnasSpace, few: Dataset, tmp_path: Path
) -> None:
    short = ShortTraining(recipe=SupernetTraining(epochs=1), folder=tmp_path, device="tpu")
    with pytest.raises(WrongInputError, match="expected auto, cpu or cuda, got 'tpu'"):
        TrainingEstimator(space, few, short)


def test_a_damaged_file_is_refused(make: Make, tmp_path: Path) -> None:
    make().validation_accuracy(ENCODING)
    path = tmp_path / "candidates" / f"{ENCODING}.pt"
    content = bytearray(path.read_bytes())
    for broken in (b"", bytes(content[: len(content) // 2])):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="delete it to train anew"):
            make().validation_accuracy(ENCODING)
    path.unlink()
    assert make().validation_accuracy(ENCODING) == make().validation_accuracy(ENCODING)


def test_a_file_with_another_accuracy_is_refused(make: Make, tmp_path: Path) -> None:
    make().validation_accuracy(ENCODING)
    path = tmp_path / "candidates" / f"{ENCODING}.pt"
    plain = torch.load(path, weights_only=True)
    plain["settings"]["validation accuracy"] = 1.0
    torch.save(plain, path)
    with pytest.raises(CheckpointError, match="its digest is another"):
        make().validation_accuracy(ENCODING)


def test_a_file_of_another_training_is_refused(make: Make, tmp_path: Path) -> None:
    make().validation_accuracy(ENCODING)
    with pytest.raises(CheckpointError, match="of another training; expected estimator"):
        make(seed=1).validation_accuracy(ENCODING)
    folder = tmp_path / "candidates"
    (folder / f"{ENCODING}.pt").rename(folder / f"{ENCODINGS[1]}.pt")
    with pytest.raises(CheckpointError, match="of another training; expected encoding"):
        make().validation_accuracy(ENCODINGS[1])
