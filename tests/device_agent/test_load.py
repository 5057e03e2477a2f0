"""What a load meter says of a timed region: what changed meanwhile in a board's files."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import boards, harness

from boardfront.device_agent import load, telemetry
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Circumstances

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _clock(policy: int) -> str:
    return f"{boards.CPU}/cpufreq/policy{policy}/scaling_cur_freq"


def test_a_quiet_rk3588(tmp_path: Path) -> None:
    meter = load.LoadMeter(boards.rk3588(tmp_path), "4-7")
    found = meter.read(own_cpu_s=0.0)
    assert found.telemetry_samples >= 2
    assert found.governor == "schedutil"
    assert (found.frequency_before_hz, found.frequency_after_hz) == (2.304e9, 2.304e9)
    assert (found.frequency_min_hz, found.frequency_max_hz) == (2.304e9, 2.304e9)
    hottest = pytest.approx(49.934)
    assert found.temperature_before_c == hottest
    assert found.temperature_after_c == hottest
    assert found.temperature_max_c == hottest
    assert found.cooling_state_max == 0
    assert found.throttle_events is None
    assert (found.npu_frequency_min_hz, found.gpu_frequency_min_hz) == (300e6, 300e6)
    assert found.memory_frequency_min_hz == 528e6
    assert found.power_w == 4.25
    assert (found.steal_fraction, found.other_cpu_fraction) == (0.0, 0.0)
    assert found.load_average == 0.31
    assert found.telemetry_cpu_fraction is not None
    assert found.telemetry_cpu_fraction >= 0


def test_only_the_timed_cores_clock_counts(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    for cpus, hertz in (("0-3", 1.008e9), ("4,5", 2.256e9), ("", 2.304e9)):
        found = load.LoadMeter(tmp_path, cpus).read(own_cpu_s=0.0)
        assert found.frequency_after_hz == hertz
    found = load.LoadMeter(tmp_path, [0, 1]).read(own_cpu_s=0.0)
    assert found.frequency_after_hz == 1.008e9


def test_throttling_in_between_is_seen(tmp_path: Path) -> None:
    meter = load.LoadMeter(boards.rk3588(tmp_path), "4-7")
    brake = f"{boards.THERMAL}/cooling_device1/cur_state"
    during = {
        brake: 3,
        _clock(4): 1_200_000,
        _clock(6): 1_416_000,
        f"{boards.THERMAL}/thermal_zone1/temp": 86_000,
        f"{boards.DEVFREQ}/dmc/cur_freq": 2_112_000_000,
    }
    before = {name: (tmp_path / name).read_text().strip() for name in during}
    boards.write(tmp_path, during)
    # Long enough for a sample; the rest of the region is as it was at the start.
    harness.until(lambda: (meter._sampler.readings or [None])[-1].brake == 3)  # type: ignore[union-attr]
    boards.write(tmp_path, before)
    found = meter.read(own_cpu_s=0.0)
    assert found.cooling_state_max == 3
    assert found.frequency_min_hz == 1.416e9
    assert found.frequency_after_hz == 2.304e9
    assert found.temperature_max_c == 86.0
    assert found.temperature_after_c == pytest.approx(49.934)
    assert found.memory_frequency_min_hz == 528e6
    assert found.telemetry_samples >= 3


def test_a_brake_that_was_on_before_is_no_event_and_a_fan_is_no_brake(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    boards.write(tmp_path, {f"{boards.THERMAL}/cooling_device1/cur_state": 2})
    meter = load.LoadMeter(tmp_path)
    fan = f"{boards.THERMAL}/cooling_device4"
    assert (tmp_path / f"{fan}/type").read_text() == "pwm-fan\n"
    boards.write(tmp_path, {f"{fan}/cur_state": 5})
    assert meter.read(own_cpu_s=0.0).cooling_state_max == 0


def test_counted_throttling_is_seen(tmp_path: Path) -> None:
    meter = load.LoadMeter(boards.laptop(tmp_path))
    boards.write(tmp_path, {f"{boards.CPU}/cpu2/thermal_throttle/core_throttle_count": 7})
    assert meter.read(own_cpu_s=0.0).throttle_events == 4


def test_a_laptops_power_is_its_counters(tmp_path: Path) -> None:
    meter = load.LoadMeter(boards.laptop(tmp_path))
    boards.write(tmp_path, {f"{boards.RAPL}/intel-rapl:0/energy_uj": 814_345_678})
    begin_s = time.monotonic()
    time.sleep(0.1)
    found = meter.read(own_cpu_s=0.0)
    assert found.power_w is not None
    # 2 J over the region, which was no shorter than this.
    assert 0 < found.power_w < 2.0 / 0.1
    assert time.monotonic() - begin_s < harness.WITHIN_S


def test_others_count_on_the_timed_cores_only(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    everywhere = [1_000] * 8
    meters = [load.LoadMeter(tmp_path, cpus) for cpus in ("4-7", "0-3")]
    begin_s = time.monotonic()
    time.sleep(0.2)
    # A process of somebody else's took 100 s of core 2, one of ours 50 s of core 5.
    boards.proc_stat(
        tmp_path,
        [busy + {2: 10_000, 5: 5_000}.get(cpu, 0) for cpu, busy in enumerate(everywhere)],
        [0, 0, 0, 0, 0, 0, 0, 400],
    )
    big = meters[0].read(own_cpu_s=50.0)
    little = meters[1].read(own_cpu_s=0.0)
    longest_s = time.monotonic() - begin_s + 1.0
    assert big.other_cpu_fraction == pytest.approx(0.0, abs=1e-6)
    assert big.steal_fraction is not None
    assert big.steal_fraction >= 4.0 / 4 / longest_s
    assert little.steal_fraction == 0.0
    assert little.other_cpu_fraction is not None
    assert little.other_cpu_fraction >= 99.0 / 4 / longest_s


def test_a_timed_cores_hog_counts_in_full_and_a_neighbours_by_its_share(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    meters = [
        load.LoadMeter(tmp_path, [7]),
        load.LoadMeter(tmp_path, [7], around=range(4, 8)),
        load.LoadMeter(tmp_path, [6], around=range(4, 8)),
        load.LoadMeter(tmp_path, [6]),
    ]
    time.sleep(0.2)
    # Somebody else's process took 100 s of core 7, and a hypervisor 4 s of it.
    boards.proc_stat(tmp_path, [1_000] * 7 + [11_000], [0] * 7 + [400])
    found = [meter.read(own_cpu_s=0.0) for meter in meters]
    others = [one.other_cpu_fraction or 0.0 for one in found]
    steals = [one.steal_fraction or 0.0 for one in found]
    for alone, timed, beside, elsewhere in (others, steals):
        # Equal, and a quarter; but they did not look for the same time.
        assert alone / 2 < timed < alone * 2
        assert alone / 8 < beside < alone / 2
        assert elsewhere == 0.0


def test_what_may_be_rounding_of_the_kernels_ticks_is_nobodys_work(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    meters = [load.LoadMeter(tmp_path, [7]) for _ in range(2)]
    boards.proc_stat(tmp_path, [1_000] * 7 + [1_002], [0] * 7 + [1])
    found = meters[0].read(own_cpu_s=0.0)
    assert (found.steal_fraction, found.other_cpu_fraction) == (0.0, 0.0)
    boards.proc_stat(tmp_path, [1_000] * 7 + [1_010], [0] * 7 + [3])
    found = meters[1].read(own_cpu_s=0.0)
    assert found.steal_fraction
    assert found.other_cpu_fraction


def test_the_thread_that_asks_the_workers_is_none_of_the_others(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    meter = load.LoadMeter(tmp_path, [7])
    begin_s = time.thread_time()
    while time.thread_time() - begin_s < 0.3:
        pass
    # It ran on the timed core all the time.
    boards.proc_stat(tmp_path, [1_000] * 7 + [1_030], [0] * 8)
    assert meter.read(own_cpu_s=0.0).other_cpu_fraction == 0.0


def test_an_empty_tree_tells_nothing(tmp_path: Path) -> None:
    found = load.LoadMeter(tmp_path).read(own_cpu_s=0.0)
    samples, fraction = found.telemetry_samples, found.telemetry_cpu_fraction
    assert samples >= 2
    assert found == Circumstances(telemetry_samples=samples, telemetry_cpu_fraction=fraction)


def test_files_that_vanish_meanwhile_are_none(tmp_path: Path) -> None:
    meter = load.LoadMeter(boards.rk3588(tmp_path))
    shutil.rmtree(tmp_path / "sys")
    shutil.rmtree(tmp_path / "proc")
    found = meter.read(own_cpu_s=0.0)
    assert found.frequency_before_hz == 2.304e9
    assert (found.frequency_after_hz, found.temperature_after_c) == (None, None)
    assert (found.steal_fraction, found.other_cpu_fraction) == (None, None)
    assert (found.governor, found.load_average, found.cooling_state_max) == (None,) * 3


def test_a_dead_sampler_certifies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[telemetry.Reading] = []
    read = telemetry.Sensors.read

    # At the process edge: a sensor that breaks after the first reading.
    def once(sensors: telemetry.Sensors) -> telemetry.Reading:
        if taken:
            raise OSError("no such device")
        taken.append(read(sensors))
        return taken[0]

    monkeypatch.setattr(telemetry.Sensors, "read", once)
    found = load.LoadMeter(boards.rk3588(tmp_path)).read(own_cpu_s=0.0)
    assert len(taken) == 1
    assert found.telemetry_samples == 0
    sampled = dataclasses.replace(
        found, governor=None, load_average=None, steal_fraction=None, other_cpu_fraction=None
    )
    assert sampled == Circumstances()


def test_closing_needs_no_reading_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    meter = load.LoadMeter(boards.rk3588(tmp_path))
    assert set(threading.enumerate()) != before
    meter.close()
    meter.close()
    assert set(threading.enumerate()) == before


def test_without_arguments_it_watches_this_machine() -> None:
    meter = load.LoadMeter()
    begin_s, end_s = time.process_time(), time.monotonic() + 0.3
    while time.monotonic() < end_s:
        pass
    found = meter.read(own_cpu_s=0.0)
    assert time.process_time() > begin_s
    assert found.telemetry_samples >= 2
    assert found.other_cpu_fraction is not None
    assert 0 <= found.other_cpu_fraction < 1.5
    assert found.load_average is not None


def test_a_wrong_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match="expected a list"):
        load.LoadMeter(tmp_path, "4-x")


def _reading(*, held: bool | None, throttles: int | None = None) -> telemetry.Reading:
    return telemetry.Reading(time_s=0.0, gpu_held_back=held, throttles=throttles)


@pytest.mark.parametrize(
    ("held", "events"),
    [
        ([None, None], None),
        ([False, False], 0),
        ([True, True], 1),
        ([False, True, True, False, True], 2),
        ([False, None, True], 1),
    ],
)
def test_a_gpu_that_begins_to_be_held_back_is_an_event(
    held: list[bool | None], events: int | None
) -> None:
    assert load._throttle_events([_reading(held=each) for each in held]) == events
