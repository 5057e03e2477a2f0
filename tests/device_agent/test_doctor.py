"""The doctor: every check finds what is wrong, passes what is right, and says what is unknown."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import boards, harness

from boardfront.device_agent import cores, doctor, sysfs
from boardfront.device_agent import doctor_checks as checks
from boardfront.device_agent import doctor_setup as setup
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.doctor_setup import Access, RknnVersions
from boardfront.device_agent.protections import Protections
from boardfront.protos import findings as shown
from boardfront.protos.findings import Finding, Severity
from boardfront.protos.records import BackendInfo

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

GOOD, WARNING, PROBLEM = Severity.GOOD, Severity.WARNING, Severity.PROBLEM
_POLICIES = f"{boards.CPU}/cpufreq"
_BIG = (4, 5, 6, 7)


def _is(found: Finding, severity: Severity, pattern: str = "") -> None:
    """Check a finding; every one but the good ones says what to do."""
    assert found.severity is severity, found
    assert re.search(pattern, f"{found.finding} {found.evidence}"), found
    assert bool(found.remedy) == (severity is not GOOD), found


def _is_unknown(found: Finding) -> None:
    _is(found, WARNING, "^could not be read .+")


@pytest.fixture
def rock(tmp_path: Path) -> Path:
    """An RK3588's files."""
    return boards.rk3588(tmp_path / "rock")


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """A laptop's files."""
    return boards.laptop(tmp_path / "laptop")


def _on_policies(root: Path, name: str, value: object) -> None:
    boards.write(root, {f"{_POLICIES}/policy{number}/{name}": value for number in (4, 6)})


def test_governor(rock: Path) -> None:
    _is(checks.governor(sysfs.cpu_policies(rock), _BIG), WARNING, "cores 4-7: schedutil")
    # That of cores on which nothing is timed does not matter.
    _on_policies(rock, "scaling_governor", "performance")
    _is(checks.governor(sysfs.cpu_policies(rock), _BIG), GOOD, "performance")
    _is(checks.governor(sysfs.cpu_policies(rock), (0, *_BIG)), WARNING, "performance, schedutil")
    _on_policies(rock, "scaling_governor", "ondemand")
    _on_policies(rock, "scaling_min_freq", 1_800_000)
    _on_policies(rock, "scaling_max_freq", 1_800_000)
    _is(checks.governor(sysfs.cpu_policies(rock), _BIG), GOOD, "the clock is held")
    _on_policies(rock, "scaling_governor", "")
    _is_unknown(checks.governor(sysfs.cpu_policies(rock), _BIG))
    _is_unknown(checks.governor((), _BIG))


def test_frequency_limits(rock: Path) -> None:
    _is(checks.frequency_limits(sysfs.cpu_policies(rock), _BIG), GOOD, "not lowered")
    boards.write(rock, {f"{_POLICIES}/policy6/scaling_max_freq": 1_200_000})
    found = checks.frequency_limits(sysfs.cpu_policies(rock), _BIG)
    _is(found, WARNING, r"cores 6-7: 1200 of 2352 MHz$")
    _is(checks.frequency_limits(sysfs.cpu_policies(rock), (0, 1)), GOOD)
    boards.write(rock, {f"{_POLICIES}/policy6/scaling_min_freq": 1_200_000})
    _is(checks.frequency_limits(sysfs.cpu_policies(rock), _BIG), GOOD, "held there .*1200 of")
    _on_policies(rock, "cpuinfo_max_freq", "")
    _is_unknown(checks.frequency_limits(sysfs.cpu_policies(rock), _BIG))
    _is_unknown(checks.frequency_limits((), _BIG))


@pytest.mark.parametrize(
    ("millicelsius", "severity", "pattern"),
    [
        (44_384, GOOD, "31 degrees left soc-thermal: 44 °C, slows down at 75 °C"),
        (64_900, GOOD, "10 degrees left"),
        (66_000, WARNING, "only 9 degrees left"),
        (75_000, PROBLEM, "slowed down by heat"),
        (90_000, PROBLEM, "slowed down by heat"),
    ],
)
def test_heat(rock: Path, millicelsius: int, severity: Severity, pattern: str) -> None:
    boards.write(rock, {f"{boards.THERMAL}/thermal_zone0/temp": millicelsius})
    _is(checks.heat(sysfs.thermal_zones(rock), 50.0), severity, pattern)


