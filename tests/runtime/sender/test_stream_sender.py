"""A stream's sender, whole: what is offered is seen at the other end, what is promised is kept there."""

import queue
import subprocess
import threading

import numpy as np
import pytest

import runtime
from edgesem.errors import EdgesemError, FrameError, UsageError
from edgesem.files import read_picture
from runtime import Address, ReceiverOptions, SenderOptions, StreamReceiver, StreamSender
from runtime.sender.events import FramePromised, PromiseKept, PromiseRefused, StateReported
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec
from tests.support.real_broker import draw_pictures

STREAM = "home/mine/main"
NOBODY = Address("127.0.0.1", 1)
PICTURE = np.zeros((64, 80, 3), np.uint8)


def test_what_is_offered_is_shown_and_what_is_promised_is_kept(tmp_path, address):
    pictures = [read_picture(path) for path in sorted(draw_pictures(tmp_path / "pictures").iterdir())]
    here, key, events = tmp_path / "here", bytes(range(32)), []
    with (
        StreamReceiver(
            address, "home/+/+", ReceiverOptions(decoders=1), folder=tmp_path / "there", key=key
        ) as receiver,
        StreamSender(
            address, STREAM, SenderOptions(fps=20), codec=codec(), folder=here, key=key, on_event=events.append
        ) as sender,
    ):
        promised = sender.promise(pictures[0])
        shown = iter(receiver)
        while not next(shown).packet.promised:
            sender.offer(pictures[1])
        assert promised.wait(WAIT_S)
        assert (promised.stored, promised.done, promised.refused) == (True, True, "")
        buffer = pictures[2].copy()
        sender.offer(buffer)
        buffer[:] = 0  # the camera's next picture
        received = next(shown)
        while np.abs(received.image.mean() - pictures[2].mean()) > 10:  # pictures of before may be on their way
            received = next(shown)
        stream = receiver.streams.find(STREAM)
        assert received.image.shape == pictures[2].shape
        assert (stream.birth.sealed, stream.state.up) == (True, True)
        assert sender.pipeline.state().promised_waiting == 0
    assert len(list((tmp_path / "there").rglob("promised/*.es"))) == 1
    (put,) = [event for event in events if isinstance(event, FramePromised)]
    (kept,) = [event for event in events if isinstance(event, PromiseKept)]
    assert (put.epoch, put.frame) == (kept.epoch, kept.frame)
    assert any(isinstance(event, StateReported) and event.state.up for event in events)


def test_a_handle_is_not_done_while_nobody_keeps_the_frame_and_ends_with_its_sender(tmp_path):
    with StreamSender(NOBODY, STREAM, codec=codec(), folder=tmp_path) as sender:
        handle = sender.promise(PICTURE)
        assert not handle.wait(0.01)
        waiter = threading.Thread(target=handle.wait)
        waiter.start()
    waiter.join(WAIT_S)
    assert not waiter.is_alive()
    assert (handle.done, handle.refused) == (False, "")


def test_a_handle_says_that_the_disk_is_full(tmp_path):
    options = SenderOptions(spool_bytes=65536)
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    ends = queue.Queue()

    def on_event(event):
        if isinstance(event, (FramePromised, PromiseRefused)):
            ends.put(event)

    with StreamSender(NOBODY, STREAM, options, codec=codec(), folder=tmp_path, on_event=on_event) as sender:
        handle = sender.promise(noise, max_bytes=20_000)
        while isinstance(ends.get(timeout=WAIT_S), FramePromised):
            assert handle.stored
            handle = sender.promise(noise, max_bytes=20_000)
        assert not handle.wait(WAIT_S)
        assert not handle.stored
        assert "no room" in handle.refused


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("picture.png", "got str"),
        (PICTURE.astype(np.float32), "got float32"),
        (PICTURE[..., 0], r"got uint8 \[64, 80\]"),
        (np.zeros((64, 80, 4), np.uint8), r"\[64, 80, 4\]"),
        (np.zeros((63, 80, 3), np.uint8), "80x63: resize it"),
        (np.zeros((64, 4097, 3), np.uint8), "4097x64"),
    ],
)
def test_a_picture_that_cannot_be_sent_is_refused_where_it_is_offered(tmp_path, picture, said):
    with StreamSender(NOBODY, STREAM, codec=codec(), folder=tmp_path) as sender:
        with pytest.raises(FrameError, match=said):
            sender.offer(picture)
        with pytest.raises(FrameError, match=said):
            sender.promise(picture)


