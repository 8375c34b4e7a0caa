"""References over thousands of frames: whatever is lost, restarted or late, no packet refers to what is not there."""

import os
import random
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.codec.codec import load
from edgesem.codec.copying import Copies, Copying
from edgesem.codec.options import PackOptions
from edgesem.files import read_picture
from edgesem.packet import copy_map, motion
from edgesem.packet.side_information import Reference, Region, SideInformation
from runtime.bench.link.oracle_decoder import OracleDecoder
from runtime.capture.frame import PHOTOS
from runtime.protocol.ack import Ack
from runtime.receiver.stream_references import ReferenceBuffer
from runtime.sender.references import References
from tests.support.reference_model import Model


class Receiver:
    """Decodes what comes, holds it, and says so; may be cut off, late, or started anew."""

    def __init__(self, number):
        self.number, self.ring, self.shown, self.refused = number, ReferenceBuffer(12), {}, 0

    def take(self, whole, layers, model):
        part = whole.prefix(min(layers, len(whole.chunks)))
        named, reference = part.side_info.reference, None
        if named is not None:
            reference = self.ring.get(part.epoch, named.frame, named.layers)
            if reference is None:
                self.refused += 1
                return None
        latent = model.unpack(part, reference)
        self.ring.put(part.epoch, part.frame, len(part.chunks), latent)
        self.shown[part.epoch, part.frame, len(part.chunks)] = latent
        return Ack(part.epoch, part.frame, 0, 0, 0, receiver=self.number, held=len(part.chunks))


class AnyCopies(Copying):
    """Copies of what has not changed, or of anything, by chance; motion that is found, or any."""

    def motion(self, latent, reference, gain):
        dice = np.random.default_rng(zlib.crc32(reference.values.tobytes()))
        if dice.random() < 0.7:
            return super().motion(latent, reference, gain)
        field = dice.integers(-3, 4, (1, 1, 2)).astype(np.int16)
        return motion.to_bytes((0, 0), field)

    def against(self, latent, reference, room_bytes):
        dice = np.random.default_rng(zlib.crc32(latent.values.tobytes() + reference.values.tobytes()))
        if dice.random() < 0.5:
            return super().against(latent, reference, room_bytes)
        mask = dice.random(latent.values.shape[1:]) < 0.6
        copies = Copies(mask, copy_map.to_bytes(mask)) if mask.any() else None
        return SimpleNamespace(copies=lambda *_: copies)


