"""The torch backend: what is timed, by which watch, with which options, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
import torch
from tests.device_agent import harness
from tests.device_agent.harness import answers, make_job, result_of
from tests.device_agent.onnx_files import conv_net, dynamic_net, unknown_operator
from torch._inductor import config as inductor

from boardfront.device_agent import doctor_setup
from boardfront.device_agent.backends import torch_step
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.fake import VirtualClock
from boardfront.device_agent.backends.torch import TorchBackend
from boardfront.device_agent.backends.torch_devices import find_devices, missing_code
from boardfront.protos import records
from boardfront.protos.findings import Severity
from boardfront.protos.records import FailureKind, Origin, TaskKind
from boardfront.search.spaces.etnas.space import EtnasSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.device_agent.harness import Wire

pytestmark = pytest.mark.timeout(120)

_BATCH = 4
_TRAINING = records.Task(kind=TaskKind.TRAINING_STEP, batch=_BATCH)
_INFERENCE = records.Task(batch=_BATCH)


def _network(batch: int = _BATCH) -> bytes:
    space = EtnasSpace.from_settings({"resolution": 32, "classes": 7})
    return space.write_onnx("031-a01_32_1-2-1-2", batch=batch).SerializeToString()


def _loaded(
    folder: Path,
    task: records.Task,
    content: bytes | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    options: Mapping[str, str] = MappingProxyType({}),
) -> TorchBackend:
    path = folder / "network.onnx"
    path.write_bytes(_network() if content is None else content)
    backend = TorchBackend(TorchBackend.resolve(options, TorchBackend.probe()))
    backend.load(path, task, shapes)
    return backend


def _compiled(folder: Path, task: records.Task, **options: str) -> TorchBackend:
    backend = _loaded(folder, task, options=options)
    backend.compile()
    return backend


def _trained(backend: TorchBackend) -> torch_step.TrainingStep:
    assert isinstance(backend._step, torch_step.TrainingStep)
    return backend._step


def _inferred(backend: TorchBackend) -> torch_step.Inference:
    assert isinstance(backend._step, torch_step.Inference)
    return backend._step


def test_a_training_step_trains_and_splits_into_its_parts(tmp_path: Path) -> None:
    backend = _compiled(tmp_path, _TRAINING)
    module = _trained(backend)._network
    before = {key: value.clone() for key, value in module.state_dict().items()}
    backend.run()
    after = module.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before)
    assert module.training
    assert backend.run_timed(2) > 0.0
    parts = backend.timed_parts(3)
    assert list(parts) == ["forward", "backward", "update"]
    assert min(parts.values()) > 0.0


def test_inference_changes_nothing_and_has_no_parts(tmp_path: Path) -> None:
    backend = _compiled(tmp_path, _INFERENCE)
    module = _inferred(backend)._network
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert backend.run_timed(2) > 0.0
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert not module.training
    assert backend.timed_parts(3) == {}
    outputs = _inferred(backend).outputs
    assert outputs.shape == (_BATCH, 7)
    assert outputs.dtype is torch.float32


def test_two_loads_of_one_network_compute_the_same(tmp_path: Path) -> None:
    losses = [_trained(_compiled(tmp_path, _TRAINING)).loss.item() for _ in range(2)]
    assert losses[0] == losses[1]


def test_frozen_stages_are_part_of_the_task(tmp_path: Path) -> None:
    task = dataclasses.replace(_TRAINING, frozen_stages=2)
    module = _trained(_compiled(tmp_path, task))._network
    trained = [one.requires_grad for one in module.parameters()]
    # Three convolutions of the stem, and two and a projected skip of the first block, each with
    # its norm's pair.
    assert trained == [False] * 18 + [True] * (len(trained) - 18)
    assert len(trained) > 18


@pytest.mark.parametrize("task", [_TRAINING, _INFERENCE], ids=["training", "inference"])
def test_options_reach_torch(tmp_path: Path, task: records.Task) -> None:
    backend = _compiled(
        tmp_path, task, threads="1", precision="amp", memory_format="channels_last"
    )
    assert torch.get_num_threads() == 1
    step = backend._step
    assert isinstance(step, torch_step.Inference | torch_step.TrainingStep)
    (images,) = step._inputs
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    kernels = [one for one in step._network.parameters() if one.dim() == 4 and one.shape[2] > 1]
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)
    assert all(one.dtype is torch.float32 for one in kernels)
    if isinstance(step, torch_step.Inference):
        assert step.outputs.dtype is torch.bfloat16
    else:
        full = _trained(_compiled(tmp_path, task)).loss.item()
        assert step.loss.item() == pytest.approx(full, rel=0.05)
        assert step.loss.item() != full


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, by torch itself
def test_a_compiled_network_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Precompiled headers pay only from the tenth kernel on.
    monkeypatch.setattr(inductor, "cpp_cache_precompile_headers", value=False, raising=False)
    steps = {}
    for mode in ("off", "default"):
        backend = _loaded(tmp_path, records.Task(), conv_net(), options={"compile": mode})
        backend.compile()
        steps[mode] = _inferred(backend)
    eager, compiled = steps["off"], steps["default"]
    assert (compiled.outputs - eager.outputs).norm() < 1e-5 * eager.outputs.norm()
    assert type(compiled._network) is not type(eager._network)


class _Programmed:
    """A step whose parts take 1, 3 and 2 seconds of a clock; each run twice as long."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._runs = 0
        lasts_s = {"forward": 1.0, "backward": 3.0, "update": 2.0}
        self.parts = tuple((name, self._part(lasts_s[name])) for name in lasts_s)

    def _part(self, lasts_s: float) -> torch_step.Action:
        def act() -> None:
            self._runs += lasts_s == 1.0
            self._clock.sleep(lasts_s * 2.0 ** (self._runs - 1))

        return act


