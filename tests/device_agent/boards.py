"""Trees of files as real boards have them, to read instead of this machine's.

The layouts follow the kernels' own documentation and what those boards are known to show; the
numbers are plausible ones of an idle board, not a record of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"
HWMON = "sys/class/hwmon"
DEVFREQ = "sys/class/devfreq"
RAPL = "sys/class/powercap"


def write(root: Path, files: Mapping[str, object]) -> Path:
    """Write files by their path under the root; a line each, as sysfs has them."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def rk3588(root: Path, *, hwmon: bool = True) -> Path:
    """A Radxa ROCK 5B: 4 x Cortex-A55 and 2 x 2 x Cortex-A76, NPU, Mali GPU.

    Args:
        root: Where to write.
        hwmon: With an INA226 on the supply; boards as they are sold have none.
    """
    parts = ["0xd05"] * 4 + ["0xd0b"] * 4
    cpuinfo = "\n".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x2\nCPU part\t: {part}\n"
        for cpu, part in enumerate(parts)
    )
    _system(root, cpus=8, arch="aarch64", release="6.1.84-8-rk2410", memory_kib=16_128_084)
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
            "etc/machine-id": "0123456789abcdef0123456789abcdef",
            f"{CPU}/cpufreq/policy0/stats/time_in_state": "408000 90210\n1800000 1250",
            "sys/kernel/debug/rknpu/version": "RKNPU driver: v0.9.8",
            "sys/kernel/debug/rknpu/load": "NPU load:  Core0: 12%, Core1:  0%, Core2:  0%,",
        },
    )
    # The second pair of A76 is binned a little lower, and so is its capacity.
    _policy(root, 0, [0, 1, 2, 3], khz=(408_000, 1_800_000, 1_008_000), capacity=414)
    _policy(root, 4, [4, 5], khz=(408_000, 2_400_000, 2_256_000), capacity=1024)
    _policy(root, 6, [6, 7], khz=(408_000, 2_352_000, 2_304_000), capacity=1003)
    kinds = ["soc", "bigcore0", "bigcore1", "littlecore", "center", "gpu", "npu"]
    for number, kind in enumerate(kinds):
        zone = f"{THERMAL}/thermal_zone{number}"
        write(root, {f"{zone}/type": f"{kind}-thermal", f"{zone}/temp": 44_384 + 925 * number})
    write(
        root,
        {
            f"{THERMAL}/thermal_zone0/trip_point_0_temp": 75_000,
            f"{THERMAL}/thermal_zone0/trip_point_0_type": "passive",
            f"{THERMAL}/thermal_zone0/trip_point_1_temp": 115_000,
            f"{THERMAL}/thermal_zone0/trip_point_1_type": "critical",
        },
    )
    cooling = ["cpufreq-cpu0", "cpufreq-cpu4", "cpufreq-cpu6", "devfreq-fb000000.gpu", "pwm-fan"]
    for number, kind in enumerate(cooling):
        _cooling(root, number, kind, states=8)
    _devfreq(root, "fdab0000.npu", "rknpu_ondemand", [300, 400, 500, 600, 700, 800, 900, 1000])
    _devfreq(root, "fb000000.gpu", "simple_ondemand", [300, 400, 500, 600, 700, 800, 900, 1000])
    _devfreq(root, "dmc", "dmc_ondemand", [528, 1068, 1560, 2112])
    # What a USB-PD supply has agreed to, which is not what the board takes.
    port = f"{HWMON}/hwmon0"
    write(
        root,
        {
            f"{port}/name": "tcpm_source_psy_4_0022",
            f"{port}/in1_input": 12_000,
            f"{port}/curr1_input": 3_000,
        },
    )
    if hwmon:
        meter = f"{HWMON}/hwmon1"
        write(root, {f"{meter}/name": "ina226", f"{meter}/power1_input": 4_250_000})
    return root


