"""The task bench: agreement of what networks see, measured at equal bytes."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from edgesem.errors import UsageError
from edgesem.files import find_pictures
from edgesem.quality.judges import Detection
from export.bench.rd.baselines import ORIGINAL, CodecUnderTest
from export.bench.task import report as task_report
from export.bench.task.agreement import Match, PictureContent, f1, match, mean_average_precision
from export.bench.task.measure import Observation, observe, open_observations
from tests.support.detector import NAMES, detector_file


def dog(left, score=0.9, label="dog", width=10.0):
    return Detection(label, score, (left, 0.0, left + width, 10.0))


def seen(*objects, classes=()):
    return PictureContent(objects, classes)


# --- agreement


def test_objects_agree_by_class_and_place_and_once_each():
    original = seen(dog(0), dog(100))
    assert match(original, original) == Match(2, 2, 2)
    assert match(original, seen(dog(0), dog(1))) == Match(2, 2, 1)  # two boxes on one dog
    assert match(original, seen(dog(0, label="cat"), dog(106))) == Match(2, 2, 0)  # another class; an IoU of a quarter
    assert match(original, seen(dog(3))) == Match(2, 1, 1)
    assert match(original, None) == Match(2, 0, 0)


def test_what_the_detector_doubts_does_not_count():
    assert match(seen(dog(0), dog(100, score=0.2)), seen(dog(0, score=0.3))) == Match(1, 0, 0)


def test_agreement_punishes_what_is_missed_and_what_is_invented_alike():
    assert f1([Match(4, 4, 4)]) == 1
    assert f1([Match(4, 2, 2)]) == f1([Match(2, 4, 2)]) == pytest.approx(2 / 3)
    assert f1([Match(4, 4, 4), Match(4, 0, 0)]) == pytest.approx(2 / 3)
    assert f1([Match(0, 0, 0)]) == 1


def test_average_precision_is_that_of_a_known_ranking():
    originals = seen(dog(0), dog(100), dog(200))
    ranked = seen(dog(0, 0.9), dog(400, 0.8), dog(100, 0.7), dog(200, 0.1))  # right, wrong, right, right
    assert mean_average_precision([(originals, ranked)]) == pytest.approx((1 + 0.75 + 0.75) / 3)
    assert mean_average_precision([(originals, originals)]) == 1
    assert mean_average_precision([(originals, None)]) == 0
    two = seen(dog(0), dog(50, label="cat"))
    assert mean_average_precision([(two, seen(dog(0)))]) == 0.5  # the mean over classes


# --- observing


class CountingCodec:
    """Keeps `setting` % of the rows; counts its codings."""

    def __init__(self, name="toy", version="1"):
        self.encoded = 0
        self.under_test = CodecUnderTest(name, version, (10, 50), self.encode, self.decode)

    def encode(self, frame, setting):
        self.encoded += 1
        return zlib.compress(frame[: 1 + len(frame) * int(setting) // 101].tobytes())

    def decode(self, data, size):
        rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(-1, size[1], 3)
        return np.concatenate([rows, np.zeros((size[0] - len(rows), size[1], 3), np.uint8)])


class RowsJudge:
    """Sees a dog in every ten rows that are not black."""

    version = "rows"

    def predict(self, frame):
        rows = int((frame.max(axis=(1, 2)) > 0).sum())
        return PictureContent(tuple(dog(20.0 * index) for index in range(rows // 10)), (rows // 10, 1))


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        noise = random.integers(1, 255, (96 + 32 * number, 160, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_each_picture_is_coded_into_its_share_of_the_budget_once(folder, tmp_path):
    codec, pictures = CountingCodec(), find_pictures(folder)
    counts: list[int] = []
    found = observe(
        pictures, [codec.under_test], [100, 400_000], open_observations(tmp_path / "c"), RowsJudge(), counts.append
    )
    originals = [s for s in found if s.codec == ORIGINAL]
    coded = [s for s in found if s.codec == "toy"]
    assert [len(s.seen.objects) for s in originals] == [9, 12]
    assert [s.seen for s in coded if s.budget == 100] == [None, None]  # not even one row fits
    for one, rows in zip([s for s in coded if s.budget == 400_000], (96, 128), strict=True):
        budget = 400_000 * rows * 160 // (640 * 480)
        assert 0.9 * budget < one.size_bytes <= budget
        assert len(one.seen.objects) < rows // 10
    assert sum(counts) == 4
    codec.encoded = 0
    again = observe(pictures, [codec.under_test], [100, 400_000], open_observations(tmp_path / "c"), RowsJudge())
    assert again == found
    assert codec.encoded == 0


def test_another_version_is_measured_anew(folder, tmp_path):
    pictures = find_pictures(folder)
    observe(pictures, [CountingCodec().under_test], [10**6], open_observations(tmp_path / "c"), RowsJudge())
    newer = CountingCodec(version="2")
    store = open_observations(tmp_path / "c")
    found = observe(pictures, [newer.under_test], [10**6], store, RowsJudge())
    assert newer.encoded
    assert all(open_observations(tmp_path / "c").get(s.key) == s for s in found)


def test_decoders_of_one_encoder_share_its_codings(folder, tmp_path):
    codec = CountingCodec()
    other = CodecUnderTest("toy+1step", "1", (10,), codec.encode, lambda data, size: 255 - codec.decode(data, size))
    observe(find_pictures(folder), [codec.under_test], [10**6], open_observations(tmp_path / "1"), RowsJudge())
    alone, codec.encoded = codec.encoded, 0
    observe(find_pictures(folder), [codec.under_test, other], [10**6], open_observations(tmp_path / "2"), RowsJudge())
    assert codec.encoded == alone


# --- the report


def observations(codec, found, budget=2000, original=4, classes=(1, 2)):
    """`found` of so many dogs in each picture; None where nothing fitted."""
    for number, count in enumerate(found):
        digest = str(number)
        yield Observation(
            "p", digest, ORIGINAL, 0, "", None, seen(*map(dog, range(0, 40 * original, 40)), classes=(1, 2))
        )
        objects = None if count is None else seen(*map(dog, range(0, 40 * count, 40)), classes=classes)
        yield Observation("p", digest, codec, budget, "", None if count is None else 1900, objects)


@pytest.fixture
def report():
    some = [
        *observations("edgesem", [4, 4, 4, 3] * 5),
        *observations("avif-s6", [None, None, 4, None] * 5, classes=(3, 1)),
        *observations("avif-s6-half", [2, 2, 1, 2] * 5),
        *observations("avif-s6-quarter", [1, 1, 1, 1] * 5),
    ]
    return {"data": "photos", "pictures": ["p"] * 20, **task_report.summarize(some, 200)}


def test_what_does_not_fit_is_sent_smaller(report):
    (whole,), (half,) = report["codecs"]["avif-s6"], report["codecs"]["avif-s6-half"]
    assert (whole["smaller"], whole["left_out"], half["smaller"]) == (0.75, 0, 0)
    assert whole["found"] == (4 + 2 + 2 + 2) / 16
    assert half["found"] == 7 / 16
    assert report["best_size"]["avif-s6-best"][0]["f1"] == whole["f1"]
    assert report["best_size"]["avif-s6-best"][0]["top1"] == 1  # each measure at the size where it is best


def test_nothing_is_seen_in_what_fits_at_no_size():
    (row,) = task_report.summarize([*observations("jpeg", [4, None])])["codecs"]["jpeg"]
    assert (row["left_out"], row["found"], row["true"], row["top1"], row["bytes"]) == (0.5, 0.5, 1, 0.5, 1900)


def test_the_ratio_is_against_the_best_size_with_an_interval_of_pairs(report):
    (ratio,) = report["ratio"]["edgesem"]["avif-s6"]
    assert ratio["codec"] == "avif-s6"
    assert ratio["f1"] == pytest.approx(report["codecs"]["edgesem"][0]["f1"] / report["codecs"]["avif-s6"][0]["f1"])
    assert ratio["interval"][0] < ratio["f1"] < ratio["interval"][1]
    assert report["ratio"].keys() == {"edgesem"}


def test_the_table_and_the_plot_hold_every_codec_at_its_best(report, tmp_path):
    text = task_report.as_markdown(report)
    assert "| edgesem | 2000 | 0.968 | 0.938 | 1.000 | 0.938 | 1.000 | 1.000 |" in text
    assert "| avif-s6-best | 2000 | 0.769 |" in text
    assert "| avif-s6-half |" not in text
    task_report.plot(report, tmp_path / "task.png")
    with Image.open(tmp_path / "task.png") as image:
        assert image.width > 800


# --- the command


@pytest.fixture
def command(monkeypatch):
    from export.cli.task import bench_task

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # the command sets them; this puts them back afterwards
    app = typer.Typer()
    app.command()(bench_task)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def detector(tmp_path):
    detector_file(tmp_path / "detector.onnx")
    (tmp_path / "names").write_text("\n".join(NAMES))
    return ("--detector", tmp_path / "detector.onnx", "--names", tmp_path / "names")


def test_the_command_writes_table_json_and_plot(folder, tmp_path, command, detector):
    for path in folder.iterdir():  # what is bright is an object
        Image.open(path).point(lambda value: 128 + value // 2).save(path)
    arguments = ("--data", folder, "--out", tmp_path / "out", *detector, "--codecs", "jpeg", "--bytes", "20000,90000")
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["codecs"].keys() == {"jpeg", "jpeg-half", "jpeg-quarter"}
    assert printed["objects"] > 0
    rows = printed["codecs"]["jpeg"]
    assert rows[0]["budget"] == 20000
    assert rows[0]["f1"] <= rows[1]["f1"]
    assert rows[0]["top1"] is None
    assert "| jpeg-best | 20000 |" in (tmp_path / "out" / "task.md").read_text()
    assert (tmp_path / "out" / "task.png").exists()
    assert json.loads(command(*arguments, "--json").stdout) == printed  # all from the cache


@pytest.mark.parametrize(
    "wrong", [("--bytes", "0"), ("--bytes", "2k"), ("--bytes", "9" * 400), ("--codecs", "png"), ("--sizes", "third")]
)
def test_wrong_options_are_refused(folder, tmp_path, command, detector, wrong):
    result = command("--data", folder, "--out", tmp_path / "out", *detector, *wrong)
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()
