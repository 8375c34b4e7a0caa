"""The receiving daemon as its users run it: the real command, a real broker, real packets."""

import json
import os
import random
import subprocess
import time
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from PIL import Image

import edgesem
from edgesem.bundle.bundle import Bundle
from edgesem.cli.main import main
from edgesem.config import load_config
from edgesem.files import read_packet
from edgesem.packet.seal import Seal
from edgesem.provenance import read_provenance
from runtime.daemon.receive_settings import DrawSettings, OutSettings, ReceiveSettings
from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.receiver.archive import Archive
from runtime.receiver.options import ReceiverOptions
from runtime.receiver.stream_receiver import StreamReceiver
from tests.support.bundles import another_bundle
from tests.support.delay_line import DelayLine
from tests.support.publishing import DEADLINE_S, birth, codec, frame, identity, wait_for
from tests.support.receive_daemon import Camera, ReceiveDaemon

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


def test_pictures_promised_frames_and_the_end(broker, tmp_path):
    with (
        Camera(broker, "one") as camera,
        ReceiveDaemon(broker, "test/one/+", "--out", str(tmp_path), "--as", "png") as daemon,
    ):
        number = camera.send_until_heard()
        first = daemon.next("picture")
        with Image.open(first["file"]) as image:
            assert image.size == (first["width"], first["height"]) == (160, 112)
        promised = frame(number, promised=True)
        for _ in range(3):
            camera.send(promised)
        kept = []
        while len(kept) < 3:
            ack = Ack.from_bytes(camera.acks.get(timeout=DEADLINE_S))
            kept += [ack] * ack.kept
        assert {ack.frame for ack in kept} == {number}
        while not (shown := daemon.next("picture"))["promised"]:
            pass
        assert shown["frame"] == number
        (path,) = tmp_path.rglob("*.es")
        assert read_packet(path) == promised
        done = daemon.end()
    (stream,) = done["streams"]
    assert (stream["kept"], stream["repeated"]) == (1, 2)
    assert sum(daemon.of("picture", lambda told: told["promised"])) == 1
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize(
    "options", [(), ("--http", "0", "--out", "OUT"), ("--home-assistant", "--only", "a car", "--archive", "OUT")]
)
def test_a_start_at_which_nothing_is_wrong_warns_of_nothing(broker, tmp_path, options):
    given = [str(tmp_path) if option == "OUT" else option for option in options]
    for _ in range(2):  # the second time what the first has left is there
        with ReceiveDaemon(broker, "test/quiet/+", *given) as daemon:
            wait_for(lambda daemon=daemon: any(" connected to " in line for line in daemon.log))
            daemon.end()
        assert [line for line in daemon.log if not line.startswith("INFO ")] == []


@pytest.mark.parametrize(
    ("first", "second", "option"),
    [
        (("--out", "A"), ("--out", "A"), "--out"),
        (("--archive", "A"), ("--out", "B", "--archive", "link-to-A"), "--archive"),
        (("--out", "A", "--archive", "B"), ("--out", "B"), "--out"),
        (("--shard", "0/2", "--state-dir", "A"), ("--shard", "1/2", "--state-dir", "A"), "--state-dir"),
    ],
)
def test_two_receivers_do_not_write_one_folder(broker, tmp_path, capsys, first, second, option):
    (tmp_path / "link-to-A").symlink_to(tmp_path / "A")

    def words(given):
        return [str(tmp_path / word) if word[0] in "ABl" else word for word in given]

    with ReceiveDaemon(broker, "test/lock/+", *words(first)) as daemon:
        assert (
            main(["receive", "test/lock/+", *words(second), "--seconds", "1", "--port", str(broker.address.port)]) == 3
        )
        said = " ".join(capsys.readouterr().err.split())
        assert "another edgesem receive" in said
        assert f"name another folder by {option}" in said
        daemon.process.kill()  # with all decoders: what holds the lock is gone with the process
        daemon.process.wait()
        with ReceiveDaemon(broker, "test/lock/+", *words(first)) as again:
            again.end()


def test_one_folder_may_be_mounted_twice(broker, tmp_path):
    for name in ("out", "archive"):
        (tmp_path / name).mkdir()
    paths = [str(tmp_path / name) for name in ("out", "archive")]
    made = subprocess.run(["mount", "--bind", *paths], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"a mount needs root: {made.stderr.decode().strip()}")
    try:
        with ReceiveDaemon(broker, "test/lock/+", "--out", paths[0], "--archive", paths[1]) as daemon:
            daemon.end()
    finally:
        subprocess.run(["umount", "--lazy", paths[1]], check=True)


