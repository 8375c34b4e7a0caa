"""Power sensors on recorded trees: what they read, what is refused, and the joules that come of it."""

import contextlib
import math
import os
import tempfile
from pathlib import Path

import pytest

from edgesem.errors import EnvironmentMissing, UsageError
from runtime.profile.energy import Ledger
from runtime.profile.meter import MeterFault, choose, prove
from runtime.profile.sampler import Recorder, period_of
from runtime.profile.sensors import candidates
from runtime.profile.sysfs import Sysfs, temperature_c, throttle_bits
from runtime.profile.timing import Window
from tests.support.profile_trees import LAYOUTS, unpack, write

NANO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
ORIN = "sys/bus/i2c/devices/1-0040/hwmon/hwmon3"
AGX = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1"
THOR = "sys/class/hwmon/hwmon4"
INA219 = "sys/class/hwmon/hwmon2"
RAPL = "sys/class/powercap"
RANGE_UJ = 262143328850


class Clock:
    """Time that passes when something is done, and not before."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


def meter_of(root):
    return choose(candidates(Sysfs(root)), clock=Clock(), wait=lambda _: None).meter


@pytest.mark.parametrize(
    ("layout", "power_w", "scope", "rails"),
    [
        ("jetson_nano_jp4", 2.495, "input", ("POM_5V_IN",)),
        ("orin_nano_jp6", 5.056 * 0.96, "input", ("VDD_IN",)),
        (
            "agx_orin_jp6",
            19.2 * 0.25 + 5 * 0.8,  # the fourth rail, VDDQ_VDD2_1V8AO, is fed by the third
            "module",
            ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        ),
        ("agx_thor_jp7", 28.9956, "input", ("VIN",)),
        ("pi4_ina219", 3.64, "external", ("INA219",)),
    ],
)
def test_each_layout_reads_watts(tmp_path, layout, power_w, scope, rails):
    meter = meter_of(unpack(layout, tmp_path))
    assert meter.read() == pytest.approx(power_w, rel=1e-9)
    assert (meter.scope, meter.rails) == (scope, rails)


def test_the_pi_5_adds_up_rails_that_tell_both_volts_and_amperes(tmp_path):
    meter = meter_of(unpack("pi5_pmic", tmp_path))
    assert (meter.name, meter.scope, len(meter.rails)) == ("pi5-pmic", "rails", 6)
    assert "EXT5V" not in meter.rails
    expected = 0.00390372 * 3.709 + 0.0917 * 3.313 + 0.1708 * 1.798 + 0.0244 * 1.106 + 0.3428 * 0.8006 + 0.869 * 0.721
    assert meter.read() == pytest.approx(expected, rel=1e-9)


def test_a_bare_pi_4_has_no_meter_and_says_so(tmp_path):
    choice = choose(candidates(Sysfs(unpack("pi4_bare", tmp_path))))
    assert choice.meter is None
    assert choice.reason == "no power sensor found on this board"


def test_the_interval_of_a_chip_holds_the_readings_that_it_averages(tmp_path):
    root = unpack("orin_nano_jp6", tmp_path)
    write(root / f"{ORIN}/update_interval", "422")  # of the kernel: 3 channels x 2 x 1.1 ms x 64 readings
    write(root / f"{ORIN}/samples", "64")
    assert meter_of(root).period_s == pytest.approx(0.422)


@contextlib.contextmanager
def as_nobody():
    """Without the rights of root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        ("orin_nano_jp6", f"{ORIN}/in1_label"),
        ("orin_nano_jp6", f"{ORIN}/in1_input"),
        ("orin_nano_jp6", f"{ORIN}/name"),
        ("jetson_nano_jp4", f"{NANO}/rail_name_0"),
        ("x86_rapl", f"{RAPL}/intel-rapl:0/energy_uj"),
        ("x86_rapl", f"{RAPL}/intel-rapl:0/name"),
    ],
)
def test_a_sensor_that_may_not_be_read_is_named_with_its_file(layout, path):
    with tempfile.TemporaryDirectory() as folder:  # that of the test is closed to other users
        os.chmod(folder, 0o755)
        root = unpack(layout, Path(folder) / "board")
        (root / path).chmod(0o000 if os.geteuid() else 0o400)
        with as_nobody():
            choice = choose(candidates(Sysfs(root)), clock=Clock(), wait=lambda _: None)
    assert choice.meter is None
    assert f"/{path} may not be read by this user" in choice.reason or "root may read it alone" in choice.reason


def test_a_pi_5_that_tells_nothing_of_its_rails_says_why(tmp_path):
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert "join the group video" in choose(candidates(Sysfs(tmp_path))).reason


