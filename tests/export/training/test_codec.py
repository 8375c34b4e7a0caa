"""Training and export, end to end: seconds of it make no good codec, but a whole one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgesem
from edgesem.bundle.runner import OrtRunner
from edgesem.cli import main as cli
from edgesem.entropy.schedule import EXACT, PASSES, VALUE_LIMIT, context_graph
from edgesem.errors import ExportError, InputError
from edgesem.files import read_picture
from edgesem.quality.metrics import ms_ssim as reference_ms_ssim
from edgesem.quality.metrics import psnr
from export.bundle import model, pipeline
from export.data.crops import infrared
from export.data.pack import pack
from export.graphs import write as graph
from export.graphs.context import both_ways, export_context
from export.networks.codec import klt_basis, move_range
from export.networks.context import ContextModel, IntConv
from export.training import losses
from export.training.codec import CodecNet, TrainConfig, loss_of, open_run, spread_levels, train
from export.training.loop import learning_rate
from runtime.capture.frame import PHOTOS
from tests.support.bundles import quiet


def config(**changes) -> TrainConfig:
    changes = {"teacher": False, **changes}
    return TrainConfig(**{"data": str(PHOTOS), "minutes": 0.02, "crop": 176, "batch": 1, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "run"
    train(config(), folder, progress=quiet)
    return folder


def export_run(run: Path, out: Path, name: str, data: Path = PHOTOS) -> None:
    settings = pipeline.Settings(name, data)
    pipeline.export_model(model.model_of_run(run), out, settings, lambda stage, done: None)


@pytest.fixture(scope="module")
def bundle(run, small_photos) -> Path:
    """A bundle whose tables were fitted on a packed file."""
    pack(small_photos, run.parent / "photos.pack")
    export_run(run, run.parent / "bundle", "tiny", run.parent / "photos.pack")
    return run.parent / "bundle"


def test_a_run_exports_to_a_bundle_that_codes_pictures(bundle):
    codec = edgesem.load(bundle)
    assert codec.bundle.manifest["quality"]["pictures"].endswith("training pictures of photos.pack")
    photo = read_picture(sorted(PHOTOS.glob("*.jpg"))[0])
    data = codec.encode(photo, budget_bytes=12000)
    assert len(data) <= 12000
    assert psnr(photo, codec.decode(data)) > 20  # the KLT alone does that


def test_the_manifest_says_what_is_in_the_bundle_and_nothing_of_this_machine(bundle):
    text = (bundle / "manifest.json").read_text()
    manifest = json.loads(text)
    assert str(PHOTOS.parent) not in text
    assert str(bundle.parent) not in text
    assert manifest["encoder"]["kmac_per_pixel"] <= 2.5
    assert manifest["encoder"]["parameters"] <= 700_000
    assert manifest["decoder"]["kmac_per_pixel"] <= 12
    assert manifest["context"]["kmac_per_pixel"] <= 1
    assert manifest["parity"]["context"]["max_error"] == 0
    assert manifest["training"]["pictures"] == 14
    assert len(manifest["quality"]["points"]) == 4
    assert sum(f.stat().st_size for f in bundle.iterdir()) <= 12e6
    for path in bundle.glob("*.onnx"):
        data = path.read_bytes()
        assert b"stack_trace" not in data
        assert str(PHOTOS.parents[1]).encode() not in data  # the checkout


def test_no_stage_of_the_encoder_falls_silent():
    torch.manual_seed(0)
    net = CodecNet()
    net.start_from_klt(torch.rand(16, 3, 96, 96))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    frame = torch.from_numpy(read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[:192, :192].copy())
    frame = frame.permute(2, 0, 1)[None].float() / 255
    for _ in range(12):
        loss, _ = loss_of(net, frame, config(teacher=False), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hidden = net.encoder.parts(frame)[1]
    assert (hidden.flatten(2).std(2) > 1e-3 * hidden.std()).float().mean() > 0.9


def test_a_run_goes_on_from_its_checkpoint(run):
    first = torch.load(run / "checkpoint.pt", weights_only=True)
    before = first["step"]
    train(config(minutes=first["spent_s"] / 60 + 0.02), run, progress=quiet)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["step"] > before
    assert state["spent_s"] >= first["spent_s"] + 1.2
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == state["step"]
    assert [json.loads(line)["from_step"] for line in (run / "history.jsonl").read_text().splitlines()] == [0, before]


def test_the_decoder_alone_learns_and_packets_stay_what_they_are(run, tmp_path, capsys):
    argv = ["train", "--only-decoder", "--data", str(PHOTOS), "--out", str(tmp_path / "run"), "--minutes", "0.02"]
    argv += ["--crop", "176", "--batch", "1", "--threads", "1", "--no-plot"]
    assert cli.main(argv) == 2
    assert "--start" in capsys.readouterr().err
    argv += ["--start", str(run / "weights.safetensors")]
    assert cli.main([*argv, "--start-range", "0.0002", "0.02"]) == 2
    assert "--start-range" in capsys.readouterr().err
    assert cli.main(argv) == 0
    before, after = (open_run(folder)[0].state_dict() for folder in (run, tmp_path / "run"))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "decoder.last.weight" in changed
    assert all(name.startswith("decoder.") for name in changed)


def test_a_folder_without_pictures_or_with_no_run_is_refused(tmp_path):
    with pytest.raises(InputError):
        train(config(data=str(tmp_path)), tmp_path / "run", progress=quiet)
    with pytest.raises(InputError):
        open_run(tmp_path)


def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be continued"):
        train(config(), tmp_path, progress=quiet)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"not a checkpoint"


def test_a_failed_gate_leaves_no_bundle(run, bundle, tmp_path, monkeypatch):
    def copied(part):
        return lambda net, folder: [shutil.copy(path, folder) for path in bundle.glob(f"{part}*.onnx")]

    for part in ("decoder", "context"):  # exporting these again would only take time
        monkeypatch.setitem(model.GRAPHS, part, copied(part))
    monkeypatch.setitem(model.GRAPHS, "encoder", _export_other_encoder)
    with pytest.raises(ExportError, match="encoder"):
        export_run(run, tmp_path / "bundle", "bad")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_interrupted_leaves_no_bundle_and_goes_on_from_its_steps(run, tmp_path):
    def interrupt(stage, done):
        if "counting" in stage:
            raise KeyboardInterrupt

    def go(settings, progress=lambda stage, done: None):
        return pipeline.export_model(model.model_of_run(run), tmp_path / "bundle", settings, progress)

    settings = pipeline.Settings("cut", PHOTOS)
    with pytest.raises(KeyboardInterrupt):
        go(settings, interrupt)
    assert not (tmp_path / "bundle").exists()
    assert go(replace(settings, resume=True))["steps"]["graphs"] == "kept"


@torch.no_grad()
def _export_other_encoder(encoder, folder):
    other = CodecNet().encoder
    other.load_state_dict(encoder.state_dict())
    other.linear.weight.mul_(1.01)
    graph.export_encoder(other, folder)


def test_the_bound_holds_by_construction_whatever_the_weights():
    for scale in (1e-3, 1.0, 300.0):
        conv = IntConv(98, 16, 3, 1, VALUE_LIMIT, 1 / 64)
        torch.nn.init.normal_(conv.weight, std=scale)
        torch.nn.init.normal_(conv.bias, std=scale)
        weight, bias, _ = conv.integers()
        assert (weight.abs().flatten(1).sum(1) * VALUE_LIMIT + bias.abs()).max() < EXACT


def test_breaking_the_bound_of_one_layer_stops_the_export(tmp_path, monkeypatch):
    context = ContextModel()
    monkeypatch.setattr(IntConv, "exponent", lambda self: torch.full((self.weight.shape[0],), 14.0))
    with pytest.raises(ExportError, match=r"context_00.*2\^24"):
        export_context(context, tmp_path)


@pytest.mark.parametrize("shape", [(9, 7), (8, 12), (1, 1)])
def test_graphs_compute_what_training_computed_at_their_positions(tmp_path, shape):
    torch.manual_seed(1)
    context = ContextModel()
    for parameter in context.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    export_context(context, tmp_path)
    values = torch.randint(-3000, 3000, (1, 96, *shape)).float().clamp(-VALUE_LIMIT, VALUE_LIMIT)
    feed = {"values": values.numpy(), "level": np.full((1, 1, *shape), 77, np.float32)}
    for index, net in enumerate(context.nets):
        for wanted, got in both_ways(index, net, OrtRunner(tmp_path / context_graph(index)), feed):
            assert np.array_equal(got, wanted)
            assert np.array_equal(got, got.round())
    assert len(context.nets) == len(PASSES)


def test_the_klt_is_orthonormal_and_ordered():
    basis, std = klt_basis(torch.rand(8, 3, 96, 96))
    flat = basis.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(96), atol=1e-4)
    assert (std.diff() <= 1e-6).all()


def test_missing_layers_cost_no_rate_and_change_the_picture():
    net = CodecNet()
    net.start_from_klt(torch.rand(16, 3, 96, 96))
    frame = torch.rand(1, 3, 64, 64)
    level = torch.full((1, 1, 1, 1), 200.0)
    with torch.no_grad():
        (less, few), (more, many) = (net(frame, level, torch.full((1, 1, 1, 1), k)) for k in (1, 4))
    assert few < many
    assert ((more - frame) ** 2).mean() < ((less - frame) ** 2).mean()


def test_the_rate_is_that_of_the_rounded_symbol():
    residual = torch.tensor([0.2, -0.4, 0.9, 3.3], requires_grad=True)
    scale = torch.tensor([5.0, 5.0, 20.0, 30.0], requires_grad=True)
    bits = losses.rate(residual, scale)
    assert torch.allclose(bits, losses.symbol_bits(residual.round(), scale))
    bits.sum().backward()
    assert residual.grad is not None
    assert scale.grad is not None
    assert (scale.grad != 0).all()


def test_the_training_loss_measures_what_the_bench_reports():
    random = np.random.default_rng(0)
    a = read_picture(sorted(PHOTOS.glob("*.jpg"))[1])[:256, :320]
    b = np.clip(a + random.normal(0, 12, a.shape), 0, 255).astype(np.uint8)
    planes = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255 for x in (a, b)]
    assert losses.ms_ssim(*planes).item() == pytest.approx(reference_ms_ssim(a, b), abs=2e-3)


def test_a_share_of_the_pictures_is_seen_as_by_night():
    frames = torch.rand(64, 3, 16, 16)
    torch.manual_seed(2)
    seen = infrared(frames, share=0.5)
    grey = (seen[:, 0] == seen[:, 2]).flatten(1).all(1)
    assert 16 < grey.sum() < 48
    assert torch.equal(seen[~grey], frames[~grey])
    assert seen.min() >= 0
    assert seen.max() <= 1
    mean = (frames * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    assert (seen[grey, 0] - mean[grey]).abs().mean() < 0.05


def test_ssimulacra2_joins_the_loss_where_it_is_asked_for():
    frame = torch.rand(2, 3, 192, 192)
    asked = config(ssimulacra2=0.3, ms_ssim_from=-1.0)
    assert "ssimulacra2" in loss_of(CodecNet(), frame, asked, 0.5)[1]
    assert "ssimulacra2" not in loss_of(CodecNet(), frame, config(ms_ssim_from=-1.0), 0.5)[1]


def test_the_learning_rate_follows_the_clock():
    settings = config()
    assert learning_rate(settings, 0.0, 0) < settings.learning_rate / 100
    assert learning_rate(settings, 0.0, 10**4) == pytest.approx(settings.learning_rate)
    assert learning_rate(settings, 1.0, 10**4) == pytest.approx(settings.final_learning_rate)


def test_levels_of_a_batch_cover_the_range_evenly():
    for _ in range(20):
        levels = spread_levels(4).flatten()
        assert torch.equal(levels, levels.floor())
        assert (levels // 64).tolist() == [0, 1, 2, 3]


def test_a_range_of_qualities_can_be_moved_after_training():
    """What one quality did over the old range, another does over the new one; beyond, gains go on as they went."""
    torch.manual_seed(4)
    old, new = CodecNet().eval(), CodecNet().eval()
    with torch.no_grad():
        for knots in (old.gains.log_gain, old.gains.log_inverse, old.decoder.strength.scale):
            knots.copy_(torch.linspace(0, 1, 8)[:, None] * torch.randn(knots.shape[1]))  # straight, so nothing is lost
    new.load_state_dict(old.state_dict())
    move_range(new, (1e-4, 1e-2), (1e-5, 1e-2))
    hidden, quality = torch.randn(1, 48, 4, 4), torch.full((1, 1, 1, 1), 0.5)
    same = (quality * 2 + 1) / 3  # a third of the new range lies below the old one
    for a, b in zip(old.gains(quality), new.gains(same), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(old.decoder.strength(hidden, quality), new.decoder.strength(hidden, same), atol=1e-4)
    lowest = new.gains(torch.zeros(1, 1, 1, 1))[0].log()[:, :, 0, 0]
    assert torch.allclose(lowest[0], -0.5 * old.gains.log_gain[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["0.1", "0.2"], "goes with --start"),
        (["0.1", "0.2", "--start", "w.safetensors", "--flow", "run"], "a codec alone"),
        (["0.2", "0.1", "--start", "w.safetensors"], "rising"),
    ],
)
def test_a_range_that_nothing_was_trained_for_is_refused(tmp_path, capsys, words, what):
    asked = ["train", "--data", str(PHOTOS), "--out", str(tmp_path / "run"), "--start-range", *words]
    assert cli.main(asked) == 2
    assert what in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
