"""The sensors of a board: read once, watched, and sampled beside a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent import boards, harness
from typing_extensions import override

from boardfront.device_agent import telemetry, ticker
from boardfront.protos import agent_pb2, codec, records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _sample(root: Path) -> records.TelemetrySample:
    return telemetry.sample(running_job_id="j", queued_jobs=2, root=root)


def test_a_sample_of_an_rk3588(tmp_path: Path) -> None:
    found = _sample(boards.rk3588(tmp_path))
    assert (found.running_job_id, found.queued_jobs) == ("j", 2)
    assert found.frequencies_hz == {"0-3": 1.008e9, "4-5": 2.256e9, "6-7": 2.304e9}
    assert found.frequency_hz == 2.304e9
    assert found.governor == "schedutil"
    assert found.temperatures_c["npu-thermal"] == pytest.approx(49.934)
    assert found.temperature_c == max(found.temperatures_c.values())
    assert (found.npu_frequency_hz, found.gpu_frequency_hz) == (300e6, 300e6)
    assert found.memory_frequency_hz == 528e6
    assert found.power_w == 4.25
    assert found.cooling_state == 0
    assert found.memory_available_bytes == (16_128_084 - 2_000_000) * 1024
    # An Arm board counts no throttling, and the rest needs a second sample.
    assert (found.throttle_events, found.cpu_fraction, found.steal_fraction) == (None, None, None)


def test_a_sample_of_an_empty_tree_is_none_throughout(tmp_path: Path) -> None:
    found = _sample(tmp_path)
    assert found == records.TelemetrySample(
        time_unix_s=found.time_unix_s, running_job_id="j", queued_jobs=2
    )


def test_a_watcher_counts_from_sample_to_sample(tmp_path: Path) -> None:
    boards.laptop(tmp_path, cpus=2)
    watcher = telemetry.Watcher(tmp_path)
    first = watcher.sample(running_job_id=None, queued_jobs=0)
    assert (first.cpu_fraction, first.throttle_events, first.power_w) == (None, None, None)
    boards.proc_stat(tmp_path, [101_000, 1_000], [20_000, 0])
    boards.write(
        tmp_path,
        {
            f"{boards.CPU}/cpu1/thermal_throttle/core_throttle_count": 5,
            f"{boards.CPU}/cpu0/thermal_throttle/package_throttle_count": 18,
            f"{boards.RAPL}/intel-rapl:0/energy_uj": 813_345_678,
        },
    )
    second = watcher.sample(running_job_id=None, queued_jobs=0)
    watcher.close()
    # 1000 s of one core's time of 1000 + 200 s in all.
    assert second.cpu_fraction == pytest.approx(1000 / 1200)
    assert second.steal_fraction == pytest.approx(200 / 1200)
    assert second.throttle_events == 2 + 1
    assert second.power_w is not None
    assert second.power_w > 0


def test_a_sampler_sees_what_happens_meanwhile(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    sensors = telemetry.Sensors(tmp_path, (4, 5))
    sampler = telemetry.Sampler(sensors, period_s=0.01)
    sampler.start()
    assert len(sampler.readings) >= 1
    path = f"{boards.CPU}/cpufreq/policy4/scaling_cur_freq"
    boards.write(tmp_path, {path: 816_000})
    harness.until(lambda: sampler.readings[-1].frequency_hz == 816e6)
    boards.write(tmp_path, {path: 2_400_000})
    sampler.stop()
    clocks = [reading.frequency_hz for reading in sampler.readings]
    assert (clocks[0], min(filter(None, clocks)), clocks[-1]) == (2.256e9, 816e6, 2.4e9)
    assert sampler.cpu_fraction is not None
    assert 0 < sampler.cpu_fraction < 1
    times = [reading.time_s for reading in sampler.readings]
    assert times == sorted(times)


def test_what_vanishes_is_none_from_then_on(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    sensors = telemetry.Sensors(tmp_path)
    assert sensors.read().power_w == 4.25
    shutil.rmtree(tmp_path / boards.HWMON)
    shutil.rmtree(tmp_path / boards.DEVFREQ)
    shutil.rmtree(tmp_path / f"{boards.THERMAL}/thermal_zone6")
    (tmp_path / f"{boards.CPU}/cpufreq/policy0/scaling_cur_freq").write_text("")
    found = sensors.read()
    assert (found.power_w, found.npu_hz, found.gpu_hz, found.memory_hz) == (None,) * 4
    assert "npu-thermal" not in found.temperatures_c
    assert found.temperature_c == pytest.approx(49.009)
    assert set(found.frequencies_hz) == {"4-5", "6-7"}


def test_a_sampler_ends_when_told(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    sampler = telemetry.Sampler(telemetry.Sensors(boards.rk3588(tmp_path)), period_s=30.0)
    sampler.start()
    (thread,) = set(threading.enumerate()) - before
    begin_s = time.monotonic()
    sampler.stop()
    sampler.stop()
    assert not thread.is_alive()
    assert time.monotonic() - begin_s < harness.WITHIN_S
    assert len(sampler.readings) == 2


def test_a_sampler_that_fails_has_seen_nothing(tmp_path: Path) -> None:
    class Broken(telemetry.Sensors):
        left = 3

        @override
        def read(self) -> telemetry.Reading:
            self.left -= 1
            if not self.left:
                raise RuntimeError("the sensor is on fire")
            return super().read()

    sampler = telemetry.Sampler(Broken(boards.rk3588(tmp_path)), period_s=0.01)
    sampler.start()
    assert len(sampler.readings) >= 1
    harness.until(lambda: not sampler.readings)
    sampler.stop()
    assert sampler.readings == ()
    assert sampler.cpu_fraction is None


def test_dear_readings_are_taken_less_often() -> None:
    calls: list[float] = []

    def burn() -> None:
        end_s = time.thread_time() + 0.01
        calls.append(time.monotonic())
        while time.thread_time() < end_s:
            pass

    ticking = ticker.Ticker(burn, period_s=0.01, max_fraction=0.1)
    ticking.start()
    harness.until(lambda: len(calls) >= 4)
    ticking.stop()
    # 10 ms of work at a tenth of a core: no closer than 100 ms, once its price is known.
    assert calls[3] - calls[2] >= 0.09
    assert not ticking.failed


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_ticker_keeps_to_its_cores_and_leaves_others_alone() -> None:
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    seen: list[set[int]] = []
    ticking = ticker.Ticker(
        lambda: seen.append(os.sched_getaffinity(0)), period_s=9.0, cpus=[chosen]
    )
    ticking.start()
    ticking.stop()
    assert seen == [{chosen}] * 2
    assert os.sched_getaffinity(0) == allowed


def test_cores_that_are_not_there_keep_no_ticker_from_work() -> None:
    seen: list[int] = []
    ticking = ticker.Ticker(lambda: seen.append(1), period_s=9.0, cpus=[1023])
    ticking.start()
    ticking.stop()
    assert seen == [1, 1]
    assert not ticking.failed


def test_a_real_agent_on_a_boards_files_is_that_board(tmp_path: Path) -> None:
    root = boards.rk3588(tmp_path / "root")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "boardfront.device_agent.cli", "serve", "--exit-with-stdin"),
            *("--listen", "127.0.0.1:0", "--state", str(tmp_path / "state")),
            *("--root", str(root), "--name", "rock5b"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        wire = harness.Wire(process.stdout.readline().split()[-1])
        found = wire.describe()
        stream: Any = wire.stub.WatchTelemetry(agent_pb2.WatchTelemetryRequest(), timeout=20.0)
        sample = codec.from_message(next(stream), records.TelemetrySample)
        content = harness.programme()
        asked = records.Subject(
            subject_id="s",
            artifact_sha256=harness.name_of(content),
            backend="fake",
            cpus="4-8",
        )
        code, text = harness.refusal(
            lambda: wire.submit(harness.make_job(subjects=[asked]), content)
        )
        wire.close()
        process.stdin.close()
        assert process.wait(timeout=harness.WITHIN_S) == 0
    assert found.hardware.soc == "rockchip,rk3588"
    assert found.hardware.logical_cores == 8
    assert found.default_cpus == "4-7"
    assert [cluster.cpus for cluster in found.hardware.clusters] == ["0-3", "4-5", "6-7"]
    assert sample.npu_frequency_hz == 300e6
    assert sample.power_w == 4.25
    assert code.name == "INVALID_ARGUMENT"
    assert "expected some of 0-7" in text
