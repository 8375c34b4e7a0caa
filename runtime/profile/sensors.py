"""Power sensors of boards: INA3221 (both kernel layouts), INA238 and related chips, Pi 5 PMIC, RAPL."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.profile.meter import PACKAGE_W, POWER_W, VOLT_V, Meter, MeterFault
from runtime.profile.sysfs import Sysfs, denied, number, text

MILLI, MICRO = 1e-3, 1e-6
# A rail that feeds all others: adding those would count the same joules twice.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
# Rails that another one feeds: on an AGX Orin the memory's hangs on the system's 5 V (NVIDIA's forum, thread 223111).
_FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
_BREAKOUTS = ("ina237", "ina228", "ina219", "ina220", "ina226", "ina230", "ina231", "ina232", "ina260")
_AGREE = 0.2  # what power and volt x ampere may differ: the two are not converted at the same moment
_SLACK_W = 0.1
_DENIED = "may not be read by this user: chmod it or join its group"
PMIC = "pi5-pmic"
_PMIC_BOARDS = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")
# Watts at the plug out of the sum of a Pi 5's rails, as two owners fitted it; not a calibration of yours.
PMIC_FIT = (1.1451, 0.5879)
_PMIC = re.compile(r"(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?[0-9.]+)[AV]")


def candidates(sysfs: Sysfs) -> Iterator[Meter]:
    """Every sensor that this board seems to have, those that cover most of it first."""
    yield from _ina2xx(sysfs, ("ina238",))  # stands in the input of a Thor carrier
    yield from _ina3221_hwmon(sysfs)
    yield from _ina3221_iio(sysfs)
    yield from _pmic(sysfs)
    yield from _rapl(sysfs)
    yield from _ina2xx(sysfs, _BREAKOUTS)
    for folder in _hwmon_folders(sysfs):
        if denied(folder / "name"):
            yield HiddenMeter(f"hwmon@{_address(folder)}", f"{folder / 'name'} {_DENIED}")


class HiddenMeter:
    """Sensor that is there but gives no reading to this user, so that it is named and not passed over."""

    counts, scope, limits_w, period_s = False, "", POWER_W, 1.0
    rails: tuple[str, ...] = ()

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    def read(self) -> float:
        """Raises MeterFault, with the reason."""
        raise MeterFault(self._why)


class RailMeter:
    """Meter over rails that give volts and amperes; where they give watts too, both must agree.

    Where a rail feeds the whole board, it alone counts (scope `input`); otherwise all are added up that no other one
    feeds (scope `module`).
    """

    counts = False
    limits_w = POWER_W

    def __init__(self, name: str, channels: list[Channel], period_s: float, scope: str | None = None) -> None:
        total = [channel for channel in channels if channel.name in INPUT_RAILS]
        self.name, self.period_s = name, period_s
        self.scope = scope or ("input" if total else "module")
        names = {channel.name for channel in channels}
        self._channels = total[:1] or [channel for channel in channels if _FED_BY.get(channel.name) not in names]
        self.rails = tuple(channel.name for channel in self._channels)

    def read(self) -> float:
        """Watts of all counted rails."""
        return sum(channel.read_w() for channel in self._channels)


class Channel:
    """Files of one rail, with the unit of each."""

    def __init__(self, name: str, volt: Path, current: Path, power: tuple[Path, float] | None = None) -> None:
        self.name, self._volt, self._current, self._power = name, volt, current, power

    def read_w(self) -> float:
        """Watts now. Raises MeterFault for a missing file or for contradictory numbers."""
        volt_v, current_a = self._need(self._volt, MILLI), self._need(self._current, MILLI)
        if not VOLT_V[0] <= volt_v <= VOLT_V[1]:
            raise MeterFault(f"{self.name}: {self._volt.name} says {volt_v:g} V, no rail has that: wrong unit?")
        power_w = volt_v * current_a
        if self._power is not None:
            path, unit = self._power
            told_w = self._need(path, unit)
            if abs(told_w - power_w) > _SLACK_W + _AGREE * abs(power_w):
                raise MeterFault(
                    f"{self.name}: {path.name} says {told_w:g} W, volts times amperes are {power_w:g} W: wrong unit?"
                )
            power_w = told_w
        return power_w

    def _need(self, path: Path, unit: float) -> float:
        value = number(path, unit)
        if value is None:
            raise MeterFault(f"{self.name}: {path} {_DENIED if denied(path) else 'gives no number'}")
        return value


def _ina3221_hwmon(sysfs: Sysfs) -> Iterator[Meter]:
    """JetPack 5 to 7: one meter over all chips of a board, since an AGX has two or three of them."""
    channels: list[Channel] = []
    homes: list[str] = []
    hidden: list[Path] = []
    period_s = 0.02
    for folder in _hwmon(sysfs, ("ina3221",)):
        homes.append(_address(folder))
        for index in range(1, 4):  # in7 is the sum of the shunts, no rail
            label = text(folder / f"in{index}_label")
            if label is None and denied(folder / f"in{index}_label"):
                hidden.append(folder / f"in{index}_label")
            if not label or "NC" in label.split("_"):
                continue
            power = folder / f"power{index}_input"
            channels.append(
                Channel(
                    label,
                    folder / f"in{index}_input",
                    folder / f"curr{index}_input",
                    (power, MICRO) if power.exists() else None,  # hwmon says microwatt, whatever others take it for
                )
            )
        period_s = max(period_s, _interval_s(folder))
    yield from _rail_meter(f"ina3221-hwmon@{'+'.join(homes)}", channels, hidden, period_s)


def _rail_meter(name: str, channels: list[Channel], hidden: list[Path], period_s: float) -> Iterator[Meter]:
    """The meter over `channels`; with a rail whose name is hidden it would not tell what it adds up."""
    if hidden:
        yield HiddenMeter(name, f"{hidden[0]} {_DENIED}")
    elif channels:
        yield RailMeter(name, channels, period_s)


def _ina3221_iio(sysfs: Sysfs) -> Iterator[Meter]:
    """JetPack 4: millivolt, milliampere and milliwatt of each rail."""
    channels: list[Channel] = []
    homes: list[str] = []
    hidden: list[Path] = []
    for folder in sysfs.glob("sys/bus/i2c/drivers/ina3221x/*-*/iio:device*"):
        homes.append(folder.parent.name)
        for index in range(3):
            name = text(folder / f"rail_name_{index}")
            if name is None and denied(folder / f"rail_name_{index}"):
                hidden.append(folder / f"rail_name_{index}")
            if not name or "NC" in name.split("_"):
                continue
            power = (folder / f"in_power{index}_input", MILLI)
            current = folder / f"in_current{index}_input"
            channels.append(Channel(name, folder / f"in_voltage{index}_input", current, power))
    yield from _rail_meter(f"ina3221-iio@{'+'.join(homes)}", channels, hidden, 0.04)


def _ina2xx(sysfs: Sysfs, chips: tuple[str, ...]) -> Iterator[Meter]:
    """Chips with one rail and a power reading, such as an INA219 breakout in a supply line."""
    for folder in _hwmon(sysfs, chips):
        chip = text(folder / "name") or "ina"
        label = text(folder / "in1_label") or text(folder / "power1_label") or chip.upper()
        channel = Channel(label, folder / "in1_input", folder / "curr1_input", (folder / "power1_input", MICRO))
        # What a user's own breakout feeds, only the user knows.
        scope = "input" if chip == "ina238" else "external"
        yield RailMeter(f"{chip}@{_address(folder)}", [channel], max(0.02, _interval_s(folder)), scope)


def _hwmon(sysfs: Sysfs, names: tuple[str, ...]) -> list[Path]:
    """The hwmon folders of chips with these names; their numbers change from boot to boot."""
    return [folder for folder in _hwmon_folders(sysfs) if text(folder / "name") in names]


def _hwmon_folders(sysfs: Sysfs) -> list[Path]:
    """All hwmon folders, each once."""
    patterns = ("sys/class/hwmon/hwmon*", "sys/bus/i2c/devices/*-*/hwmon/hwmon*")
    return sorted({folder.resolve() for pattern in patterns for folder in sysfs.glob(pattern)})


def _address(folder: Path) -> str:
    """I2C address such as `1-0040` in .../1-0040/hwmon/hwmon3; the folder's own name if there is none."""
    parts = [part for part in folder.parts if re.fullmatch(r"\d+-[0-9a-f]{4}", part)]
    return parts[-1] if parts else folder.name


