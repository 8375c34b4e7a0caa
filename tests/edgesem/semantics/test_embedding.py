"""Meaning in 64 bytes, what fits a query, what is news, what is kept and found again. Heads here are untrained."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgesem.errors import BundleError, InputError, PacketError, UsageError
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation
from edgesem.semantics.embedding import (
    DIMENSIONS,
    EMBEDDING_BYTES,
    Labels,
    Query,
    best,
    from_bytes,
    similarity,
    to_bytes,
)
from runtime.bench.change_events import events, recall
from runtime.receiver.archive import FILE, Archive
from runtime.receiver.search import parse_time, search
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.sender.novelty import Novelty


def vector(seed):
    found = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return found / np.linalg.norm(found)


def labels(names=("tench, Tinca tinca", "sports car, sport car", "car", "pickup, pickup truck", "dog")):
    vectors = np.stack([vector(i) for i in range(len(names))])
    pictures = np.stack([vector(100 + i) for i in range(64)])
    eye = np.eye(DIMENSIONS, dtype=np.float32)
    return Labels(tuple(names), vectors, np.zeros(DIMENSIONS, np.float32), eye, "none", pictures)


def packet(frame=1, embedding=b"", time_ms=5, layers=1):
    return Packet(
        bundle_id=1, epoch=3, frame=frame, time_ms=time_ms, width=64, height=64, q=9, total_layers=4, first_layer=0,
        chunks=(b"abc",) * layers, side_info=SideInformation(embedding=embedding),
    )  # fmt: skip


@given(arrays(np.float32, DIMENSIONS, elements=st.floats(-10, 10, width=32)))
def test_an_embedding_keeps_its_direction_in_64_bytes(values):
    length = np.linalg.norm(values)
    if length < 1e-3:
        return
    data = to_bytes(values)
    assert len(data) == EMBEDDING_BYTES <= 64
    back = from_bytes(data)
    assert np.linalg.norm(back) == pytest.approx(1, abs=1e-5)
    assert similarity(values, back) > 0.7  # the worst there is: one number far above all others


def test_an_ordinary_embedding_loses_next_to_nothing():
    assert min(similarity(vector(i), from_bytes(to_bytes(vector(i)))) for i in range(50)) > 0.985


@given(st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_any_bytes_are_an_embedding_or_refused(data):
    try:
        assert np.isfinite(from_bytes(data)).all()
    except PacketError:
        return


def test_what_is_no_embedding_is_not_packed():
    with pytest.raises(UsageError, match="128"):
        to_bytes(np.full(DIMENSIONS, np.nan, np.float32))


@pytest.mark.parametrize(
    ("text", "index"),
    [("a car", 2), ("Cars", 2), ("the sports car", 1), ("sport car", 1), ("red car", 2), ("a pickup truck", 3)],
)
def test_a_text_finds_the_label_that_it_names(text, index):
    found = labels()
    assert similarity(found.label_query(text).vector, found.vectors[index]) == pytest.approx(1, abs=1e-6)


def test_what_no_label_names_is_refused_with_what_is_near():
    with pytest.raises(UsageError, match=r"near are.*tench"):
        labels().label_query("trench")
    with pytest.raises(UsageError, match="letters"):
        labels().label_query("  ")


def test_a_score_says_how_few_pictures_fit_better():
    found = labels()
    query = found.query_of("x", vector(7))
    assert query.score(vector(7)) > 0.99
    ranked = np.mean([query.score(one) for one in found.pictures])
    assert 0.4 < ranked < 0.6
    other = Query("y", vector(8), query.mean, query.spread)
    assert best([other, query], vector(7))[0].text == "x"
    assert best([], vector(7)) == (None, 0.0)


def test_labels_survive_their_file_and_a_bad_file_is_refused(tmp_path):
    class Stand:
        folder, files = tmp_path, {"labels.npz": ""}

    with pytest.raises(BundleError, match="align"):
        Labels.of(type("Bare", (), {"folder": tmp_path, "files": {}})())
    np.savez_compressed(tmp_path / "labels.npz", **labels().to_arrays())
    back = Labels.of(Stand())
    assert back.names == labels().names
    assert similarity(back.vectors[3], labels().vectors[3]) > 0.999
    np.savez_compressed(tmp_path / "labels.npz", **{**labels().to_arrays(), "mean": np.zeros(3)})
    with pytest.raises(BundleError, match="fit together"):
        Labels.of(Stand())
    (tmp_path / "labels.npz").write_bytes(b"PK nothing")
    with pytest.raises(BundleError, match="labels"):
        Labels.of(Stand())


def near(degrees):
    """A meaning that lies so far from the first axis."""
    found = np.zeros(DIMENSIONS, np.float32)
    found[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return found


def sends(novelty, meaning, now_s):
    due = novelty.look(meaning, now_s).due
    if due:
        novelty.sent(now_s, meaning, now_s)
    return due


def quiet(**more):
    """A camera that has looked at the same scene for a while; its first frame was delivered."""
    novelty = Novelty(**more)
    for t in range(-30, 0):
        sends(novelty, near(0.2 * (t % 2)), t)
        novelty.delivered(t)
    return novelty


def test_only_news_are_sent_and_a_heartbeat():
    novelty = quiet(heartbeat_s=10)
    sent = [t for t in range(25) if sends(novelty, near(0), t) and novelty.delivered(t) is None]
    assert len(sent) in (2, 3)
    assert all(b - a == 10 for a, b in pairwise(sent))
    assert sends(novelty, near(20), 25)


def test_what_was_sent_is_known_only_until_it_must_have_come():
    novelty = quiet(patience_s=3, heartbeat_s=1e9)
    assert sends(novelty, near(20), 1)
    assert not sends(novelty, near(20), 2)  # under way
    assert sends(novelty, near(20), 5)  # lost, it seems
    novelty.delivered(5)
    assert not sends(novelty, near(20), 6)


def test_a_restless_scene_raises_the_bar_and_sensitivity_lowers_it():
    calm, restless = quiet(), Novelty()
    for t in range(100):
        restless.look(near(15 * (t % 2)), t)
    assert restless.threshold > 5 * calm.threshold
    assert quiet(sensitivity=2).threshold == pytest.approx(calm.threshold / 2)


def test_a_change_is_followed_until_it_is_well_below_what_began_it():
    novelty = quiet(heartbeat_s=1e9, patience_s=0)
    novelty.low = 0.3
    bar = np.degrees(np.arccos(1 - novelty.threshold))
    seen = [novelty.look(near(share * bar), t).due for t, share in enumerate([0.8, 1.2, 0.8, 0.1, 0.8])]
    assert seen == [False, True, True, False, False]


class Seen:
    def __init__(self, box, label="thing"):
        self.box, self.label, self.score = box, label, 0.9


def test_events_are_objects_that_stay_whatever_they_are_called():
    here, there = (10, 10, 50, 50), (100, 100, 140, 140)
    found = [[Seen(here)], [Seen(here, "cup")], [Seen(here), Seen(there)], [], [Seen(there)], [Seen(there)]]
    happened = events(found, [t / 5 for t in range(6)])
    assert [sorted(one.boxes) for one in happened] == [[0, 1, 2], [2, 4, 5]]
    assert recall(happened, [0], found) == 0.5
    assert recall(happened, [2], found) == 1
    assert recall(happened, [3], found) == 0
    assert events(found[:2], [0, 0.2]) == []


def test_an_archive_finds_by_meaning_and_time_and_gives_packets_back(tmp_path):
    with Archive(tmp_path) as archive:
        for frame in range(20):
            archive.add("home/gate/main", packet(frame, to_bytes(vector(frame)), time_ms=frame), 1000.0 + frame)
        archive.add("home/yard/main", packet(3, to_bytes(vector(3)), time_ms=77), 1003.5)
        archive.add("home/yard/main", packet(4), 1004.0)
        query = labels().query_of("x", vector(3))
        hits, among = search(archive, query, most=2)
        assert [(hit.entry.stream, hit.entry.frame) for hit in hits] == [("home/gate/main", 3), ("home/yard/main", 3)]
        assert among == 21
        assert archive.packet(hits[0].entry).side_info.embedding == to_bytes(vector(3))
        assert len(search(archive, query, most=5, apart_s=60)[0]) == 2  # one a stream
        assert search(archive, query, since_s=1010)[0][0].entry.captured_s >= 1010
        assert search(archive, query, stream="home/yard/main")[1] == 1
    with Archive(tmp_path, create=False) as again:
        assert dict(again.streams()) == {"home/gate/main": 20, "home/yard/main": 2}


def test_a_frame_that_comes_again_with_more_layers_replaces_the_first(tmp_path):
    with Archive(tmp_path) as archive:
        for layers in (1, 3, 2):
            archive.add("a/b/c", packet(layers=layers), 1.0)
        entries, _ = archive.find()
        assert [entry.layers for entry in entries] == [3]


def test_the_oldest_make_room(tmp_path):
    with Archive(tmp_path, max_bytes=100 * packet().size_bytes) as archive:
        for frame in range(600):
            archive.add("a/b/c", packet(frame), float(frame))
        entries, _ = archive.find()
        assert entries[-1].frame == 599
        assert len(entries) < 300


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match="receive --archive"):
        Archive(tmp_path, create=False)
    (tmp_path / FILE).write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match="archive"):
        Archive(tmp_path)


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5d", 129600)])
def test_a_time_ago(text, ago_s):
    assert parse_time(text, now_s=1e9) == 1e9 - ago_s


def test_a_time_by_date_and_what_is_none():
    assert parse_time("2026-11-22 14:30") == pytest.approx(parse_time("2026-11-22T14:30:00"))
    with pytest.raises(UsageError, match="time"):
        parse_time("yesterday")


def test_only_what_fits_is_wanted_and_what_says_nothing():
    only = SemanticFilter([labels().query_of("x", vector(7))])
    assert only.wants(packet(embedding=to_bytes(vector(7))))
    assert not only.wants(packet(embedding=to_bytes(-vector(7))))
    assert only.wants(packet())
    assert only.figures() == {"passed": 1, "left": 1, "unknown": 1}
