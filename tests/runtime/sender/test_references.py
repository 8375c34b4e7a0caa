"""The sender's book of references: whatever is lost, restarted or late, no packet refers to what is not there."""

import os
import random
import threading
import zlib
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.codec.codec import load
from edgesem.codec.copying import Copies, Copying
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import ReferenceBuffer
from edgesem.files import read_picture
from edgesem.packet import copy_map, motion
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, Region, SideInformation
from edgesem.quality.metrics import ms_ssim
from runtime.bench.link.oracle_decoder import OracleDecoder
from runtime.capture.frame import PHOTOS, Frame
from runtime.congestion.control import Control
from runtime.congestion.frame_rate import SLOWEST, FrameRate
from runtime.protocol.ack import Ack
from runtime.protocol.topics import Topics
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.references import References
from runtime.sender.spool import Spool

TOPICS = Topics("home", "gate", "main")


class Model:
    """Stands in for a codec: what is decoded is a number that depends on all that went into it, as a latent does."""

    has_reference = True

    def unpack(self, packet, reference=None):
        assert (packet.side_info.reference is None) == (reference is None)
        return hash((packet.chunks, reference))

    def make(self, dice, epoch, frame, layers, name, reference):
        whole = packet(epoch, frame, layers, name)
        return whole, self.unpack(whole, reference)

    def same(self, latent, other):
        return latent == other

    def analyze(self, image):
        return SimpleNamespace(values=np.zeros((96, 4, 4)), width=64, height=64)

    def pack_decoded(self, latent, *, budget_bytes, options):
        return packet(options.epoch, options.frame, 4, options.side_info.reference), latent

    def pack(self, latent, **about):
        return self.pack_decoded(latent, **about)[0]

    def is_cut(self, latent, packet, previous):
        return False


def packet(epoch, frame, layers, reference=None):
    chunks = tuple(f"{epoch} {frame} {layer}".encode() for layer in range(layers))
    return Packet(1, epoch, frame, 0, 64, 64, 9, layers, 0, chunks, side_info=SideInformation(reference=reference))


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


def test_invented_receivers_take_no_memory_without_end_and_end_with_their_silence():
    book = started(silence_s=5)
    for receiver in range(10, 5000):
        held(book, 0, receiver=receiver, now_s=1.0)
    assert len(book._last_ack_s) == len(book._made[0].holders) == 256
    assert book.choose(1.0) is None  # so many may live: a keyframe for all
    held(book, 0, now_s=7.0)
    assert book.choose(7.0).name == Reference(0, 4)


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


def test_without_losses_all_but_the_first_packet_refer():
    book, now_s = References(Model().unpack, epoch=3, key_interval_s=1000), 0.0
    kinds = []
    for frame in range(20):
        known = book.choose(now_s)
        kinds.append(known is not None)
        book.made(packet(3, frame, 4, known and known.name), frame, None, now_s)
        book.acknowledged(Ack(3, frame, 3, 0, 0, receiver=5, held=4), now_s)
        now_s += 1
    assert kinds == [False] + [True] * 19


def held(book, frame, receiver=5, layers=4, epoch=3, now_s=0.0):
    book.acknowledged(Ack(epoch, frame, layers - 1, 0, 0, receiver=receiver, held=layers), now_s)


def started(**options):
    book = References(Model().unpack, epoch=3, **options)
    book.made(packet(3, 0, 4), "latent", None, 0.0)
    held(book, 0)
    return book


def test_what_is_not_acknowledged_as_held_is_never_referred_to():
    book = References(Model().unpack, epoch=3)
    book.made(packet(3, 0, 4), "latent", None, 0.0)
    book.acknowledged(Ack(3, 0, 0, 0, 0, receiver=5), 0.0)  # it came, and was perhaps never decoded
    assert book.choose(0.1) is None
    held(book, 0, epoch=2)  # said of the run before
    assert book.choose(0.1) is None
    held(book, 0)
    assert book.choose(0.1).name == Reference(0, 4)


