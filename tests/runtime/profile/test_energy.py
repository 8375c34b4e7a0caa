"""Joules of a window: trapezoids, gaps, idle, and what is refused."""

import contextlib
import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import InputError
from runtime.profile.csv_meter import CsvMeter
from runtime.profile.energy import Ledger, Sample, WindowEnergy, power_series, window_energy
from runtime.profile.timing import Window


def at(time_s, value, width_s=0.0):
    return Sample(time_s - width_s / 2, time_s + width_s / 2, value)


def ramp(start_s, end_s, period_s=0.05, power_w=lambda t: 2 + 0.1 * t):
    count = round((end_s - start_s) / period_s) + 1
    return [at(start_s + i * period_s, power_w(start_s + i * period_s), 0.01) for i in range(count)]


def test_a_ramp_is_integrated_exactly_also_between_readings():
    found = window_energy(ramp(0, 20), Window(3.013, 11.027), counts=False, period_s=0.05)
    assert found.energy_j == pytest.approx(2 * 8.014 + 0.05 * (11.027**2 - 3.013**2), rel=1e-9)
    assert (found.gaps, found.coverage) == (0, pytest.approx(1))


def test_readings_count_at_their_middle():
    slow = [Sample(t / 10, t / 10 + 0.08, 1.0 if t < 100 else 3.0) for t in range(200)]
    found = window_energy(slow, Window(5.04, 15.04), counts=False, period_s=0.1)
    # The step stands between the middles 9.94 and 10.04.
    assert found.energy_j == pytest.approx(1.0 * 4.9 + 2.0 * 0.1 + 3.0 * 5.0, rel=1e-6)


def test_a_gap_is_left_out_counted_and_lowers_the_coverage():
    samples = [s for s in ramp(0, 20, power_w=lambda t: 4.0) if not 8.01 < s.at_s < 8.49]
    found = window_energy(samples, Window(2, 18), counts=False, period_s=0.05)
    assert found.gaps == 1
    assert found.coverage == pytest.approx(1 - 0.5 / 16)
    assert found.energy_j == pytest.approx(64)  # the mean of what was seen stands for the gap


def test_a_badly_seen_window_is_refused():
    samples = [s for s in ramp(0, 20) if not 8.01 < s.at_s < 10]
    assert "was observed" in window_energy(samples, Window(2, 18), counts=False, period_s=0.05)


@pytest.mark.parametrize("seconds", [0.2, 0.9])
def test_a_short_window_is_refused_and_the_least_length_told(seconds):
    reason = window_energy(ramp(0, 20), Window(5, 5 + seconds), counts=False, period_s=0.05)
    assert "20 are the least: measure for 1 s" in reason
    assert isinstance(window_energy([], Window(0, 60), counts=False, period_s=0.05), str)


def test_a_counter_loses_nothing_in_a_gap():
    samples = [s for s in ramp(0, 20, power_w=lambda t: 5 * t) if not 8.01 < s.at_s < 9]
    found = window_energy(samples, Window(2.01, 18.01), counts=True, period_s=0.05)
    assert isinstance(found, WindowEnergy)
    assert (found.energy_j, found.gaps) == (pytest.approx(80), 0)
    assert all(power_w == pytest.approx(5) for _, power_w in power_series(samples, counts=True))


def test_net_is_what_goes_beyond_the_idle_windows():
    samples = ramp(0, 60, power_w=lambda t: 3.0 if t < 20 else 8.0 if t < 40 else 3.4)
    ledger = Ledger(samples, False, 0.05, before=Window(5, 15), after=Window(45, 55))
    account = ledger.account(Window(22, 38), frames=32, decoded_bytes=48_000_000)
    assert ledger.idle_w() == (pytest.approx(3), pytest.approx(3.4))
    assert account["gross_j"] == pytest.approx(128)
    assert account["net_j"] == pytest.approx(16 * (8 - 3.2))
    assert account["net_j_per_frame"] == pytest.approx(16 * 4.8 / 32)
    assert account["gross_j_per_decoded_mb"] == pytest.approx(128 / 48)
    assert account["mean_w_95"] == [pytest.approx(8), pytest.approx(8)]


def test_the_interval_of_the_mean_grows_with_the_power_s_unrest():
    restless = ramp(0, 60, power_w=lambda t: 5 + (2 if int(t / 7) % 2 else -2))
    low_w, high_w = Ledger(restless, False, 0.05).account(Window(0, 60), frames=1)["mean_w_95"]
    assert low_w < 5 < high_w
    assert high_w - low_w > 0.5


def write_csv(path, rows, header=("t_s", "power_w")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def test_a_meter_s_file_is_read_on_our_clock(tmp_path):
    rows = [(1.7e9 + t / 10, 4.0 + t / 1000) for t in range(300)]
    meter = CsvMeter(write_csv(tmp_path / "meter.csv", rows))
    samples = meter.read(offset_s=1.7e9 - 100)
    assert samples[10].at_s == pytest.approx(101, abs=1e-5)
    assert meter.period_s == pytest.approx(0.1, abs=1e-5)
    found = window_energy(samples, Window(102, 128), counts=False, period_s=meter.period_s)
    assert found.energy_j == pytest.approx(26 * 4.15, rel=0.005)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(1.7e9 + t, 4200) for t in range(30)], "factor of 1000"),
        ([(1.7e9 + t, 0.0042) for t in range(30)], "factor of 1000"),
        ([(t, 4.2) for t in range(30)], "Unix seconds"),
        ([(1.7e9, 4.2), (1.7e9, 4.2)], "must rise"),
        ([(1.7e9, "four")], "line 2: 'four' is no number"),
        ([(1.7e9, "nan")], "no number"),
        ([], "no reading"),
    ],
)
def test_a_file_that_cannot_be_true_is_refused(tmp_path, rows, says):
    with pytest.raises(InputError, match=says):
        CsvMeter(write_csv(tmp_path / "meter.csv", rows)).read(0)


def test_a_missing_file_or_column_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        CsvMeter(tmp_path / "none.csv").read(0)
    with pytest.raises(InputError, match="t_s and power_w"):
        CsvMeter(write_csv(tmp_path / "meter.csv", [(1, 2)], header=("time", "mW"))).read(0)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("csv") / "meter.csv"
    path.write_bytes(b"t_s,power_w\n" + data)
    with contextlib.suppress(InputError):
        assert CsvMeter(path).read(0)