def laptop(root: Path, *, cpus: int = 8, rapl: bool = True) -> Path:
    """An Intel laptop: intel_pstate, one policy a thread, RAPL, coretemp, a battery.

    Args:
        root: Where to write.
        cpus: Hardware threads, two a core.
        rapl: With energy counters that may be read; usually only root may.
    """
    name = "Intel(R) Core(TM) i7-1185G7 @ 3.00GHz"
    cpuinfo = "\n".join(f"processor\t: {cpu}\nmodel name\t: {name}\n" for cpu in range(cpus))
    _system(root, cpus=cpus, arch="x86_64", release="6.8.0-45-generic", memory_kib=16_021_996)
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"',
            "etc/machine-id": "fedcba9876543210fedcba9876543210",
        },
    )
    cores = cpus // 2
    for cpu in range(cpus):
        _policy(root, cpu, [cpu], khz=(400_000, 4_800_000, 1_100_000 + 7_000 * cpu))
        folder = f"{CPU}/cpu{cpu}"
        write(
            root,
            {
                f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "powersave",
                f"{CPU}/cpufreq/policy{cpu}/scaling_available_governors": "performance powersave",
                f"{folder}/topology/thread_siblings_list": f"{cpu % cores},{cpu % cores + cores}",
                f"{folder}/thermal_throttle/core_throttle_count": 3,
                f"{folder}/thermal_throttle/package_throttle_count": 17,
            },
        )
    for number, (kind, temperature) in enumerate([("acpitz", 25_000), ("x86_pkg_temp", 51_000)]):
        zone = f"{THERMAL}/thermal_zone{number}"
        write(root, {f"{zone}/type": kind, f"{zone}/temp": temperature})
    _cooling(root, 0, "Processor", states=10)
    _cooling(root, 1, "Fan", states=1)
    write(
        root,
        {
            f"{THERMAL}/cooling_device2/type": "intel_powerclamp",
            f"{THERMAL}/cooling_device2/cur_state": -1,
            f"{THERMAL}/cooling_device2/max_state": 50,
            f"{HWMON}/hwmon0/name": "BAT0",
            f"{HWMON}/hwmon0/in0_input": 12_600,
            f"{HWMON}/hwmon0/power1_input": 45_000_000,
            f"{HWMON}/hwmon1/name": "coretemp",
            f"{HWMON}/hwmon1/temp1_input": 52_000,
        },
    )
    if rapl:
        domains = {"0": ("package-0", 812_345_678), "0:0": ("core", 5_000_000)}
        domains |= {"0:1": ("uncore", 1_000_000), "1": ("psys", 999_000_000)}
        for key, (kind, microjoules) in domains.items():
            folder = f"{RAPL}/intel-rapl:{key}"
            write(
                root,
                {
                    f"{folder}/name": kind,
                    f"{folder}/energy_uj": microjoules,
                    f"{folder}/max_energy_range_uj": 262_143_328_850,
                },
            )
    return root


def jetson(root: Path) -> Path:
    """A Jetson Orin Nano: 2 x Cortex-A78AE clusters, INA3221 on three rails, Ampere GPU."""
    cpuinfo = "\n".join(
        f"processor\t: {cpu}\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n" for cpu in range(6)
    )
    _system(root, cpus=6, arch="aarch64", release="5.15.148-tegra", memory_kib=7_802_852)
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
            "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"',
            "etc/machine-id": "00112233445566778899aabbccddeeff",
        },
    )
    _policy(root, 0, [0, 1, 2, 3], khz=(115_200, 1_510_400, 729_600), capacity=1024)
    _policy(root, 4, [4, 5], khz=(115_200, 1_510_400, 729_600), capacity=1024)
    for number, kind in enumerate(["cpu-thermal", "gpu-thermal", "cv0-thermal", "tj-thermal"]):
        zone = f"{THERMAL}/thermal_zone{number}"
        write(root, {f"{zone}/type": kind, f"{zone}/temp": 48_000 + 500 * number})
    # What is switched off cannot be read: its file is there and answers with an error or nothing.
    write(root, {f"{THERMAL}/thermal_zone2/temp": ""})
    _cooling(root, 0, "pwm-fan", states=3)
    _cooling(root, 1, "cpufreq-cpu0", states=11)
    _cooling(root, 2, "devfreq-17000000.gpu", states=5)
    _devfreq(root, "17000000.gpu", "nvhost_podgov", [306, 408, 510, 612])
    meter = f"{HWMON}/hwmon0"
    rails = [("VDD_IN", 5_040, 1_104), ("VDD_CPU_GPU_CV", 5_040, 160), ("VDD_SOC", 5_040, 288)]
    write(root, {f"{meter}/name": "ina3221"})
    for channel, (label, millivolts, milliamperes) in enumerate(rails, start=1):
        write(
            root,
            {
                f"{meter}/in{channel}_label": label,
                f"{meter}/in{channel}_input": millivolts,
                f"{meter}/curr{channel}_input": milliamperes,
            },
        )
    write(root, {f"{meter}/in4_input": 5, f"{meter}/curr4_input": 1_552})
    return root