def test_silence_a_request_and_the_interval_each_bring_a_key_packet():
    assert started(silence_s=5).choose(4.9) is not None
    assert started(silence_s=5).choose(5.1) is None
    assert started(key_interval_s=3).choose(3.0) is None
    book = started()
    assert not book.ask_for_key(0.1)  # it was made just now
    assert book.choose(0.1) is None
    book.made(packet(3, 1, 4), "next", None, 0.2)
    held(book, 1)
    assert book.choose(0.3).name.frame == 1


def test_a_keyframe_that_is_asked_for_is_made_at_once_but_not_at_each_request():
    book = started()
    assert book.ask_for_key(6.0)
    assert not book.ask_for_key(6.1)
    book.made(packet(3, 1, 4), "next", None, 6.2)
    assert not book.ask_for_key(7.0)
    assert book.choose(7.0) is None
    book.made(packet(3, 2, 4), "next", None, 8.0)
    assert book.ask_for_key(13.0)


def test_a_late_joiner_brings_a_key_packet_and_then_all_must_hold_the_same():
    book = started()
    book.acknowledged(Ack(3, 0, 0, 0, 0, receiver=6), 0.1)
    assert book.choose(0.1) is None
    held(book, 0, receiver=6, layers=2)
    assert book.choose(0.2) is None
    held(book, 0, receiver=6, layers=4)
    assert book.choose(0.3) is not None


def test_more_receivers_than_allowed_get_key_packets():
    book = started(most_receivers=2)
    for receiver in (6, 7):
        assert book.choose(0.1) is not None
        held(book, 0, receiver=receiver)
    assert book.choose(0.1) is None


def test_a_reference_from_fewer_layers_is_what_the_receiver_decoded():
    book, whole = References(Model().unpack, epoch=3), packet(3, 0, 4)
    book.made(whole, Model().unpack(whole, None), None, 0.0)
    held(book, 0, layers=2)
    known = book.choose(0.1)
    assert known.name == Reference(0, 2)
    assert known.latent() == Model().unpack(whole.prefix(2), None)


def test_what_packets_refer_to_is_kept_however_many_follow():
    book = started(silence_s=1e9, key_interval_s=1e9)
    for frame in range(1, 50):
        assert book.choose(float(frame)).name.frame == 0
        book.made(packet(3, frame, 4, Reference(0, 4)), "other", "latent", float(frame))


def test_another_epoch_ends_what_was_held():
    ring = ReferenceBuffer(3)
    ring.put(1, 0, 4, "old")
    ring.put(2, 0, 4, "new")
    assert (ring.get(1, 0, 4), ring.get(2, 0, 4), len(ring)) == (None, "new", 1)


def test_a_forged_ack_claims_no_more_layers_than_were_sent():
    book = References(Model().unpack, epoch=3)
    book.made(replace(packet(3, 0, 2)), "latent", None, 0.0)
    held(book, 0, layers=4)
    assert book.choose(0.1) is None


def test_a_scene_that_stands_still_becomes_sharper_at_the_same_bytes():
    codec, previous = load(), None
    picture = np.ascontiguousarray(read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[100:276, 100:276])
    latent = codec.analyze(picture)
    key, known = codec.pack_decoded(latent, quality=0.3)
    seen = [ms_ssim(picture, codec.synthesize(known))]
    for frame in range(1, 5):
        named = SideInformation(reference=Reference(frame - 1, 4))
        previous, known = codec.pack_decoded(
            latent,
            budget_bytes=key.size_bytes,
            options=PackOptions(side_info=named, reference=known, previous=previous or key, frame=frame),
        )
        assert previous.size_bytes <= key.size_bytes
        assert not codec.is_cut(latent, previous, key)
        seen.append(ms_ssim(picture, codec.synthesize(known)))
    assert previous.q > key.q + 20
    assert seen[-1] > seen[0]


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