def test_laps_add_up_to_the_step() -> None:
    clock = VirtualClock()
    watch = torch_step.ClockStopwatch(clock)
    assert torch_step.time_runs(_Programmed(clock), watch, 2) == 6.0 + 12.0
    parts = torch_step.time_parts(_Programmed(clock), watch, 3)
    # The medians of 1, 2, 4 times each part.
    assert parts == {"forward": 2.0, "backward": 6.0, "update": 4.0}


@pytest.mark.parametrize(
    ("task", "kind", "named"),
    [
        (records.Task(kind=TaskKind.TRAINING_STEP, batch=2), "invalid", "batch of 4.* asks for 2"),
        (dataclasses.replace(_TRAINING, frozen_stages=9), "invalid", "marks 5 .stem included"),
        (dataclasses.replace(_INFERENCE, frozen_stages=1), "unsupported", "training-step only"),
        (dataclasses.replace(_TRAINING, cache=records.CacheState.COLD), "unsupported", "cold"),
        (records.Task(kind=TaskKind.TRAINING_STEP_GRAPH), "unsupported", "training-step-graph"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(
    tmp_path: Path, task: records.Task, kind: str, named: str
) -> None:
    with pytest.raises(BackendError, match=named) as caught:
        _loaded(tmp_path, task)
    assert caught.value.kind.value.startswith(kind)


def test_dynamic_dimensions_take_the_batch_and_the_given_shapes(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"4x3x\?x\?: give them by --shape x=4x3xNxN"):
        _loaded(tmp_path, _INFERENCE, dynamic_net())
    with pytest.raises(BackendError, match="no input is called 'y'"):
        _loaded(tmp_path, _INFERENCE, dynamic_net(), shapes={"y": (1, 3)})
    with pytest.raises(BackendError, match=r"1x4x8x8 does not fit input 'x': the model has \?x3x"):
        _loaded(tmp_path, _INFERENCE, dynamic_net(), shapes={"x": (1, 4, 8, 8)})
    backend = _loaded(tmp_path, _INFERENCE, dynamic_net(), shapes={"x": (2, 3, 8, 8)})
    backend.compile()
    assert _inferred(backend).outputs.shape == (2, 3, 8, 8)


def test_one_value_a_channel_has_no_statistics(tmp_path: Path) -> None:
    task = dataclasses.replace(_TRAINING, batch=1)
    # 32 pixels halved five times leave one.
    backend = _loaded(tmp_path, task, _network(batch=1))
    with pytest.raises(BackendError, match="more than 1 value per channel") as caught:
        backend.compile()
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_an_operator_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Frobnicate"):
        _loaded(tmp_path, _TRAINING, unknown_operator())


def test_a_class_a_pixel_is_trained_too(tmp_path: Path) -> None:
    backend = _loaded(tmp_path, records.Task(kind=TaskKind.TRAINING_STEP), conv_net())
    backend.compile()
    assert _trained(backend)._labels.shape == (1, 16, 16)
    assert 1.0 < _trained(backend).loss.item() < 100.0


def test_nothing_to_train_is_said(tmp_path: Path) -> None:
    backend = _loaded(tmp_path, _TRAINING, dynamic_net(), shapes={"x": (4, 3, 8, 8)})
    with pytest.raises(BackendError, match="empty parameter list"):
        backend.compile()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", FailureKind.OUT_OF_MEMORY),
        ("DefaultCPUAllocator: can't allocate memory", FailureKind.OUT_OF_MEMORY),
        ("CUDA error: no kernel image is available", FailureKind.UNSUPPORTED),
        ("CUDA error: unspecified launch failure", FailureKind.DEVICE_LOST),
        ("mat1 and mat2 shapes cannot be multiplied", FailureKind.INVALID_ARTIFACT),
    ],
)
def test_what_torch_raises_is_typed(
    tmp_path: Path, text: str, kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _compiled(tmp_path, _INFERENCE)

    def fail() -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(backend._step, "parts", (("forward", fail),))
    with pytest.raises(BackendError, match=text[:20]) as caught:
        backend.run()
    assert caught.value.kind is kind


_WHEEL = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


@pytest.mark.parametrize(
    ("capability", "built", "remedy"),
    [
        ((7, 0), _WHEEL, "pip install 'torch<2.15' --index-url .*/cu126$"),
        ((7, 0), ("sm_70", *_WHEEL), ""),
        ((8, 9), _WHEEL, ""),
        ((8, 0), ("sm_75", "sm_86"), "pip install --upgrade torch"),
        ((12, 1), _WHEEL, ""),
        ((13, 0), _WHEEL, ""),
        ((13, 0), ("sm_90", "sm_120"), "pip install --upgrade torch"),
        ((9, 0), ("sm_90a",), ""),
        ((9, 1), ("sm_90a",), "pip install --upgrade torch"),
        ((8, 0), ("gfx90a",), "pip install --upgrade torch"),
        ((7, 0), (), ""),
    ],
)
def test_a_build_without_code_for_the_gpu_is_named(
    capability: tuple[int, int], built: Sequence[str], remedy: str
) -> None:
    found = missing_code("cuda:0 (Tesla)", capability, built, "2.13.0+cu130")
    assert bool(found) == bool(remedy)
    if not remedy:
        return
    assert "torch 2.13.0+cu130 has no code for cuda:0 (Tesla), which needs sm_" in found
    assert f"it has {' '.join(built)}: " in found
    info = records.BackendInfo(name="torch", version="2.13.0", available=True, reason=found)
    (finding,) = doctor_setup.backends([info])
    assert finding.severity is Severity.WARNING
    assert finding.evidence.startswith("torch 2.13.0+cu130 has no code")
    assert re.search(remedy, finding.remedy)
    assert finding.remedy.startswith("pip install")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch was built for CUDA")
def test_a_gpu_beside_a_torch_for_processors_is_said(tmp_path: Path) -> None:
    assert find_devices(tmp_path / "nvidiactl").findings == ()
    found = find_devices(tmp_path)
    assert found.usable == ("cpu",)
    assert "built for processors only: pip install torch" in found.findings[0]


def test_a_device_that_is_not_here_is_no_option() -> None:
    info = TorchBackend.probe()
    with pytest.raises(BackendError, match=r"device='cuda:97' .* expected cpu"):
        TorchBackend.resolve({"device": "cuda:97"}, info)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_cuda_steps_are_timed_by_events(tmp_path: Path, precision: str) -> None:
    expected = _trained(_compiled(tmp_path, _TRAINING)).loss.item()
    backend = _compiled(tmp_path, _TRAINING, device="cuda", precision=precision)
    assert isinstance(backend._stopwatch, torch_step.EventStopwatch)
    tolerance = 1e-4 if precision == "fp32" else 0.05
    assert _trained(backend).loss.item() == pytest.approx(expected, rel=tolerance)
    host_s = backend.clock.now_s()
    timed_s = backend.run_timed(20)
    host_s = backend.clock.now_s() - host_s
    # What the device was busy with lies within what the host waited for.
    assert 0.0 < timed_s <= host_s
    parts = backend.timed_parts(5)
    assert list(parts) == ["forward", "backward", "update"]
    assert min(parts.values()) > 0.0


def _run(wire: Wire, content: bytes, task: records.Task) -> records.Result | records.Failure:
    asked = harness.subject(content, backend="torch", options={"memory_format": "channels_last"})
    return answers(wire.run(make_job(subjects=(asked,), task=task), content))["s0"]


def test_an_agent_measures_a_training_step(wire: Wire) -> None:
    result = result_of(_run(wire, _network(), _TRAINING))
    assert result.origin is Origin.MEASURED
    assert result.statistics.min_s > 0.0
    assert set(result.parts_s) == {"forward", "backward", "update"}
    assert min(result.parts_s.values()) > 0.0
    assert result.target.backend_version.startswith(torch.__version__)
    assert dict(result.target.options) == {
        "threads": "1",
        "device": "cpu",
        "compile": "off",
        "precision": "fp32",
        "memory_format": "channels_last",
    }
