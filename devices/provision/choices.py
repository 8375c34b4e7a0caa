"""Choices that only some values can be: country of a radio, time zone, name of a user. Each is checked before a card is
written, because the board would pass over a wrong one in silence.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from functools import cache
from pathlib import Path

from edgesem.errors import UsageError

# ISO 3166-1, officially assigned.
_COUNTRIES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
_MEANT = {"UK": "GB", "EN": "GB", "EL": "GR", "UAE": "AE", "USA": "US"}

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# Users and groups that Debian, Raspberry Pi OS and Ubuntu have: useradd refuses a name that either has.
_TAKEN = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup _apt adm
tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff
users input sgx kvm render crontab netdev gpio i2c spi ssh _ssh sshd messagebus avahi polkitd dnsmasq tss uuidd
syslog landscape tcpdump pollinate fwupd-refresh lxd rpc statd ntp chrony rtkit pulse colord saned lightdm gdm
usbmux whoopsie geoclue nm-openvpn bluetooth admin wheel edgesem mosquitto docker weston-launch trusty
"""


def check_country(code: str) -> None:
    """Raise UsageError unless `code` is a country for the radio, such as DE."""
    known = _COUNTRIES.split()
    if code not in known:
        near = _MEANT.get(code.upper(), code.upper())
        hint = f": {near} is meant" if near in known else ", such as DE"
        raise UsageError(
            f"wifi.country must be the two capital letters of a country, not {code!r}{hint}; without, the radio is off"
        )


def check_user(name: str) -> None:
    """Raise UsageError unless `name` can be given to the first user."""
    if not _USER.fullmatch(name):
        raise UsageError(f"user.name {name!r} must be a-z, 0-9, _ or -, such as edge")
    if name in _TAKEN.split() or name.startswith("systemd-"):
        raise UsageError(f"user.name {name!r} is a user or group of the system itself: take another, such as edge")


def check_timezone(name: str) -> None:
    """Raise UsageError unless every system has a time zone of this name.

    Debian 13 and later bring only zones that are named after a region and a city; US/Eastern and the like are missing.
    """
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        raise UsageError(f"timezone {name[:60]!r} must be such as Europe/Zurich")
    known = _zones()
    if not known or name in known:
        return
    near = difflib.get_close_matches(name.lower(), sorted(map(str.lower, known)), n=1, cutoff=0.85)
    meant = _same_zone(name, known) or next((zone for zone in known if [zone.lower()] == near), "")
    hint = f"did you mean {meant}?" if meant else "take one of a region and a city, such as Europe/Zurich, or UTC"
    raise UsageError(f"timezone {name!r} is not known to every system: {hint}")


@cache
def _zones() -> frozenset[str]:
    """Zones of regions and cities as this machine knows them, and UTC; empty where it knows none."""
    for folder in zoneinfo.TZPATH:
        try:
            lines = (Path(folder) / "zone.tab").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        names = [line.split("\t")[2] for line in lines if line.count("\t") >= 2 and not line.startswith("#")]
        return frozenset([*names, "UTC", *(zone for zone in zoneinfo.available_timezones() if zone.startswith("Etc/"))])
    return frozenset(zoneinfo.available_timezones())  # from the package tzdata, which has the old names too


def _same_zone(name: str, known: frozenset[str]) -> str:
    """The zone of `known` for which `name` is only another name."""
    for folder in map(Path, zoneinfo.TZPATH):
        if name in zoneinfo.available_timezones() and (folder / name).is_file():
            content = (folder / name).read_bytes()
            same = [zone for zone in known if (folder / zone).is_file() and (folder / zone).read_bytes() == content]
            return min(same, key=lambda zone: (zone.startswith("Etc/"), zone), default="")
    return ""
