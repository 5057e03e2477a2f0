"""Holds the clocks still while the agent serves.

Source: the Linux kernel's Documentation/admin-guide/pm/cpufreq, pm/intel_pstate and
    ABI/testing/sysfs-class-devfreq.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.device_agent import clock_restore, cores, sysfs
from boardfront.device_agent.clock_restore import ClocksInUseError
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from boardfront.protos.records import CpuCluster

_GOVERNOR = "performance"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockReport:
    """What became of the clocks, a line each: what is held now, and what could not be set."""

    held: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class ClockLock:
    """The clocks of one machine, held from `lock` to `release` and given back if killed.

    One agent of a machine at a time may hold them. `locked_hz` and `held` may be called from any
    thread, the others from one.

    Args:
        root: Where the device's files are.
        state: The agent's own folder, which exists by the first call.
        highest_hz: Hold no core above this; None: as high as it goes without boost.

    Raises:
        WrongInputError: If `highest_hz` is not above 0.
    """

    def __init__(self, root: Path, state: Path, *, highest_hz: float | None = None) -> None:
        if highest_hz is not None and not highest_hz > 0:
            raise WrongInputError(f"clocks at {highest_hz:g} Hz: expected more than 0")
        self._root = root
        self._state = state
        self._highest_hz = highest_hz
        self._locked = False
        self._claimed: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    def recover(self) -> tuple[str, ...]:
        """Put back what an agent that was killed left changed; return a line for each failure."""
        if not (self._state / clock_restore.RESTORE_FILE).exists():
            return ()
        try:
            # Its guardian may be at it: then this waits, and finds nothing left to do.
            claimed = clock_restore.claim(self._root)
        except (OSError, ClocksInUseError) as error:
            return (f"the clocks of an earlier run are not put back yet: {error}",)
        try:
            return clock_restore.restore(self._root, self._state)
        finally:
            os.close(claimed)

    def lock(self) -> LockReport:
        """Hold the clocks as far as that is permitted; what is not is reported, never raised."""
        failures = self.recover()
        try:
            self._claimed = clock_restore.claim(self._root)
        except (OSError, ClocksInUseError) as error:
            return LockReport(refused=(*failures, str(error)))
        # What could not be put back before is older than what is there now.
        old = {**_changeable(self._root), **clock_restore.load(self._root, self._state)}
        if not old:
            self._unclaim()
            where = self._root / sysfs.CPU / "cpufreq"
            absent = f"{where}: no clock can be set here, as on most virtual machines"
            return LockReport(refused=(*failures, f"{absent}: use the machine itself"))
        try:
            clock_restore.save(self._root, self._state, old)
            self._guardian = clock_restore.start_guardian(self._root, self._state, self._claimed)
        except (OSError, BoardfrontError) as error:
            # Nothing was changed yet: this only takes the file away.
            clock_restore.restore(self._root, self._state)
            self._unclaim()
            return LockReport(refused=(*failures, f"no clock was touched: {error}"))
        self._locked = True
        refused = _slowed_down(self._root) + self._apply()
        held = self._say_held()
        if not held:
            failures += self.release()
        return LockReport(held=held, refused=(*failures, *refused))

    def release(self) -> tuple[str, ...]:
        """Put everything back; return a line for each failure. May be called again."""
        if not self._locked:
            return ()
        self._locked = False
        failures = clock_restore.restore(self._root, self._state)
        guardian, self._guardian = self._guardian, None
        if guardian is not None and guardian.stdin is not None:
            guardian.stdin.close()
            try:
                guardian.wait(timeout=clock_restore.GUARDIAN_WITHIN_S)
            except subprocess.TimeoutExpired:
                guardian.kill()
                guardian.wait()
        self._unclaim()
        return failures

    def locked_hz(self, cpus: Sequence[int]) -> float | None:
        """Return the frequency at which all of these cores are held at this moment, if they are.

        Read afresh: somebody else may have changed a limit since.
        """
        return _common(self._limits_hz(), cpus)

    def held(self, clusters: Sequence[CpuCluster]) -> tuple[CpuCluster, ...]:
        """Return the clusters with where each of them is held."""
        limits_hz = self._limits_hz()
        return tuple(
            replace(cluster, locked_hz=_common(limits_hz, cores.parse_cpus(cluster.cpus)))
            for cluster in clusters
        )

    def _limits_hz(self) -> dict[int, float | None]:
        """Return where each core is held; none while nothing is locked."""
        if not self._locked:
            return {}
        return {
            cpu: policy.min_hz if policy.min_hz == policy.max_hz else None
            for policy in sysfs.cpu_policies(self._root)
            for cpu in policy.cpus
        }

    def _apply(self) -> tuple[str, ...]:
        """Set everything; return a line for each reason why something could not be."""
        # Boost first, because the limits of the policies depend on it.
        refused = [
            clock_restore.write_value(path, off)
            for path, off in _boosts(self._root)
            if sysfs.read_text(path) is not None
        ]
        for policy in sysfs.cpu_policies(self._root):
            refused.append(_set_governor(policy.path / "scaling_governor"))
            refused += self._limit(policy)
        refused += [
            _set_governor(device.path / "governor")
            for device in sysfs.devfreqs(self._root)
            if device.kind
        ]
        return clock_restore.in_few_lines([line for line in refused if line is not None])

    def _limit(self, policy: sysfs.CpuPolicy) -> list[str | None]:
        hz = _choose_hz(policy, self._highest_hz)
        if hz is None:
            return [f"{policy.path}/cpuinfo_max_freq: cannot be read: its cores stay unheld"]
        names = ["scaling_min_freq", "scaling_max_freq"]
        if policy.max_hz is not None and hz > policy.max_hz:
            # A minimum above the maximum is refused.
            names.reverse()
        khz = f"{hz / 1e3:.0f}"
        return [clock_restore.write_value(policy.path / name, khz) for name in names]

    def _say_held(self) -> tuple[str, ...]:
        alike: dict[str, list[int]] = {}
        for policy in sysfs.cpu_policies(self._root):
            hz = self.locked_hz(policy.cpus)
            if hz is not None:
                alike.setdefault(f"at {hz / 1e6:.0f} MHz", []).extend(policy.cpus)
            elif policy.governor == _GOVERNOR:
                alike.setdefault(f"by governor {_GOVERNOR} only", []).extend(policy.cpus)
        found = [f"cores {format_cpus(cpus)} {how}" for how, cpus in alike.items()]
        found += [
            f"{device.kind} by governor {_GOVERNOR}"
            for device in sysfs.devfreqs(self._root)
            if device.kind and device.governor == _GOVERNOR
        ]
        return tuple(found)

    def _unclaim(self) -> None:
        if self._claimed is not None:
            os.close(self._claimed)
            self._claimed = None


def _common(limits_hz: Mapping[int, float | None], cpus: Sequence[int]) -> float | None:
    found = {limits_hz.get(cpu) for cpu in cpus}
    return found.pop() if len(found) == 1 else None


def _slowed_down(root: Path) -> tuple[str, ...]:
    """Return a line if the limits that were read may be those of a hot device."""
    kinds = [d.kind for d in sysfs.cooling_devices(root) if d.brakes and d.state]
    if not kinds:
        return ()
    return (
        f"{', '.join(kinds)}: heat lowers limits now, and the lowered ones will be put back: "
        "let the device cool down and start again",
    )


def _changeable(root: Path) -> dict[str, str]:
    """Return the present values of all that would be set, by path under the root, in order."""
    paths = [path for path, _ in _boosts(root)]
    for policy in sysfs.cpu_policies(root):
        names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
        paths += [policy.path / name for name in names]
    paths += [device.path / "governor" for device in sysfs.devfreqs(root) if device.kind]
    read = ((str(path.relative_to(root)), sysfs.read_text(path)) for path in paths)
    return {name: value for name, value in read if value is not None}


def _boosts(root: Path) -> tuple[tuple[Path, str], ...]:
    """Return the switches of clocks above the nominal ones, and what switches those off."""
    cpu = root / sysfs.CPU
    return (cpu / "intel_pstate/no_turbo", "1"), (cpu / "cpufreq/boost", "0")


def _choose_hz(policy: sysfs.CpuPolicy, highest_hz: float | None) -> float | None:
    """Return the highest frequency that the policy offers up to `highest_hz`, else its lowest."""
    if policy.top_hz is None:
        return None
    limit_hz = min(policy.top_hz, highest_hz or policy.top_hz)
    words = sysfs.read_words(policy.path / "scaling_available_frequencies")
    steps_hz = sorted(float(word) * 1e3 for word in words if word.isdecimal())
    if not steps_hz:
        return max(limit_hz, policy.bottom_hz or limit_hz)
    return max((hz for hz in steps_hz if hz <= limit_hz), default=steps_hz[0])


def _set_governor(path: Path) -> str | None:
    """Set the governor; return a line if that cannot be."""
    prefix = path.name.removesuffix("governor")
    offered = sysfs.read_words(path.with_name(f"{prefix}available_governors"))
    if offered and _GOVERNOR not in offered:
        return f"{path}: the kernel offers no {_GOVERNOR} but {', '.join(offered)}"
    return clock_restore.write_value(path, _GOVERNOR)