def _interval_s(folder: Path) -> float:
    """Time between two new values of a chip. All readings that it averages are in it (ina3221_reg_to_interval_us)."""
    return number(folder / "update_interval", MILLI) or 0.0


class PmicMeter:
    """Meter over the rails of a Pi 5's power management chip; without USB, HAT and input stage, hence `rails`."""

    name, scope, counts, limits_w = PMIC, "rails", False, POWER_W
    period_s = 0.2  # each call takes tens of milliseconds

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self.rails = tuple(self._rails_w())

    def _rails_w(self) -> dict[str, float]:
        """Watts of each rail that tells both volts and amperes."""
        output = self._sysfs.vcgencmd("pmic_read_adc")
        if output is None:
            raise MeterFault("vcgencmd pmic_read_adc gives nothing: is this a Pi 5?")
        values = {(name, unit): float(value) for name, unit, value in _PMIC.findall(output)}
        rails = {
            name: values[name, "V"] * current_a
            for (name, unit), current_a in values.items()
            if unit == "A" and (name, "V") in values
        }
        if not rails:
            raise MeterFault("vcgencmd pmic_read_adc names no rail with volts and amperes: no Pi 5")
        return rails

    def read(self) -> float:
        """Watts of all rails."""
        return sum(self._rails_w().values())


