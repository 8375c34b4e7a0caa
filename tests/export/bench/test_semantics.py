"""`edgesem measure`: what pictures mean before and after coding, with made pictures and a made detector."""

import json

import numpy as np
import pytest
from PIL import Image

from edgesem.cli.main import main
from edgesem.errors import InputError
from export.bench.semantics.link import open_link, useful
from export.bench.semantics.meaning import OTHER, by_class, by_object, read_synonyms
from export.bench.semantics.observations import Observation, spread
from export.bench.semantics.report import hull
from tests.support.detector import detector_file


def observation(**values):
    known = {"picture": "p", "picture_digest": "d", "pixels": 1, "codec": "original", "setting": 0.0, "version": ""}
    return Observation(**{**known, "size_bytes": 0, "classes": None, "object": None, **values})


def objects(*labels):
    return [observation(object=label) for label in labels]


def test_rare_labels_are_joined_to_as_many_sets_as_the_samples_bear():
    originals = objects(*["car"] * 20, *["dog"] * 15, *["nothing"] * 10, "cat", "bird")
    meaning = by_object(originals, {})  # 47 pictures bear 3 sets
    assert meaning.sets == ["car", "dog", OTHER]
    assert meaning.of(objects("dog", "cat", "elephant")) == ["dog", OTHER, OTHER]


def test_given_synonyms_join_labels():
    originals = objects(*["car"] * 20, *["truck"] * 15, *["dog"] * 10)
    meaning = by_object(originals, {"car": "vehicle", "truck": "vehicle"})
    assert meaning.of(objects("truck", "car", "dog")) == ["vehicle", "vehicle", "dog"]


def test_the_likeliest_set_sums_its_classes():
    seen = [observation(classes={"0": 0.4, "1": 0.3, "2": 0.3}), observation(classes={"0": 0.9, "2": 0.1})] * 20
    names = ("hammer", "hound, dog", "poodle")
    meaning = by_class(seen, names, {"hound": "dog", "poodle": "dog", "hammer": "tool"})
    assert meaning.of(seen[:2]) == ["dog", "tool"]


def test_clusters_are_what_the_classifier_takes_for_the_same():
    seen = [observation(classes={str(i % 2): 0.8, str(2 + i % 3): 0.2}) for i in range(40)]  # 40 bear 2 sets
    meaning = by_class(seen, ("cat", "dog"), {})
    read = meaning.of(seen)
    assert len(set(read)) == 2
    assert all(read[i] == read[i % 2] for i in range(40))
    assert meaning.of([observation(classes={"1": 0.5, "900": 0.5})]) == [read[1]]


def test_the_hull_keeps_only_what_switching_cannot_beat():
    points = [(0, 0.8), (10, 0.7), (20, 0.2), (30, 0.3), (40, 0.1), (100, 0.1)]
    assert hull(points) == [(0, 0.8), (20, 0.2), (40, 0.1)]


def test_settings_are_spread_from_end_to_end():
    assert spread((1, 2, 3, 4, 5), 3) == [1, 3, 5]
    assert spread((1, 2), 5) == [1, 2]


def test_useful_bits_weigh_frames_against_what_each_keeps():
    link = open_link("8kbit")  # 1000 bytes/s
    assert link.mean_bps == 8000
    found = useful(link, [100, 1000], [0.5, 2.0], most_fps=3)
    assert found.fixed_bps == pytest.approx(2.0)  # 3 frames of half a bit are less than one of two
    assert found.best == 1
    assert useful(link, [100, 1000], [1.0, 2.0], most_fps=3).fixed_bps == pytest.approx(3.0)


def test_a_link_that_changes_is_best_used_by_changing_with_it(tmp_path):
    trace = tmp_path / "link.txt"
    trace.write_text("0.0 0.0008\n1.0 0.008\n")
    link = open_link(str(trace))
    assert link.rates_bps.tolist() == pytest.approx([800, 8000])
    found = useful(link, [100, 1000], [0.5, 2.0], most_fps=1)
    assert found.adaptive_bps == pytest.approx((0.5 + 2.0) / 2)
    assert found.fixed_bps == pytest.approx((0.2 + 2.0) / 2)


