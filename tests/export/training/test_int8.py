"""Training of an int8 decoder: rounding in the loop where the graph rounds, and a graph that draws what was trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.runner import OrtRunner
from edgesem.cli import main as cli
from edgesem.entropy.schedule import CHANNELS
from edgesem.errors import ExportError, InputError
from export.graphs import write as graph
from export.networks.codec import Decoder
from export.quantization import forms
from export.quantization.replacement_cost import Cost
from export.quantization.sensitivity import snr_db
from export.quantization.trained import quantize_trained
from export.training.codec import open_run
from export.training.int8 import Rounding, calibrate, int8_decoder, open_int8, roundings
from runtime.capture.frame import PHOTOS

WEIGHTS = Path(__file__).parents[3] / "export" / "weights" / "codec.safetensors"


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Path:
    """The run of the codec that ships."""
    folder = tmp_path_factory.mktemp("codec")
    shutil.copy(WEIGHTS, folder / "weights.safetensors")
    settings = {"data": str(PHOTOS), "minutes": 1.0, "teacher": False}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def train(codec: Path, out: Path, *more: str) -> int:
    argv = ["train", "--decoder-int8", str(codec), "--data", str(PHOTOS), "--out", str(out), "--minutes", "0.02"]
    return cli.main([*argv, "--crop", "176", "--batch", "2", "--threads", "1", "--no-plot", *more])


@pytest.fixture(scope="module")
def trained(codec, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    before = (codec / "weights.safetensors").read_bytes()
    assert train(codec, out) == 0
    assert (codec / "weights.safetensors").read_bytes() == before
    return out


def test_rounding_lets_gradients_through_and_learns_its_range():
    rounding = Rounding()
    x = torch.linspace(-3, 3, 601, requires_grad=True)
    assert torch.equal(rounding(x), x)
    rounding.start(-1.0, 2.0)
    made = rounding(x)
    plain = made.detach()
    assert len(plain.unique()) == 256
    assert float(plain.abs().min()) == 0
    assert float((plain - x.detach())[(x > -1) & (x < 2)].abs().max()) < 3 / 255
    (made * x.detach()).sum().backward()  # whoever wants more of what is cut off wants a wider range
    assert (x.grad[(x > -0.99) & (x < 1.99)] != 0).all()
    assert (x.grad[(x < -1.01) | (x > 2.01)] == 0).all()
    assert float(rounding.above.grad) > 0
    assert float(rounding.below.grad) > 0


def test_it_draws_as_the_decoder_does_until_it_has_ranges_and_nearly_so_then(codec):
    plain = open_run(codec)[0].decoder
    net = int8_decoder(plain)
    torch.manual_seed(0)
    latent, quality = torch.randn(2, CHANNELS, 6, 8) * plain.channel_std, torch.rand(2, 1, 1, 1)
    with torch.no_grad():
        wanted = plain(latent, quality)
        assert torch.equal(net(latent, quality), wanted)
        calibrate(net, lambda: (latent, quality))
        made = net(latent, quality)
    assert all(rounding.highest > rounding.lowest for _, rounding in roundings(net))
    assert 0 < float((made - wanted).square().mean()) < 1e-3


def test_the_graph_rounds_where_the_training_did(trained, tmp_path, frames):
    net, ranges = open_int8(trained)
    graph.export_decoder(net, tmp_path, "plain.onnx")  # makes its weights float16, which moves roundings
    twin = int8_decoder(net)
    for name, rounding in roundings(twin):
        rounding.start(*ranges[name])
    result = quantize_trained(tmp_path / "plain.onnx", tmp_path / "int8.onnx", ranges, lambda _: Cost(0, 0, 0, 0), 1.0)
    assert 0.85 < result.integer_share < 0.92
    made_of = onnx.load(tmp_path / "int8.onnx").graph
    layers = [node for node in made_of.node if node.op_type == "Conv"]
    rounded = [node for node in layers if node.input[1].endswith("DequantizeLinear_Output")]
    assert (len(layers), len(rounded)) == (10, 8)
    feed = forms.feeds(Bundle.open(), "decoder", frames[:1])[0]
    with torch.no_grad():
        wanted = {"picture": twin.eval()(*map(torch.from_numpy, feed.values())).numpy()}
        float_ = {"picture": net(*map(torch.from_numpy, feed.values())).numpy()}
    made = OrtRunner(tmp_path / "int8.onnx").run(feed)
    noise = [(drawn["picture"] - float_["picture"]).ravel() for drawn in (wanted, made)]
    assert np.corrcoef(*noise)[0, 1] > 0.4  # the same roundings, but for the last bit of a sum; of others it is 0
    assert abs(snr_db(float_, made) - snr_db(float_, wanted)) < 1


def test_ranges_of_layers_that_the_graph_lacks_are_refused(trained, tmp_path):
    net, ranges = open_int8(trained)
    graph.export_decoder(net, tmp_path, "plain.onnx")
    strange = {**ranges, "finest.before": (0.0, 1.0), "finest.after": (0.0, 1.0)}
    with pytest.raises(ExportError, match=r"finest\.before"):
        quantize_trained(tmp_path / "plain.onnx", tmp_path / "i.onnx", strange, lambda _: Cost(0, 0, 0, 0), 1.0)


def test_quantize_puts_it_into_a_bundle_where_it_costs_little_enough(trained, bundle, capsys):
    argv = ["quantize", str(bundle.folder), "--part", "decoder", "--run", str(trained), "--data", str(PHOTOS), "--json"]
    assert cli.main([*argv, "--percent", "0"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (bundle.folder / "decoder.int8.onnx").exists()
    assert cli.main([*argv, "--percent", "900"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["speedup_here"] > 0
    assert len(report["excluded"]) == 2
    entry = Bundle.open(bundle.folder).manifest["int8"]["decoder"]
    assert entry["kept"]
    assert entry["integer_share"] == report["integer_share"]
    assert [run["ms_ssim"] for run in entry["history"]] == [0.6]
    assert "decoder.int8.onnx" in Bundle.open(bundle.folder).files


@pytest.mark.parametrize("more", [["--part", "encoder"], ["--part", "decoder", "--profile", "tensorrt"]])
def test_a_run_is_for_the_decoder_on_a_cpu_alone(trained, bundle, more, capsys):
    argv = ["quantize", str(bundle.folder), "--run", str(trained), "--data", str(PHOTOS)]
    assert cli.main([*argv, *more]) == 2
    assert "--part decoder" in capsys.readouterr().err


def test_it_goes_on_from_weights_and_from_where_it_stopped(codec, trained, tmp_path):
    start = trained / "weights.safetensors"
    assert train(codec, tmp_path / "more", "--start", str(start)) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "more" / "log.jsonl").read_text().splitlines()]
    assert train(codec, tmp_path / "more", "--start", str(start), "--minutes", "0.03") == 0
    later = [json.loads(line)["step"] for line in (tmp_path / "more" / "log.jsonl").read_text().splitlines()]
    assert later[-1] > steps[-1]
    begun = [json.loads(line)["from_step"] for line in (tmp_path / "more" / "history.jsonl").read_text().splitlines()]
    assert begun == [0, steps[-1]]
    assert isinstance(open_int8(tmp_path / "more")[0], Decoder)


def test_it_begins_with_the_ranges_of_the_weights_that_it_is_given(codec, trained, tmp_path):
    weights = load_file(trained / "weights.safetensors")
    ends = [name for name in weights if name.endswith((".below", ".above"))]
    wide = {name: value + 0.05 if name in ends else value for name, value in weights.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    assert train(codec, tmp_path / "run", "--start", str(tmp_path / "wide.safetensors"), "--learning-rate", "1e-9") == 0
    begun = load_file(tmp_path / "run" / "weights.safetensors")
    assert ends
    assert all(torch.allclose(begun[name], wide[name], atol=0.01) for name in ends)


def test_a_run_for_another_codec_is_refused(trained, bundle, tmp_path, capsys):
    weights = load_file(trained / "weights.safetensors")
    weights["linear.weight"] = weights["linear.weight"] * 1.01
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    save_file(weights, other / "weights.safetensors")
    argv = ["quantize", str(bundle.folder), "--part", "decoder", "--run", str(other), "--data", str(PHOTOS)]
    assert cli.main([*argv, "--percent", "900"]) == 1
    assert "another codec" in capsys.readouterr().err


def test_a_run_of_something_else_is_refused(codec):
    with pytest.raises(InputError, match="--decoder-int8"):
        open_int8(codec)
