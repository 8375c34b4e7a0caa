"""bench link --peers: edgesem's sender and senders of AV1 over the same model, judged by what a viewer sees."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from edgesem.cli.main import main
from edgesem.errors import UsageError
from edgesem.trace import Trace
from runtime.bench.link.bench import Options
from runtime.bench.link.clip import load_images
from runtime.bench.link.live_model import PHASES, SENDERS, Viewer, run_live
from runtime.bench.link.live_receivers import Subscription
from tests.support.traces import trace_of

av = pytest.importorskip("av")

from runtime.bench.link.av1_sender import Av1Options, Av1Sender, ConstantQuality, ConstantRate  # noqa: E402

needs_svtav1 = pytest.mark.skipif(
    int(av.__version__.split(".")[0]) < 18 or "libsvtav1" not in av.codecs_available,
    reason="SVT-AV1 of this PyAV is missing, or keeps frames back",
)


@pytest.fixture(scope="module")
def images():
    return [np.ascontiguousarray(image[160:352, 100:292]) for image in load_images(None, 8, 4)]


@pytest.fixture(scope="module")
def codec():
    import edgesem

    with edgesem.load() as codec:
        yield codec


def run(sender, images, codec, trace, seconds=6, **more):
    options = Options(trace="", seconds=seconds, fps=2, **more)
    return run_live(sender, images=images, codec=codec, trace=trace, options=options).figures


@needs_svtav1
@pytest.mark.parametrize("sender", SENDERS)
def test_each_sender_shows_every_frame_on_a_steady_link_and_is_the_same_each_time(images, codec, sender):
    first, second = (run(sender, images, codec, trace_of(200e3)) for _ in range(2))
    del first["encode_cpu_s"], second["encode_cpu_s"]
    assert first == second
    assert first["shown"] == first["frames"] == 12
    assert 0.2 < first["quality"] < 1
    assert 0.2 < first["age_p50_s"] < first["age_p95_s"] < 1.2
    assert 0 < first["bytes_per_s"] < 25_000
    assert 1 <= first["keyframes"] < 12


@needs_svtav1
def test_where_the_link_goes_away_pictures_are_older_and_fewer(images, codec):
    per_ms = np.full(6000, 200e3 / 8000)
    steady = Trace("steady", per_ms.copy())
    per_ms[2000:4000] = 0
    for sender in ("edgesem", "av1-p10-rtc"):
        whole, broken = (run(sender, images, codec, trace) for trace in (steady, Trace("gap", per_ms)))
        assert broken["age_p95_s"] > whole["age_p95_s"] + 0.5
        assert broken["skipped"] > whole["skipped"]


@needs_svtav1
def test_cbr_is_opened_anew_when_the_link_has_moved_and_only_then(images):
    follower = ConstantRate(Av1Options(margin=0.5, large_bytes=30_000, rise=2, fall=0.5), 2)
    rates = [100e3, 100e3, 120e3, 300e3, 300e3, 40e3]
    keys = [follower.encode(image, round(rate / 16), rate)[1] for image, rate in zip(images, rates, strict=False)]
    assert keys == [True, False, False, True, False, True]
    assert follower.keyframes == 3
    follower.close()


@needs_svtav1
@pytest.mark.parametrize(("large_margin", "least_bytes", "most_bytes"), [(0.05, 700, 5000), (0.8, 6000, 24_000)])
def test_cbr_leaves_most_of_a_wide_link_unused_unless_it_is_told_not_to(images, large_margin, least_bytes, most_bytes):
    follower = ConstantRate(Av1Options(preset=8, rtc=False, large_margin=large_margin), 2)
    noise = np.random.default_rng(0)  # a scene for which more bytes are always worth something
    frames = [noise.integers(0, 255, images[0].shape, np.uint8) for _ in range(8)]
    sizes = [len(follower.encode(frame, 20_000, 400e3)[0]) for frame in frames]
    assert least_bytes < np.mean(sizes) < most_bytes
    follower.close()


@needs_svtav1
def test_crf_gets_finer_while_there_is_room_and_coarser_at_once_where_there_is_none(images):
    follower = ConstantQuality(Av1Options(constant_quality=True, margin=1), 2)
    first, is_key = follower.encode(images[0], 3000, None)
    assert is_key
    assert len(first) <= 3000
    finer = [follower.encode(images[0], 30_000, None) for _ in range(12)]
    keys = [len(data) for data, is_key in finer if is_key]
    assert keys == sorted(keys)
    assert keys[-1] > 1.5 * len(first)
    cut = np.ascontiguousarray(images[0][::-1])
    assert len(follower.encode(cut, 3000, None)[0]) < keys[-1] / 2
    follower.close()


@pytest.mark.parametrize(("budget_bytes", "messages"), [(400, 1), (900, 2), (5000, 4)])
def test_a_frame_of_av1_has_its_budget_less_what_its_messages_cost(budget_bytes, messages):
    sent = []
    control = SimpleNamespace(
        budget_bytes=lambda now_s: budget_bytes,
        state=lambda: {"capacity_bps": None},
        sent=lambda now_s, *, size_bytes, base: sent.append(size_bytes),
    )
    follower = SimpleNamespace(encode=lambda frame, most_bytes, capacity_bps, *, key: (bytes(most_bytes), key))
    sender = Av1Sender(follower, control, around_bytes=40, publish=lambda *_: None)
    sender.offer(0, np.zeros((8, 8, 3), np.uint8))
    assert sender.step(0.0)
    assert len(sent) == messages
    assert sum(sent) == budget_bytes


@needs_svtav1
@pytest.mark.parametrize("sender", ["edgesem", "av1-p8", "av1-p8-crf"])
def test_what_is_lost_behind_the_broker_costs_pictures_and_never_a_wrong_one(images, codec, sender):
    whole, lossy = (run(sender, images, codec, trace_of(200e3), 12, loss=loss) for loss in (0.0, 0.3))
    assert lossy["frames"] == whole["frames"] == whole["shown"]
    assert 2 <= lossy["shown"] < whole["shown"]
    assert 0.2 < lossy["quality"] < whole["quality"]
    assert (lossy["keyframes"] > whole["keyframes"]) == (sender != "edgesem")


@needs_svtav1
@pytest.mark.parametrize("sender", ["edgesem", "av1-p8", "av1-p8-crf"])
def test_a_second_receiver_gets_a_keyframe_and_the_first_one_keeps_its_picture(images, codec, sender):
    alone, both = (run(sender, images, codec, trace_of(200e3), 8, late_s=late_s) for late_s in (None, 5.6))
    assert "late_first_s" not in alone
    assert 0 < both["late_first_s"] < 0.4  # before the next frame is due
    assert 0.2 < both["late_quality"] < 1
    assert both["keyframes"] == alone["keyframes"] + 1
    assert both["quality"] > alone["quality"] - 0.03


def test_tenths_of_a_second_are_lost_and_the_same_for_each_sender():
    one, other = Subscription(loss=0.2), Subscription(number=2, since_s=5, loss=0.2)
    heard = np.array([one.takes(ms / 1000) for ms in range(50_000)])
    tenths = heard.reshape(-1, 100)
    assert (tenths.all(axis=1) | ~tenths.any(axis=1)).all()
    assert 0.7 < heard.mean() < 0.9
    assert not any(other.takes(ms / 1000) for ms in range(5000))
    assert any(one.takes(at_s) != other.takes(at_s) for at_s in range(5, 50))


def test_a_stale_picture_counts_as_what_it_shows(images):
    seen = [images[0]] * PHASES + [images[-1]] * PHASES

    def quality(*shown):
        viewer = Viewer(seen, 2)
        for ms in range(1000):
            viewer.look(ms / 1000, shown[ms // 500])
        return viewer.quality

    assert quality(images[0], images[-1]) == pytest.approx(1)
    assert 0.5 < quality(images[0], images[0]) < 0.99
    assert quality(None, images[-1]) == pytest.approx(0.5)


def test_what_is_not_modelled_is_refused(images, codec):
    for more in ({"promise_every": 5}, {"late_s": 3.0}):
        options = Options(trace="", seconds=2, fps=2, **more)
        with pytest.raises(UsageError, match=r"--promise-every|--late"):
            run_live("edgesem", images=images, codec=codec, trace=trace_of(1e5), options=options)
    for more in (["--model"], ["--references"], ["--senders", "fixed"]):
        assert main(["bench", "link", "--trace", "100kbit", "--peers", *more]) == 2
    assert main(["bench", "link", "--trace", "100kbit", "--late", "3", "--model"]) == 2
    assert main(["bench", "link", "--trace", "100kbit", "--scale", "0.5"]) == 2


@needs_svtav1
def test_the_command_scales_the_link_and_prints_what_is_shown(capsys, images, monkeypatch):
    monkeypatch.setattr("runtime.bench.link.clip.load_images", lambda *_: images)
    argv = ["bench", "link", "--trace", "400kbit", "--seconds", "5", "--fps", "2", "--peers", "--scale", "0.5"]
    assert main([*argv, "--senders", "edgesem,av1-p8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["scale"] == 0.5
    for sender in ("edgesem", "av1-p8"):
        assert {"quality", "age_p50_s", "age_p95_s", "sent_bytes"} <= set(found[sender])
        assert found[sender]["sent_bytes"] <= 5 * 25_000
    assert main([*argv, "--senders", "av1-p8", "--late", "2", "--loss", "0.1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "MS-SSIM shown" in printed
    assert "late: shown" in printed