def test_a_trace_of_deliveries(tmp_path):
    trace = tmp_path / "some.up"
    trace.write_text("100\n200\n1500\n")
    assert open_link(str(trace)).rates_bps.tolist() == [24000, 12000]


def test_synonyms_are_read_line_by_line(tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("car\tvehicle\n\ntruck\tvehicle\n")
    assert read_synonyms(path) == {"car": "vehicle", "truck": "vehicle"}
    path.write_text("car\tvehicle\ntruck vehicle\n")
    with pytest.raises(InputError, match="line 2"):
        read_synonyms(path)


@pytest.fixture
def data(tmp_path):
    """32 small pictures: half of them with something red, half with nothing bright, and the detector for them."""
    folder, random = tmp_path / "pictures", np.random.default_rng(8)
    folder.mkdir()
    for i in range(32):
        frame = random.integers(0, 40, (64, 64, 3), np.uint8)
        if i % 2:
            frame[8:56, 8:56] = (250, 90, 90)
        Image.fromarray(frame).save(folder / f"{i:02}.png")
    (tmp_path / "names.txt").write_text("car\nperson\ndog\n")
    detector_file(tmp_path / "d.onnx")
    return tmp_path


def test_measuring_a_folder(data, capsys):
    arguments = ["measure", "--data", str(data / "pictures"), "--out", str(data / "out"), "--json"]
    arguments += ["--detector", str(data / "d.onnx"), "--names", str(data / "names.txt")]
    arguments += ["--codecs", "edgesem,jpeg", "--sizes", "full", "--settings", "2", "--link", "20kbit"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    judged = report["judges"]["detector"]
    assert judged["stream"]["semantic_entropy"]["bits"] == pytest.approx(1, abs=0.03)
    assert judged["stream"]["sets"] == {"car": 0.5, "nothing": 0.5}
    best = judged["codecs"]["jpeg"][-1]
    assert best["kept"]["bits"] == pytest.approx(1, abs=0.05)
    assert best["mismatch"] == 0
    assert best["floor_bits"] == pytest.approx(1)
    assert best["bytes"] > judged["codecs"]["jpeg"][0]["bytes"]
    assert judged["hull"]["jpeg"][0] == [0.0, 0.5]
    assert 0 < judged["useful"]["edgesem"]["fixed_bps"] <= 5
    with Image.open(data / "out" / "measure.png") as picture:
        assert picture.size[0] > 500
    assert json.loads((data / "out" / "measure.json").read_text())["pictures"] == 32

    lines = (data / "out" / "measure_cache.jsonl").read_text().count("{")
    assert main(arguments) == 0  # again: nothing is coded twice, nothing comes out otherwise
    assert (data / "out" / "measure_cache.jsonl").read_text().count("{") == lines
    assert json.loads(capsys.readouterr().out) == report


def test_too_few_pictures_are_said_to_be_so(data, capsys):
    for path in sorted((data / "pictures").iterdir())[10:]:
        path.unlink()
    arguments = ["measure", "--data", str(data / "pictures"), "--out", str(data / "out"), "--json"]
    arguments += ["--detector", str(data / "d.onnx"), "--names", str(data / "names.txt"), "--codecs", "jpeg"]
    assert main([*arguments, "--sizes", "full", "--settings", "2", "--link", "20kbit"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["judges"]["detector"]["codecs"]["jpeg"][0]["kept"] is None
    assert report["judges"]["detector"]["useful"] == {}
    assert "10 samples" in report["refused"]["detector: information kept"]


@pytest.mark.parametrize("missing", [["--detector"], ["--names"], ["--detector", "--names"]])
def test_judges_must_be_named(data, missing, capsys):
    arguments = ["measure", "--data", str(data / "pictures"), "--out", str(data / "out")]
    for option, name in (("--detector", "d.onnx"), ("--names", "names.txt")):
        if option not in missing:
            arguments += [option, str(data / name)]
    assert main(arguments) == 2
    assert "--detector" in capsys.readouterr().err