def proc_stat(root: Path, busy_ticks: Sequence[int], steal_ticks: Sequence[int]) -> None:
    """Write /proc/stat: what each core spent in user mode and lost to a hypervisor so far."""
    rows = [("", sum(busy_ticks), sum(steal_ticks), 10**6 * len(busy_ticks))]
    both = zip(busy_ticks, steal_ticks, strict=True)
    rows += [(str(cpu), busy, steal, 10**6) for cpu, (busy, steal) in enumerate(both)]
    text = "".join(
        f"cpu{name} {busy} 0 0 {idle} 0 0 0 {steal} 0 0\n" for name, busy, steal, idle in rows
    )
    write(root, {"proc/stat": text + "intr 12345 0 0\nctxt 1"})


def _system(root: Path, *, cpus: int, arch: str, release: str, memory_kib: int) -> None:
    meminfo = (
        f"MemTotal:       {memory_kib} kB\nMemFree:        9000000 kB\n"
        f"MemAvailable:   {memory_kib - 2_000_000} kB\nSwapTotal:      0 kB\nSwapFree:       0 kB"
    )
    write(
        root,
        {
            f"{CPU}/online": f"0-{cpus - 1}",
            "proc/meminfo": meminfo,
            "proc/loadavg": "0.31 0.22 0.10 1/321 4711",
            "proc/sys/kernel/arch": arch,
            "proc/sys/kernel/osrelease": release,
            "proc/sys/kernel/ostype": "Linux",
        },
    )
    for cpu in range(cpus):
        topology = f"{CPU}/cpu{cpu}/topology"
        write(
            root,
            {f"{topology}/thread_siblings_list": cpu, f"{topology}/physical_package_id": 0},
        )
    proc_stat(root, [1_000] * cpus, [0] * cpus)


def _policy(
    root: Path,
    number: int,
    cpus: list[int],
    *,
    khz: tuple[int, int, int],
    capacity: int | None = None,
) -> None:
    """Write a frequency policy; `khz` is (lowest, highest, present)."""
    low, high, present = khz
    folder = f"{CPU}/cpufreq/policy{number}"
    files: dict[str, object] = {
        "affected_cpus": " ".join(map(str, cpus)),
        "related_cpus": " ".join(map(str, cpus)),
        "scaling_governor": "schedutil",
        "scaling_available_governors": "ondemand userspace performance schedutil",
        "scaling_cur_freq": present,
        "scaling_min_freq": low,
        "scaling_max_freq": high,
        "cpuinfo_min_freq": low,
        "cpuinfo_max_freq": high,
    }
    write(root, {f"{folder}/{name}": value for name, value in files.items()})
    if capacity is not None:
        write(root, {f"{CPU}/cpu{cpu}/cpu_capacity": capacity for cpu in cpus})


def _cooling(root: Path, number: int, kind: str, *, states: int) -> None:
    folder = f"{THERMAL}/cooling_device{number}"
    write(
        root,
        {f"{folder}/type": kind, f"{folder}/cur_state": 0, f"{folder}/max_state": states},
    )


def _devfreq(root: Path, name: str, governor: str, mhz: list[int]) -> None:
    folder = f"{DEVFREQ}/{name}"
    files: dict[str, object] = {
        "governor": governor,
        "available_governors": f"{governor} userspace performance powersave",
        "cur_freq": mhz[0] * 10**6,
        "min_freq": mhz[0] * 10**6,
        "max_freq": mhz[-1] * 10**6,
        "available_frequencies": " ".join(str(value * 10**6) for value in mhz),
    }
    write(root, {f"{folder}/{name}": value for name, value in files.items()})
