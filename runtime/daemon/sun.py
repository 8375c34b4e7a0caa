"""Sun: when it rises and sets, by date and position, to a minute or two.

After the equations of NOAA's solar calculator (https://gml.noaa.gov/grad/solcalc/calcdetails.html), which follow
J. Meeus, Astronomical Algorithms, chapters 25 and 28. Rising and setting are those of the upper limb with the usual
refraction: the centre stands 0.833 degrees below the horizon. Above 72 degrees of latitude minutes become tens of
minutes around the days on which the sun stops to rise or set.
"""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from typing import NamedTuple

_DAY_S = 86400.0
_J2000_S = datetime(2000, 1, 1, 12, tzinfo=timezone.utc).timestamp()
_HORIZON = math.sin(math.radians(-0.833))
_ROUNDS = 2  # rising is computed for the sun's place at that time


class Daylight(NamedTuple):
    """Sunrise and sunset of one day, in Unix seconds.

    Where the sun does not set, they are 12 hours before and after noon; where it does not rise, both are noon.
    """

    rise_s: float
    set_s: float


def daylight(day: date, latitude: float, longitude: float) -> Daylight:
    """Sunrise and sunset around the solar noon of a day. Degrees: north and east are positive."""
    midnight_s = datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()
    mean_noon_s = midnight_s + _DAY_S * (0.5 - longitude / 360)
    found = []
    for side in (-1, 1):
        at_s = mean_noon_s
        for _ in range(_ROUNDS):
            sine_declination, ahead_s = _sun(at_s)
            half_day_s = _half_day_s(sine_declination, latitude)
            at_s = mean_noon_s - ahead_s + side * half_day_s
        found.append(at_s)
    return Daylight(*found)


def _half_day_s(sine_declination: float, latitude: float) -> float:
    """From noon to sunset, 0 to 12 hours."""
    phi, declination = math.radians(latitude), math.asin(sine_declination)
    across = math.cos(phi) * math.cos(declination)
    cosine = (_HORIZON - math.sin(phi) * sine_declination) / max(across, 1e-12)
    return math.acos(min(1.0, max(-1.0, cosine))) / (2 * math.pi) * _DAY_S


def _sun(at_s: float) -> tuple[float, float]:
    """The sine of the sun's declination, and by how much a sundial is ahead of a clock, in seconds."""
    century = (at_s - _J2000_S) / _DAY_S / 36525
    mean_longitude = math.radians((280.46646 + century * (36000.76983 + century * 0.0003032)) % 360)
    anomaly = math.radians(357.52911 + century * (35999.05029 - 0.0001537 * century))
    eccentricity = 0.016708634 - century * (0.000042037 + 0.0000001267 * century)
    centre = (
        (1.914602 - century * (0.004817 + 0.000014 * century)) * math.sin(anomaly)
        + (0.019993 - 0.000101 * century) * math.sin(2 * anomaly)
        + 0.000289 * math.sin(3 * anomaly)
    )
    node = math.radians(125.04 - 1934.136 * century)
    apparent = mean_longitude + math.radians(centre - 0.00569 - 0.00478 * math.sin(node))
    tilt = math.radians(23.439291 - 0.0130042 * century + 0.00256 * math.cos(node))
    y = math.tan(tilt / 2) ** 2
    equation = (
        y * math.sin(2 * mean_longitude)
        - 2 * eccentricity * math.sin(anomaly)
        + 4 * eccentricity * y * math.sin(anomaly) * math.cos(2 * mean_longitude)
        - 0.5 * y**2 * math.sin(4 * mean_longitude)
        - 1.25 * eccentricity**2 * math.sin(2 * anomaly)
    )
    return math.sin(tilt) * math.sin(apparent), equation / (2 * math.pi) * _DAY_S
