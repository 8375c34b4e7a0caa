"""What a decoded picture says of itself, regions of interest, and maps of what was drawn rather than seen."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import edgesem
from edgesem.cli.main import main
from edgesem.codec.options import PackOptions
from edgesem.codec.region import parse_box, region_of
from edgesem.codec.uncertainty import blocks, show, spearman, spread
from edgesem.errors import InputError, UsageError
from edgesem.packet.capture_time import utc_text
from edgesem.packet.side_information import Region, SideInformation
from edgesem.provenance import Provenance, encode_with_provenance, read_provenance

DRAWN = Provenance(
    bytes=2500, layers=4, total_layers=4, q=120, steps=2, seed=7, realism=0.5, bundle="b", bundle_digest="ab" * 32
)


def picture(height=64, width=96, seed=0):
    rough = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tiff"])
def test_a_picture_says_how_it_was_made(tmp_path, kind):
    path = tmp_path / f"p.{kind}"
    path.write_bytes(encode_with_provenance(picture(), kind, DRAWN))
    assert read_provenance(path) == DRAWN
    with Image.open(path) as opened:
        assert opened.size == (96, 64)


def test_a_photograph_says_nothing_and_garbage_is_refused(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "p.png")
    assert read_provenance(tmp_path / "p.png") is None
    (tmp_path / "x.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match="picture"):
        read_provenance(tmp_path / "x.png")


@given(st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(InputError, match="provenance"):
        Provenance.from_text(text)


NOW_MS = 1_795_000_123_456


def test_the_capture_time_is_said_in_utc_with_its_date(tmp_path, capsys):
    codec = edgesem.load()
    latent = codec.analyze(picture())
    exact = PackOptions(time_ms=NOW_MS % 2**32, side_info=SideInformation(time_high=NOW_MS >> 32))
    now_ms = time.time_ns() // 1_000_000
    for name, options, said in (
        ("exact", exact, "2026-11-18T11:08:43.456Z"),
        ("recent", PackOptions(time_ms=(now_ms - 5000) % 2**32), utc_text(now_ms - 5000)),
        ("unknown", PackOptions(), None),
    ):
        packet = codec.pack(latent, quality=0.2, options=options)
        path = tmp_path / f"{name}.es"
        path.write_bytes(packet.to_bytes())
        assert Provenance.of(packet, codec.bundle).captured == (said or "")
        assert main(["info", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["captured"], found["captured_exact"]) == (said, name == "exact")
        assert "time_ms" not in found
        assert main(["decode", str(path), str(tmp_path / "out.png"), "--json"]) == 0
        capsys.readouterr()
        assert main(["info", str(tmp_path / "out.png"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["captured"] == (said or "")


def test_a_capture_time_that_is_known_better_is_taken():
    codec = edgesem.load()
    packet = codec.pack(codec.analyze(picture()), quality=0.2, options=PackOptions(time_ms=5))
    assert Provenance.of(packet, codec.bundle, captured_ms=NOW_MS).captured == "2026-11-18T11:08:43.456Z"
    assert utc_text(0) == "1970-01-01T00:00:00.000Z"
    assert utc_text(2**64).startswith("9999-12-31T23:59:59")


def test_a_record_of_version_0_1_is_read_without_a_time():
    old = {**json.loads(DRAWN.to_text()), "time_ms": 123456}
    del old["captured"]
    assert Provenance.from_text(json.dumps(old)) == DRAWN


@pytest.mark.parametrize("change", [{"steps": "1"}, {"bytes": 1.5}, {"more": 1}, {"generated": 1}])
def test_a_changed_text_is_refused(change):
    said = {**json.loads(DRAWN.to_text()), **change}
    with pytest.raises(InputError, match="provenance"):
        Provenance.from_text(json.dumps(said))
    assert Provenance.from_text(DRAWN.to_text()) == DRAWN


def test_decode_leaves_word_and_info_reads_it(tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "in.png")
    assert main(["encode", str(tmp_path / "in.png"), str(tmp_path / "p.es"), "--bytes", "700"]) == 0
    for name in ("out.png", "out.jpg"):
        assert main(["decode", str(tmp_path / "p.es"), str(tmp_path / name)]) == 0
        capsys.readouterr()
        assert main(["info", str(tmp_path / name), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["generated"] is True
        assert said["bytes"] == (tmp_path / "p.es").stat().st_size
        assert said["steps"] == 0
    assert main(["info", str(tmp_path / "in.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generated"] is None


def test_a_box_in_pixels_or_in_parts():
    assert parse_box("16,0,32,32", 64, 64) == (0.25, 0, 0.5, 0.5)
    assert parse_box("0.25,0,0.5,0.5", 640, 480) == (0.25, 0, 0.5, 0.5)
    for text in ("1,2,3", "a,b,c,d", "0,0,65,10", "0,0,0,10", "-1,0,5,5", "nan,0,1,1", "0.5,0,0.6,1"):
        with pytest.raises(UsageError, match="region"):
            parse_box(text, 64, 64)
    with pytest.raises(UsageError, match=r"leaves the picture \(left, top, width and height as shares"):
        parse_box("0.9,0.5,1.0,0.5", 1, 1)  # as somebody asks who does not know the size


def test_a_region_covers_the_box_and_nothing_far_from_it():
    assert region_of((0.25, 0.0, 0.5, 0.5), 64, 64, 40) == Region(1, 0, 2, 1, 40)
    assert region_of((0.26, 0.0, 0.01, 0.01), 64, 64, 40) == Region(1, 0, 1, 0, 40)
    assert region_of((0, 0, 1, 1), 100, 70, 40) is None


@given(st.integers(16, 4096), st.integers(16, 4096), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_any_box_in_a_picture_is_a_region_of_it(width, height, numbers):
    left, top = numbers[0] * 0.99, numbers[1] * 0.99
    found = region_of((left, top, max(1e-6, numbers[2] * (1 - left)), max(1e-6, numbers[3] * (1 - top))), width, height)
    if found is not None:
        assert 0 <= found.left <= found.right <= (width - 1) // 16
        assert 0 <= found.top <= found.bottom <= (height - 1) // 16


def test_bytes_go_where_one_points():
    codec, frame = edgesem.load(), picture(192, 192, seed=3)
    latent = codec.analyze(frame)
    region = region_of(parse_box("64,64,64,64", 192, 192), 192, 192)
    errors = {}
    for name, side_info in (("plain", SideInformation()), ("region", SideInformation(region=region))):
        packet = codec.pack(latent, budget_bytes=1500, options=PackOptions(side_info=side_info))
        assert packet.size_bytes <= 1500
        wrong = (codec.synthesize(codec.unpack(packet)).astype(float) - frame) ** 2
        errors[name] = wrong[64:128, 64:128].mean(), np.delete(wrong, np.s_[64:128], 0).mean()
    assert errors["region"][0] < 0.9 * errors["plain"][0]
    assert errors["region"][1] > errors["plain"][1]


def test_ranks_agree_whatever_the_scale_and_ties_count_half():
    a = np.array([1.0, 2, 3, 4, 5])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, np.ones(5)) == 0
    assert spearman(np.array([1.0, 1, 2, 3]), np.array([1.0, 1, 5, 9])) == pytest.approx(1)


class Noisy:
    """A codec whose samples differ where the latent says so."""

    has_flow = True

    def synthesize(self, latent, *, steps=0, seed=0, realism=1.0):
        noise = np.random.default_rng(seed).normal(size=(latent.height, latent.width, 3))
        return np.clip(128 + noise * np.linspace(0, 40, latent.width)[None, :, None], 0, 255).astype(np.uint8)


def test_the_map_is_where_samples_differ():
    latent = replace(edgesem.load().analyze(picture()))
    found = spread(Noisy(), latent, samples=8)
    columns = blocks(found).mean(0)
    assert columns[0] < columns[len(columns) // 2] < columns[-1]
    assert show(found).shape == (64, 96, 3)
    assert show(np.zeros((20, 30), np.float32)).max() == 0
