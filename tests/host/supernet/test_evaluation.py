from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from boardfront.host.data import Split
from boardfront.host.supernet import Recalibration, SupernetEstimator
from boardfront.host.supernet.checkpoint import hash_state
from boardfront.host.supernet.evaluation import measure_accuracy
from boardfront.protos.errors import WrongInputError
from boardfront.search.estimator import Estimator
from boardfront.search.space import InvalidEncodingError

if TYPE_CHECKING:
    from boardfront.host.data import Dataset
    from boardfront.host.supernet import TrainedSupernet
    from boardfront.search.spaces.spos import SposSpace

ENCODINGS = ["33-3", "x5-7", "77-x", "5x-5"]


@pytest.fixture
def estimator(space: SposSpace, trained: TrainedSupernet, dataset: Dataset) -> SupernetEstimator:
    return SupernetEstimator(space, trained.supernet, dataset)


def test_it_is_an_estimator(estimator: SupernetEstimator) -> None:
    assert isinstance(estimator, Estimator)


def test_accuracy_depends_on_the_encoding_alone(estimator: SupernetEstimator) -> None:
    forwards = {e: estimator.validation_accuracy(e) for e in ENCODINGS}
    backwards = {e: estimator.validation_accuracy(e) for e in reversed(ENCODINGS)}
    assert forwards == backwards
    assert all(0 <= accuracy <= 1 for accuracy in forwards.values())


def test_supernet_is_only_read(estimator: SupernetEstimator, trained: TrainedSupernet) -> None:
    before = hash_state(trained.supernet.state_dict())
    estimator.validation_accuracy("33-3")
    assert hash_state(trained.supernet.state_dict()) == before


def test_recalibration_replaces_the_mixed_statistics(
    estimator: SupernetEstimator, space: SposSpace, trained: TrainedSupernet, dataset: Dataset
) -> None:
    gains = []
    for encoding in ENCODINGS:
        mixed = space.inherit(trained.supernet, encoding).eval()
        own = estimator.deployable(encoding)
        name = "blocks.1.main.0.norm.running_var"
        assert not torch.allclose(mixed.state_dict()[name], own.state_dict()[name], rtol=0.01)
        assert torch.equal(*(m.state_dict()["stem.conv.weight"] for m in (mixed, own)))
        raw = measure_accuracy(mixed, dataset.validation, batch=512)
        gains.append(estimator.validation_accuracy(encoding) - raw)
    assert sum(gains) > 0


def test_statistics_are_those_of_the_calibration_images(
    space: SposSpace, trained: TrainedSupernet, dataset: Dataset
) -> None:
    settings = Recalibration(images=64, batch=64, seed=3)
    module = SupernetEstimator(space, trained.supernet, dataset, settings).deployable("33-3")
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(3))
    images = dataset.train.images[order[:64]]
    with torch.no_grad():
        features = module.get_submodule("stem.conv")(images)
    state = module.state_dict()
    torch.testing.assert_close(state["stem.norm.running_mean"], features.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(state["stem.norm.running_var"], features.var(dim=(0, 2, 3)))
    assert not module.training


def test_search_never_looks_at_test_images(
    space: SposSpace, trained: TrainedSupernet, dataset: Dataset
) -> None:
    poison = Split(
        images=torch.full_like(dataset.test.images, float("nan")),
        labels=(dataset.test.labels + 1) % 10,
    )
    honest = SupernetEstimator(space, trained.supernet, dataset)
    poisoned = SupernetEstimator(space, trained.supernet, replace(dataset, test=poison))
    assert poisoned.state_id == honest.state_id
    for encoding in ENCODINGS:
        assert poisoned.validation_accuracy(encoding) == honest.validation_accuracy(encoding)
    assert honest.test_accuracy("33-3") > 0.6
    assert poisoned.test_accuracy("33-3") < 0.3


def test_state_id_names_all_that_accuracies_depend_on(
    space: SposSpace, trained: TrainedSupernet, dataset: Dataset, estimator: SupernetEstimator
) -> None:
    shifted = copy.deepcopy(trained.supernet)
    next(shifted.parameters()).data.add_(1e-3)
    fewer = Split(images=dataset.validation.images[1:], labels=dataset.validation.labels[1:])
    others = [
        SupernetEstimator(space, shifted, dataset),
        SupernetEstimator(space, trained.supernet, dataset, Recalibration(seed=1)),
        SupernetEstimator(space, trained.supernet, replace(dataset, validation=fewer)),
    ]
    same = SupernetEstimator(space, copy.deepcopy(trained.supernet), dataset)
    assert same.state_id == estimator.state_id
    assert len(estimator.state_id) == 16
    assert len({e.state_id for e in [estimator, *others]}) == 4


def test_wrong_encoding_leaves_the_estimator_usable(estimator: SupernetEstimator) -> None:
    before = estimator.validation_accuracy("33-3")
    with pytest.raises(InvalidEncodingError, match="position 1"):
        estimator.validation_accuracy("3z-3")
    assert estimator.validation_accuracy("33-3") == before


def test_deployable_state_goes_into_onnx(
    estimator: SupernetEstimator, space: SposSpace, dataset: Dataset
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    module = estimator.deployable("x5-7")
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    images = dataset.validation.images
    model = space.write_onnx("x5-7", batch=len(images), weights=weights)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = session.run(["logits"], {"images": images.numpy()})[0]
    accuracy = float(np.mean(logits.argmax(axis=1) == dataset.validation.labels.numpy()))
    assert accuracy == pytest.approx(estimator.validation_accuracy("x5-7"), abs=0.003)


def test_recalibration_needs_two_images() -> None:
    with pytest.raises(WrongInputError, match="recalibration images: expected at least 2, got 1"):
        Recalibration(images=1)
