"""Two receivers that divide the streams, and one catalogue: real daemons, a real broker, a real PostgreSQL."""

import io
import json
import queue
import urllib.request
from dataclasses import replace

import pytest
from PIL import Image

from edgesem.cli.main import main
from edgesem.semantics.embedding import SemanticHead, to_bytes
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.database import PASSWORD_VARIABLE, Database
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.shard import shard_of
from tests.support.postgres import PASSWORD, needs_postgres, running_postgres
from tests.support.publishing import DEADLINE_S, birth, codec, frame, identity, photo_packet, wait_for
from tests.support.receive_daemon import Camera, ReceiveDaemon

pytestmark = [
    needs_postgres,
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
]
_CONFIG = """
[catalogue]
url = "{url}"
objects = "{objects}"
period_s = 0.2
"""


def embedding():
    return to_bytes(SemanticHead(codec().bundle).embed(codec().unpack(photo_packet())))


class Fleet:
    """Two cameras, one for each of two receivers, whose folders are `0` and `1`."""

    def __init__(self, broker, url, folder):
        self._broker, self._folder = broker, folder
        self.config = folder / "receive.toml"
        self.config.write_text(_CONFIG.format(url=url, objects=folder / "objects"))
        devices = (f"cam{number}" for number in range(100))
        found = {}
        while len(found) < 2:
            camera = Camera(broker, next(devices))
            found.setdefault(shard_of(camera.topics, 2), camera)
        self.cameras = [found[0], found[1]]
        self.sent = {0: [], 1: []}
        self._kept = {0: set(), 1: set()}

    def receiver(self, shard):
        own = self._folder / str(shard)
        return ReceiveDaemon(
            self._broker,
            *("test/+/+", "--shard", f"{shard}/2", "--config", str(self.config), "--http", "0"),
            *("--out", str(own / "out"), "--state-dir", str(own / "state")),
        )

    def bear(self):
        for camera in self.cameras:
            payload = birth(sealed=False, bundle_id=codec().bundle.id).to_bytes(identity(), base=camera.topics.base)
            camera.connection.publish(camera.topics.birth, payload, retain=True)

    def promise(self, shard, number, seen=b""):
        """Promise a frame, and send it until it is kept."""
        packet = frame(number, promised=True)
        packet = replace(packet, side_info=replace(packet.side_info, embedding=seen))
        self.sent[shard].append(number)
        camera = self.cameras[shard]
        for _ in range(60):
            camera.send(packet)
            self.hear(shard)
            if number in self._kept[shard]:
                return
        pytest.fail("a promised frame is not kept")

    def hear(self, shard):
        try:
            while True:
                ack = Ack.from_bytes(self.cameras[shard].acks.get(timeout=0.5))
                if ack.kept:
                    self._kept[shard].add(ack.frame)
                    return
        except queue.Empty:
            return


def catalogued(database):
    """Stream and frame of all that is catalogued; empty while there is nothing."""
    return sorted((one.stream, one.frame) for one in Catalogue(database).entries())


def test_no_promised_frame_is_lost_or_there_twice_when_catalogue_and_receiver_are_killed(
    tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    seen = embedding()
    with (
        running_postgres() as server,
        Broker(kind="mosquitto") as broker,
        Database(server.url) as database,
    ):
        fleet = Fleet(broker, server.url, tmp_path)
        with fleet.cameras[0], fleet.cameras[1]:
            fleet.bear()
            logs = []
            with fleet.receiver(1) as second:
                with fleet.receiver(0) as first:
                    for number in range(4):
                        fleet.promise(0, number, seen)
                        fleet.promise(1, number)
                    server.kill()
                    for number in range(4, 8):
                        fleet.promise(0, number)
                        fleet.promise(1, number)
                    logs += [first]
                # The first was killed while the catalogue was away. Another one takes its place.
                with fleet.receiver(0) as first:
                    fleet.promise(0, 8)
                    server.start()
                    fleet.promise(1, 8)
                    names = ["/".join((one.topics.site, one.topics.device, "main")) for one in fleet.cameras]
                    wanted = sorted((names[shard], number) for shard in (0, 1) for number in fleet.sent[shard])
                    wait_for(lambda: catalogued(database) == wanted, 2 * DEADLINE_S)

                    # The page of one receiver shows what the other one took.
                    newest = Catalogue(database).newest(names[1], 1e11)
                    asked = f"stream={names[1]}&since=0&until={10**14}&count=600"
                    with urllib.request.urlopen(f"{first.url}archive.json?{asked}", timeout=DEADLINE_S) as answer:
                        assert json.loads(answer.read())["frames"]
                    at = round(newest.captured_s * 1000)
                    url = f"{first.url}{names[1]}.jpg?at={at}&near=0"
                    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                        assert Image.open(io.BytesIO(answer.read())).size == (160, 112)
                        assert float(answer.headers["X-Timestamp"]) == pytest.approx(newest.captured_s, abs=0.01)
                    server.kill()  # and without a catalogue, what is here
                    at = f"{first.url}{names[0]}.jpg?at={10**14}"
                    with urllib.request.urlopen(at, timeout=DEADLINE_S) as answer:
                        assert answer.status == 200
                    server.start()
                    assert first.end()["not_catalogued"] == 0
                    logs += [first]
                logs += [second]
            assert not any(PASSWORD in line for one in logs for line in one.log)

            capfd.readouterr()
            there = ["--catalogue", server.url, "--json"]
            assert main(["search", "dog", "--top", "30", *there]) == 0
            told = json.loads(capfd.readouterr().out)
            assert told["looked_at"] == len(wanted) - 4  # those whose senders sent no embedding
            assert sorted((one["stream"], one["frame"]) for one in told["hits"]) == wanted
            out = tmp_path / "drawn"
            assert main(["archive", "export", "--out", str(out), "--stream", names[1], *there]) == 0
            assert json.loads(capfd.readouterr().out)["drawn"] == len(list(out.rglob("*.png"))) == 9
            assert main(["archive", "show", *there]) == 0
            shown = json.loads(capfd.readouterr().out)
            assert {one["stream"]: one["promised"] for one in shown["streams"]} == dict.fromkeys(names, 9)
