"""bench speed: the figures that it prints, on small pictures and real daemons."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from edgesem.errors import LinkError, UsageError
from export.bench.speed import daemons
from export.bench.speed.bare_memory import bare_memory
from export.bench.speed.daemons import install_bytes, measure_daemons
from export.bench.speed.frames import read_frames
from export.bench.speed.processes import cpu_s, load_over, wait_until_idle
from export.cli.speed import bench_speed
from tests.support.rd import photo

RATIOS = {"encode_over_webp", "encode_over_avif_s6", "encode_over_avif_s9", "inter_over_key"}
SECONDS = {
    "analyze_s",
    "pack_s",
    "trial_s",
    "code_s",
    "unpack_s",
    "draw_s",
    "flow_step_s",
    "webp_s",
    "avif_s6_s",
    "avif_s9_s",
}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate(((96, 64), (64, 96), (120, 90))):
        Image.fromarray(photo(*size)).save(folder / f"{number}.png")
    return folder


def run(*arguments):
    app = typer.Typer()
    app.command()(bench_speed)
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_the_figures_of_the_stages(pictures):
    options = ("--data", pictures, "--size", "96x64", "--bytes", 700, "--pictures", 2, "--rounds", 2, "--stages-only")
    found = json.loads(run(*options, "--json").stdout)
    assert (found["size"], found["pictures"], found["rounds"]) == ("96x64", 2, 2)
    assert all(0.01 < found[name] < 100 for name in RATIOS)
    assert all(0 < found[name] < 10 for name in SECONDS)
    assert found["draw_s"] > found["unpack_s"] / 10
    assert found["sizes_bytes"]["edgesem"] <= 700
    assert "sender_rss_bytes" not in found
    shown = run(*options).stdout
    assert "times WebP" in shown


@pytest.mark.parametrize("size", ["wide", "96", "96x64x3", "15x64", "96x4097", "9" * 5000 + "x64"])
def test_a_size_that_is_none_is_said_so(pictures, size):
    with pytest.raises(UsageError, match="--size takes width and height of 16 to 4096 pixels"):
        run("--data", pictures, "--size", size)


def test_pictures_get_the_size_without_being_drawn_out(pictures):
    paths = sorted(pictures.iterdir())
    assert [frame.shape for frame in read_frames(paths, 5, 96, 64)] == 3 * [(64, 96, 3)]
    first, second = read_frames(paths, 2, 96, 64)
    assert np.array_equal(first, np.rot90(photo(96, 64)))  # on end: turned, not cut
    assert np.array_equal(second, photo(64, 96))


def test_memory_and_start_of_real_daemons(pictures, tmp_path, monkeypatch):
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    monkeypatch.setattr(daemons, "IDLE_S", 2.0)
    monkeypatch.setattr(daemons, "STREAMS", 3)
    found = measure_daemons(pictures, tmp_path)
    assert 0.05 < found["first_packet_cpu_s"] < 60
    for process in ("sender", "receiver", "decoder", "receiver_many"):
        assert 1e7 < found[f"{process}_rss_bytes"] < 1e9
    assert 1e6 < found["decoder_private_bytes"] < found["decoder_rss_bytes"] / 2  # what is loaded is there once
    assert 1e6 < found["sender_private_bytes"] < found["sender_rss_bytes"]
    assert 0 < found["idle_cores"] < 1
    assert 0.1 < found["idle_wakeups_hz"] < 100


def test_the_work_of_a_start_is_waited_for_and_is_not_that_of_idling():
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    program = "import time\nprint(flush=True)\nwhile time.process_time() < 1.5: pass\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            wait_until_idle(process.pid, 60)
            assert cpu_s(process.pid) > 1.4
            assert load_over(process.pid, 0.5).cores < 0.1
        finally:
            process.kill()


def test_the_bare_memory_grows_with_what_is_loaded():
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    found = bare_memory(640, 432)
    python, libraries, encoder, decoder = (
        found[f"bare_{part}_rss_bytes"] for part in ("python", "libraries", "encoder", "decoder")
    )
    assert 3e6 < python < libraries - 1e7
    assert libraries + 5e6 < encoder < decoder < 1e9  # at this size


def test_a_process_that_cannot_load_is_said_so(tmp_path, capfd):
    with pytest.raises(LinkError, match="memory of encoder"):
        bare_memory(96, 64, tmp_path)
    assert "manifest" in capfd.readouterr().err


def test_what_is_installed_has_onnxruntime_in_it():
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent
    assert install_bytes() > sum(path.stat().st_size for path in folder.rglob("*.so*")) > 1e7
