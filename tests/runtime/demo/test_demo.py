"""The demo as a user runs it: real broker, real processes, the bundle that ships, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from runtime.capture.frame import PHOTOS
from runtime.capture.samples import sample_frames
from runtime.demo.demo import _signals_as_exit, run_demo
from runtime.demo.transfer import Options
from tests.support.edgesem_process import WAIT_S
from tests.support.real_broker import needs_mosquitto


@pytest.fixture
def pictures(tmp_path):
    """A folder of three small photographs."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for frame in sample_frames(PHOTOS, 3):
        Image.fromarray(frame.image).resize((192, 176)).save(folder / f"{frame.name}.png")
    return folder


@pytest.mark.parametrize("kind", [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"])
def test_all_pictures_cross_the_link(kind, pictures, tmp_path):
    out = tmp_path / "out"
    phases = []
    options = Options(rate_bps=400e3, out=out, source=pictures, frames=3, interval_s=0.2, broker=kind)
    report = run_demo(options, lambda progress: phases.append(progress.phase))
    assert report["ok"], report
    assert (report["pictures"], report["lost"], report["broker"]["kind"]) == (3, 0, kind)
    assert report["receiver"]["malformed"] == 0
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / "contact_sheet.png").stat().st_size > 10_000
    originals = [frame.image for frame in sample_frames(pictures, 3)]
    for row, original in zip(report["rows"], originals, strict=True):
        with Image.open(out / row["file"]) as image:
            received = np.asarray(image)
        assert received.shape == original.shape
        assert row["psnr_db"] > 15
        assert 0 < row["base_delay_s"] <= row["delay_s"]
        assert row["size_bytes"] <= row["sent_bytes"] <= max(row["budget_bytes"], 1500)
    assert report["link"]["up_bytes"] > sum(row["sent_bytes"] for row in report["rows"])
    assert phases[0] == "starting"
    assert phases[-1] == "drawing the contact sheet"


class Demo:
    """`edgesem demo` in a process of its own, whose temporary files and whose children can be told from others."""

    def __init__(self, tmp_path, *arguments):
        self.tmp = tmp_path / "tmp"
        self.tmp.mkdir()
        self.mark = f"EDGESEM_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", "demo", "--out", str(tmp_path / "out"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                name: value,
                "TMPDIR": str(self.tmp),
                "PYTHONPATH": str(Path(__file__).parents[3]),
            },
            # A shell's background job, as CI may be, has Ctrl-C ignored, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def leftovers(self):
        """Temporary files and processes that are still there."""
        found = [str(path) for path in self.tmp.iterdir()]
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes():
                    found.append((path.parent / "cmdline").read_text())
            except OSError:
                continue
        return found


def test_the_command_prints_its_report_and_leaves_nothing_behind(pictures, tmp_path):
    demo = Demo(tmp_path, "--source", str(pictures), "--frames", "2", "--interval", "0.2", "--link", "1mbit", "--json")
    stdout, stderr = demo.process.communicate(timeout=WAIT_S)
    assert demo.process.returncode == 0, stderr
    assert json.loads(stdout)["ok"] is True
    assert "2/2" in stderr
    assert demo.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(number, pictures, tmp_path):
    demo = Demo(tmp_path, "--source", str(pictures), "--interval", "20", "--link", "1mbit")
    for line in demo.process.stderr:
        if line.startswith("1/3"):
            break
    assert len(demo.leftovers()) > 1
    demo.process.send_signal(number)
    demo.process.communicate(timeout=WAIT_S)
    assert demo.process.returncode == 128 + number
    assert demo.leftovers() == []


def test_a_closed_terminal_does_not_end_a_demo_that_nohup_has_started():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals_as_exit():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_source_without_pictures_fails_with_one_line(tmp_path):
    demo = Demo(tmp_path, "--source", str(tmp_path))
    stdout, stderr = demo.process.communicate(timeout=WAIT_S)
    assert (demo.process.returncode, stdout) == (1, "")
    assert "no pictures" in stderr
    assert "Traceback" not in stderr
    assert demo.leftovers() == []


def test_a_wrong_rate_is_a_usage_error(tmp_path):
    demo = Demo(tmp_path, "--link", "quick")
    _, stderr = demo.process.communicate(timeout=WAIT_S)
    assert demo.process.returncode == 2
    assert "--link" in stderr


def test_a_decoder_that_fails_ends_the_demo_with_its_words(pictures, tmp_path):
    demo = Demo(tmp_path, "--source", str(pictures), "--bundle", str(tmp_path / "nowhere"))
    _, stderr = demo.process.communicate(timeout=WAIT_S)
    assert demo.process.returncode == 1
    assert "nowhere" in stderr
    assert "Traceback" not in stderr
    assert demo.leftovers() == []


@pytest.mark.parametrize(("ok", "exit_code"), [(True, 0), (False, 1)])
def test_lost_pictures_are_exit_code_1(ok, exit_code, monkeypatch, tmp_path):
    import typer

    from runtime.cli.demo import demo
    from runtime.demo import demo as demo_module

    report = {
        "ok": ok,
        "pictures": 1,
        "lost": 0,
        "layers_sent": 4,
        "layers_acknowledged": 4,
        "seconds": 1.0,
        "contact_sheet": "sheet",
        "report": "report",
        "rows": [],
        "link": {"set_bps": 64e3, "estimated_bps": None},
        "broker": {"kind": "mosquitto", "mqtt": "5"},
    }
    monkeypatch.setattr(demo_module, "run_demo", lambda options, show: report)
    app = typer.Typer()
    app.command()(demo)
    result = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert result.exit_code == exit_code, result.output