def test_heat_of_which_no_limit_is_known(rock: Path, laptop: Path) -> None:
    _is_unknown(checks.heat(sysfs.thermal_zones(laptop), 52.0))
    assert "52 °C" in checks.heat(sysfs.thermal_zones(laptop), 52.0).evidence
    _is_unknown(checks.heat((), None))
    # A trip point at 0 is not in use, a critical one ends in a halt and not in a lower clock.
    boards.write(rock, {f"{boards.THERMAL}/thermal_zone0/trip_point_0_temp": 0})
    _is_unknown(checks.heat(sysfs.thermal_zones(rock), 50.0))


def _throttling(root: Path) -> Finding:
    counts = [sysfs.read_count(path) for path in sysfs.throttle_counters(root)]
    return checks.throttling(counts, [d for d in sysfs.cooling_devices(root) if d.brakes])


def test_throttling(rock: Path, laptop: Path, tmp_path: Path) -> None:
    _is(_throttling(laptop), WARNING, "since the start 17 times")
    for cpu in range(8):
        folder = f"{boards.CPU}/cpu{cpu}/thermal_throttle"
        boards.write(
            laptop, {f"{folder}/{kind}_throttle_count": 0 for kind in ("core", "package")}
        )
    _is(_throttling(laptop), GOOD, "none now and none since the start")
    _is(_throttling(rock), GOOD, "^none now $")
    boards.write(rock, {f"{boards.THERMAL}/cooling_device1/cur_state": 3})
    _is(_throttling(rock), PROBLEM, "now cpufreq-cpu4 at 3 of 8")
    # A fan that turns slows nothing down.
    boards.write(rock, {f"{boards.THERMAL}/cooling_device1/cur_state": 0})
    boards.write(rock, {f"{boards.THERMAL}/cooling_device4/cur_state": 2})
    _is(_throttling(rock), GOOD)
    _is_unknown(_throttling(tmp_path))


def test_swap(rock: Path) -> None:
    _is(checks.swap(sysfs.memory_bytes(rock)), GOOD, "there is none")
    _is(checks.swap({"SwapTotal": 1 << 30, "SwapFree": (1 << 30) - (8 << 20)}), GOOD, "8 of 1024")
    _is(checks.swap({"SwapTotal": 1 << 30, "SwapFree": 1 << 29}), WARNING, "512 of 1024 MiB")
    _is_unknown(checks.swap({}))


@pytest.mark.parametrize(
    ("busy", "steal", "severity"),
    [
        (2, 0, GOOD),
        (8, 0, WARNING),
        (15, 0, PROBLEM),
        (0, 1, WARNING),
        (0, 3, PROBLEM),
    ],
)
def test_background_load(tmp_path: Path, busy: int, steal: int, severity: Severity) -> None:
    ticks = 100.0 / sysfs._TICKS_PER_S

    def times(busy: int, steal: int) -> sysfs.CpuTimes:
        return sysfs.CpuTimes(busy_s=busy * ticks, total_s=100 * ticks, steal_s=steal * ticks)

    zero = sysfs.CpuTimes(busy_s=0.0, total_s=0.0, steal_s=0.0)
    before: dict[int | None, sysfs.CpuTimes] = {0: zero, 1: zero}
    # Core 0 is as busy as can be, and is none that is timed.
    found = checks.background_load(
        before, {0: times(100, 0), 1: times(busy, steal)}, (1,), ["ffmpeg 15%"]
    )
    _is(found, severity, f"cores 1: {busy}.0% busy, {steal}.0% taken.*ffmpeg 15%")
    boards.proc_stat(tmp_path, [busy], [steal])
    still = sysfs.cpu_times(tmp_path)
    _is_unknown(checks.background_load(still, still, (0,)))
    _is_unknown(checks.background_load({}, {}, (0,)))
    _is_unknown(checks.background_load(before, {}, (0,)))


def test_hyper_threads(rock: Path, laptop: Path, tmp_path: Path) -> None:
    def judge(root: Path, cpus: tuple[int, ...]) -> Finding:
        return checks.siblings(doctor._thread_groups(root, cpus), cpus)

    _is(judge(laptop, tuple(range(8))), WARNING, "8 threads on 4 cores")
    assert "cores 0-3" in judge(laptop, tuple(range(8))).remedy
    _is(judge(laptop, (0, 1, 2, 3)), GOOD)
    _is(judge(laptop, (1, 5)), WARNING, "2 threads on 1 cores")
    _is(judge(rock, _BIG), GOOD)
    _is_unknown(judge(tmp_path, (0, 1)))


