"""Int8 forms: close to their float graphs, as few layers left in float as the target needs, chosen where they pay."""

import json

import numpy as np
import onnx
import pytest
import torch

from edgesem.bundle.bundle import DEFAULT
from edgesem.bundle.runner import Choice, OrtRunner, choose, dot_product
from edgesem.codec.codec import Codec
from edgesem.errors import BundleError, EnvironmentMissing, UsageError
from export.graphs import write as graph
from export.quantization import forms, quantize
from export.quantization.replacement_cost import Cost, CostMeter
from export.quantization.sensitivity import quantize_to_target, snr_db
from tests.support.bundles import with_file


def test_preparing_a_graph_does_not_change_what_it_computes(quantized):
    folder, feeds = quantized
    plain, prepared = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(folder / "prepared.onnx")
    assert snr_db(plain.run(feeds[0]), prepared.run(feeds[0])) > 90


@pytest.mark.parametrize("profile", ["cpu", "tensorrt"])
def test_an_int8_encoder_stays_close_to_its_float_form(quantized, profile):
    folder, feeds = quantized
    plain, int8 = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(folder / f"{profile}.onnx")
    assert snr_db(plain.run(feeds[0]), int8.run(feeds[0])) > 12  # what that costs is for the meter to say (below)
    parameters = json.loads((DEFAULT / "manifest.json").read_text())["encoder"]["parameters"]
    assert (folder / f"{profile}.onnx").stat().st_size < 4 * parameters / 2