def _pmic(sysfs: Sysfs) -> Iterator[Meter]:
    try:
        yield PmicMeter(sysfs)
    except MeterFault as fault:
        if (sysfs.model() or "").startswith(_PMIC_BOARDS):
            yield HiddenMeter(PMIC, f"{fault} vcgencmd needs /dev/vcio: join the group video")


class RaplMeter:
    """Meter over the RAPL counters of x86 processor packages, across their wrap.

    A counter that was set back, as when the machine has slept, has lost what it had: that is a fault, and no wrap.
    """

    counts, scope, limits_w, period_s = True, "package", PACKAGE_W, 0.05

    def __init__(self, zones: list[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"rapl@{'+'.join(zone.name for zone in zones)}"
        self.rails = tuple(text(zone / "name") or zone.name for zone in zones)
        self._zones = zones
        self._clock = clock
        self._last: dict[Path, tuple[float, float]] = {}  # zone -> seconds, joules
        self._total_j = 0.0

    def read(self) -> float:
        """Joules since this meter was made."""
        for zone in self._zones:
            value_j = number(zone / "energy_uj", MICRO)
            if value_j is None:
                why = "root may read it alone: sudo chmod a+r it" if denied(zone / "energy_uj") else "gives no number"
                raise MeterFault(f"{zone / 'energy_uj'} {why}")
            now_s = self._clock()
            last_s, last_j = self._last.get(zone, (now_s, value_j))
            self._last[zone] = now_s, value_j
            step_j = value_j - last_j
            if step_j < 0:
                range_j = number(zone / "max_energy_range_uj", MICRO)
                if not range_j:
                    raise MeterFault(f"{zone}: the counter wrapped and its range is not known")
                step_j += range_j
                if step_j > self.limits_w[1] * (now_s - last_s + self.period_s):
                    raise MeterFault(f"{zone}: the counter was set back, as when the machine has slept: measure again")
            self._total_j += step_j
        return self._total_j


def _rapl(sysfs: Sysfs) -> Iterator[Meter]:
    """Packages only: core and dram are parts of them (`intel-rapl:0:1`), psys would count them again."""
    found = [zone for zone in sysfs.glob("sys/class/powercap/intel-rapl:*") if zone.name.count(":") == 1]
    hidden = [zone / "name" for zone in found if text(zone / "name") is None and denied(zone / "name")]
    zones = [zone for zone in found if (text(zone / "name") or "").startswith("package")]
    if hidden:
        yield HiddenMeter(f"rapl@{hidden[0].parent.name}", f"{hidden[0]} {_DENIED}")
    elif zones:
        yield RaplMeter(zones)
