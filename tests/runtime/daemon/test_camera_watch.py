"""Watch on a camera: when it is said to be silent."""

from runtime.daemon.camera_watch import CameraWatch


class Clock:
    """Seconds, by hand."""

    now_s = 1000.0

    def __call__(self):
        return self.now_s


def said(watch, clock, gaps_s):
    """Frames that come after these gaps; how often the camera was said to be silent before the last of them."""
    told, before = 0, False
    for gap_s in gaps_s:
        for _ in range(round(gap_s)):
            clock.now_s += 1
            told, before = told + (watch.silent_s > 0 and not before), watch.silent_s > 0
        watch.came()
        before = False
    return told


def test_a_camera_that_is_not_opened_yet_is_not_silent():
    """A slow board loads the networks first, while it is connected already."""
    clock = Clock()
    watch = CameraWatch(clock)
    clock.now_s += 120
    assert (watch.silent_s, watch.hangs) == (0, False)
    watch.begun()
    assert (watch.silent_s, watch.hangs) == (0, False)


def test_a_camera_is_silent_after_ten_seconds_and_hangs_after_thirty():
    clock = Clock()
    watch = CameraWatch(clock)
    watch.begun()
    clock.now_s += 1
    watch.came()
    clock.now_s += 10
    assert watch.silent_s == 0
    clock.now_s += 2
    assert (watch.silent_s, watch.hangs) == (12, False)
    clock.now_s += 20
    assert (watch.silent_s, watch.hangs) == (32, True)
    clock.now_s += 10**6
    assert watch.silent_s == 86400
    watch.came()
    assert (watch.silent_s, watch.hangs) == (0, False)


def test_a_slow_camera_is_told_of_once_at_most():
    for gap_s in (5, 9, 10):
        clock = Clock()
        watch = CameraWatch(clock)
        watch.begun()
        assert said(watch, clock, [gap_s] * 10) == 0
    for gap_s in (12, 20, 29):
        clock = Clock()
        watch = CameraWatch(clock)
        watch.begun()
        assert said(watch, clock, [gap_s] * 10) == 1


def test_after_an_outage_a_camera_is_soon_watched_as_closely_as_before():
    clock = Clock()
    watch = CameraWatch(clock)
    watch.begun()
    assert said(watch, clock, [1, 1, 3600, 1, 12]) == 2