def test_packets_that_come_while_it_still_connects_are_acknowledged_without_a_warning(broker):
    with (
        Camera(broker, "early") as camera,
        DelayLine(("127.0.0.1", broker.address.port), 0.1) as line,  # so that connecting takes a second
    ):
        near = SimpleNamespace(address=replace(broker.address, port=line.port))
        with ReceiveDaemon(near, "test/early/+") as daemon:
            number = 0
            while not any(" connected to " in text for text in daemon.log):
                assert number < 20 * DEADLINE_S
                camera.send(frame(number))
                number += 1
                time.sleep(0.05)  # the camera's pace
            assert daemon.next("picture")["frame"] < number
            camera.acks.get(timeout=DEADLINE_S)
            daemon.end()
    assert [text for text in daemon.log if not text.startswith("INFO ")] == []


def test_by_default_packets_are_kept_and_drawn_when_somebody_wants_them(broker, tmp_path, capsys):
    kept, out = str(tmp_path / "kept"), str(tmp_path / "drawn")
    with Camera(broker, "kept") as camera, ReceiveDaemon(broker, "test/kept/+", "--out", kept) as daemon:
        number = camera.send_until_heard()
        assert daemon.next("picture")["file"] is None
        camera.send(frame(number, promised=True))
        while not (shown := daemon.next("picture"))["promised"]:
            pass
        assert Path(shown["file"]).exists()
        daemon.end()
    assert [path.parent.name for path in Path(kept).rglob("*.png")] == ["promised"]
    assert main(["archive", "export", "--archive", kept, "--out", out, "--json"]) == 0
    frames = [int(Path(file).stem[-10:]) for file in json.loads(capsys.readouterr().out)["files"]]
    assert frames[-1] == number
    assert len(frames) >= 2
    assert len(list(Path(out).rglob("*.png"))) == len(frames)


def test_retention_is_kept_while_it_runs(broker, tmp_path):
    home = tmp_path / "test" / "old" / "main"
    home.mkdir(parents=True)
    for age_s in (90_000, 10):
        path = home / f"20260101T000000.000Z-00001-{age_s:010d}.png"
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - age_s,) * 2)
    with Archive(tmp_path) as archive:
        for number in range(3):
            archive.add("test/old/main", frame(number), time.time() - 50_000 * number)
    with ReceiveDaemon(broker, "test/old/+", "--out", str(tmp_path), "--max-age", "1d") as daemon:
        wait_for(lambda: len(list(home.glob("*.png"))) == 1)
        with Archive(tmp_path, create=False) as archive:
            wait_for(lambda: len(archive.entries()) == 2)
        assert daemon.end()["deleted"] == 1


def test_a_receiver_that_was_killed_draws_what_it_had_promised(broker, tmp_path):
    with Camera(broker, "two") as camera:
        with ReceiveDaemon(broker, "test/two/+", "--out", str(tmp_path), "--as", "none") as daemon:
            number = camera.send_until_heard()
            daemon.next("picture")
            camera.send(frame(number, promised=True))
            wait_for(lambda: list(tmp_path.rglob("*.es")))
        for path in tmp_path.rglob("*.png"):
            path.unlink()
        with ReceiveDaemon(broker, "test/two/+", "--out", str(tmp_path), "--as", "none") as daemon:
            assert daemon.next("picture")["frame"] == number


def test_a_video_for_each_stream(broker, tmp_path):
    with ExitStack() as stack:
        cameras = [stack.enter_context(Camera(broker, "three", name)) for name in ("a", "b")]
        daemon = stack.enter_context(ReceiveDaemon(broker, "test/three/+", "--out", str(tmp_path), "--as", "mkv"))
        for camera in cameras:
            camera.send_until_heard()
            daemon.next("picture")
        daemon.end()
    assert len(list(tmp_path.rglob("video.mkv"))) == 2
    for path in tmp_path.rglob("video.mkv"):
        with av.open(str(path)) as video:
            assert len(list(video.decode(video=0))) >= 1


def test_a_thin_receiver_takes_the_base_layer_alone(broker):
    with Camera(broker, "thin") as camera, ReceiveDaemon(broker, "test/thin/+", "--layers", "1") as daemon:
        camera.send_until_heard()
        picture = daemon.next("picture")
        assert picture["layers"] == 1
        assert picture["file"] is None


