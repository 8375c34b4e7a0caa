"""What a board's file says of its sensor, and what the profile finds on that board: they may not know each other."""

from fnmatch import fnmatch

import pytest

from devices.board import Board, detect, names, sensors_found
from runtime.profile.published import BOARDS as PUBLISHED
from runtime.profile.sensors import candidates
from runtime.profile.sysfs import Sysfs, throttle_bits
from tests.support.profile_trees import LAYOUTS, unpack

TREES = {
    "generic-x86": "x86_rapl",
    "jetson-agx-orin": "agx_orin_jp6",
    "jetson-agx-thor": "agx_thor_jp7",
    "jetson-nano": "jetson_nano_jp4",
    "jetson-orin-nano": "orin_nano_jp6",
    "jetson-orin-nx": "orin_nano_jp6",  # the same module family and chip
    "raspberry-pi-5": "pi5_pmic",
}


def test_every_board_with_a_sensor_has_a_recorded_tree():
    assert set(TREES) == {name for name in names() if Board.load(name).power.meter}
    assert set(TREES.values()) <= set(LAYOUTS)


@pytest.mark.parametrize("name", TREES)
def test_a_board_s_meter_is_the_one_that_the_profile_takes_there(name, tmp_path):
    root, power = unpack(TREES[name], tmp_path), Board.load(name).power
    meter = next(iter(candidates(Sysfs(root))))
    assert meter.name.partition("@")[0] == power.meter  # as `profile --meter` has it
    assert meter.scope == power.scope
    if power.total:
        assert meter.rails == (power.total,)
    else:
        assert all(any(fnmatch(rail, known) for known in power.rails) for rail in meter.rails)
        assert all(any(fnmatch(rail, known) for rail in meter.rails) for known in power.rails)
    if power.paths[0].startswith("/"):
        assert sensors_found(Board.load(name), root)


@pytest.mark.parametrize("name", sorted({"pi4_bare", "pi5_pmic", *TREES.values()} - {"x86_rapl"}))
def test_a_recorded_board_is_detected(name, tmp_path):
    board, model = detect(unpack(name, tmp_path), "aarch64")
    assert model
    assert board.name in TREES or board.name == "raspberry-pi-4"


def test_a_board_without_a_sensor_has_no_meter(tmp_path):
    root = unpack("pi4_bare", tmp_path)
    assert Board.load("raspberry-pi-4").power.meter == ""
    assert list(candidates(Sysfs(root))) == []
    assert throttle_bits(Sysfs(root)) is not None  # but it tells whether it throttles


def test_projections_call_boards_by_their_names():
    assert set(PUBLISHED) <= set(names())