def test_a_smooth_stream_keeps_its_rate_and_a_sharp_one_takes_its_time():
    smooth, sharp = FrameRate(), FrameRate(sharp=True)
    for _ in range(20):
        smooth.sent(0)
        sharp.sent(0)
    assert (smooth.factor, sharp.factor) == (1.0, SLOWEST)
    for _ in range(20):
        sharp.sent(255)
    assert sharp.factor == 1.0


def test_a_sender_that_averages_frames_says_so_and_leaves_promised_ones_as_they_are():
    codec, seen = load(), []
    picture = read_picture(PHOTOS / "13_parking_1.jpg")[:96, :96]
    noisy = [picture // 2 + np.random.default_rng(seed).integers(0, 9, picture.shape, np.uint8) for seed in range(5)]

    class Watched:
        """The codec, and what it packs."""

        has_reference, analyze, unpack, is_cut = True, codec.analyze, codec.unpack, codec.is_cut

        def pack_decoded(self, latent, **more):
            seen.append(latent)
            return codec.pack_decoded(latent, **more)

        def pack(self, latent, **more):
            return self.pack_decoded(latent, **more)[0]

    def sender(**options):
        return SenderPipeline(
            codec=Watched(), topics=TOPICS, control=Control(interval_s=0.001), publish=lambda *_: None,
            on_event=lambda _: None, options=PipelineOptions(**options),
        )  # fmt: skip

    assert not sender().state().denoised
    one = sender(denoise=True)
    assert one.state().denoised
    frames = [Frame(image, "f", 1) for image in noisy]
    raw = [one.packer.analyze(frame) for frame in frames]
    for latent, frame in zip(raw, frames, strict=True):
        one.packer.pack(latent, 3000, frame)
    assert seen[0] is raw[0]
    assert np.abs(seen[-1].values - raw[-1].values).max() > 0
    one.packer.pack(raw[-1], 3000, frames[-1], smallest=True)
    assert seen[-1] is raw[-1]


class Stand:
    """A sender whose link takes everything; `show` and `promise` a frame and wait until it is packed."""

    def __init__(self, folder):
        self.sent, self.events, self.come = [], [], threading.Condition()
        self.spool = Spool(folder / "s.sqlite", max_bytes=1 << 20)
        self.sender = SenderPipeline(
            codec=Model(), topics=TOPICS, control=Control(interval_s=0.001), publish=self.publish,
            on_event=self.take,
            spool=self.spool,
        )  # fmt: skip

    def publish(self, topic, payload, confirm):
        confirm()

    def take(self, event):
        with self.come:
            self.events.append(event.as_dict())
            self.come.notify_all()

    def pack(self, give):
        """The number of the packet that was made of a frame, and what it refers to."""
        before = len(self.events)
        give(Frame(np.zeros((64, 64, 3), np.uint8), "f", 1))

        def packed():
            return [one for one in self.events[before:] if one["event"] == "packed"]

        with self.come:
            assert self.come.wait_for(packed, 10)
            return packed()[0]["frame"], packed()[0]["refers_to"]

    def hold(self, frame):
        ack = Ack(self.sender.epoch, frame, 3, 0, 0, receiver=5, held=4)
        self.sender.on_message(TOPICS.ack, ack.to_bytes())


def test_what_is_promised_refers_to_nothing_and_nothing_refers_to_it(tmp_path):
    stand = Stand(tmp_path)
    with stand.sender as sender:
        sender.connected(0.01)
        first, _ = stand.pack(sender.offer)
        stand.hold(first)
        assert stand.pack(sender.offer)[1] == first
        promised, refers_to = stand.pack(sender.promise)
        assert refers_to is None
        stand.hold(promised)  # a receiver should not say so; whoever does changes nothing
        assert stand.pack(sender.offer)[1] == first
    stand.spool.close()
