"""Codec: sizes, budgets, layers, regions, options, and what is refused."""

import gc
import json
import shutil
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgesem
from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.bundle.manifest import MANIFEST, digest_of
from edgesem.bundle.runner import open_runner
from edgesem.codec.budget import MAX_TRIALS
from edgesem.codec.codec import Codec
from edgesem.codec.coder import Coder
from edgesem.codec.options import PackOptions
from edgesem.codec.rounding import Rounder
from edgesem.entropy.schedule import PASSES
from edgesem.errors import BudgetError, BundleError, FrameError, PacketError, UsageError
from edgesem.files import read_picture
from edgesem.packet.packet import MAX_PACKET_BYTES, Packet
from edgesem.packet.side_information import Region, SideInformation
from edgesem.quality.metrics import psnr

PHOTOS = sorted((Path(__file__).parents[3] / "runtime" / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return edgesem.load()


@pytest.fixture(scope="module")
def frame():
    return read_picture(PHOTOS[0])


@pytest.mark.parametrize("photo", PHOTOS[:4], ids=lambda p: p.stem)
@pytest.mark.parametrize("budget", [900, 2500, 8000])
def test_a_budget_is_met_within_five_percent_and_never_exceeded(codec, photo, budget):
    packet = codec.pack(codec.analyze(read_picture(photo)), budget_bytes=budget)
    assert len(packet.to_bytes()) == packet.size_bytes <= budget
    assert packet.size_bytes >= 0.95 * budget or packet.q == 255


def test_a_budget_beyond_every_packet_and_number_is_the_largest_packet(codec, frame):
    latent = codec.analyze(frame)
    largest = codec.pack(latent, budget_bytes=MAX_PACKET_BYTES)
    assert codec.pack(latent, budget_bytes=10**400) == largest  # 10**309 is no float any more


def test_a_budget_that_cannot_be_met_says_which_can(codec, frame):
    latent = codec.analyze(frame)
    with pytest.raises(BudgetError) as caught:
        codec.pack(latent, budget_bytes=60)
    smallest = caught.value.smallest_bytes
    assert codec.pack(latent, budget_bytes=smallest).size_bytes <= smallest
    with pytest.raises(BudgetError):
        codec.pack(latent, budget_bytes=smallest - 1)


@pytest.mark.parametrize("kind", ["photo", "small photo", "noise", "grey"])
def test_any_budget_takes_few_trials_and_fewer_layers_only_where_it_must(codec, frame, kind, monkeypatch):
    pictures = {
        "photo": frame,
        "small photo": np.ascontiguousarray(frame[:90, :110]),
        "noise": np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8),
        "grey": np.full((240, 320, 3), 90, np.uint8),
    }
    latent = codec.analyze(pictures[kind])
    with pytest.raises(BudgetError) as caught:
        codec.pack(latent, budget_bytes=30)
    coarsest = codec.pack(latent, quality=0).size_bytes
    trials = []
    real = Coder.try_level
    monkeypatch.setattr(Coder, "try_level", lambda self, *a, **k: trials.append(a) or real(self, *a, **k))
    for budget in np.geomspace(caught.value.smallest_bytes, 30000, 25).astype(int).tolist():
        trials.clear()
        packet = codec.pack(latent, budget_bytes=budget)
        assert packet.size_bytes <= budget
        assert len(trials) <= MAX_TRIALS
        assert len(packet.chunks) == 4 or budget < coarsest


def test_packing_runs_the_encoder_never_again_and_few_trials(codec, frame, monkeypatch):
    latent = codec.analyze(frame)
    trials = []
    real = Coder.try_level
    monkeypatch.setattr(Coder, "try_level", lambda self, *a, **k: trials.append(a) or real(self, *a, **k))
    monkeypatch.setattr(Codec, "analyze", None)
    for budget in (1500, 3000, 6000):
        trials.clear()
        codec.pack(latent, budget_bytes=budget)
        assert len(trials) <= MAX_TRIALS


def test_a_packet_of_the_frame_before_saves_trials(codec, monkeypatch):
    trials = []
    real = Coder.try_level
    monkeypatch.setattr(Coder, "try_level", lambda self, *a, **k: trials.append(a) or real(self, *a, **k))
    counts = []
    for photo in PHOTOS[:6]:
        picture = read_picture(photo)
        before, now = (codec.analyze(np.ascontiguousarray(picture[i : i + 240, i : i + 320])) for i in (0, 3))
        last = codec.pack(before, budget_bytes=2000)
        for budget in (1000, 1900, 4000):
            for previous in (None, last):
                trials.clear()
                packet = codec.pack(now, budget_bytes=budget, options=PackOptions(previous=previous))
                assert 0.95 * budget <= packet.size_bytes <= budget or packet.q == 255
                counts.append(len(trials))
    assert sum(counts[1::2]) < 0.95 * sum(counts[::2])
    assert sum(counts[::2]) < 2.2 * len(counts) / 2


def test_two_layers_tell_about_how_large_the_packet_gets(codec):
    for photo in PHOTOS[:4]:
        latent = codec.analyze(read_picture(photo))
        for level in (60, 110, 160, 220):
            trial = codec.trial(latent, level)
            likely_bytes = trial.likely_bytes(2)
            assert 0.9 * trial.size_bytes < likely_bytes < 1.1 * trial.size_bytes
    again = codec.trial(latent, 220, reference=trial.decoded)
    assert 0.6 * again.size_bytes < again.likely_bytes(2) < 0.5 * likely_bytes  # the reference has the most already


def test_a_first_trial_that_is_wrong_leaves_the_last_layers_out(codec, monkeypatch):
    latents = [codec.analyze(read_picture(photo)) for photo in PHOTOS[:8]]
    trials, passes = [], []
    real_trial, real_took = Coder.try_level, Rounder.took
    monkeypatch.setattr(Coder, "try_level", lambda self, *a, **k: trials.append(a) or real_trial(self, *a, **k))
    monkeypatch.setattr(Rounder, "took", lambda self, *pass_: passes.append(pass_) or real_took(self, *pass_))
    for latent in latents:
        for bpp in (0.1, 0.3):
            codec.pack(latent, budget_bytes=int(latent.width * latent.height * bpp / 8))
    assert len(trials) > 20
    assert len(passes) < 0.96 * len(PASSES) * len(trials)


def test_the_finest_quality_is_rounded_once(codec, monkeypatch):
    latent = codec.analyze(read_picture(PHOTOS[0])[:240, :320])
    passes, real = [], Rounder.took
    monkeypatch.setattr(Rounder, "took", lambda self, *pass_: passes.append(pass_) or real(self, *pass_))
    assert codec.pack(latent, budget_bytes=100_000).q == 255
    assert len(passes) == len(PASSES)


def test_a_trial_is_gone_with_its_last_user(codec):
    """Packing must not leave memory to the garbage collector: a sender would hold dozens of frames."""
    latent = codec.analyze(read_picture(PHOTOS[0]))
    gc.disable()
    try:
        trial = codec.trial(latent, 100)
        assert trial.bits > 0
        gone = weakref.ref(trial)
        del trial
        assert gone() is None
    finally:
        gc.enable()


def test_real_packets_are_within_one_percent_of_their_ideal_size(codec):
    real = ideal = 0.0
    for photo, quality in zip(PHOTOS[:6], (0.3, 0.5, 0.7, 0.9, 0.4, 0.6), strict=True):
        latent = codec.analyze(read_picture(photo))
        packet = codec.pack(latent, quality=quality)
        real += sum(map(len, packet.chunks))
        ideal += codec.trial(latent, packet.q).bits / 8
    assert ideal < real < 1.01 * ideal


def test_each_further_layer_brings_the_picture_closer(codec, frame):
    packet = codec.pack(codec.analyze(frame), quality=0.7)
    quality = [psnr(frame, codec.synthesize(codec.unpack(packet.prefix(k)))) for k in (1, 2, 3, 4)]
    assert quality == sorted(set(quality))


def test_quality_spans_a_wide_range_of_sizes(codec, frame):
    latent = codec.analyze(frame)
    sizes = [codec.pack(latent, quality=q).size_bytes for q in (0, 0.25, 0.5, 0.75, 1)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 8 * sizes[0]


def test_the_receiver_reads_exactly_what_the_sender_rounded(codec, frame):
    """What the encoder's walk ends with is what unpack rebuilds from the bytes, to the bit, threads or not."""
    latent = codec.analyze(frame)
    packet = codec.pack(latent, quality=0.6)
    entries = codec.trial(latent, packet.q).entries
    again = edgesem.load(threads=2)
    unpacked, other = codec.unpack(packet), again.unpack(Packet.from_bytes(packet.to_bytes()))
    assert np.array_equal(unpacked.values, other.values)
    repacked = again.trial(latent, packet.q).entries
    for mine, theirs in zip(entries, repacked, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (17, 200), (241, 333)])
def test_any_size_comes_back_as_it_was(codec, frame, size):
    piece = np.ascontiguousarray(frame[: size[0], : size[1]])
    decoded = codec.decode(codec.encode(piece, quality=0.8))
    assert decoded.shape == piece.shape
    assert decoded.dtype == np.uint8
    assert psnr(piece, decoded) > 18


def test_one_call_and_the_steps_it_stands_for_agree(codec, frame):
    data = codec.encode(frame, quality=0.5)
    packet = codec.pack(codec.analyze(frame), quality=0.5)
    assert data == packet.to_bytes()
    assert np.array_equal(codec.decode(data, layers=2), codec.synthesize(codec.unpack(packet.prefix(2))))


@pytest.mark.parametrize(
    "frame", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((8, 64, 3), np.uint8)]
)
def test_frames_that_are_none_are_refused(codec, frame):
    with pytest.raises(FrameError):
        codec.analyze(frame)


