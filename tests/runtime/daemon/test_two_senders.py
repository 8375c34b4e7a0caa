"""Two real senders under one name, as two boards of one image: both say so, and one receiver keeps them apart."""

import pytest

from runtime.mqtt.mosquitto import find_tool
from tests.support.edgesem_process import EdgesemProcess
from tests.support.publishing import DEADLINE_S, wait_for
from tests.support.real_broker import Mosquitto, draw_pictures

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
SIZES = ((96, 80), (160, 112))


def test_two_senders_under_one_name_are_told_and_their_pictures_are_whole(tmp_path):
    broker, processes = Mosquitto(tmp_path / "broker"), []
    try:
        out = ("--out", tmp_path / "out", "--as", "mkv", "--workers", 1, "--state-dir", tmp_path / "receiver")
        receiver = EdgesemProcess("receive", "home/t/main", *out, *broker.there, log=tmp_path / "receive.log")
        processes.append(receiver)
        receiver.wait_for("ready")
        for number, size in enumerate(SIZES):
            pictures = draw_pictures(tmp_path / f"pictures{number}", size=size)
            state = ("--state-dir", tmp_path / f"state{number}", "--device", "t", "--fps", 4, "--loop")
            processes.append(EdgesemProcess("send", pictures, *state, *broker.there, log=tmp_path / f"{number}.log"))
        for log in ("0.log", "1.log"):
            said = "another sender uses the name home/t/main"  # by the births, which are published each minute
            wait_for(lambda name=log, said=said: said in (tmp_path / name).read_text(), 3 * DEADLINE_S)
        wait_for(lambda: "packets of two senders" in (tmp_path / "receive.log").read_text())
        for width, _ in 8 * SIZES:
            began = len(receiver.events)
            # Where this machine stands still for a moment, a frame is drawn before its last layer has come, and again.
            whole = {"width": width, "layers": 4}.items()
            receiver.wait_for("picture", lambda event, whole=whole: whole <= event.items(), after=began)
        assert receiver.end() == 0
        (stream,) = receiver.events[-1]["streams"]
        assert stream["malformed"] == stream["undecodable"] == 0
        assert len(list((tmp_path / "out").rglob("*.mkv"))) < 8  # not one for each picture
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.end()
        broker.kill()