def test_tensorrt_gets_signed_symmetric_values_and_float_biases(quantized):
    graph = onnx.load(quantized[0] / "tensorrt.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    points = [constants[n.input[2]] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert points
    assert all(point.data_type == onnx.TensorProto.INT8 for point in points)
    assert all(not onnx.numpy_helper.to_array(point).any() for point in points)


def test_calibration_without_pictures_is_refused(quantized):
    with pytest.raises(UsageError, match="real pictures"):
        quantize.calibrate(quantized[0] / "prepared.onnx", [])


def test_pictures_to_evaluate_and_to_calibrate_on_come_from_all_over_the_folder_and_are_others():
    frames = [np.full((300, 300, 3), index, np.uint8) for index in range(100)]
    evaluated = {int(frame[0, 0, 0]) for frame in forms.evaluation_pieces(frames)}
    calibrated = {int(frame[0, 0, 0]) for frame in forms.calibration_pictures(frames)}
    assert not evaluated & calibrated
    for chosen in (evaluated, calibrated):
        assert min(chosen) < 5
        assert max(chosen) > 94
    assert len(forms.evaluation_pieces(frames[:1])) == len(forms.calibration_pictures(frames[:1])) == 1


def test_products_with_a_small_matrix_stay_in_float(tmp_path):
    class Modulated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.scale = torch.nn.Conv2d(3, 8, 3), torch.nn.Parameter(torch.rand(1, 8))

        def forward(self, frame):
            return self.conv(frame) * (frame.mean((1, 2, 3)).view(1, 1) @ self.scale)[:, :, None, None]

    graph.write(Modulated(), tmp_path / "m.onnx", {"frame": torch.rand(1, 3, 32, 32)}, ["y"], {"frame": 16})
    names = quantize.prepare(tmp_path / "m.onnx", tmp_path / "p.onnx")
    operators = {node.name: node.op_type for node in onnx.load(tmp_path / "p.onnx").graph.node}
    assert "MatMul" in operators.values()
    assert [operators[name] for name in names] == ["Conv"]


class Uneven(torch.nn.Module):
    """Three layers, of which the middle one has channels of sizes so unlike that one scale for all ruins them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 8), (8, 4)))
        with torch.no_grad():
            self.layers[1].weight[0] *= 3000
            self.layers[2].weight[:, 0] /= 3000

    def forward(self, frame):
        first, second, third = self.layers
        return third(torch.relu(second(torch.relu(first(frame)))))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, frames):
    """Its graph, and what goes into it."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.onnx"
    graph.write(Uneven(), path, {"frame": torch.rand(1, 3, 32, 32)}, ["latent"], {"frame": 16})
    return path, [{"frame": f.transpose(2, 0, 1)[None].astype(np.float32) / 255} for f in frames[:3]]


def test_the_layer_that_cannot_be_rounded_is_found_and_left_in_float(tmp_path, uneven):
    source, feeds = uneven
    plain = OrtRunner(source)

    def price(path):
        ratio = snr_db(plain.run(feeds[0]), OrtRunner(path).run(feeds[0]))
        return Cost(100 * 10 ** (-ratio / 10), 0.0, 0.0, 0.0)

    result = quantize_to_target(source, tmp_path / "int8.onnx", feeds, price, target_percent=1.0)
    assert result.met
    assert result.trials[0]["percent"] > 1.0
    assert result.excluded[-1] in [row["layer"] for row in result.sensitivity[:2]]
    assert 0 < len(result.excluded) < 3
    ratios = [row["snr_db"] for row in result.sensitivity]
    assert ratios == sorted(ratios)


def test_layers_that_the_target_bears_after_all_are_taken_back(tmp_path, uneven):
    source, feeds = uneven
    percents = iter((5.0, 5.0, 0.5, 0.7))  # the second layer that is given up was the only one that mattered

    def price(path):
        return Cost(next(percents), 0.0, 0.0, 0.0)

    result = quantize_to_target(source, tmp_path / "int8.onnx", feeds, price, target_percent=1.0)
    assert [len(trial["excluded"]) for trial in result.trials] == [0, 1, 2, 1]
    assert result.excluded == [result.sensitivity[1]["layer"]]
    assert result.met


def test_the_meter_finds_no_cost_in_the_same_graph_and_some_in_a_worse_one(bundle, frames):
    meter = CostMeter(bundle, frames[:2], levels=(60, 160))
    assert meter.cost({"encoder": OrtRunner(bundle.folder / "encoder.onnx")}).percent == pytest.approx(0, abs=1e-9)

    class Coarse:
        inner = OrtRunner(bundle.folder / "encoder.onnx")

        def run(self, feed):
            return {"latent": np.round(self.inner.run(feed)["latent"] * 2) / 2}

    assert meter.cost({"encoder": Coarse()}).percent > 5


def test_a_codec_takes_int8_where_the_cpu_is_made_for_it_and_says_why(bundle, quantized, frames):
    assert choose(bundle, "encoder").graph == "encoder.onnx"
    with pytest.raises(BundleError, match="edgesem quantize"):
        choose(bundle, "encoder", "int8")
    bundle = with_file(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
    chosen = choose(bundle, "encoder")
    assert chosen.graph == ("encoder.int8.onnx" if dot_product() else "encoder.onnx")
    assert (dot_product() or "no dot product") in chosen.reason
    assert choose(bundle, "encoder", "fp32") == Choice("encoder.onnx", "cpu", "fp32 was asked for")
    assert choose(bundle, "context_00", "int8").graph == "context_00.onnx"
    mine, other = (Codec(bundle, precision=kind).analyze(frames[0]).values for kind in ("int8", "fp32"))
    assert 0 < np.abs(mine - other).max() < 0.5
    with pytest.raises(UsageError):
        choose(bundle, "encoder", "int4")


def test_a_runtime_that_is_not_there_is_an_error_and_never_the_cpu(bundle):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EnvironmentMissing, match="CUDA"):
            OrtRunner(bundle.folder / "encoder.onnx", provider="cuda")
    with pytest.raises(EnvironmentMissing, match="no TensorRT engine"):
        choose(bundle, "encoder", runtime="tensorrt")
    with pytest.raises(UsageError, match="runtime"):
        choose(bundle, "encoder", runtime="abacus")


def test_optimum_quantizes_the_same_graph(quantized, tmp_path):
    pytest.importorskip("optimum.onnxruntime", reason="needs the extra optimum")
    folder, feeds = quantized
    quantize.quantize_with_optimum(folder / "prepared.onnx", tmp_path / "o.onnx", feeds, quantize.CPU)
    plain, int8 = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(tmp_path / "o.onnx")
    assert snr_db(plain.run(feeds[0]), int8.run(feeds[0])) > 8
