"""Where a board tells its power and energy: hwmon rails and RAPL counters.

Source: the Linux kernel's Documentation/hwmon/sysfs-interface, hwmon/ina3221 and
    power/powercap/powercap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.device_agent import sysfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NOT_CONSUMPTION = re.compile(r"^(BAT|AC|ADP|ucsi_|tcpm|rk8|hidpp_|nvme|drivetemp)")
"""Batteries tell what they are charged with, USB-PD ports what was negotiated: not consumption."""
_TOTAL_LABELS = {"VDD_IN", "POM_5V_IN", "VIN", "TOTAL"}
"""Rails that feed all the others: where there is one, the others are in it already."""
_INA3221_CHANNELS = 3
"""Its channels above are shunt voltages and their sum: no rails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerRail:
    """One measured supply: `power` in µW where there is such a file, else mV and mA."""

    name: str
    power: Path | None = None
    voltage: Path | None = None
    current: Path | None = None

    def read_w(self) -> float | None:
        """Return the rail's power in watts."""
        if self.power is not None:
            microwatts = sysfs.read_number(self.power)
            return None if microwatts is None or microwatts < 0 else microwatts / 1e6
        if self.voltage is None or self.current is None:
            return None
        millivolts = sysfs.read_number(self.voltage)
        milliamperes = sysfs.read_number(self.current)
        if millivolts is None or milliamperes is None or millivolts * milliamperes < 0:
            return None
        return millivolts * milliamperes / 1e6


def power_rails(root: Path = sysfs.ROOT) -> tuple[PowerRail, ...]:
    """Return the rails whose sum is the board's power, as far as its sensors see it.

    One rail alone where it feeds the others.
    """
    found = [
        rail
        for device in sysfs.numbered(root / "sys/class/hwmon", "hwmon[0-9]*")
        for rail in _rails_of(device)
    ]
    total = [rail for rail in found if rail.name.rpartition("/")[2].upper() in _TOTAL_LABELS]
    return tuple(total[:1] or found)


def read_power_w(rails: Sequence[PowerRail]) -> float | None:
    """Return the rails' power in watts; None where there are none or one cannot be read."""
    total_w = 0.0
    for rail in rails:
        power_w = rail.read_w()
        if power_w is None:
            return None
        total_w += power_w
    return total_w if rails else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RaplDomain:
    """A counter of µJ that starts again at 0 after `range_j`."""

    name: str
    counter: Path
    range_j: float

    def read_j(self) -> float | None:
        """Return the counter in joules; usually only root may read it."""
        microjoules = sysfs.read_number(self.counter)
        return None if microjoules is None or microjoules < 0 else microjoules / 1e6


def rapl_domains(root: Path = sysfs.ROOT) -> tuple[RaplDomain, ...]:
    """Return the readable domains that overlap nowhere: packages and their memory.

    `core` and `uncore` are parts of their package; `psys` holds all of them and more, but only
    some firmware calibrates it.
    """
    found = []
    for path in sysfs.numbered(root / "sys/class/powercap", "intel-rapl:*"):
        name = sysfs.read_text(path / "name") or ""
        range_uj = sysfs.read_number(path / "max_energy_range_uj")
        if not (name.startswith("package") or name == "dram") or not range_uj or range_uj < 0:
            continue
        domain = RaplDomain(name=name, counter=path / "energy_uj", range_j=range_uj / 1e6)
        if domain.read_j() is not None:
            found.append(domain)
    return tuple(found)


def _rails_of(device: Path) -> list[PowerRail]:
    name = sysfs.read_text(device / "name") or device.name
    if _NOT_CONSUMPTION.match(name):
        return []
    found = []
    for power in sysfs.numbered(device, "power[0-9]*_input"):
        label = sysfs.read_text(power.with_name(power.name.replace("input", "label")))
        found.append(PowerRail(name=f"{name}/{label or power.name}", power=power))
    if found:
        return found
    for current in sysfs.numbered(device, "curr[0-9]*_input"):
        channel = int(re.findall(r"\d+", current.name)[0])
        voltage = device / f"in{channel}_input"
        if not voltage.exists() or (name == "ina3221" and channel > _INA3221_CHANNELS):
            continue
        label = sysfs.read_text(device / f"in{channel}_label")
        found.append(
            PowerRail(name=f"{name}/{label or voltage.name}", voltage=voltage, current=current)
        )
    return found
