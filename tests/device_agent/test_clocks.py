"""Clocks that are held while the agent serves, and come back whatever happens to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent import boards, harness
from tests.device_agent.harness import AgentProcess, Wire, until

from boardfront.device_agent import clock_restore, cores, sysfs
from boardfront.device_agent.clock_restore import RESTORE_FILE
from boardfront.device_agent.clocks import ClockLock
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_POLICIES = f"{boards.CPU}/cpufreq"
_NPU = f"{boards.DEVFREQ}/fdab0000.npu/governor"


def _content(root: Path) -> dict[str, str]:
    """Return all files that are there, by path."""
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def _policy(root: Path, number: int) -> tuple[str | None, ...]:
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    return tuple(sysfs.read_text(root / f"{_POLICIES}/policy{number}/{name}") for name in names)


def _never_writable(path: Path) -> None:
    """Make a file one that even root cannot write: a constant of the kernel."""
    path.unlink()
    path.symlink_to("/sys/kernel/fscaps")


@pytest.fixture
def rock(tmp_path: Path) -> Path:
    """An RK3588's files."""
    return boards.rk3588(tmp_path / "root")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder."""
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture
def locks(rock: Path, state: Path) -> Iterator[ClockLock]:
    """A lock of the RK3588 that is released in any case."""
    made = ClockLock(rock, state)
    yield made
    made.release()


def test_clocks_are_held_and_given_back(rock: Path, state: Path, locks: ClockLock) -> None:
    before = _content(rock)
    assert locks.locked_hz([4, 5]) is None
    report = locks.lock()
    assert report.refused == ()
    assert report.held == (
        *("cores 0-3 at 1800 MHz", "cores 4-5 at 2400 MHz", "cores 6-7 at 2352 MHz"),
        *("memory by governor performance", "gpu by governor performance"),
        "npu by governor performance",
    )
    assert _policy(rock, 0) == ("performance", "1800000", "1800000")
    assert _policy(rock, 6) == ("performance", "2352000", "2352000")
    assert sysfs.read_text(rock / _NPU) == "performance"
    assert locks.locked_hz([4, 5]) == 2.4e9
    # These are on two clocks.
    assert locks.locked_hz([4, 6]) is None
    assert locks.locked_hz([]) is None
    held = locks.held(cores.clusters(rock))
    assert [cluster.locked_hz for cluster in held] == [1.8e9, 2.4e9, 2.352e9]
    assert locks.release() == ()
    assert _content(rock) == before
    assert not (state / RESTORE_FILE).exists()
    assert locks.locked_hz([4, 5]) is None
    assert locks.release() == ()


def test_a_clock_that_somebody_moves_is_no_longer_said_to_be_held(
    rock: Path, locks: ClockLock
) -> None:
    locks.lock()
    boards.write(rock, {f"{_POLICIES}/policy4/scaling_min_freq": 408_000})
    assert locks.locked_hz([4, 5]) is None
    assert locks.locked_hz([0, 1, 2, 3]) == 1.8e9


def test_only_offered_frequencies_are_chosen(rock: Path, state: Path) -> None:
    steps = {"scaling_available_frequencies": "408000 1200000 1608000 2400000"}
    boards.write(rock, {f"{_POLICIES}/policy4/{name}": text for name, text in steps.items()})
    for highest_hz, expected_hz in ((None, 2.4e9), (1.7e9, 1.608e9), (1e8, 4.08e8)):
        lock = ClockLock(rock, state, highest_hz=highest_hz)
        lock.lock()
        assert lock.locked_hz([4, 5]) == expected_hz
        lock.release()
    # Where the kernel offers no list, any frequency is one.
    lock = ClockLock(rock, state, highest_hz=1.7e9)
    lock.lock()
    assert lock.locked_hz([0]) == 1.7e9
    lock.release()


@pytest.mark.parametrize("highest_hz", [0.0, -1e9, float("nan")])
def test_a_clock_must_tick(rock: Path, state: Path, highest_hz: float) -> None:
    with pytest.raises(WrongInputError, match="expected more than 0"):
        ClockLock(rock, state, highest_hz=highest_hz)


@pytest.mark.parametrize(
    ("switch", "on", "off"), [("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")]
)
def test_boost_is_off_meanwhile(
    tmp_path: Path, state: Path, switch: str, on: str, off: str
) -> None:
    root = boards.laptop(tmp_path / "laptop")
    path = root / boards.CPU / switch
    boards.write(root, {f"{boards.CPU}/{switch}": on})
    before = _content(root)
    lock = ClockLock(root, state)
    assert lock.lock().held == ("cores 0-7 at 4800 MHz",)
    assert sysfs.read_text(path) == off
    lock.release()
    assert _content(root) == before


def test_the_old_values_are_on_the_disk_before_the_first_change(
    rock: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def write_value(path: Path, value: str) -> None:
        del path, value
        seen.append(json.loads((state / RESTORE_FILE).read_text())["values"])

    monkeypatch.setattr(clock_restore, "write_value", write_value)
    lock = ClockLock(rock, state)
    lock.lock()
    lock.release()
    assert seen[0][f"{_POLICIES}/policy4/scaling_governor"] == "schedutil"
    assert seen[0][f"{_POLICIES}/policy4/scaling_min_freq"] == "408000"
    assert seen[0][_NPU] == "rknpu_ondemand"


def test_a_file_that_cannot_be_written_is_one_line(rock: Path, locks: ClockLock) -> None:
    refusing = rock / f"{_POLICIES}/policy0/scaling_min_freq"
    _never_writable(refusing)
    report = locks.lock()
    assert len(report.refused) == 1
    assert report.refused[0].startswith(f"{refusing}: cannot be set to 1800000 (")
    # Where the kernel's files are mounted read-only, the reason and the way out are others.
    assert re.search(r"run the agent (with sudo|outside the container), or ", report.refused[0])
    # The others are held all the same.
    assert "cores 4-5 at 2400 MHz" in report.held
    assert "cores 0-3 by governor performance only" in report.held
    assert locks.locked_hz([0, 1, 2, 3]) is None
    assert locks.release() == ()
    assert _policy(rock, 4) == ("schedutil", "408000", "2400000")


def test_where_nothing_can_be_written_nothing_stays_behind(
    rock: Path, state: Path, locks: ClockLock
) -> None:
    for name in _changed_names(rock, state):
        _never_writable(rock / name)
    report = locks.lock()
    assert report.held == ()
    assert len(report.refused) == 1
    assert "; so it is with " in report.refused[0]
    assert not (state / RESTORE_FILE).exists()


def _changed_names(root: Path, state: Path) -> list[str]:
    """Return the names of all files that locking changes."""
    before = _content(root)
    lock = ClockLock(root, state)
    lock.lock()
    names = [name for name, text in _content(root).items() if before[name] != text]
    lock.release()
    assert len(names) >= 9
    return names


def test_a_machine_without_clocks_is_said(tmp_path: Path, state: Path) -> None:
    root = boards.write(tmp_path / "vm", {f"{boards.CPU}/online": "0-1"})
    report = ClockLock(root, state).lock()
    assert report.held == ()
    assert len(report.refused) == 1
    assert "no clock can be set here" in report.refused[0]
    assert list(state.iterdir()) == []
    nothing = ClockLock(tmp_path / "nowhere", state).lock()
    assert nothing.held == ()
    assert len(nothing.refused) == 1


def test_a_governor_that_the_kernel_lacks_is_said(rock: Path, locks: ClockLock) -> None:
    boards.write(rock, {f"{_POLICIES}/policy0/scaling_available_governors": "powersave ondemand"})
    report = locks.lock()
    assert len(report.refused) == 1
    assert "offers no performance but powersave, ondemand" in report.refused[0]
    assert _policy(rock, 0) == ("schedutil", "1800000", "1800000")


def test_one_agent_at_a_time_holds_the_clocks(
    rock: Path, tmp_path: Path, locks: ClockLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_restore, "_CLAIM_WITHIN_S", 0.1)
    locks.lock()
    (tmp_path / "other").mkdir()
    other = ClockLock(rock, tmp_path / "other")
    assert other.lock().refused == (
        "another agent holds the clocks of this machine: stop it first",
    )
    other.release()
    assert locks.locked_hz([4, 5]) == 2.4e9
    locks.release()
    assert other.lock().refused == ()
    other.release()


def test_what_was_left_by_another_boot_is_not_put_back(rock: Path, state: Path) -> None:
    boot = "proc/sys/kernel/random/boot_id"
    governor = f"{_POLICIES}/policy0/scaling_governor"
    boards.write(rock, {boot: "one"})
    clock_restore.save(rock, state, {governor: "powersave"})
    boards.write(rock, {boot: "two"})
    assert ClockLock(rock, state).recover() == ()
    assert _policy(rock, 0)[0] == "schedutil"
    assert not (state / RESTORE_FILE).exists()


def test_only_clocks_are_ever_written(rock: Path, state: Path) -> None:
    governor = f"{_POLICIES}/policy0/scaling_governor"
    forbidden = ["etc/os-release", "sys/class/devfreq/dmc/x/governor", f"{governor}/../../x", "/x"]
    before = _content(rock)
    clock_restore.save(rock, state, {**dict.fromkeys(forbidden, "evil"), governor: "powersave"})
    assert ClockLock(rock, state).recover() == ()
    assert _content(rock) == {**before, governor: "powersave\n"}


def test_what_could_not_be_put_back_stays_noted(rock: Path, state: Path) -> None:
    governor, limit = (f"{_POLICIES}/policy0/scaling_{name}" for name in ("governor", "min_freq"))
    gone = f"{_POLICIES}/policy9/scaling_governor"
    _never_writable(rock / governor)
    clock_restore.save(rock, state, {governor: "ondemand", limit: "600000", gone: "ondemand"})
    lock = ClockLock(rock, state)
    (failure,) = lock.recover()
    assert failure.startswith(f"not put back: {rock / governor}: cannot be set to ondemand")
    assert sysfs.read_text(rock / limit) == "600000"
    # Once it can be written, it comes back, even over a lock in between.
    lock.lock()
    (rock / governor).unlink()
    boards.write(rock, {governor: "performance"})
    assert lock.release() == ()
    assert _policy(rock, 0) == ("ondemand", "600000", "1800000")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"values": 3, "boot": null}', "null"])
def test_a_broken_restore_file_is_no_obstacle(rock: Path, state: Path, text: str) -> None:
    before = _content(rock)
    (state / RESTORE_FILE).write_text(text)
    assert ClockLock(rock, state).recover() == ()
    assert _content(rock) == before


@pytest.mark.parametrize("limits_khz", [(408_000, 1_200_000), (408_000, 408_000)])
def test_limits_never_cross(
    rock: Path, state: Path, limits_khz: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # An administrator's upper limit below the frequency that is chosen, and a kernel that refuses
    # a lower limit above the upper one.
    folder = rock / _POLICIES / "policy4"
    low, high = folder / "scaling_min_freq", folder / "scaling_max_freq"
    low.write_text(f"{limits_khz[0]}\n")
    high.write_text(f"{limits_khz[1]}\n")
    before = _content(rock)
    write_value = clock_restore.write_value

    def write_if_they_do_not_cross(path: Path, value: str) -> str | None:
        crosses = (path == low and int(value) > int(high.read_text())) or (
            path == high and int(value) < int(low.read_text())
        )
        return f"{path}: crosses" if crosses else write_value(path, value)

    monkeypatch.setattr(clock_restore, "write_value", write_if_they_do_not_cross)
    lock = ClockLock(rock, state)
    assert lock.lock().refused == ()
    assert lock.locked_hz([4, 5]) == 2.4e9
    assert lock.release() == ()
    assert _content(rock) == before


def test_limits_that_heat_has_lowered_are_told(rock: Path, locks: ClockLock) -> None:
    boards.write(rock, {f"{boards.THERMAL}/cooling_device1/cur_state": 2})
    (said,) = locks.lock().refused
    assert said.startswith("cpufreq-cpu4: heat lowers limits now")
    assert locks.locked_hz([4, 5]) == 2.4e9


def _serve(state: Path, root: Path, *more: str) -> AgentProcess:
    return AgentProcess(state, options=["--root", str(root), *more])


def _guardian(agent: AgentProcess) -> psutil.Process:
    """Return an agent's guardian."""
    children = psutil.Process(agent.pid).children(recursive=True)
    (found,) = [
        child for child in children if "boardfront.device_agent.clock_restore" in child.cmdline()
    ]
    return found