def test_big_and_little_cores(rock: Path, laptop: Path) -> None:
    capacities = sysfs.cpu_capacities(rock)

    def judge(allowed: tuple[int, ...]) -> Finding:
        default = cores.parse_cpus(cores.default_cpus(rock, allowed))
        return checks.big_cores(capacities, {}, default)

    _is(judge(tuple(range(8))), GOOD, "on the big cores fastest are 4-7 of 0-7")
    _is(judge((0, 1, 2, 3)), PROBLEM, "may not use the big cores")
    _is(judge((0, 1, 2, 3, 4, 5)), WARNING, "excluded are 6-7")
    # Chips whose kernel knows the clocks of the cores, but not their capacities.
    tops_hz = dict.fromkeys(range(4), 4.8e9) | dict.fromkeys(range(4, 8), 3.6e9)
    _is(checks.big_cores({}, tops_hz, tuple(range(8))), WARNING, "several kinds")
    assert "target: 0-3" in checks.big_cores({}, tops_hz, tuple(range(8))).remedy
    alike = {cpu: p.top_hz for p in sysfs.cpu_policies(laptop) for cpu in p.cpus if p.top_hz}
    _is(checks.big_cores({}, alike, tuple(range(8))), GOOD, "all cores are alike")
    _is_unknown(checks.big_cores({}, {}, (0,)))
    _is_unknown(checks.big_cores({0: 1024}, {}, (0, 1)))


@pytest.mark.parametrize(
    ("current", "resolution_s", "severity"),
    [
        ("tsc", 3e-8, GOOD),
        ("arch_sys_counter", None, GOOD),
        ("arch_sys_counter", 4.2e-8, GOOD),
        ("tsc", 5e-6, WARNING),
        ("xen", 5e-8, WARNING),
        ("hpet", 5e-7, PROBLEM),
        ("acpi_pm", None, PROBLEM),
        ("jiffies", None, PROBLEM),
        ("tsc", 1e-3, PROBLEM),
    ],
)
def test_clock_source(current: str, resolution_s: float | None, severity: Severity) -> None:
    _is(checks.clock_source(current, resolution_s), severity, current)
    _is_unknown(checks.clock_source(None, resolution_s))


def test_clock_permissions(rock: Path, tmp_path: Path) -> None:
    found = doctor._clock_access(rock, sysfs.cpu_policies(rock))
    assert len(found) == 3 * 3 + 3
    assert all(access.allowed for access in found)
    _is(setup.clock_rights(found), GOOD)
    (rock / f"{_POLICIES}/policy4/scaling_governor").unlink()
    found = doctor._clock_access(rock, sysfs.cpu_policies(rock))
    _is(setup.clock_rights(found), WARNING, "policy4/scaling_governor$")
    _is_unknown(setup.clock_rights(doctor._clock_access(tmp_path, ())))


def test_energy(rock: Path, laptop: Path, tmp_path: Path) -> None:
    _is(setup.energy_rights(*doctor._energy_sources(laptop)), GOOD, "rapl:package-0")
    _is(setup.energy_rights(*doctor._energy_sources(rock)), GOOD, "hwmon:ina226/power1_input")
    # What may not be read answers as what is empty.
    for domain in ("0", "0:0", "0:1", "1"):
        boards.write(laptop, {f"{boards.RAPL}/intel-rapl:{domain}/energy_uj": ""})
    found = setup.energy_rights(*doctor._energy_sources(laptop))
    _is(found, WARNING, "may not read .*intel-rapl:0/energy_uj.* and 2 more")
    bare = boards.rk3588(tmp_path / "bare", hwmon=False)
    _is_unknown(setup.energy_rights(*doctor._energy_sources(bare)))


def test_gpu_and_npu_permissions(rock: Path, laptop: Path) -> None:
    _is(setup.device_rights(doctor._device_access(laptop)), GOOD, "nothing to permit")
    boards.write(rock, {"dev/dri/renderD128": "", "dev/dri/renderD129": ""})
    found = doctor._device_access(rock)
    assert [access.path.rpartition("/")[2] for access in found] == [
        *("renderD128", "renderD129", "rknpu"),
    ]
    _is(setup.device_rights(found), GOOD, "may be used")
    refused = Access(path="/dev/dri/renderD128", allowed=False)
    _is(setup.device_rights([*found, refused]), WARNING, "renderD128$")


def _held(**changes: bool) -> Protections:
    everything = Protections(
        no_new_privileges=True,
        no_network=True,
        sealed_files=True,
        file_bytes=4 << 30,
        open_files=4096,
        tasks=None,
    )
    return dataclasses.replace(everything, **changes)


