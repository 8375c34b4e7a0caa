"""Training runs as people start them: threads, damaged pictures, other settings, plots, and output to a file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgesem.cli import main as cli
from edgesem.errors import EnvironmentMissing, InputError, UsageError
from export.cli.bundle import calibration_frames
from export.data import crops
from export.training.codec import TrainConfig, train
from export.training.log_plot import plot_log
from export.training.loop import RunOptions, averaging, device_of
from export.training.threads import ThreadTrial
from tests.support.bundles import quiet

PHOTOS = sorted((Path(__file__).parents[3] / "runtime" / "photos").glob("*.jpg"))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two photographs, one that was cut in its header, and one that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in PHOTOS[:2]:
        shutil.copy(path, folder)
    (folder / "broken.jpg").write_bytes(PHOTOS[2].read_bytes()[:300])
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture
def eight_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


def config(photos, **changes) -> TrainConfig:
    return TrainConfig(**{"data": str(photos), "minutes": 0.01, "crop": 176, "batch": 1, "teacher": False, **changes})


@pytest.mark.parametrize(
    ("seconds", "best", "never"),
    [
        ({1: 2.0, 2: 30.0}, 1, 8),  # a loaded machine: a step with all threads would have taken half a minute
        ({1: 4.0, 2: 2.1, 4: 1.2, 8: 0.9}, 8, None),
        ({1: 4.0, 2: 2.1, 4: 1.9, 8: 1.85}, 4, None),
        ({1: 4.0, 2: 2.1, 4: 2.05, 8: 0.5}, 2, 8),
    ],
)
def test_the_number_of_threads_is_that_of_the_fastest_steps(eight_threads, seconds, best, never):
    trial, used = ThreadTrial(), []
    while not trial.done:
        used.append(torch.get_num_threads())
        first = used.count(used[-1]) == 1
        trial.step_s(seconds[used[-1]] + (5.0 if first else 0.0))  # the first step warms up
    assert torch.get_num_threads() == best
    assert never not in used
    trial.step_s(99.0)
    assert torch.get_num_threads() == best


def test_a_run_is_left_with_the_threads_that_it_found_and_takes_those_that_it_is_given(
    photos, tmp_path, eight_threads, monkeypatch
):
    used = []
    monkeypatch.setattr(
        torch, "set_num_threads", lambda count, real=torch.set_num_threads: (used.append(count), real(count))
    )
    train(config(photos), tmp_path / "run", progress=quiet)
    assert used[0] == 1  # it begins with one, and tries more
    assert torch.get_num_threads() in (1, 2, 4, 8)
    train(config(photos), tmp_path / "other", progress=quiet, options=RunOptions(threads=3))
    assert torch.get_num_threads() == 3


def test_damaged_pictures_are_left_out_with_a_warning_and_only_they(photos, caplog):
    assert crops.Crops(photos, 176, 0).batch(2).shape == (2, 3, 176, 176)
    assert len(calibration_frames(photos)) == 2
    for name in ("broken.jpg", "text.png"):
        assert f"left out: cannot read {photos / name}" in caplog.text
    for path in PHOTOS[:2]:
        (photos / path.name).unlink()
    with pytest.raises(InputError, match="cannot read"):
        crops.Crops(photos, 176, 0)


def test_training_sees_pictures_by_night(photos, monkeypatch):
    seen = []
    monkeypatch.setattr(crops, "infrared", lambda frames: seen.append(len(frames)) or frames)
    crops.Crops(photos, 176, 0).varied_batch(2)
    assert seen == [2]


def test_a_run_is_not_continued_with_other_settings_unless_that_is_asked_for(photos, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    train(config(photos), run, progress=quiet)
    before = (run / "checkpoint.pt").read_bytes()
    with pytest.raises(UsageError, match=r"learning_rate 0.001 -> 0.002\): say --resume"):
        train(config(photos, minutes=0.02, learning_rate=2e-3), run, progress=quiet)
    assert (run / "checkpoint.pt").read_bytes() == before
    monkeypatch.chdir(tmp_path)
    train(config(Path("photos"), minutes=0.02), run, progress=quiet)  # longer, and the same folder by another name
    argv = ["train", "--data", "photos", "--out", "run", "--board", "--crop", "176", "--batch", "1", "--no-plot"]
    argv += ["--minutes", "0.03", "--learning-rate", "0.002"]
    assert cli.main(argv) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main([*argv, "--resume", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["threads"] >= 1
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [part["learning_rate"] for part in history] == [1e-3, 1e-3, 2e-3]


def test_a_run_says_how_many_steps_it_makes_a_second(photos, tmp_path):
    seen = []
    train(config(photos, minutes=0.03), tmp_path / "run", progress=lambda done, figures: seen.append((done, figures)))
    done, figures = seen[-1]
    assert done == 1.0
    assert 0 < figures["steps_per_s"] < 1000
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["steps_per_s"] == pytest.approx(rows[-1]["step"] / rows[-1]["minutes"] / 60, rel=0.5)


def test_the_device_is_the_one_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(None) == device_of(RunOptions(device="cpu")) == torch.device("cpu")
    with pytest.raises(EnvironmentMissing, match="no CUDA GPU"):
        device_of(RunOptions(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(None) == torch.device("cuda")
    assert device_of(RunOptions(device="cpu")) == torch.device("cpu")


def test_averaged_weights_soon_forget_what_they_began_with():
    update, weights = averaging(0.998), [torch.ones(3), torch.zeros(2, dtype=torch.long)]
    for step in range(1, 300):
        update(weights, [torch.zeros(3), torch.full((2,), step)], step)
    assert weights[0].max() < 1e-3  # from the first step on, a decay of 0.998 would leave 0.55
    assert weights[1].tolist() == [299, 299]
    weights = [torch.ones(3)]
    update(weights, [torch.zeros(3)], 100_000)
    assert weights[0][0].item() == pytest.approx(0.998)


def test_progress_is_told_in_lines_where_there_is_no_terminal(photos, tmp_path, capsys):
    argv = ["train", "--data", str(photos), "--out", str(tmp_path / "run"), "--board", "--crop", "176", "--batch", "1"]
    assert cli.main([*argv, "--minutes", "0.02", "--no-plot", "--threads", "1"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "%" in line]
    assert len(lines) == 1
    assert "step" in lines[0]
    assert "loss" in lines[0]


def test_a_plot_of_one_point_shows_it(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.jsonl").write_text('{"step": 6, "minutes": 3.0, "loss": 1.5}\n')
    pixels = np.asarray(Image.open(plot_log(tmp_path)).convert("RGB")).astype(int)
    assert (np.abs(pixels - (0x1F, 0x77, 0xB4)).sum(2) < 30).sum() > 10  # matplotlib's first colour