def test_contradictory_options_are_refused(codec, frame):
    latent = codec.analyze(frame)
    for options in (
        {},
        {"budget_bytes": 1000, "quality": 0.5},
        {"quality": 1.5},
        {"budget_bytes": 0},
    ):
        with pytest.raises(UsageError):
            codec.pack(latent, **options)
    with pytest.raises(UsageError):
        PackOptions(layers=5)
    with pytest.raises(UsageError):
        codec.synthesize(latent, steps=5)


def test_a_packet_of_another_bundle_is_refused(codec, frame):
    packet = codec.pack(codec.analyze(frame), quality=0.2)
    foreign = Packet(**{**vars(packet), "bundle_id": packet.bundle_id ^ 1})
    with pytest.raises(BundleError, match="made with bundle"):
        codec.unpack(foreign)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(0, 255), st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_a_hostile_packet_with_a_right_checksum_gives_a_picture_or_a_packet_error(chunks, q, side):
    codec = edgesem.load()
    packet = Packet(codec.bundle.id, 0, 0, 0, side, side, q, 4, 0, tuple(chunks))
    try:
        latent = codec.unpack(Packet.from_bytes(packet.to_bytes()))
    except PacketError:
        return
    assert np.isfinite(latent.values).all()


def test_an_altered_bundle_is_refused(tmp_path):
    for path in DEFAULT.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert edgesem.load(tmp_path).bundle.id == edgesem.load().bundle.id
    with (tmp_path / "decoder.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02")
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        edgesem.load(tmp_path)