def test_worker_isolation() -> None:
    obstacle = ("switched off", "switch it on")
    for found in setup.worker_isolation(_held(), obstacle):
        _is(found, GOOD)
    evidence = setup.worker_isolation(_held(), obstacle)[0].evidence
    assert evidence == ("512 processes, any number of threads, 4096 open files, 4096 MiB a file")
    names = ("no_new_privileges", "no_network", "sealed_files")
    for index, name in enumerate(names):
        three = setup.worker_isolation(_held(**{name: False}), obstacle)
        assert [one.severity for one in three].count(WARNING) == 1
        _is(three[index], WARNING)
        assert (three[index].remedy == "switch it on") == (index > 0)
    for found in setup.worker_isolation(None, obstacle):
        _is_unknown(found)


def test_agents_user() -> None:
    _is(setup.agents_user(1000), GOOD, "not root")
    _is(setup.agents_user(0), WARNING, "root: a network that breaks out")


def test_state_folder(tmp_path: Path) -> None:
    assert doctor._state_folder(tmp_path / "a/b/c").severity is not PROBLEM
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    _is(doctor._state_folder(tmp_path / "file/state"), PROBLEM, "cannot be written")
    fine = Access(path="/state", allowed=True)
    _is(setup.state_folder(fine, 20 << 30), GOOD, "20.0 GiB free")
    (tmp_path / "closed").mkdir(mode=0o700)
    assert "other users" not in doctor._state_folder(tmp_path / "closed").finding
    (tmp_path / "open").mkdir(mode=0o750)
    _is(setup.state_folder(fine, 20 << 30, is_open=True), WARNING, "other users may read")
    assert doctor._state_folder(tmp_path / "open").severity is WARNING
    _is(setup.state_folder(fine, 1 << 30), WARNING, "little space")
    _is(setup.state_folder(fine, 100 << 20), PROBLEM, "full")
    _is_unknown(setup.state_folder(fine, None))


def test_memory(rock: Path) -> None:
    _is(setup.memory(sysfs.memory_bytes(rock)), GOOD, "13796 of 15750 MiB")
    _is(setup.memory({"MemTotal": 8 << 30, "MemAvailable": 900 << 20}), WARNING)
    _is(setup.memory({"MemTotal": 1 << 30, "MemAvailable": 700 << 20}), GOOD)
    _is(setup.memory({"MemTotal": 8 << 30, "MemAvailable": 100 << 20}), PROBLEM)
    _is_unknown(setup.memory({"MemTotal": 8 << 30}))


def test_a_machine_of_its_own(rock: Path, laptop: Path, tmp_path: Path) -> None:
    for root in (rock, laptop):
        _is(setup.virtual(doctor._virtual_signs(root)), GOOD)
    boards.write(rock, {"run/systemd/container": "lxc"})
    _is(setup.virtual(doctor._virtual_signs(rock)), WARNING, "/run/systemd/container")
    boards.write(laptop, {"proc/cpuinfo": "processor : 0\nflags\t\t: fpu hypervisor avx2"})
    boards.write(laptop, {"sys/class/dmi/id/sys_vendor": "QEMU"})
    _is(setup.virtual(doctor._virtual_signs(laptop)), WARNING, "hypervisor flag .*, QEMU")
    _is_unknown(setup.virtual(doctor._virtual_signs(tmp_path)))


def _info(name: str, reason: str = "") -> BackendInfo:
    return BackendInfo(name=name, version="1.2", available=not reason, reason=reason)


def test_backends() -> None:
    fake, missing = _info("fake"), _info("rknn", "no /usr/lib/librknnrt.so")
    one, two = setup.backends([fake, _info("onnxruntime")])
    _is(one, GOOD, "available 1.2")
    _is(two, GOOD)
    _, lacking, none = setup.backends([fake, missing])
    _is(lacking, WARNING, "not available no /usr/lib/librknnrt.so")
    _is(none, PROBLEM, "none can run a network")
    (failed,) = setup.backends(None, "the worker died by signal SIGILL during probe")
    _is(failed, PROBLEM, "SIGILL")


