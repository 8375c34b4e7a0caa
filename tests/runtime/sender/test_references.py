"""The references of a sender: what an inter frame may refer to, and what brings a keyframe."""

from dataclasses import replace

import numpy as np

from edgesem.codec.codec import load
from edgesem.codec.options import PackOptions
from edgesem.files import read_picture
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import ms_ssim
from runtime.capture.frame import PHOTOS, Frame
from runtime.congestion.control import Control
from runtime.congestion.frame_rate import SLOWEST, FrameRate
from runtime.protocol.ack import Ack
from runtime.receiver.stream_references import ReferenceBuffer
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.references import References
from runtime.sender.spool import Spool
from tests.support.reference_model import Model, packet
from tests.support.sender_bench import TOPICS, SimulatedSender


def test_invented_receivers_take_no_memory_without_end_and_end_with_their_silence():
    book = started(silence_s=5)
    for receiver in range(10, 5000):
        held(book, 0, receiver=receiver, now_s=1.0)
    assert len(book._last_ack_s) == len(book._made[0].holders) == 256
    assert book.choose(1.0) is None  # so many may live: a keyframe for all
    held(book, 0, now_s=7.0)
    assert book.choose(7.0).name == Reference(0, 4)


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


def test_what_packets_have_gone_past_is_forgotten_as_receivers_do():
    book = started()
    book.made(packet(3, 1, 4, Reference(0, 4)), "latent", "latent", 0.1)
    held(book, 1)
    assert book.choose(0.2).name == Reference(1, 4)
    held(book, 0, receiver=6)  # it is late; the other has dropped that frame
    assert book.choose(0.3) is None


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


def test_a_keyframe_that_was_asked_for_and_not_made_may_be_asked_for_again():
    book = started()
    assert not book.ask_for_key(1.0)
    assert book.ask_for_key(6.0)
    assert not book.ask_for_key(10.0)
    assert book.ask_for_key(11.0)


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


def test_what_is_promised_refers_to_nothing_and_nothing_refers_to_it(tmp_path):
    spool = Spool(tmp_path / "s.sqlite", max_bytes=1 << 20)
    stand = SimulatedSender(codec=Model(), spool=spool)

    def packed(give):
        """The number of the packet that is made of a frame, and what it refers to."""
        begin = len(stand.told)
        stand.now_s += 1
        give(stand.frame())
        stand.step()
        return next((one.frame, one.refers_to) for one in stand.told[begin:] if one.event == "packed")

    def hold(frame):
        stand.pipeline.on_message(TOPICS.ack, Ack(stand.pipeline.epoch, frame, 3, 0, 0, receiver=5, held=4).to_bytes())

    first, _ = packed(stand.pipeline.offer)
    hold(first)
    assert packed(stand.pipeline.offer)[1] == first
    promised, refers_to = packed(stand.pipeline.promise)
    assert refers_to is None
    hold(promised)  # a receiver should not say so; whoever does changes nothing
    assert packed(stand.pipeline.offer)[1] == first
    spool.close()