class Film:
    """The codec that ships, before a small scene that stands still, in which something moves, and which changes."""

    def __init__(self, side=64):
        self.codec = load()
        self.unpack = self.codec.unpack
        self._copying, self.copies, self.moves = AnyCopies(), 0, 0
        photographs = [read_picture(path) for path in sorted(PHOTOS.glob("*.jpg"))[:2]]
        self._latents = []
        for photograph in photographs:
            for at in range(0, 40, 4):
                picture = photograph[100 : 100 + side, 100 : 100 + side].copy()
                picture[20:40, at : at + 16] = 255 - picture[20:40, at : at + 16]
                self._latents.append(self.codec.analyze(picture))

    def make(self, dice, epoch, frame, layers, name, reference):
        scene = (frame // 300) % 2  # a cut at each 300th frame
        latent = self._latents[10 * scene + (0 if frame % 20 < 5 else frame % 10)]
        region = Region(0, 0, 1, 1, drop=60) if dice.random() < 0.1 else None
        side_info = SideInformation(reference=name, region=region)
        self._copying.look(latent)
        options = PackOptions(
            layers=layers, side_info=side_info, reference=reference, copying=self._copying, epoch=epoch, frame=frame
        )
        made = self.codec.pack_decoded(latent, quality=0.9 * dice.random(), options=options)
        self.copies += made[0].copied is not None
        self.moves += made[0].motion is not None
        return made

    def same(self, latent, other):
        alike = latent.level == other.level and (latent.levels == other.levels).all()
        return alike and latent.values.tobytes() == other.values.tobytes()


@dataclass
class Tally:
    """What became of a run."""

    shown: int = 0
    wrong: int = 0
    refused: int = 0
    keys: int = 0
    restarts: int = 0
    joins: int = 0


def run(frames, seed, *, receivers=2, loss=0.3, model=None):
    """Frames through a sender's book and receivers' rings, where acknowledgements, packets and ends are lost."""
    dice, model, tally = random.Random(seed), model or Model(), Tally()
    numbers = iter(range(1, 10**9))
    there = [Receiver(next(numbers)) for _ in range(receivers)]
    epoch, now_s, on_the_way = 7, 0.0, []
    book = References(model.unpack, epoch=epoch, key_interval_s=20)
    packets, asked = {}, False
    oracle = OracleDecoder(model, packets)
    for frame in range(frames):
        now_s += dice.choice((0.2, 0.2, 0.5, 3.0))
        if dice.random() < 0.01:  # the sender starts anew, and counts on from 0 in another epoch
            epoch = (epoch + 1) % 65536
            book = References(model.unpack, epoch=epoch, key_interval_s=20)
            packets = {}
            oracle = OracleDecoder(model, packets)
        if dice.random() < 0.02:  # a receiver starts anew
            there[dice.randrange(len(there))] = Receiver(next(numbers))
            tally.restarts += 1
        if dice.random() < 0.01 and len(there) < 4:  # one joins late
            there.append(Receiver(next(numbers)))
            tally.joins += 1
        if dice.random() < 0.005 and len(there) > 1:
            there.pop()
        dice.shuffle(on_the_way)
        while on_the_way and dice.random() < 0.7:
            book.acknowledged(on_the_way.pop(), now_s)
        if asked:
            book.ask_for_key(now_s)
        known = book.choose(now_s)
        reference = None if known is None else known.latent()
        tally.keys += known is None
        asked = False
        name = None if known is None else known.name
        whole, latent = model.make(dice, epoch, frame, dice.randint(1, 4), name, reference)
        packets[epoch, frame] = whole
        book.made(whole, latent, reference, now_s)
        for receiver in there:
            if dice.random() < loss:
                continue
            before = receiver.refused
            looks = [dice.randint(1, 4)] + ([4] if dice.random() < 0.2 else [])  # an early look, and another one later
            for layers in looks:
                ack = receiver.take(whole, layers, model)
                if ack is not None and dice.random() >= loss:
                    on_the_way.append(ack)
            asked = asked or (receiver.refused > before and dice.random() >= loss)
            tally.refused += receiver.refused - before
            for key, shown in receiver.shown.items():
                tally.shown += 1
                tally.wrong += not model.same(oracle.latent(*key), shown)
            receiver.shown.clear()
    return tally


@pytest.mark.parametrize("receivers", [1, 3])
def test_ten_thousand_frames_of_losses_restarts_and_late_joins_give_no_wrong_picture(receivers):
    tally = run(5000, seed=receivers, receivers=receivers)
    assert tally.wrong == 0
    assert tally.keys < 5000  # else nothing was tested
    assert min(tally.refused, tally.restarts) > 0


@pytest.mark.parametrize(
    "frames", [60, pytest.param(int(os.environ.get("EDGESEM_REFERENCE_FRAMES", "2000")), marks=pytest.mark.long)]
)
def test_so_it_is_with_the_codec_that_ships(frames, capfd):
    film = Film()
    tally = run(frames, seed=frames, receivers=2, model=film)
    assert tally.wrong == 0
    assert film.copies > frames / 8
    assert film.moves > frames / 40
    assert tally.shown > frames / 2
    assert tally.keys < 0.9 * frames
    if frames > 60:
        with capfd.disabled():
            print(f"{frames} frames: {tally}", flush=True)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 3), st.floats(0, 0.9))
def test_no_pattern_of_losses_gives_a_wrong_picture(seed, receivers, loss):
    assert run(60, seed, receivers=receivers, loss=loss).wrong == 0


def test_another_scene_is_a_cut_and_the_same_one_is_not():
    film = Film(side=96)
    still, moved, other = (film._latents[place] for place in (0, 1, 10))
    key, known = film.codec.pack_decoded(still, quality=0.5)
    referring = PackOptions(side_info=SideInformation(reference=Reference(0, 4)), reference=known)
    packet = film.codec.pack(moved, quality=0.5, options=referring)
    assert not film.codec.is_cut(moved, packet, key)
    packet = film.codec.pack(other, quality=0.5, options=referring)
    cut = film.codec.pack(other, quality=0.5).size_bytes <= packet.size_bytes
    assert film.codec.is_cut(other, packet, key) == film.codec.is_cut(other, packet) == cut