def test_senders_of_two_bundles_are_drawn_by_one_receiver(broker, tmp_path):
    """A rolling upgrade: some senders have the new bundle, others still the old one."""
    other = another_bundle(tmp_path / "other")
    with edgesem.load(other) as theirs:
        packet = theirs.pack(theirs.analyze(codec().decode(frame(0).to_bytes())), budget_bytes=1200)
    out = tmp_path / "out"
    with (
        Camera(broker, "old") as old,
        Camera(broker, "new") as new,
        ReceiveDaemon(
            broker, "test/+/+", "--bundle", "default", "--bundle", str(other), "--out", str(out), "--as", "png"
        ) as daemon,
    ):
        old.send_until_heard()
        assert daemon.next("picture")["stream"] == "test/old/main"
        new.send(replace(packet, frame=1, time_ms=clock_ms()))
        while (told := daemon.next("picture"))["stream"] != "test/new/main":
            pass
        done = daemon.end()
    assert read_provenance(Path(told["file"])).bundle_digest == Bundle.open(other).digest
    assert {stream["other_bundle"] for stream in done["streams"]} == {0}


@pytest.mark.parametrize("between", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_strangers_bytes_and_wrong_keys_cost_counters_and_nothing_else(broker, between):
    """Malformed packets and sealed ones of another key, so many before each of ten real frames."""
    rng = random.Random(1)
    key, who = bytes(range(32)), identity()
    born = birth(sealed=True, bundle_id=codec().bundle.id)
    pictures = []
    with (
        StreamReceiver(broker.address, "test/storm/+", ReceiverOptions(decoders=1), key=key) as receiver,
        Camera(broker, "storm") as camera,
    ):
        base = camera.topics.base
        seal = Seal(key, stream=base, salt=born.salt)
        strangers = Seal(bytes(32), stream=base, salt=born.salt)
        camera.connection.publish(camera.topics.birth, born.to_bytes(who, base=base, key=key), retain=True)
        wait_for(lambda: receiver.streams.find("test/storm/main"))
        counters = receiver.streams.find("test/storm/main").inbox.counters
        shown = iter(receiver)
        for number in range(10):
            real = frame(number)
            good = real.split()[0].to_bytes()
            for index in range(between):
                damaged = bytearray(seal.seal(replace(real, frame=1000 + index).split()[index % 4].to_bytes()))
                place = rng.choice([place for place in range(len(damaged)) if not 20 <= place < 24])
                damaged[place] ^= 1 << rng.randrange(8)  # the checksum says nothing where there is a tag
                hostile = (bytes(damaged), rng.randbytes(rng.randrange(2000)), strangers.seal(good), good)[index % 4]
                camera.connection.publish(camera.topics.layer(index % 4), hostile)
                if index % 100 == 99:  # a client may have 200 under way
                    wait_for(lambda sent=between * number + index + 1: counters.malformed >= sent)
            for part in real.split():
                camera.connection.publish(camera.topics.layer(part.first_layer), seal.seal(part.to_bytes()))
            # Where this machine stands still for a moment, a frame is drawn before its last layer has come, and again.
            pictures.append(next(shown))
            while len(pictures[-1].packet.chunks) < 4:
                pictures.append(next(shown))
    assert [picture.packet.frame for picture in pictures if len(picture.packet.chunks) == 4] == list(range(10))
    assert {picture.packet.frame for picture in pictures} == set(range(10))
    assert (counters.malformed, counters.layers, counters.undecodable) == (10 * between, 40, 0)
    assert counters.unsealed == 10 * between
    acknowledged: set[int] = set()
    while len(acknowledged) < 10:
        ack = camera.acks.get(timeout=DEADLINE_S)
        acknowledged.add(Ack.from_bytes(seal.verify(ack, camera.topics.ack)).frame)
    assert acknowledged == set(range(10))


def test_the_guides_configuration_is_what_can_be_configured(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "receive.md").read_text("utf-8")
    example = guide.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "receive.toml"
    path.write_text(example, "utf-8")
    settings = load_config(path, ReceiveSettings)
    for section, kind in (("draw", DrawSettings), ("out", OutSettings)):
        assert all(f"\n{field.name} = " in example for field in fields(kind) if field.name != "bundle"), section
    assert settings.draw == DrawSettings()
    assert settings.out.http == "8480"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["a/b"], "SITE/DEVICE/STREAM"),
        (["--steps", "9"], "--steps"),
        (["--shard", ""], "write I/N"),
        (["--as", "mkv"], "--out"),
        (["--http", "here"], "--http: 'here' is no address to listen on"),
        (["--max-age", "5"], "--max-age: '5' is no span of time"),
        (["--as", "gif"], "--as must be one of"),
    ],
)
def test_what_cannot_be_received_is_a_usage_error(flags, why, capfd):
    assert main(["receive", *flags]) == 2
    assert why in capfd.readouterr().err.replace("\n", " ")
