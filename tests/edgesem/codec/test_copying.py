"""Copies: what has not changed stays to the bit, costs next to nothing, and does not hide what does change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgesem
from edgesem.codec import copying
from edgesem.codec.copying import Copying
from edgesem.codec.latent import ANCHORS, drawings
from edgesem.codec.options import PackOptions
from edgesem.codec.rounding import Rounder
from edgesem.codec.trial import Trial
from edgesem.entropy.schedule import CHANNELS
from edgesem.errors import PacketError
from edgesem.files import read_picture
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, Region, SideInformation

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"


@pytest.fixture(scope="module")
def codec():
    return edgesem.load()


@pytest.fixture(scope="module")
def street():
    return read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[:208, :304]


def noisy(picture, seed, grey=2.0):
    noise = np.random.default_rng(seed).normal(0, grey, picture.shape)
    return np.rint((picture + noise).clip(0, 255)).astype(np.uint8)


class Stream:
    """A sender and a receiver of one stream; each frame refers to the one before."""

    def __init__(self, codec):
        self.codec, self.copying, self.frame = codec, Copying(), 0
        self.sent = self.received = None

    def send(self, picture, *, quality=0.55, budget_bytes=None, layers=4, region=None, embedding=b""):
        """The packet, after both ends were found to have decoded the same of it, from all its layers."""
        latent = self.codec.analyze(picture)
        self.copying.look(latent)
        name = None if self.sent is None else Reference(self.frame - 1, 4)
        side_info = SideInformation(reference=name, region=region, embedding=embedding)
        options = PackOptions(
            side_info=side_info, reference=self.sent, copying=self.copying, frame=self.frame, layers=layers
        )
        how = {"quality": quality} if budget_bytes is None else {"budget_bytes": budget_bytes}
        packet, decoded = self.codec.pack_decoded(latent, options=options, **how)
        before = self.received
        self.received = self.codec.unpack(Packet.from_bytes(packet.to_bytes()), before)
        assert self.received.values.tobytes() == decoded.values.tobytes()
        assert (self.received.levels == decoded.levels).all()
        if packet.copied is not None:
            kept = packet.copied
            assert (self.received.values[:, kept] == before.values[:, kept]).all()
            assert (self.received.levels[kept] == before.levels[kept]).all()
        self.sent, self.frame = decoded, self.frame + 1
        return packet

    def picture(self):
        return self.codec.synthesize(self.received).astype(int)


def test_the_same_frame_again_is_a_packet_without_symbols_and_no_network_runs(codec, street, monkeypatch):
    stream = Stream(codec)
    stream.send(street)
    ran = []
    for name, runner in list(codec._graphs._runners.items()):
        if name.startswith("context"):
            monkeypatch.setattr(runner, "run", lambda feed, name=name: ran.append(name))
    again = stream.send(street)
    assert not ran
    assert again.copied.all()
    assert again.chunks == (b"",)
    assert again.size_bytes == 33


def test_new_noise_is_nothing_new(codec, street):
    stream = Stream(codec)
    stream.send(noisy(street, 0))
    later = [stream.send(noisy(street, seed)) for seed in range(1, 6)]
    assert np.mean([one.size_bytes for one in later]) < 40


@pytest.mark.parametrize(("quality", "copied"), [(0.8, 0.95), (0.95, 0.85)])
def test_fine_quality_does_not_code_the_noise_anew_once_it_is_known(codec, street, quality, copied):
    stream = Stream(codec)
    for seed in range(3):
        stream.send(noisy(street, seed), quality=quality)
    later = [stream.send(noisy(street, seed), quality=quality) for seed in range(3, 6)]
    assert min(one.copied.mean() for one in later) > copied


@pytest.mark.parametrize("quality", [0.86, 0.98])
def test_a_noisy_scene_that_stands_still_costs_next_to_nothing_at_fine_qualities(codec, street, quality):
    stream = Stream(codec)
    sizes = [stream.send(noisy(street, seed), quality=quality).size_bytes for seed in range(9)]
    assert np.mean(sizes[3:]) < 0.04 * sizes[0]


def test_a_chain_of_copies_does_not_drift_through_levels_layers_and_regions(codec, street):
    """What stands still is the same to the bit after any number of frames, and looks the same."""
    stream, moving = Stream(codec), street.copy()
    stream.send(street)
    first, before = stream.received, stream.picture()
    kept = np.ones(first.values.shape[1:], bool)
    for number in range(8):
        moving[32:64, 16 + 8 * number : 64 + 8 * number] = 255 - street[32:64, 100:148]
        region = Region(0, 0, 5, 5, 40) if number % 3 == 1 else None
        packet = stream.send(moving, quality=0.55 - 0.05 * (number % 4), layers=4 - number % 2, region=region)
        kept &= packet.copied
    assert kept.mean() > 0.5
    assert (stream.received.values[:, kept] == first.values[:, kept]).all()
    inner = np.kron(kept & (np.arange(kept.shape[0]) > 9)[:, None], np.ones((16, 16), bool))
    assert inner.any()
    change = np.abs(stream.picture() - before)[inner[: street.shape[0], : street.shape[1]]]
    assert change.mean() < 0.3


def test_slow_changes_of_light_arrive(codec, street):
    """A step of 0.15 grey levels a frame is never seen as such, and still no picture is off by more than a little."""
    stream = Stream(codec)
    picture = noisy(street, 99)
    stream.send(picture)
    for number in range(1, 41):
        picture = noisy(street + 0.15 * number, 99 + number)
        stream.send(picture)
    alone = codec.synthesize(codec.trial(codec.analyze(picture), stream.received.level).decoded)
    off = stream.picture().mean() - alone.mean()
    assert abs(off) < 1.5
    assert abs(stream.picture().mean() - picture.mean()) < 2


def test_a_finer_level_refines_what_stands_still(codec, street):
    stream = Stream(codec)
    stream.send(street, quality=0.2)
    assert stream.send(street, quality=0.2).copied.all()
    finer = stream.send(street, quality=0.8)
    assert finer.copied is None or finer.copied.mean() < 0.5
    assert stream.send(street, quality=0.8).copied.mean() > 0.95
    assert stream.send(street, quality=0.3).copied.all()  # nor is it made coarser again


def test_budgets_are_kept_with_copies_and_are_spent_on_refinement(codec, street):
    stream = Stream(codec)
    sizes, levels = [], []
    for number in range(8):
        picture = street.copy()
        picture[100:140, 20 * number : 20 * number + 40] = 200
        packet = stream.send(picture, budget_bytes=900, embedding=bytes(range(1, 65)))
        sizes.append(packet.size_bytes)
        levels.append(float(stream.received.levels.mean()))
    assert max(sizes) <= 900
    assert levels[-1] > levels[0] + 40


def test_a_part_that_is_far_too_big_is_given_up_before_its_last_layers(codec, street, monkeypatch):
    passes, took = [], Rounder.took
    for name in ("NOISE_LEFT", "NOISE_LEFT_STILL"):  # so that refined parts hold noise, and come out too big
        monkeypatch.setattr(copying, name, 0.0)
    monkeypatch.setattr(Rounder, "took", lambda self, *pass_: passes.append(pass_) or took(self, *pass_))
    packets, counts = [], []
    for least_bytes in (Trial.least_bytes, lambda self, layers: 0.0):
        monkeypatch.setattr(Trial, "least_bytes", least_bytes)
        stream, before = Stream(codec), len(passes)
        packets.append([stream.send(noisy(street, seed), budget_bytes=500).to_bytes() for seed in range(8)])
        counts.append(len(passes) - before)
    assert packets[0] == packets[1]
    assert counts[0] < counts[1]


def test_fewer_layers_keep_the_copies_whole(codec, street):
    stream, moved = Stream(codec), street.copy()
    stream.send(street)
    reference = stream.received
    moved[48:96, 64:128] = 255 - moved[48:96, 64:128]
    packet = stream.send(moved)
    assert len(packet.chunks) == 4
    for layers in range(1, 5):
        part = codec.unpack(packet.prefix(layers), reference)
        assert (part.values[:, packet.copied] == reference.values[:, packet.copied]).all()


def test_symbols_where_all_is_copied_are_refused(codec, street):
    stream = Stream(codec)
    stream.send(street)
    packet = stream.send(street)
    with pytest.raises(PacketError, match="all of it is copied"):
        codec.unpack(replace(packet, chunks=(b"\0" * 9,)), stream.received)


def test_a_picture_of_many_levels_is_drawn_at_few(codec, street):
    levels = np.linspace(100, 220, 13 * 19).reshape(13, 19).astype(np.int32)
    assert [level for level, _ in drawings(levels)] == [96, 128, 192, 255]
    assert [level for level, _ in drawings(np.where(levels > 150, 180, 120))] == [120, 180]
    assert [level for level, _ in drawings(np.where(levels > 150, 200, 120))] == [120, 255]
    ((level, share),) = drawings(np.where(levels > 150, 200, 240))  # one drawing serves what is fine
    assert (level, share) == (255, None)
    assert [level for level, _ in drawings(np.full((3, 4), 77))] == [77]
    assert set(ANCHORS) >= {0, 255}
    decoded = codec.trial(codec.analyze(street), 140).decoded
    assert decoded.values.shape == (CHANNELS, 13, 19)
    mixed = decoded.levels.astype(np.uint8)
    mixed[:, 0], mixed[:, -1] = 139, 141
    alone = codec.synthesize(decoded).astype(int)
    assert np.abs(codec.synthesize(replace(decoded, copied_levels=mixed)) - alone).mean() < 0.2