@pytest.mark.parametrize(
    ("toolkit", "runtime", "driver", "severity", "pattern"),
    [
        ("2.3.2", "2.3.0", "0.9.8", GOOD, "go together"),
        ("2.5.0", "2.3.2", "0.9.8", PROBLEM, "do not go together"),
        ("1.6.0", "2.6.0", "0.9.8", PROBLEM, "do not go together"),
        ("2.3.2", "2.3.2", "0.8.2", PROBLEM, "too old"),
        ("2.3.2", "2.3.2", "0.9.3", WARNING, "the driver is old"),
        ("2.3.2", "2.3.2", "0.10.0", GOOD, "go together"),
        ("2.3.2", "2.3.2", None, WARNING, "could not be read .*driver could not be read"),
        (None, "2.3.2", "0.9.8", WARNING, "cannot be used toolkit-lite2 not found"),
        ("2.3.2", None, "0.9.8", WARNING, "cannot be used .*librknnrt not found"),
    ],
)
def test_rknn_versions(
    toolkit: str | None,
    runtime: str | None,
    driver: str | None,
    severity: Severity,
    pattern: str,
) -> None:
    versions = RknnVersions(has_npu=True, toolkit=toolkit, runtime=runtime, driver=driver)
    found = setup.rknn(versions)
    _is(found, severity, pattern)
    # No backend of ours would run what the remedy tells to install.
    assert "rknn" not in catalog._OWN
    assert ("for one of your own: pip install" in found.remedy) == ("cannot be used" in pattern)


def test_rknn_versions_are_read(rock: Path, laptop: Path) -> None:
    _is(setup.rknn(doctor._rknn_versions(laptop)), GOOD, "no Rockchip NPU")
    assert doctor._rknn_versions(rock).runtime is None
    library = rock / "usr/lib/librknnrt.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(
        b"\x7fELF\0\xff\0librknnrt version: %s\0\0"
        b"librknnrt version: 2.3.2 (429f97ae6b@2025-04-09T09:09:27)\0\xfe"
    )
    found = doctor._rknn_versions(rock)
    assert (found.has_npu, found.runtime, found.driver) == (True, "2.3.2", "0.9.8")
    (rock / "sys/kernel/debug/rknpu/version").unlink()
    assert doctor._rknn_versions(rock).driver is None
    boards.write(rock, {"proc/rknpu/version": "RKNPU driver: v0.9.6"})
    assert doctor._rknn_versions(rock).driver == "0.9.6"


def test_the_worst_finding_decides() -> None:
    fine = shown.good("a", "fine")
    odd = shown.warning("bb", "odd", "seen", "look")
    bad = shown.problem("c", "bad", "", "mend it")
    assert shown.worst([]) is GOOD
    assert [shown.exit_code(found) for found in ([], [fine], [fine, odd], [bad, odd])] == [
        *(0, 0, 0, 1)
    ]
    assert shown.as_lines([fine, odd, bad]) == [
        "ok   a   fine",
        "warn bb  odd (seen)",
        "         -> look",
        "FAIL c   bad",
        "         -> mend it",
        "problems: 1, warnings: 1, ok: 1",
    ]
    assert shown.as_json([odd]) == {
        "findings": [
            {
                "name": "bb",
                "severity": "warning",
                "finding": "odd",
                "evidence": "seen",
                "remedy": "look",
            }
        ],
        "worst": "warning",
    }


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boardfront.device_agent.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )


def test_the_command_on_a_board(rock: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    done = _run("--root", str(rock), "--state", state, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    severities = {finding["name"]: finding["severity"] for finding in found["findings"]}
    assert severities["governor"] == "warning"
    assert severities["heat"] == "good"
    assert severities["big and little cores"] == "good"
    # A tree stands still, and what cannot be told is not passed off as good.
    assert severities["background load"] == "warning"
    assert severities["backend onnxruntime"] == "good"
    assert found["worst"] == "warning"
    assert done.returncode == 0
    assert not (tmp_path / "state").exists()
    boards.write(rock, {f"{boards.THERMAL}/thermal_zone0/temp": 80_000})
    hot = _run("--root", str(rock), "--state", state)
    assert hot.returncode == 1
    assert re.search(r"^FAIL heat +the device is slowed down by heat \(soc", hot.stdout, re.M)
    assert re.search(r"^ +-> add a heat sink", hot.stdout, re.MULTILINE)


def test_the_command_on_this_machine(tmp_path: Path) -> None:
    done = _run("--state", str(tmp_path), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == (found["worst"] == "problem")
    names = [finding["name"] for finding in found["findings"]]
    assert len(set(names)) == len(names) >= 16
    load = next(each for each in found["findings"] if each["name"] == "background load")
    assert re.search(r"% busy, .*% taken by a hypervisor", load["evidence"])


def test_a_root_that_is_none_is_refused(tmp_path: Path) -> None:
    done = _run("--root", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "expected a folder with sys and proc in it" in done.stderr