def test_heat_and_throttling_are_read(tmp_path):
    board = Sysfs(unpack("pi4_bare", tmp_path))
    assert temperature_c(board) == 48.2
    assert throttle_bits(board) == 0x50000
    assert throttle_bits(Sysfs(tmp_path / "nothing")) is None


UNITS = [
    # a tree, and a file in it whose number is a thousand times too large or too small
    ("jetson_nano_jp4", f"{NANO}/in_power0_input", (2, 2495000)),
    ("jetson_nano_jp4", f"{NANO}/in_voltage0_input", (5, 5032000)),
    ("jetson_nano_jp4", f"{NANO}/in_current0_input", (0, 496000)),
    ("orin_nano_jp6", f"{ORIN}/in1_input", (5, 5056000)),
    ("orin_nano_jp6", f"{ORIN}/curr1_input", (0.96, 960000)),
    ("agx_thor_jp7", f"{THOR}/power1_input", (28995, 28995600000)),
    ("agx_thor_jp7", f"{THOR}/in1_input", (19, 19860000)),
    ("pi4_ina219", f"{INA219}/power1_input", (3640, 3640000000)),
    ("pi4_ina219", f"{INA219}/curr1_input", (0.7, 712000)),
]


@pytest.mark.parametrize(("layout", "path", "wrong"), UNITS)
def test_a_factor_of_a_thousand_is_refused_both_ways(tmp_path, layout, path, wrong):
    root = unpack(layout, tmp_path)
    meter = meter_of(root)
    for value in wrong:
        write(root / path, value)
        with pytest.raises(MeterFault, match=r"wrong unit|no sensor"):
            prove(meter)


@pytest.mark.parametrize(("layout", "path", "_"), UNITS)
@pytest.mark.parametrize("content", ["", "N/A", "nan", "inf"])
def test_a_sensor_without_a_number_is_refused_and_named(tmp_path, layout, path, _, content):
    root = unpack(layout, tmp_path)
    meter = meter_of(root)
    write(root / path, content)
    with pytest.raises(MeterFault, match=path.rpartition("/")[2]):
        prove(meter)
    (root / path).unlink()
    with pytest.raises(MeterFault):
        prove(meter)


def test_a_refused_sensor_is_told_with_its_reason_and_the_next_one_is_tried(tmp_path):
    root = unpack("agx_thor_jp7", tmp_path)
    write(root / THOR / "power1_input", 28995)
    choice = choose(candidates(Sysfs(root)))
    assert choice.meter.name == "ina3221-hwmon@2-0040"
    assert choice.meter.scope == "module"
    assert "wrong unit" in choice.tried[0]["said"]


def test_a_named_meter_is_used_or_it_is_an_error(tmp_path):
    root = unpack("agx_thor_jp7", tmp_path)
    assert choose(candidates(Sysfs(root)), "ina3221").meter.name == "ina3221-hwmon@2-0040"
    with pytest.raises(UsageError, match="found: ina238"):
        choose(candidates(Sysfs(root)), "rapl")
    write(root / THOR / "in1_input", 0)
    with pytest.raises(EnvironmentMissing, match="ina238"):
        choose(candidates(Sysfs(root)), "ina238")


def test_rapl_counts_packages_alone_and_across_their_wrap(tmp_path):
    root = unpack("x86_rapl", tmp_path)
    (meter,) = candidates(Sysfs(root))
    assert meter.rails == ("package-0", "package-1")
    assert meter.read() == 0
    zones = [root / RAPL / f"intel-rapl:{number}" for number in (0, 1)]
    write(zones[0] / "energy_uj", 171150)  # wrapped: 1 J on
    write(zones[1] / "energy_uj", 5_500_000)
    assert meter.read() == pytest.approx((171150 + RANGE_UJ - 262142500000) / 1e6 + 0.5, abs=1e-6)
    (zones[0] / "max_energy_range_uj").unlink()
    write(zones[0] / "energy_uj", 0)
    with pytest.raises(MeterFault, match="range is not known"):
        meter.read()


def test_a_counter_that_was_set_back_is_a_fault_and_no_wrap(tmp_path):
    root = unpack("x86_rapl", tmp_path)
    (meter,) = candidates(Sysfs(root))
    assert meter.read() == 0
    energy = root / RAPL / "intel-rapl:1/energy_uj"
    write(energy, 2_000_000)  # a wrap would be 262 kJ since the line above
    with pytest.raises(MeterFault, match="was set back"):
        meter.read()
    write(energy, 2_500_000)
    assert meter.read() == pytest.approx(0.5)  # and it goes on from there


