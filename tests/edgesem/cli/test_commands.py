"""encode, decode and info with the bundle that ships: what a user does with files."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgesem
from edgesem.cli import main as cli
from edgesem.entropy import kernel
from edgesem.files import read_picture
from edgesem.packet.event_mark import EventMark
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation

PHOTO = sorted((Path(__file__).parents[3] / "runtime" / "photos").glob("*.jpg"))[0]


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A real photograph, small enough to be quick, with sides that are no multiple of 16."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    image = Image.open(PHOTO).convert("RGB")
    image.thumbnail((331, 331))
    image.save(path)
    return path


@pytest.fixture
def run(capsys):
    """Run a command with --json: (exit code, what it printed)."""

    def call(*args: object) -> tuple[int, dict]:
        code = cli.main([*map(str, args), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_a_picture_fits_the_bytes_that_were_asked_for(photo, tmp_path, run):
    out = tmp_path / "a.es"
    code, result = run("encode", photo, out, "--bytes", 2500)
    assert code == 0
    data = out.read_bytes()
    assert 0.95 * 2500 <= len(data) <= 2500
    frame = read_picture(photo)
    assert result["size_bytes"] == len(data)
    assert result["bpp"] == pytest.approx(8 * len(data) / (frame.shape[0] * frame.shape[1]), abs=1e-6)
    assert (result["height"], result["width"]) == frame.shape[:2]
    assert result["sha256"] == hashlib.sha256(data).hexdigest()
    assert set(result["encode_s"]) == {"read", "load", "analyze", "pack"}

    code, said = run("info", out)
    assert code == 0
    packet = Packet.from_bytes(data)
    assert said["layers"] == [len(chunk) for chunk in packet.chunks]
    assert {key: said[key] for key in ("size_bytes", "width", "height", "q", "layers", "bundle_id", "sha256")} == {
        key: result[key] for key in ("size_bytes", "width", "height", "q", "layers", "bundle_id", "sha256")
    }
    assert said["bundle"]["digest"] == run("info", "default")[1]["digest"]


def test_info_shows_to_which_event_a_promised_frame_belongs(photo, tmp_path, run):
    out = tmp_path / "a.es"
    run("encode", photo, out, "--bytes", 1500)
    mark = EventMark(event=0xABC, place=2, since_ms=-1500, kind=1, last=True, label="a car")
    promised = replace(Packet.from_bytes(out.read_bytes()), side_info=SideInformation(event=mark))
    out.write_bytes(promised.to_bytes())
    code, said = run("info", out)
    assert code == 0
    assert said["side_info"]["event"] == {
        "event": "00000abc",
        "place": 2,
        "since_ms": -1500,
        "cause": "watch",
        "last": True,
        "label": "a car",
    }


def test_each_layer_brings_the_picture_closer(photo, tmp_path, run):
    packet = tmp_path / "a.es"
    assert run("encode", photo, packet, "--quality", 0.7)[0] == 0
    original = read_picture(photo)
    reached = []
    for layers in (1, 2, 3, 4):
        code, result = run("decode", packet, tmp_path / "a.png", "--layers", layers)
        assert code == 0
        frame = read_picture(tmp_path / "a.png")
        assert (result["width"], result["height"], result["layers"]) == (frame.shape[1], frame.shape[0], layers)
        assert result["pixels_sha256"] == hashlib.sha256(frame.tobytes()).hexdigest()
        reached.append(psnr(frame, original))
    assert reached == sorted(reached)
    assert reached[0] > 15
    assert run("decode", packet, tmp_path / "all.png")[1]["pixels_sha256"] == result["pixels_sha256"]


def test_a_region_is_named_in_pixels(photo, tmp_path, run):
    code, result = run("encode", photo, tmp_path / "a.es", "--region", "64,32,96,64", "--drop", 40)
    assert code == 0
    region = {"left": 4, "top": 2, "right": 9, "bottom": 5, "drop": 40}
    assert result["side_info"]["region"] == region
    code, result = run("encode", photo, tmp_path / "b.es", "--drop", 40)
    assert (code, (tmp_path / "b.es").exists()) == (2, False)
    assert "--region" in result["error"]["message"]


def test_fewer_layers_and_the_default_quality(photo, tmp_path, run):
    whole = run("encode", photo, tmp_path / "4.es")[1]
    assert whole["size_bytes"] == run("encode", photo, tmp_path / "5.es", "--quality", "0.5")[1]["size_bytes"]
    code, result = run("encode", photo, tmp_path / "2.es", "--layers", 2)
    assert code == 0
    assert len(result["layers"]) == 2
    assert result["size_bytes"] < whole["size_bytes"]
    code, error = run("decode", tmp_path / "2.es", tmp_path / "a.png", "--layers", 3)
    assert code == 1
    assert "1 to 2" in error["error"]["message"]
    assert not (tmp_path / "a.png").exists()


def test_a_flipped_byte_anywhere_gives_an_error_and_no_file(photo, tmp_path, run):
    packet = tmp_path / "a.es"
    run("encode", photo, packet, "--bytes", 1500)
    data = packet.read_bytes()
    for position in (*range(24), len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        packet.write_bytes(damaged)
        code, error = run("decode", packet, tmp_path / "a.png")
        assert code == 1
        assert str(packet) in error["error"]["message"]
        assert [path.name for path in tmp_path.iterdir()] == ["a.es"]


def test_a_packet_of_another_bundle_is_refused(photo, tmp_path, run):
    packet = tmp_path / "a.es"
    run("encode", photo, packet, "--bytes", 1500)
    data = bytearray(packet.read_bytes())
    from dataclasses import replace

    other = replace(Packet.from_bytes(bytes(data)), bundle_id=Packet.from_bytes(bytes(data)).bundle_id ^ 1)
    packet.write_bytes(other.to_bytes())
    code, error = run("decode", packet, tmp_path / "a.png")
    assert (code, error["error"]["type"]) == (1, "BundleError")
    assert run("info", packet)[1]["bundle"] is None


def test_a_budget_too_small_says_the_smallest_that_works(photo, tmp_path, run):
    code, error = run("encode", photo, tmp_path / "a.es", "--bytes", 30)
    assert (code, error["error"]["type"]) == (1, "BudgetError")
    assert not list(tmp_path.iterdir())
    smallest = error["error"]["smallest_bytes"]
    code, result = run("encode", photo, tmp_path / "a.es", "--bytes", smallest)
    assert (code, result["size_bytes"]) == (0, smallest)


@pytest.mark.parametrize("missing", ["nowhere.png", "broken.png", "."])
def test_an_input_that_is_no_picture_leaves_no_output(tmp_path, run, missing):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    code, error = run("encode", tmp_path / missing, tmp_path / "a.es", "--bytes", 2500)
    assert (code, error["error"]["type"]) == (1, "InputError")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


@pytest.mark.parametrize(
    "options",
    [
        ["--bytes", "0"],
        ["--bytes", "2500", "--quality", "0.5"],
        ["--quality", "1.5"],
        ["--quality", "nan"],
        ["--layers", "0"],
        ["--layers", "5"],
    ],
)
def test_options_out_of_range_are_wrong_usage(photo, tmp_path, run, options):
    assert run("encode", photo, tmp_path / "a.es", *options)[0] == 2
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_is_wrong_usage(photo, tmp_path, run):
    packet = tmp_path / "a.es"
    run("encode", photo, packet, "--bytes", 1500)
    before = packet.read_bytes()
    assert run("decode", packet, tmp_path / "a.xyz")[0] == 2
    assert run("encode", photo, photo)[0] == 2
    assert run("decode", packet, tmp_path / "a.png", "--steps", 5)[0] == 2
    assert packet.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.es"]


def test_steps_redraw_the_same_picture_for_the_same_seed(photo, tmp_path, run):
    packet = tmp_path / "a.es"
    run("encode", photo, packet, "--bytes", 1500)
    for name, options in {"base": [], "one": ["--steps", 1], "again": ["--steps", 1], "two": ["--steps", 2]}.items():
        assert run("decode", packet, tmp_path / f"{name}.png", *options)[0] == 0
    base, one, again, two = (
        np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("base", "one", "again", "two")
    )
    assert (one == again).all()
    assert (one != base).any()
    assert (one != two).any()
    assert np.abs(one - base).mean() < 16


def test_info_of_a_bundle_gives_size_and_cost(run):
    code, result = run("info", "default")
    assert code == 0
    assert result["size_bytes"] <= 12e6
    for part in ("encoder", "decoder", "context"):
        assert result[part]["kmac_per_pixel"] > 0
        assert result[part]["parameters"] > 0
    assert result["flow"]["kmac_per_pixel"] <= 40
    assert result["flow"]["parameters"] <= 8e6
    assert result["runs_here"]["entropy_coder"] == asdict(kernel.choose())
    assert run("info", Path(edgesem.__file__).parent / "default_bundle")[1] == result


def test_a_human_is_spared_what_is_for_machines(capsys):
    assert cli.main(["info", "default"]) == 0
    shown = capsys.readouterr().out
    assert "runs_here.encoder.graph" in shown
    assert "sha256" not in shown
    assert len(shown.splitlines()) < 80


def test_a_human_reads_tables(photo, tmp_path, capsys):
    packet, picture = tmp_path / "a.es", tmp_path / "a.png"
    for args in (
        ["encode", photo, packet, "--bytes", 1500],
        ["decode", packet, picture],
        ["info", packet],
        ["info", "default"],
    ):
        assert cli.main(list(map(str, args))) == 0
        assert "size_bytes" in (text := capsys.readouterr().out) or "packet_bytes" in text