def test_an_agent_holds_clocks_and_describes_them(rock: Path, tmp_path: Path) -> None:
    before = _content(rock)
    with _serve(tmp_path / "state", rock, "--lock-clocks", "2000") as agent:
        wire = Wire(agent.address)
        hardware = wire.describe().hardware
        wire.close()
        assert [cluster.locked_hz for cluster in hardware.clusters] == [1.8e9, 2e9, 2e9]
        assert {cluster.governor for cluster in hardware.clusters} == {"performance"}
        guardian = _guardian(agent)
        assert agent.terminate() == 0
    assert _content(rock) == before
    assert harness.is_gone(guardian.pid)
    assert "--lock-clocks: cores 4-7 at 2000 MHz" in (tmp_path / "state/stderr.log").read_text()


def test_a_killed_agent_leaves_no_clock_held(rock: Path, tmp_path: Path) -> None:
    before = _content(rock)
    with _serve(tmp_path / "state", rock, "--lock-clocks") as agent:
        assert _policy(rock, 4) == ("performance", "2400000", "2400000")
        guardian = _guardian(agent)
        # A service manager's polite end of the whole group does not stop it.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            guardian.send_signal(number)
        assert os.getsid(guardian.pid) == guardian.pid
        agent.kill()
        until(lambda: _content(rock) == before, within_s=10.0)
        until(lambda: harness.is_gone(guardian.pid), within_s=10.0)
    assert not (tmp_path / "state" / RESTORE_FILE).exists()