def test_what_no_packet_can_hold_is_refused_and_a_budget_stops_before_it(codec):
    noise = np.random.default_rng(0).integers(0, 256, (1536, 1536, 3), np.uint8)
    latent = codec.analyze(noise)
    with pytest.raises(UsageError, match="lower the quality"):
        codec.pack(latent, quality=1.0)
    packet = codec.pack(latent, budget_bytes=10**7)
    assert Packet.from_bytes(packet.to_bytes()) == packet
    assert max(map(len, packet.chunks)) > 40_000


def test_a_region_is_coded_finer_than_the_rest(codec, frame):
    """What stands inside keeps its detail, what stands outside pays for it, and the packet says where."""
    latent = codec.analyze(frame)
    height, width = latent.values.shape[1:]
    region = Region(1, 1, width // 2, height // 2, drop=120)
    side_info = SideInformation(region=region)
    plain = codec.pack(latent, quality=0.6)
    packet = Packet.from_bytes(codec.pack(latent, quality=0.6, options=PackOptions(side_info=side_info)).to_bytes())
    assert packet.size_bytes < plain.size_bytes
    error = np.abs(codec.unpack(packet).values - latent.values).mean(0)
    inside = np.zeros((height, width), bool)
    inside[region.top : region.bottom + 1, region.left : region.right + 1] = True
    assert error[inside].mean() < 0.7 * error[~inside].mean()
    within = codec.pack(latent, budget_bytes=plain.size_bytes, options=PackOptions(side_info=side_info))
    assert 0.9 * plain.size_bytes <= within.size_bytes <= plain.size_bytes
    assert within.q >= plain.q


def test_outside_of_a_region_the_decoders_know_that_it_is_coarser(codec, frame):
    latent = codec.analyze(frame)
    height, width = latent.values.shape[1:]
    region = Region(0, 0, width // 2 - 1, height - 1, drop=120)
    decoded = codec.unpack(
        codec.pack(latent, quality=0.6, options=PackOptions(side_info=SideInformation(region=region)))
    )
    picture = codec.synthesize(decoded).astype(int)
    for level, columns in ((decoded.level, np.s_[: width * 8 - 16]), (decoded.level - 120, np.s_[width * 8 + 16 :])):
        alone = codec.synthesize(replace(decoded, level=level, region=None)).astype(int)
        assert np.abs(picture - alone)[:, columns].max() <= 1
    assert (decoded.levels == np.where(np.arange(width) < width // 2, decoded.level, decoded.level - 120)).all()


@pytest.mark.parametrize(("gain", "what"), [(0.0, "above 0"), (-1.0, "above 0"), (np.nan, "finite")])
def test_a_bundle_whose_gains_make_no_sense_is_refused(tmp_path, gain, what):
    """Decoded values are divided by them."""
    folder = shutil.copytree(DEFAULT, tmp_path / "bundle")
    with np.load(folder / "tables.npz") as stored:
        arrays = dict(stored)
    arrays["gain"][3, 4] = gain
    np.savez(folder / "tables.npz", **arrays)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["tables.npz"] = digest_of(folder / "tables.npz")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=what):
        Codec(Bundle.open(folder))


def test_a_bundle_of_another_format_is_refused_by_name(tmp_path):
    folder = shutil.copytree(DEFAULT, tmp_path / "bundle")
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(BundleError, match="format 2"):
        Bundle.open(folder)


def test_a_closed_codec_frees_its_networks_and_refuses_to_work(frame):
    with edgesem.load() as codec:
        data = codec.encode(frame, quality=0.2)
        networks = (*codec._graphs._runners.values(), *codec._graphs._compiled.values())
        held = [weakref.ref(one) for one in networks if one is not None]
        del networks
        assert len(held) > 1
    gc.collect()
    assert not any(runner() for runner in held)
    codec.close()
    with pytest.raises(UsageError, match="closed"):
        codec.decode(data)


def test_threads_that_begin_together_load_each_network_once_and_see_the_same(frame, monkeypatch):
    data, opened = edgesem.load().encode(frame, quality=0.3), Counter()

    def counting(bundle, part, *more, **options):
        opened[part] += 1
        return open_runner(bundle, part, *more, **options)

    monkeypatch.setattr("edgesem.codec.graphs.open_runner", counting)
    count, codec = 4, edgesem.load()
    together = Barrier(count)

    def work(_):
        together.wait(timeout=30)
        return codec.decode(data).tobytes(), codec.encode(frame, quality=0.3)

    with ThreadPoolExecutor(count) as pool:
        found = set(pool.map(work, range(count)))
    assert {packet for _, packet in found} == {data}
    assert len(found) == 1
    assert set(opened.values()) == {1}


def test_options_and_references_go_through_encode_and_decode_alike(frame):
    with edgesem.load() as codec:
        options = edgesem.PackOptions(layers=2, frame=7, epoch=3, time_ms=5)
        packet = Packet.from_bytes(codec.encode(frame, quality=0.3, options=options))
        assert (packet.frame, packet.epoch, packet.time_ms, packet.total_layers) == (7, 3, 5, 2)
        known = codec.unpack(packet)
        side_info = SideInformation(reference=edgesem.Reference(7, 2))
        options = edgesem.PackOptions(frame=8, side_info=side_info, reference=known)
        data = codec.encode(frame, quality=0.3, options=options)
        shown = codec.synthesize(codec.unpack(Packet.from_bytes(data), known))
        assert np.array_equal(codec.decode(data, known), shown)
        with pytest.raises(edgesem.MissingReference):
            codec.decode(data)
