"""The sender's book of references: whatever is lost, restarted or late, no packet refers to what is not there."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.notes import Notes, Reference
from edgesem.packet import Packet
from edgesem.reference import Ring
from runtime.ack import Ack
from runtime.reference import References


class Model:
    """Stands in for a codec: what is decoded is a number that depends on all that went into it, as a latent does."""

    def decode(self, packet, reference):
        assert (packet.notes.reference is None) == (reference is None)
        return hash((packet.chunks, reference))


def packet(epoch, frame, layers, reference=None):
    chunks = tuple(f"{epoch} {frame} {layer}".encode() for layer in range(layers))
    return Packet(1, epoch, frame, 0, 64, 64, 9, layers, 0, chunks, notes=Notes(reference=reference))


class Receiver:
    """Decodes what comes, holds it, and says so; may be cut off, late, or started anew."""

    def __init__(self, number):
        self.number, self.ring, self.shown, self.refused = number, Ring(12), {}, 0

    def take(self, whole, layers, model):
        part = whole.prefix(min(layers, len(whole.chunks)))
        named, reference = part.notes.reference, None
        if named is not None:
            reference = self.ring.get(part.epoch, named.frame, named.layers)
            if reference is None:
                self.refused += 1
                return None
        latent = model.decode(part, reference)
        self.ring.put(part.epoch, part.frame, len(part.chunks), latent)
        self.shown[part.epoch, part.frame, len(part.chunks)] = latent
        return Ack(part.epoch, part.frame, 0, 0, 0, receiver=self.number, held=len(part.chunks))


def run(frames, seed, *, receivers=2, loss=0.3):
    """How many wrong pictures, refused and key packets there were in so many frames."""
    dice, model = random.Random(seed), Model()
    numbers = iter(range(1, 10**9))
    there = [Receiver(next(numbers)) for _ in range(receivers)]
    epoch, now_s, on_the_way = 7, 0.0, []
    book = References(model.decode, epoch=epoch, key_interval_s=20)
    truth, wrong, refused, keys, asked = {}, 0, 0, 0, False
    for frame in range(frames):
        now_s += dice.choice((0.2, 0.2, 0.5, 3.0))
        if dice.random() < 0.01:  # the sender starts anew, and counts on from 0 in another epoch
            epoch = (epoch + 1) % 65536
            book = References(model.decode, epoch=epoch, key_interval_s=20)
        if dice.random() < 0.02:  # a receiver starts anew
            there[dice.randrange(len(there))] = Receiver(next(numbers))
        if dice.random() < 0.01 and len(there) < 4:  # one joins late
            there.append(Receiver(next(numbers)))
        if dice.random() < 0.005 and len(there) > 1:
            there.pop()
        dice.shuffle(on_the_way)
        while on_the_way and dice.random() < 0.7:
            book.heard(on_the_way.pop(), now_s)
        if asked:
            book.ask_for_key()
        known = book.choose(now_s)
        reference = None if known is None else known.latent()
        keys += known is None
        asked = False
        whole = packet(epoch, frame, dice.randint(1, 4), None if known is None else known.name)
        latent = model.decode(whole, reference)
        book.made(whole, latent, reference, now_s)
        for layers in range(1, len(whole.chunks) + 1):
            truth[epoch, frame, layers] = model.decode(whole.prefix(layers), reference)
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
            refused += receiver.refused - before
            wrong += sum(truth[key] != shown for key, shown in receiver.shown.items())
            receiver.shown.clear()
    return wrong, refused, keys


@pytest.mark.parametrize("receivers", [1, 3])
def test_ten_thousand_frames_of_losses_restarts_and_late_joins_give_no_wrong_picture(receivers):
    wrong, _, keys = run(5000, seed=receivers, receivers=receivers)
    assert wrong == 0
    assert keys < 5000  # else nothing was tested


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 3), st.floats(0, 0.9))
def test_no_pattern_of_losses_gives_a_wrong_picture(seed, receivers, loss):
    assert run(60, seed, receivers=receivers, loss=loss)[0] == 0


def test_without_losses_all_but_the_first_packet_refer():
    book, now_s = References(Model().decode, epoch=3, key_interval_s=1000), 0.0
    kinds = []
    for frame in range(20):
        known = book.choose(now_s)
        kinds.append(known is not None)
        book.made(packet(3, frame, 4, known and known.name), frame, None, now_s)
        book.heard(Ack(3, frame, 3, 0, 0, receiver=5, held=4), now_s)
        now_s += 1
    assert kinds == [False] + [True] * 19


def held(book, frame, receiver=5, layers=4, epoch=3, now_s=0.0):
    book.heard(Ack(epoch, frame, layers - 1, 0, 0, receiver=receiver, held=layers), now_s)


def started(**options):
    book = References(Model().decode, epoch=3, **options)
    book.made(packet(3, 0, 4), "latent", None, 0.0)
    held(book, 0)
    return book


def test_what_is_not_acknowledged_as_held_is_never_referred_to():
    book = References(Model().decode, epoch=3)
    book.made(packet(3, 0, 4), "latent", None, 0.0)
    book.heard(Ack(3, 0, 0, 0, 0, receiver=5), 0.0)  # it came, and was perhaps never decoded
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
    book.ask_for_key()
    assert book.choose(0.1) is None
    book.made(packet(3, 1, 4), "next", None, 0.2)
    held(book, 1)
    assert book.choose(0.3).name.frame == 1


def test_a_late_joiner_brings_a_key_packet_and_then_all_must_hold_the_same():
    book = started()
    book.heard(Ack(3, 0, 0, 0, 0, receiver=6), 0.1)
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
    book, whole = References(Model().decode, epoch=3), packet(3, 0, 4)
    book.made(whole, Model().decode(whole, None), None, 0.0)
    held(book, 0, layers=2)
    known = book.choose(0.1)
    assert known.name == Reference(0, 2)
    assert known.latent() == Model().decode(whole.prefix(2), None)


def test_what_packets_refer_to_is_kept_however_many_follow():
    book = started(silence_s=1e9, key_interval_s=1e9)
    for frame in range(1, 50):
        assert book.choose(float(frame)).name.frame == 0
        book.made(packet(3, frame, 4, Reference(0, 4)), "other", "latent", float(frame))


def test_another_epoch_ends_what_was_held():
    ring = Ring(3)
    ring.put(1, 0, 4, "old")
    ring.put(2, 0, 4, "new")
    assert (ring.get(1, 0, 4), ring.get(2, 0, 4), len(ring)) == (None, "new", 1)


def test_a_forged_ack_claims_no_more_layers_than_were_sent():
    book = References(Model().decode, epoch=3)
    book.made(replace(packet(3, 0, 2)), "latent", None, 0.0)
    held(book, 0, layers=4)
    assert book.choose(0.1) is None