@pytest.mark.slow
def test_an_agent_that_starts_while_the_guardian_works_waits_for_it(
    rock: Path, tmp_path: Path
) -> None:
    before = _content(rock)
    with _serve(tmp_path / "state", rock, "--lock-clocks") as agent:
        agent.kill()
        agent.start()
        guardian = _guardian(agent)
        assert _policy(rock, 4) == ("performance", "2400000", "2400000")
        assert agent.terminate() == 0
    assert _content(rock) == before
    assert harness.is_gone(guardian.pid)


@pytest.mark.parametrize("options", [[], ["--lock-clocks"]])
def test_the_next_start_gives_back_what_nobody_could(
    rock: Path, tmp_path: Path, options: list[str]
) -> None:
    before = _content(rock)
    state = tmp_path / "state"
    with _serve(state, rock, "--lock-clocks") as agent:
        guardian = _guardian(agent)
        guardian.kill()
        until(lambda: harness.is_gone(guardian.pid))
        agent.kill()
    assert _policy(rock, 4)[0] == "performance"
    assert (state / RESTORE_FILE).exists()
    with _serve(state, rock, *options) as agent:
        assert (_content(rock) == before) == (not options)
        assert agent.terminate() == 0
    assert _content(rock) == before
    assert not (state / RESTORE_FILE).exists()


def test_an_agent_that_may_not_serves_all_the_same(tmp_path: Path) -> None:
    root = boards.write(tmp_path / "vm", {f"{boards.CPU}/online": "0-1"})
    with _serve(tmp_path / "state", root, "--lock-clocks") as agent:
        wire = Wire(agent.address)
        assert all(c.locked_hz is None for c in wire.describe().hardware.clusters)
        wire.close()
    said = (tmp_path / "state/stderr.log").read_text()
    assert "no clock can be set here" in said
    assert "no clock could be set: times are taken on moving clocks" in said


@pytest.mark.parametrize("mhz", ["0", "-3", "nan"])
def test_a_frequency_that_is_none_is_refused(tmp_path: Path, mhz: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "boardfront.device_agent.cli", "serve"),
            *("--state", str(tmp_path), f"--lock-clocks={mhz}"),
        ],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )
    assert done.returncode == 2
    assert "expected MHz above 0" in done.stderr