def test_a_sender_that_does_not_run_takes_nothing(tmp_path):
    sender = StreamSender(NOBODY, STREAM, codec=codec(), folder=tmp_path)
    with pytest.raises(EdgesemError, match="with statement"):
        sender.offer(PICTURE)
    with sender:
        assert sender.alive
        sender.offer(PICTURE)
    assert not sender.alive
    with pytest.raises(EdgesemError, match="closed"):
        sender.offer(PICTURE)
    with pytest.raises(EdgesemError, match="closed"):
        sender.promise(PICTURE)
    with pytest.raises(UsageError, match="once"):
        sender.__enter__()


class BrokenTrigger:
    """A semantic trigger with a defect."""

    queries = ()

    def look(self, latent, now_s):
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_a_defect_has_ended_says_so(tmp_path):
    with StreamSender(NOBODY, STREAM, codec=codec(), folder=tmp_path, trigger=BrokenTrigger()) as sender:
        handle = sender.promise(PICTURE)
        assert not handle.wait(WAIT_S)
        assert "defect" in handle.refused
        for thread in sender.pipeline._threads[:1]:
            thread.join(WAIT_S)
        with pytest.raises(EdgesemError, match="defect"):
            sender.offer(PICTURE)


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(UsageError, match="folder"):
        StreamSender(NOBODY, STREAM, codec=codec(), key=bytes(32))
    with pytest.raises(UsageError, match="folder"):
        StreamSender(NOBODY, STREAM, SenderOptions(promise_every=2), codec=codec())
    with pytest.raises(UsageError, match="folder"):
        StreamSender(NOBODY, STREAM, codec=codec()).promise(PICTURE)
    with pytest.raises(UsageError, match="SITE/DEVICE/STREAM"):
        StreamSender(NOBODY, "home/mine", codec=codec())
    with (
        StreamSender(NOBODY, STREAM, codec=codec(), folder=tmp_path) as sender,
        pytest.raises(UsageError, match="max_bytes is 9"),
    ):
        sender.promise(PICTURE, max_bytes=9)


@pytest.mark.parametrize(
    "wrong", [{"fps": 0}, {"fps": 61}, {"max_bytes": 10}, {"min_quality": 1.5}, {"promise_every": -1}]
)
def test_an_option_out_of_its_range_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SenderOptions(**wrong)


def test_every_public_name_of_the_runtime_is_there():
    assert runtime.__all__ == sorted(runtime.__all__)
    assert all(getattr(runtime, name) is not None for name in runtime.__all__)
    assert set(runtime.__all__) <= set(dir(runtime))
    with pytest.raises(AttributeError, match="nothing_of_this"):
        _ = runtime.nothing_of_this


def test_on_a_read_only_disk_pictures_still_go_and_promises_are_refused_by_name(tmp_path, address):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs root, to make a read-only disk")
    try:
        with (
            StreamReceiver(address, "home/+/+", ReceiverOptions(decoders=1), key=bytes(32)) as receiver,
            StreamSender(
                address, STREAM, SenderOptions(fps=20), codec=codec(), folder=folder / "x", key=bytes(32)
            ) as sender,
        ):
            handle = sender.promise(PICTURE)
            assert not handle.wait(WAIT_S)
            assert "no room" in handle.refused
            while receiver.next_picture(0.1) is None:
                sender.offer(PICTURE)
            assert sender.pipeline.state().promised_refused == 1
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_thread_that_has_died_ends_the_sender(tmp_path, address):
    with StreamSender(address, STREAM, codec=codec(), folder=tmp_path / "here") as sender:
        assert sender.alive
        sender._announcer._stop.set()
        sender._announcer._thread.join()
        assert not sender.alive
        with pytest.raises(EdgesemError):
            sender.offer(PICTURE)
