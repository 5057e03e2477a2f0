"""Joules of a device and of a run."""

from __future__ import annotations

import sys
import threading
import time
import types
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import boards, harness

from boardfront.device_agent import energy, load, nvml, telemetry
from boardfront.device_agent.sysfs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_COUNTER = f"{boards.RAPL}/intel-rapl:0/energy_uj"
_RANGE_UJ = 262_143_328_850


def _meter(root: Path, *, gpu: int | None = None) -> energy.EnergyMeter:
    found = energy.find_energy_meter(root, gpu=gpu)
    assert found is not None
    return found


def test_rapl_counts_from_the_start(tmp_path: Path) -> None:
    meter = _meter(boards.laptop(tmp_path))
    assert meter.source == "rapl:package-0"
    assert meter.read_j() == 0.0
    boards.write(tmp_path, {_COUNTER: 815_845_678})
    assert meter.read_j() == pytest.approx(3.5)
    meter.close()


def test_rapl_goes_on_where_its_counter_starts_again(tmp_path: Path) -> None:
    boards.laptop(tmp_path)
    boards.write(tmp_path, {_COUNTER: _RANGE_UJ - 2_000_000})
    meter = _meter(tmp_path)
    boards.write(tmp_path, {_COUNTER: 1_000_000})
    assert meter.read_j() == pytest.approx(3.0)
    boards.write(tmp_path, {_COUNTER: 4_000_000})
    assert meter.read_j() == pytest.approx(6.0)


def test_packages_and_their_memory_are_added(tmp_path: Path) -> None:
    boards.laptop(tmp_path)
    memory = f"{boards.RAPL}/intel-rapl:0:2"
    files = {"name": "dram", "energy_uj": 1_000_000, "max_energy_range_uj": 65_712_999_613}
    boards.write(tmp_path, {f"{memory}/{name}": value for name, value in files.items()})
    meter = _meter(tmp_path)
    assert meter.source == "rapl:package-0+dram"
    boards.write(tmp_path, {_COUNTER: 813_345_678, f"{memory}/energy_uj": 1_250_000})
    assert meter.read_j() == pytest.approx(1.25)


def test_a_counter_that_fails_is_none(tmp_path: Path) -> None:
    meter = _meter(boards.laptop(tmp_path))
    (tmp_path / _COUNTER).unlink()
    assert meter.read_j() is None


def test_a_counter_that_may_not_be_read_is_no_meter(tmp_path: Path) -> None:
    boards.laptop(tmp_path)
    # Root may read anything, so a folder stands for the file that only root may open.
    (tmp_path / _COUNTER).unlink()
    (tmp_path / _COUNTER).mkdir()
    assert energy.find_energy_meter(tmp_path) is None


def test_boards_without_any_meter(tmp_path: Path) -> None:
    assert energy.find_energy_meter(boards.laptop(tmp_path / "a", rapl=False)) is None
    assert energy.find_energy_meter(boards.rk3588(tmp_path / "b", hwmon=False)) is None
    assert energy.find_energy_meter(boards.laptop(tmp_path / "c"), gpu=0) is None


def test_rails_are_integrated_over_time(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    meter = _meter(boards.jetson(tmp_path))
    assert meter.source == "hwmon:ina3221/VDD_IN"
    outer_s = time.monotonic()
    first = meter.read_j()
    inner_s = time.monotonic()
    assert first is not None
    harness.until(lambda: time.monotonic() - inner_s >= 0.3)
    short_s = time.monotonic() - inner_s
    second = meter.read_j()
    long_s = time.monotonic() - outer_s
    meter.close()
    assert set(threading.enumerate()) == before
    assert second is not None
    watts = 5.04 * 1.104
    # Both were read somewhere between the clock's looks on either side.
    assert watts * short_s * 0.999 <= second - first <= watts * long_s * 1.001


def test_a_rail_that_fails_is_none(tmp_path: Path) -> None:
    meter = _meter(boards.rk3588(tmp_path))
    (tmp_path / f"{boards.HWMON}/hwmon1/power1_input").unlink()
    assert meter.read_j() is None
    boards.write(tmp_path, {f"{boards.HWMON}/hwmon1/power1_input": 4_250_000})
    # A gap stays a gap: what was used meanwhile is not known.
    assert meter.read_j() is None
    meter.close()


def test_joules_of_a_run() -> None:
    windows = [(10.0 + step, 10) for step in (0, 5, 1, 4, 2, 3)]
    found = energy.per_run(windows, "rapl:package-0")
    assert found is not None
    assert (found.source, found.windows) == ("rapl:package-0", 6)
    # Six values: the interval is their range (1 - 2/2^6 > 95 %).
    assert (found.median_j, found.low_j, found.high_j) == (1.25, 1.0, 1.5)


@pytest.mark.parametrize("odd", [(None, 10), (0.0, 10), (-1.0, 10), (1.0, 0)])
def test_joules_of_a_run_need_every_window(odd: tuple[float | None, int]) -> None:
    assert energy.per_run([(1.0, 10)] * 5, "x") is None
    assert energy.per_run([*[(1.0, 10)] * 6, odd], "x") is None


def _fake_nvml(*, fails: bool = False, count: int = 1) -> types.ModuleType:
    """Return a stand-in for the package and the driver below it.

    The real ones answer only where there is an NVIDIA GPU. Names, units and errors are those of
    nvidia-ml-py 13.
    """
    module = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": count,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetTemperature": 61,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetPowerUsage": 310_500,
        "nvmlDeviceGetTotalEnergyConsumption": 7_250_500,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
        "nvmlSystemGetDriverVersion": "580.65.06",
    }

    def answering(name: str, answer: object) -> types.FunctionType:
        def call(*_: object) -> object:
            if fails and name.startswith(
                ("nvmlDeviceGetT", "nvmlDeviceGetClock", "nvmlDeviceGetCurrent", "nvmlDeviceGetP")
            ):
                raise NVMLError("Not Supported")
            return answer

        return call  # type: ignore[return-value]

    for name, answer in answers.items():
        setattr(module, name, answering(name, answer))
    module.NVMLError = NVMLError  # type: ignore[attr-defined]
    return module


