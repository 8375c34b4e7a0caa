"""Points of the rate-distortion bench: measured once, and kept."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from edgesem.files import find_pictures
from edgesem.quality.metrics import psnr
from export.bench.rd import measure as rd
from export.bench.rd.baselines import CodecUnderTest
from export.bench.rd.codecs import BundleCodecs
from export.bench.rd.points import PointStore, Quality
from tests.support.rd import needs_bench, photo, point


def test_a_store_gives_back_what_was_put_in_and_the_later_of_two(tmp_path):
    store = PointStore(tmp_path / "cache.jsonl")
    store.add(point(size_bytes=100))
    store.add(point(size_bytes=90))
    store.add(point(setting=0.7, lpips=0.1, lpips_weights="w"))
    again = PointStore(tmp_path / "cache.jsonl")
    assert again.get(point().key) == point(size_bytes=90)
    assert again.get(point(setting=0.7).key) == point(setting=0.7, lpips=0.1, lpips_weights="w")
    assert again.get(point(setting=0.9).key) is None


class CountingCodec:
    """Rounds colours to multiples of 256 / setting, and counts how often it was asked to."""

    def __init__(self, name="toy", version="1"):
        self.encoded: list[float] = []
        self.under_test = CodecUnderTest(name, version, (4, 16, 64), self.encode, self.decode)

    def encode(self, frame, setting):
        self.encoded.append(setting)
        return zlib.compress((frame // (256 // setting) * (256 // setting)).tobytes())

    def decode(self, data, size):
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(*size, 3)


class QuickMetrics(rd.PictureMetrics):
    """PSNR alone; remembers what it was asked."""

    calls: list[Quality | None]

    @property
    def version(self):
        return "quick"

    def __call__(self, original, decoded, known):
        self.calls.append(known)
        return known or Quality(psnr(original, decoded), 0.9, 50.0, 0.1)


@pytest.fixture
def metrics():
    metrics = QuickMetrics()
    object.__setattr__(metrics, "calls", [])
    return metrics


def test_what_was_measured_is_not_measured_again(folder, tmp_path, metrics):
    codec, pictures = CountingCodec(), find_pictures(folder)
    first = rd.measure(pictures, [codec.under_test], PointStore(tmp_path / "c"), metrics)
    codec.encoded.clear()
    counts: list[int] = []
    second = rd.measure(pictures, [codec.under_test], PointStore(tmp_path / "c"), metrics, done=counts.append)
    assert len(first) == 6
    assert first == second
    assert not codec.encoded
    assert sum(counts) == 6


def test_another_version_of_a_codec_is_another_measurement(folder, tmp_path, metrics):
    pictures, store = find_pictures(folder), PointStore(tmp_path / "c")
    rd.measure(pictures, [CountingCodec().under_test], store, metrics)
    newer = CountingCodec(version="2")
    rd.measure(pictures, [newer.under_test], store, metrics)
    assert set(newer.encoded) == {4, 16, 64}


def test_the_same_pixels_are_measured_once_whoever_coded_them(folder, tmp_path, metrics):
    pictures, store = find_pictures(folder), PointStore(tmp_path / "c")
    rd.measure(pictures, [CountingCodec().under_test], store, metrics)
    metrics.calls.clear()
    rd.measure(pictures, [CountingCodec("other", version="2").under_test], store, metrics)
    assert len(metrics.calls) == 6
    assert None not in metrics.calls


def test_codecs_are_timed_in_turn(folder, tmp_path, metrics):
    one, two = CountingCodec("one"), CountingCodec("two")
    points = rd.measure(
        find_pictures(folder)[:1], [one.under_test, two.under_test], PointStore(tmp_path / "c"), metrics
    )
    order = [(p.codec, p.setting) for p in points]
    assert order == [("one", 4), ("two", 4), ("one", 16), ("two", 16), ("one", 64), ("two", 64)]


def test_rates_are_those_of_the_bytes_over_the_original(folder, tmp_path, metrics):
    codec = CountingCodec()
    for p in rd.measure(find_pictures(folder)[:1], [codec.under_test], PointStore(tmp_path / "c"), metrics):
        data = codec.encode(photo(), p.setting)
        assert p.coding.bytes == len(data)
        assert p.bpp == 8 * len(data) / (99 * 131)
        assert p.coding.encode_s > 0
        assert p.quality.psnr == psnr(photo(), codec.decode(data, (99, 131)))


@needs_bench
def test_two_processes_find_what_one_finds(folder, tmp_path):
    codec, pictures = CountingCodec(), find_pictures(folder)[:1]
    metrics = rd.PictureMetrics.create(None)
    alone = rd.measure(pictures, [codec.under_test], PointStore(tmp_path / "1"), metrics)
    both = rd.measure(pictures, [codec.under_test], PointStore(tmp_path / "2"), metrics, jobs=2)
    assert [p.quality for p in both] == [p.quality for p in alone]


def test_edgesem_itself_can_be_measured(folder, tmp_path, metrics):
    codec = BundleCodecs(None).codec("edgesem")
    points = rd.measure(find_pictures(folder)[:1], [codec], PointStore(tmp_path / "c"), metrics)
    assert len({p.coding.bytes for p in points}) == len(codec.settings)
    assert points[-1].quality.psnr > points[0].quality.psnr
