"""Peers of bench video: each name runs what it says, without delay; still scenes have a row for each."""

import av
import numpy as np
import pytest

import edgesem
from edgesem.errors import UsageError
from edgesem.quality.metrics import psnr
from export.bench.video import peers
from export.bench.video.measure import points, still


def _there(name):
    try:
        peers.check(name)
    except UsageError:
        return False
    return True


HERE = [name for name in peers.PEERS if _there(name)]


@pytest.fixture(scope="module")
def frames():
    """A still scene with noise of blocks, and a square that moves."""
    scene = np.kron(np.random.default_rng(0).integers(40, 215, (9, 11, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    found = [scene.copy() for _ in range(3)]
    for index, frame in enumerate(found):
        frame[60:100, 20 * index : 20 * index + 40] = (250, 40, 40)
    return found


@pytest.mark.parametrize("name", [name for name in HERE if not name.startswith("svtav1")])
def test_each_frame_comes_out_before_the_next_goes_in(name, frames):
    _inter_frames_are_small(name, frames)


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="SVT-AV1 before 4 keeps frames back")
@pytest.mark.parametrize("name", ["svtav1-p8", "svtav1-p10-rtc"])
def test_so_does_each_of_svt_av1(name, frames):
    if name not in HERE:
        pytest.skip("this PyAV has no SVT-AV1")
    _inter_frames_are_small(name, frames)


def _inter_frames_are_small(name, frames):
    finest = peers.coders(name, 5, 60)[0]
    coded = list(finest(frames))
    assert [one.picture.shape for one in coded] == [frame.shape for frame in frames]
    assert min(psnr(frame, one.picture) for frame, one in zip(frames, coded, strict=True)) > 25
    if not name.startswith("avif"):
        assert coded[1].size_bytes < coded[0].size_bytes / 2


def test_frames_with_odd_sides_come_back_as_large_as_they_were(frames):
    odd = [frame[:175, :209] for frame in frames]
    pictures = [one.picture for one in peers.coders("x264-veryfast", 5, 60)[0](odd)]
    assert [picture.shape for picture in pictures] == [(175, 209, 3)] * 3
    edge = [psnr(frame[-1:], picture[-1:]) for frame, picture in zip(odd, pictures, strict=True)]
    assert min(edge) > 25


def test_qp_and_crf_are_not_the_same(frames):
    sizes = [
        sum(one.size_bytes for one in peers.coders(n, 5, 60)[2](frames)) for n in ("x264-medium", "x264-medium-qp")
    ]
    assert sizes[0] != sizes[1]


@pytest.mark.parametrize("name", ["x264", "av1", "svtav1-p8-fast", "avif-s6"])
def test_names_that_there_are_not_are_refused(name):
    with pytest.raises(UsageError, match="svtav1-p8"):
        peers.check(name)


def test_a_library_that_pyav_lacks_is_named(monkeypatch):
    monkeypatch.setitem(peers._LIBRARIES, "aom", "libnone")
    with pytest.raises(UsageError, match="libnone"):
        peers.check("aom-rt8")


def test_still_scenes_and_judges_have_rows_of_their_own(frames):
    names = ["edgesem-reference", "x264-veryfast-qp", "avif-s8"]
    with edgesem.load() as codec:
        rows = still(names, codec, frames[0], 5)
        found = points(names, codec, frames[:2], 5, 60, lambda: None, judges={"first": lambda a, b: float(a[0, 0, 0])})
    assert set(rows) == set(found) == set(names)
    assert rows["avif-s8"]["identical_share"] == 1  # it knows no reference
    assert rows["x264-veryfast-qp"]["identical_share"] < 0.1
    assert max(rows["edgesem-reference"][f"{kind}_share"] for kind in ("identical", "noisy")) < 0.1
    for by_setting in found.values():
        assert all(row["first"] == frames[0][0, 0, 0] for row in by_setting)
        sizes = [row["bytes_per_frame"] for row in by_setting]
        assert sizes == sorted(sizes)
        assert len(sizes) >= 5