@pytest.mark.parametrize("step_uj", [0, 10_000, 400_000_000])
def test_a_counter_that_stands_still_or_races_is_refused(tmp_path, step_uj):
    root = unpack("x86_rapl", tmp_path)
    clock = Clock()

    def wait(seconds):
        clock.wait(seconds)
        write(root / RAPL / "intel-rapl:1/energy_uj", 5_000_000 + step_uj)

    choice = choose(candidates(Sysfs(root)), clock=clock, wait=wait)
    assert choice.meter is None
    assert "wrong unit or no sensor" in choice.reason


def load_a(at_s):
    """Amperes of a board that works in bursts: a slow wave and a faster one, with their integral in closed form."""
    return 1.2 + 0.5 * math.sin(0.9 * at_s) + 0.2 * math.sin(5.0 * at_s + 1)


def load_as(start_s, end_s):
    def area(at_s):
        return 1.2 * at_s - 0.5 / 0.9 * math.cos(0.9 * at_s) - 0.2 / 5.0 * math.cos(5.0 * at_s + 1)

    return area(end_s) - area(start_s)


def play_nano(root, amperes, _):
    write(root / NANO / "in_current0_input", round(1e3 * amperes / 8) * 8)  # the chip's steps of 8 mA
    write(root / NANO / "in_power0_input", round(5.032e3 * amperes))


def play_orin(root, amperes, _):
    write(root / ORIN / "curr1_input", round(1e3 * amperes / 8) * 8)


def play_agx(root, amperes, _):
    write(root / AGX / "curr3_input", round(1e3 * amperes / 8) * 8)


def play_thor(root, amperes, _):
    write(root / THOR / "curr1_input", round(1e3 * amperes))
    write(root / THOR / "power1_input", round(19.86e6 * amperes))


def play_ina219(root, amperes, _):
    write(root / INA219 / "curr1_input", round(1e3 * amperes))
    write(root / INA219 / "power1_input", round(5.104e6 * amperes / 20000) * 20000)  # the chip's steps of 20 mW


def play_pmic(root, amperes, _):
    adc = root / "vcgencmd/pmic_read_adc"
    kept = [line for line in adc.read_text().splitlines() if not line.startswith("VDD_CORE_A")]
    write(adc, "\n".join([*kept, f"VDD_CORE_A current(7)={amperes:.8f}A"]))


def play_rapl(root, _, at_s):
    drawn_uj = 20e6 * load_as(1000.0, at_s)
    write(root / RAPL / "intel-rapl:0/energy_uj", round((262142500000 + drawn_uj) % RANGE_UJ))


PLAYED = {
    # layout: what to play, volts of the rail that varies, watts that stand
    "jetson_nano_jp4": (play_nano, 5.032, 0.0),
    "orin_nano_jp6": (play_orin, 5.056, 0.0),
    "agx_orin_jp6": (play_agx, 5.0, 19.2 * 0.25),
    "agx_thor_jp7": (play_thor, 19.86, 0.0),
    "pi4_ina219": (play_ina219, 5.104, 0.0),
    "pi5_pmic": (
        play_pmic,
        0.721,
        0.00390372 * 3.709 + 0.0917 * 3.313 + 0.1708 * 1.798 + 0.0244 * 1.106 + 0.3428 * 0.8006,
    ),
    "x86_rapl": (play_rapl, 20.0, 0.0),
}


def test_every_layout_with_a_sensor_is_played():
    assert set(PLAYED) == set(LAYOUTS) - {"pi4_bare"}


@pytest.mark.parametrize("layout", PLAYED)
@pytest.mark.parametrize("reading_s", [0.001, 0.03])
def test_integrated_energy_is_within_half_a_percent_of_the_truth(tmp_path, layout, reading_s):
    root = unpack(layout, tmp_path)
    play, volt_v, standing_w = PLAYED[layout]
    clock = Clock()
    meter = next(iter(candidates(Sysfs(root))))

    class Played:
        """The sensor looks at the board in the middle of a reading, and a reading takes its time."""

        def read(self):
            clock.wait(reading_s / 2)
            play(root, load_a(clock()), clock())
            value = meter.read()
            clock.wait(reading_s / 2)
            return value

    recorder, period_s = Recorder(Played(), clock), period_of(meter)
    while clock() < 1045:
        recorder.take()
        clock.wait(max(0.0, period_s - reading_s) * (1.1 if len(recorder.samples) % 3 else 0.9))
    window = Window(1005.0, 1037.0)
    account = Ledger(recorder.samples, meter.counts, period_s).account(window, frames=16)
    truth_j = volt_v * load_as(*window) + standing_w * window.seconds
    assert account["gross_j"] == pytest.approx(truth_j, rel=0.005)
    assert account["gross_j_per_frame"] == account["gross_j"] / 16
    assert account["coverage"] == pytest.approx(1)
    assert account["net_j"] is None
