"""The sender pipeline against a link that the test plays: what it publishes when, and how it takes what comes back."""

from dataclasses import replace

import pytest

from edgesem.errors import BudgetError, LinkError, PacketError
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import Command
from tests.support.publishing import wait_for
from tests.support.sender_bench import TOPICS, WAIT_S


def test_a_frame_goes_out_base_first_and_its_delay_is_told(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert [part.first_layer for part in parts] == [0, 1, 2, 3]
    for part in parts:
        bench.acknowledge(part)
        assert bench.expect("acked")["delay_s"] < WAIT_S
    state = bench.sender.state()
    assert (state.frames, state.skipped, state.sent_bytes > 1000, state.age_s < WAIT_S) == (1, 0, True, True)
    assert bench.sender.idle
    assert bench.control.in_flight == 0


def test_all_that_mqtt_adds_fits_into_the_budget(make):
    bench = make(budget_bytes=2000)
    bench.sender.connected()
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert sum(part.size_bytes + len(TOPICS.layer(0)) + 8 for part in parts) <= 2000


def test_a_small_frame_goes_in_one_message_and_has_what_the_others_would_cost(make):
    bench = make(budget_bytes=700)
    bench.control.rate_bps = 10e3  # it takes the link half a second, so this is not for speed
    bench.sender.connected()
    bench.offer()
    whole, confirm = bench.next()
    assert len(whole.chunks) == 4
    assert 690 <= whole.size_bytes + len(TOPICS.layer(0)) + 8 <= 700
    confirm()
    bench.command("apart")
    bench.offer()
    apart = [bench.next()[0] for _ in range(4)]
    assert [len(part.chunks) for part in apart] == [1, 1, 1, 1]
    assert sum(part.size_bytes + len(TOPICS.layer(0)) + 8 for part in apart) <= 700


@pytest.mark.parametrize("rate_bps", [10e3, None])
def test_no_frame_gets_less_of_a_larger_budget(make, rate_bps):
    bench = make()
    bench.control.rate_bps = rate_bps
    bench.sender.connected()
    publisher = bench.sender.publisher
    left_bytes = [budget - publisher.around_frame_bytes(budget) for budget in range(1, 3000)]
    assert left_bytes == sorted(left_bytes)
    assert left_bytes[2000] == 2001 - publisher.format.around_frame_bytes


def test_a_budget_that_four_messages_would_use_up_goes_to_the_picture_before_the_rate_is_known(make):
    bench = make(budget_bytes=256, limit_bytes=lambda: 256)
    assert 256 - bench.sender.publisher.around_frame_bytes(256) > 190


def test_that_no_picture_fits_is_told(make, caplog):
    bench = make(budget_bytes=256, limit_bytes=lambda: 256)
    bench.sender.connected()
    for _ in range(2):
        bench.offer()
        bench.expect("skipped")
    assert "no picture fits into 256 bytes, it needs 4" in caplog.text


def test_layers_go_in_messages_of_their_own_where_those_cost_little_beside_the_frame(make):
    bench = make(budget_bytes=3000)
    bench.control.rate_bps = 10e3
    bench.sender.connected()
    bench.offer()
    assert len(bench.next()[0].chunks) == 1


def test_nothing_is_taken_or_published_without_a_connection(make):
    bench = make()
    bench.offer("stale")
    bench.expect("skipped")
    bench.offer("fresh")
    bench.sender.connected()
    assert bench.expect("packed")["name"] == "fresh"


def test_what_the_broker_confirms_frees_the_window_and_counts_once(make):
    bench = make(window_bytes=800)
    bench.sender.connected()
    bench.offer()
    part, confirm = bench.next()
    _, confirm_1 = bench.next()
    assert bench.published.empty()
    confirm()
    bench.acknowledge(part)
    bench.next()
    assert bench.control.acks == 1
    confirm_1()


def test_layers_share_a_message_where_the_link_takes_them_in_a_moment_and_nobody_minds(make):
    bench = make()
    bench.sender.connected()
    bench.control.rate_bps = 10e6
    bench.offer()
    part, confirm = bench.next()
    assert (part.first_layer, len(part.chunks)) == (0, 4)
    confirm()
    bench.command("apart")  # a receiver of base layers, on a slower link
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert [(part.first_layer, len(part.chunks)) for part in parts] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert {part.frame for part in parts} == {1}


def test_layers_that_wait_go_together_when_the_link_has_become_fast(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer()
    _, confirm = bench.next()
    bench.control.rate_bps = 10e6
    confirm()
    part, _ = bench.next()
    assert (part.first_layer, len(part.chunks)) == (1, 3)
    assert bench.published.empty()


def test_a_newer_frame_takes_the_place_of_the_layers_that_wait(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer("old")
    base, confirm = bench.next()
    bench.offer("new")
    assert bench.expect("dropped")["layers"] == 3
    confirm()
    newer, confirm = bench.next()
    assert (base.frame, newer.frame, newer.first_layer) == (0, 1, 0)
    assert bench.sender.state().dropped_layers == 3
    confirm()


def test_frames_are_skipped_and_not_made_worse_than_asked_for(make):
    bench = make(min_quality=20 / 255, budget_bytes=1500)
    bench.sender.connected()
    bench.offer("bad")
    bench.expect("skipped")
    while bench.sender.state().frames == 0:  # the floor rises until a frame is good enough
        bench.offer("next")
        bench.events.get(timeout=WAIT_S)
    assert bench.next()[0].q >= 20


def test_the_least_that_a_frame_needs_falls_when_the_scene_becomes_simpler(make):
    bench = make(budget_bytes=500)
    bench.control.min_bytes, needed = 400, 9000
    packed = bench.codec.pack

    def pack(latent, *, budget_bytes, options):
        if budget_bytes < needed:
            raise BudgetError("a fuller scene", smallest_bytes=needed)
        return packed(latent, budget_bytes=budget_bytes, options=options)

    bench.codec.pack = pack
    bench.sender.packer._least_bytes = 400
    bench.sender.connected()
    bench.offer()
    bench.expect("skipped")
    assert bench.control.min_bytes > 9000
    needed = 0
    before = bench.control.min_bytes
    for _ in range(5):
        bench.offer()
        bench.expect("packed")
    assert bench.control.min_bytes < 0.85 * before


def test_a_lost_link_is_tried_again_and_a_message_too_large_is_left_out(make):
    bench = make(fail=[LinkError("gone"), PacketError("too large")])
    bench.sender.connected()
    bench.offer()
    assert bench.next()[0].first_layer == 1
    assert bench.control.losses == 2


def test_a_reconnect_forgets_what_was_in_flight(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer("before")
    _, confirm = bench.next()
    bench.sender.disconnected()
    bench.sender.connected()
    confirm()  # of the old connection: means nothing now
    bench.offer("after")
    assert bench.next()[0].frame == 1
    assert bench.control.acks == 0
    assert bench.sender.state().reconnects == 1


def test_a_broker_that_confirms_nothing_is_stuck(make):
    bench = make(ack_timeout_s=0.05)
    bench.sender.connected()
    bench.offer()
    assert "nothing was confirmed" in bench.stuck.get(timeout=WAIT_S)


def test_bad_messages_are_ignored(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    part, _ = bench.next()
    bench.sender.on_message(TOPICS.ack, b"\xff\xff")
    bench.sender.on_message(TOPICS.cmd, b"\xff\xff")
    bench.sender.on_message("else", b"")
    bench.acknowledge(replace(part, epoch=(part.epoch + 1) % 65536))
    bench.acknowledge(replace(part, frame=99))
    assert bench.sender.state().age_s is None
    assert bench.control.acks == 0


def test_a_sealed_sender_listens_to_who_has_the_key_alone(make):
    seal = Seal(bytes(32), stream=TOPICS.base, salt=bytes(16))
    bench = make(seal=seal)
    bench.sender.connected()
    bench.offer()
    _, payload, _ = bench.published.get(timeout=WAIT_S)
    part = Packet.from_bytes(seal.open(payload))
    bench.acknowledge(part)
    assert bench.sender.state().age_s is None
    ack = Ack(part.epoch, part.frame, 0, clock_ms(), 0)
    bench.sender.on_message(TOPICS.ack, seal.sign(ack.to_bytes(), TOPICS.ack))
    assert bench.sender.state().age_s is not None


def test_commands_are_obeyed_once(make):
    bench = make()
    bench.sender.connected()
    pause = Command("pause").to_bytes()
    bench.sender.on_message(TOPICS.cmd, pause)
    assert bench.sender.state().paused
    bench.command("resume")
    bench.sender.on_message(TOPICS.cmd, pause)
    assert not bench.sender.state().paused
    bench.command("roi", roi=(0.5, 0.5, 0.5, 0.25))
    bench.offer(size=320)
    bench.next()
    assert bench.codec.shapes[-1] == (80, 160, 3)


def test_what_the_broker_refuses_is_told_and_is_no_delivery(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    _, confirm = bench.next()
    confirm("Not authorized")
    told = bench.expect("denied")
    assert (told["topic"], told["reason"]) == (TOPICS.layer(0), "Not authorized")
    assert (bench.control.acks, bench.control.losses) == (0, 1)
    assert bench.sender.state().refused == 1


def test_frames_fit_into_what_the_broker_takes(make):
    bench = make(budget_bytes=20_000, promises=True, limit_bytes=lambda: 2000)
    bench.sender.connected()
    bench.offer()
    part, _ = bench.next()
    assert bench.codec.budgets[-1] <= 2000
    bench.promise()
    while not part.promised:
        part, _ = bench.next()
    assert part.size_bytes <= 2000


def test_after_the_last_frame_number_a_new_epoch_begins(make):
    bench = make()
    bench.sender.connected()
    bench.sender.packer.frame = 2**32 - 1
    epoch = bench.sender.epoch
    bench.offer()
    last = [bench.next()[0] for _ in range(4)]
    bench.offer()
    first = [bench.next()[0] for _ in range(4)]
    assert {(part.epoch, part.frame) for part in last} == {(epoch, 2**32 - 1)}
    assert {(part.epoch, part.frame) for part in first} == {((epoch + 1) % 2**16, 0)}
    for part in first:
        bench.acknowledge(part)
    assert bench.sender.state().age_s is not None


def test_a_flood_of_good_commands_is_neither_obeyed_nor_logged_whole(make, caplog):
    caplog.set_level("INFO")
    now = [0.0]
    bench = make(start=False, clock=lambda: now[0])
    for _ in range(1000):
        bench.command("key")
    obeyed = [bench.events.get()["event"] for _ in range(bench.events.qsize())]
    assert obeyed == ["asked"] * 60
    assert len(caplog.records) < 5
    now[0] = 11.0
    bench.command("key")
    assert bench.expect("asked")["kind"] == "key"


class BrokenSeal(Seal):
    """A seal with a defect that shows once."""

    broken = True

    def seal(self, packet):
        if self.broken:
            self.broken = False
            raise RuntimeError("a defect")
        return super().seal(packet)


@pytest.mark.parametrize("promised", [False, True])
@pytest.mark.parametrize("broken", ["link", "seal"])
def test_a_defect_of_link_or_seal_does_not_lock_the_publisher(make, broken, promised):
    seal = BrokenSeal(bytes(32), stream=TOPICS.base, salt=bytes(16)) if broken == "seal" else None
    bench = make(start=False, promises=True, seal=seal, fail=[] if seal else [RuntimeError("a defect")])
    bench.sender.connected()
    if promised:
        bench.promise()
        assert bench.sender.encode_step()
    else:
        bench.offer()
    with pytest.raises(RuntimeError, match="a defect"):
        bench.sender.publish_step() if promised else bench.sender.encode_step()
    assert bench.control.in_flight == 0
    wait_for(lambda: bench.sender.publish_step() or not bench.published.empty())
    payload = bench.published.get()[1]
    assert Packet.from_bytes(seal.open(payload) if seal else payload).promised is promised


def test_a_receiver_without_our_bundle_is_told_of(make, caplog):
    bench = make(start=False)
    bench.sender.connected()
    for _ in range(3):
        bench.command("bundle", bundles=(0x4E88, 7))
        assert bench.expect("other_bundle")["bundles"] == ("4e88", "0007")
    assert bench.sender.counters.other_bundle == 3
    assert caplog.text.count("a receiver cannot draw what is sent here") == 1


def test_with_minutes_between_frames_no_layer_takes_longer_than_the_keep_alive(make):
    bench = make(interval_s=600, budget_bytes=30_000)
    bench.control.rate_bps = 1000
    bench.sender.connected()
    bench.offer()
    for _ in range(4):
        part, confirm = bench.next()
        assert 5 < 8 * part.size_bytes / 1000 < 15
        confirm()