def test_a_gpu_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _fake_nvml())
    gpu = nvml.open_gpu()
    assert gpu is not None
    assert (gpu.temperature_c(), gpu.clock_hz(), gpu.power_w()) == (61.0, 1.98e9, 310.5)
    assert gpu.driver_version() == "580.65.06"
    assert gpu.is_held_back() is True
    meter = _meter(ROOT, gpu=0)
    assert meter.source == "nvml"
    assert meter.read_j() == pytest.approx(7250.5)
    meter.close()
    reading = telemetry.Sensors(gpu=gpu).read()
    assert (reading.gpu_hz, reading.temperatures_c["nvidia"]) == (1.98e9, 61.0)
    seen = telemetry.sample(running_job_id=None, queued_jobs=0)
    assert (seen.gpu_frequency_hz, seen.temperatures_c["nvidia"]) == (1.98e9, 61.0)


def test_a_gpu_that_answers_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _fake_nvml(fails=True))
    gpu = nvml.open_gpu()
    assert gpu is not None
    assert (gpu.temperature_c(), gpu.clock_hz(), gpu.power_w()) == (None, None, None)
    assert (gpu.energy_j(), gpu.is_held_back()) == (None, None)
    assert telemetry.Sensors(gpu=gpu).read().gpu_held_back is None


def test_a_boards_files_are_no_place_for_this_machines_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _fake_nvml())
    seen = telemetry.sample(running_job_id=None, queued_jobs=0, root=boards.rk3588(tmp_path))
    assert seen.gpu_frequency_hz == 300e6
    assert "nvidia" not in seen.temperatures_c
    assert load.LoadMeter(tmp_path, gpu=0).read(own_cpu_s=0.0).gpu_frequency_min_hz == 300e6


def test_a_gpu_is_watched_for_the_jobs_that_run_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _fake_nvml())
    on_gpu = load.LoadMeter(gpu=0).read(own_cpu_s=0.0)
    assert on_gpu.gpu_frequency_min_hz == 1.98e9
    assert on_gpu.throttle_events
    elsewhere = load.LoadMeter().read(own_cpu_s=0.0)
    assert elsewhere.gpu_frequency_min_hz != 1.98e9
    assert not elsewhere.throttle_events


def test_of_several_gpus_none_is_taken_for_the_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _fake_nvml(count=2))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    meter = energy.find_energy_meter(ROOT, gpu=0)
    assert meter is None or meter.source != "nvml"
    if meter is not None:
        meter.close()
    assert load.LoadMeter(gpu=0).read(own_cpu_s=0.0).gpu_frequency_min_hz != 1.98e9
    seen = telemetry.sample(running_job_id=None, queued_jobs=0)
    assert "nvidia" not in seen.temperatures_c
    # Unless CUDA is told to count as NVML does. The driver's version is that of all of them.
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _meter(ROOT, gpu=1).source == "nvml"
    first = nvml.open_gpu()
    assert first is not None
    assert first.driver_version() == "580.65.06"


@pytest.mark.parametrize(
    ("number", "count", "environment", "index"),
    [
        (0, 1, {}, 0),
        (0, 1, {"CUDA_VISIBLE_DEVICES": "GPU-7c1f"}, 0),
        (1, 1, {}, None),
        (0, 2, {}, None),
        (0, 2, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, None),
        (0, 2, {"CUDA_VISIBLE_DEVICES": "1"}, None),
        (1, 2, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 1),
        (2, 2, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, None),
        (0, 4, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3, 1"}, 3),
        (1, 4, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3, 1"}, 1),
        (2, 4, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3, 1"}, None),
        (0, 4, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-7c1f"}, None),
        (0, 4, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "7"}, None),
    ],
)
def test_cudas_number_of_a_gpu_is_nvmls_only_where_it_is_certain(
    number: int, count: int, environment: dict[str, str], index: int | None
) -> None:
    assert nvml.index_of(number, count, environment) == index


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"device": "cpu", "threads": "1"}, None),
        ({"provider": "CPUExecutionProvider"}, None),
        ({"device": "cuda"}, 0),
        ({"threads": "1", "device": "cuda:3"}, 3),
        ({"provider": "CUDAExecutionProvider"}, 0),
        ({"provider": "TensorrtExecutionProvider"}, 0),
    ],
)
def test_options_say_which_gpu_cuda_is_asked_for(
    options: dict[str, str], number: int | None
) -> None:
    assert nvml.cuda_number(options) == number


def test_without_the_package_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.open_gpu() is None
