"""Int8 forms, verification, signatures, own models and engines, on small networks and real photographs."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra export")
onnx = pytest.importorskip("onnx", reason="needs the extra export")

import edgesem  # noqa: E402
from edgesem import engine_build as engine_builder  # noqa: E402
from edgesem.bundle import engine as engines  # noqa: E402
from edgesem.bundle.bundle import DEFAULT, Bundle  # noqa: E402
from edgesem.bundle.runner import Choice, OrtRunner, choose, dot_product  # noqa: E402
from edgesem.codec.codec import Codec  # noqa: E402
from edgesem.engine_build import Sizes, build_plan  # noqa: E402
from edgesem.entropy.schedule import context_graph  # noqa: E402
from edgesem.errors import BundleError, EnvironmentMissing, ExportError, InputError, UsageError  # noqa: E402
from edgesem.files import find_pictures, read_picture, write_picture  # noqa: E402
from edgesem.packet.keys import Identity  # noqa: E402
from edgesem.packet.signature import signed, signer  # noqa: E402
from export.bundle import own_networks as foreign  # noqa: E402
from export.bundle import pipeline  # noqa: E402
from export.bundle import verify as verification  # noqa: E402
from export.bundle.steps import Steps  # noqa: E402
from export.bundle.verify import tensorrt_builds, verify  # noqa: E402
from export.custom import axes  # noqa: E402
from export.graphs import exactness  # noqa: E402
from export.graphs import write as graph  # noqa: E402
from export.graphs.proof import largest_sum  # noqa: E402
from export.graphs.targets import TARGETS, target_of  # noqa: E402
from export.quantization import forms, quantize  # noqa: E402
from export.quantization.cost_in_use import Judge  # noqa: E402
from export.quantization.sensitivity import quantize_to_target, snr_db  # noqa: E402

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"

pytestmark = pytest.mark.skipif(not (DEFAULT / "manifest.json").exists(), reason="no default bundle in this checkout")


def quiet(stage, done):
    pass


@pytest.fixture(scope="module")
def frames():
    return [np.ascontiguousarray(read_picture(path)[:192, :192]) for path in find_pictures(PHOTOS)[:6]]


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    """The default bundle as a folder of its own, without the forms that it may have."""
    shutil.copytree(DEFAULT, tmp_path / "bundle")
    for path in (tmp_path / "bundle").glob("*.onnx"):
        if path.name.count(".") > 1:
            path.unlink()
    manifest = json.loads((DEFAULT / "manifest.json").read_text())
    manifest.pop("signature", None)
    return pipeline.seal(tmp_path / "bundle", {**manifest, "target": "x86"})


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, frames):
    """The int8 encoder of the default bundle, its prepared float graph and its feeds."""
    folder = tmp_path_factory.mktemp("quantized")
    feeds = forms.feeds(Bundle.open(), "encoder", frames)
    quantize.prepare(DEFAULT / "encoder.onnx", folder / "prepared.onnx")
    ranges = quantize.calibrate(folder / "prepared.onnx", feeds)
    for profile in quantize.PROFILES.values():
        quantize.quantize(folder / "prepared.onnx", folder / f"{profile.name}.onnx", ranges, profile)
    return folder, feeds


def test_preparing_a_graph_does_not_change_what_it_computes(quantized):
    folder, feeds = quantized
    plain, prepared = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(folder / "prepared.onnx")
    assert snr_db(plain.run(feeds[0]), prepared.run(feeds[0])) > 90


@pytest.mark.parametrize("profile", ["cpu", "tensorrt"])
def test_an_int8_encoder_stays_close_to_its_float_form(quantized, profile):
    folder, feeds = quantized
    plain, int8 = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(folder / f"{profile}.onnx")
    assert snr_db(plain.run(feeds[0]), int8.run(feeds[0])) > 15  # what that costs is for the judge to say (below)
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


def test_pictures_to_judge_by_and_to_calibrate_on_come_from_all_over_the_folder_and_are_others():
    frames = [np.full((300, 300, 3), index, np.uint8) for index in range(100)]
    judged = {int(frame[0, 0, 0]) for frame in forms.judged(frames)}
    calibrated = {int(frame[0, 0, 0]) for frame in forms.calibrated(frames)}
    assert not judged & calibrated
    for chosen in (judged, calibrated):
        assert min(chosen) < 5
        assert max(chosen) > 94
    assert len(forms.judged(frames[:1])) == len(forms.calibrated(frames[:1])) == 1


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


def test_an_export_whose_bundle_does_not_verify_is_an_error(bundle, frames):
    pipeline.write_golden(Codec(bundle, precision="fp32"), frames[:3])
    pipeline.seal(bundle.folder, bundle.manifest)
    assert pipeline._verified(bundle.folder, target_of("x86"), quiet)["golden packets"] is True
    golden = json.loads((bundle.folder / "golden.json").read_text())
    golden[0]["latent_sha256"][0] = "0" * 64
    (bundle.folder / "golden.json").write_text(json.dumps(golden))
    pipeline.seal(bundle.folder, bundle.manifest)
    with pytest.raises(ExportError, match="golden packet 0"):
        pipeline._verified(bundle.folder, target_of("x86"), quiet)


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


def test_the_layer_that_cannot_be_rounded_is_found_and_left_in_float(tmp_path, frames):
    from export.quantization.cost_in_use import Cost

    source = tmp_path / "uneven.onnx"
    graph.write(Uneven(), source, {"frame": torch.rand(1, 3, 32, 32)}, ["latent"], {"frame": 16})
    feeds = [{"frame": f.transpose(2, 0, 1)[None].astype(np.float32) / 255} for f in frames[:3]]
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


def test_layers_that_the_target_bears_after_all_are_taken_back(tmp_path, frames):
    from export.quantization.cost_in_use import Cost

    source = tmp_path / "uneven.onnx"
    graph.write(Uneven(), source, {"frame": torch.rand(1, 3, 32, 32)}, ["latent"], {"frame": 16})
    feeds = [{"frame": f.transpose(2, 0, 1)[None].astype(np.float32) / 255} for f in frames[:3]]
    percents = iter((5.0, 5.0, 0.5, 0.7))  # the second layer that is given up was the only one that mattered

    def price(path):
        return Cost(next(percents), 0.0, 0.0, 0.0)

    result = quantize_to_target(source, tmp_path / "int8.onnx", feeds, price, target_percent=1.0)
    assert [len(trial["excluded"]) for trial in result.trials] == [0, 1, 2, 1]
    assert result.excluded == [result.sensitivity[1]["layer"]]
    assert result.met


def test_the_judge_sees_no_cost_in_the_same_graph_and_some_in_a_worse_one(bundle, frames):
    judge = Judge(bundle, frames[:2], levels=(60, 160))
    assert judge.cost({"encoder": OrtRunner(bundle.folder / "encoder.onnx")}).percent == pytest.approx(0, abs=1e-9)

    class Coarse:
        inner = OrtRunner(bundle.folder / "encoder.onnx")

        def run(self, feed):
            return {"latent": np.round(self.inner.run(feed)["latent"] * 2) / 2}

    assert judge.cost({"encoder": Coarse()}).percent > 5


def add(bundle: Bundle, path: Path, name: str) -> Bundle:
    shutil.copy(path, bundle.folder / name)
    return pipeline.seal(bundle.folder, bundle.manifest)


def test_a_codec_takes_int8_where_the_cpu_is_made_for_it_and_says_why(bundle, quantized, frames):
    assert choose(bundle, "encoder").graph == "encoder.onnx"
    with pytest.raises(BundleError, match="edgesem quantize"):
        choose(bundle, "encoder", "int8")
    bundle = add(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
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


def test_verify_passes_the_default_model_and_names_what_is_wrong_with_altered_ones(bundle, quantized, frames):
    bundle = add(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
    pipeline.write_golden(Codec(bundle), frames[:3])
    pipeline.seal(bundle.folder, bundle.manifest)

    def outcome(**changes):
        checks = verify(bundle.folder, target=target_of("x86"), frames=[], packets=4, **changes)
        return {check.name: check.ok for check in checks}

    good = outcome()
    assert good == {
        "digests": True,
        "signature": None,
        "format": True,
        "exactness proof": True,
        "golden packets": True,
        "runners agree": True,
        "packets agree": True,
        "parity": None,
    }
    golden = bundle.folder / "golden.json"
    text = golden.read_text()
    golden.write_text(text.replace('sha256": [\n   "', 'sha256": [\n   "0'))
    assert outcome() == {"digests": False}
    pipeline.seal(bundle.folder, bundle.manifest)  # the digests hold again: now the packets themselves must notice
    assert outcome()["golden packets"] is False


def test_verify_measures_every_form_on_real_pictures(bundle, quantized, frames):
    bundle = add(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
    checks = verify(bundle.folder, target=target_of("x86"), frames=frames[:2], limit_percent=100)
    found = next(check for check in checks if check.name == "parity")
    assert found.ok
    row = found.findings["encoder.int8.onnx"]
    assert 0 < row["p99_error"] <= row["max_error"]
    assert found.findings["decoder.onnx"]["max_error"] < 1e-3
    strict = verify(bundle.folder, target=target_of("x86"), frames=frames[:2], limit_percent=-100)
    assert next(check for check in strict if check.name == "parity").ok is False


def test_the_proof_refuses_weights_that_are_too_large_or_no_integers(bundle):
    path = bundle.folder / context_graph(3)
    assert 0 < largest_sum(path) < 2**24
    model = onnx.load(path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weight)
    for factor, message in ((4096.0, r"2\^24"), (1.5, "not integers")):
        weight.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(factor), weight.name))
        onnx.save(model, path)
        with pytest.raises(ExportError, match=message):
            largest_sum(path)


def test_a_signature_holds_until_anything_changes():
    identity = Identity(bytes(range(32)))
    manifest = signed({"name": "a", "files": {"x": "00"}}, identity)
    key = identity.public_key.hex()
    assert signer(json.loads(json.dumps(manifest))) == key
    assert signer(manifest, key.upper()) == key
    with pytest.raises(BundleError, match="not by"):
        signer(manifest, "00" * 32)
    with pytest.raises(BundleError, match="changed"):
        signer({**manifest, "name": "b"})
    for broken in ({}, {"key": 1}, {"key": "zz", "ed25519": "00"}, "text", {"key": key, "ed25519": "00"}):
        with pytest.raises(BundleError):
            signer({**manifest, "signature": broken})
    assert signer({"name": "a"}) is None
    with pytest.raises(BundleError, match="not signed"):
        signer({"name": "a"}, key)


def test_steps_are_kept_until_something_before_them_changes(tmp_path):
    made = []

    def go(first, second, resume=True):
        steps = Steps(tmp_path / "work", resume=resume)

        def make(name, value):
            made.append(name)
            (steps.files / name).write_text(str(value))
            return {"value": value}

        results = [steps.run(n, v, lambda n=n, v=v: make(n, v)) for n, v in (("a", first), ("b", second))]
        return [result["value"] for result in results]

    assert go(1, 2) == [1, 2]
    assert go(1, 2) == [1, 2]
    assert made == ["a", "b"]
    assert go(1, 3) == [1, 3]
    assert made == ["a", "b", "b"]
    go(2, 3)
    assert made[3:] == ["a", "b"]
    (tmp_path / "work" / "bundle" / "a").write_text("damaged")
    go(2, 3)
    assert made[5:] == ["a"]
    go(2, 3, resume=False)
    assert made[6:] == ["a", "b"]


def test_a_step_that_is_redone_or_left_out_leaves_nothing_of_before(tmp_path):
    def go(*names):
        steps = Steps(tmp_path / "work", resume=True)
        for name, settings in names:
            steps.run(name, settings, lambda name=name: (steps.files / name).write_text("x") and {})
        return sorted(path.name for path in steps.files.iterdir()), steps.seconds

    assert go(("graphs", 1), ("int8", 1), ("golden", 1))[0] == ["golden", "graphs", "int8"]
    steps = Steps(tmp_path / "work", resume=True)  # stopped on the way through int8, which had begun to write
    steps.run("graphs", 1, dict)
    (steps.files / "half").touch()
    left, seconds = go(("graphs", 1), ("golden", 1))
    assert left == ["golden", "graphs"]
    assert seconds["graphs"] == "kept"
    assert seconds["golden"] != "kept"


def test_a_manifest_written_on_the_way_does_not_make_a_step_stale(tmp_path):
    for expected in (False, True):
        steps = Steps(tmp_path / "work", resume=True)
        (steps.files / "manifest.json").write_text(str(expected))
        steps.run("graphs", 1, lambda steps=steps: (steps.files / "a").write_text("x") and {})
        assert (steps.seconds["graphs"] == "kept") is expected


def test_a_runner_that_reads_other_symbols_is_found(bundle, frames, monkeypatch):
    honest = exactness._codecs

    class Off:
        def __init__(self, inner):
            self.inner = inner

        def run(self, feed):
            out = self.inner.run(feed)
            return {**out, "mean": out["mean"] + (next(iter(feed.values()))[0, 0].max() > 128)}  # only at high quality

    def one_is_off(bundle, scratch):
        codecs = honest(bundle, scratch)
        path = bundle.folder / context_graph(3)
        codecs["plain"].use(path.stem, Off(OrtRunner(path)))
        return codecs

    assert exactness.packets_agree(bundle, 4, frames)["mismatches"] == 0
    monkeypatch.setattr(exactness, "_codecs", one_is_off)
    with pytest.raises(BundleError, match=r"packet \d+, \d+x\d+ of .*, quality (129|1[3-9]|2)\d*.*coded with"):
        exactness.packets_agree(bundle, 24, frames)


def test_every_board_is_a_target():
    from devices.board import Board

    names = {path.stem for path in (Path(__file__).parents[3] / "devices" / "boards").glob("*.toml")}
    assert names <= set(TARGETS)
    for name in names:
        assert TARGETS[name].tensorrt == ("tensorrt" in Board.load(name).run.runners)


OWN = """
import torch
torch.manual_seed(0)
encoder = torch.nn.Conv2d(3, 24, 8, stride=8)
decoder = torch.nn.ConvTranspose2d(24, 3, 8, stride=8)
basis = torch.linalg.qr(torch.rand(192, 24))[0].T.reshape(24, 3, 8, 8)
with torch.no_grad():
    for part in (encoder, decoder):
        part.weight.copy_(basis)
        part.bias.zero_()
minutes = 0.02
"""


def test_own_onnx_files_and_the_axes_around_them_become_one_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "_CROPS", 4)
    namespace: dict = {}
    exec(OWN, namespace)
    for name, feed in (("encoder", torch.rand(1, 3, 32, 48)), ("decoder", torch.rand(1, 24, 4, 6))):
        graph.write(namespace[name], tmp_path / f"{name}.onnx", {"x": feed}, ["y"], {"x": 8 if name[0] == "e" else 1})
    older = onnx.version_converter.convert_version(onnx.load(tmp_path / "decoder.onnx"), 18)
    onnx.save(older, tmp_path / "decoder.onnx")
    own = foreign.OwnModel(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", minutes=0.001)
    model = foreign.fit_model(own, PHOTOS, quiet)
    for part in ("encoder", "decoder"):
        model.write(part, tmp_path)
    frame = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        latent, quality = model.parts["encoder"](frame), torch.full((1, 1, 1, 1), 0.5)
        picture = model.parts["decoder"](latent, quality)
    got = OrtRunner(tmp_path / "encoder.onnx").run({"frame": frame.numpy()})["latent"]
    assert np.allclose(latent.numpy(), got, atol=1e-4)
    got = OrtRunner(tmp_path / "decoder.onnx").run({"latent": latent.numpy(), "quality": quality.numpy()})["picture"]
    assert np.allclose(picture.numpy(), got, atol=1e-4)
    for name in ("encoder.onnx", "decoder.onnx"):  # one name of ONNX's own operators, else no quantizer takes it
        assert [(entry.domain, entry.version) for entry in onnx.load(tmp_path / name).opset_import] == [("", 20)]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["py", "toml"])
def test_own_networks_become_a_bundle_that_codes_pictures(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(foreign, "_CROPS", 6)
    source = tmp_path / f"own.{kind}"
    (tmp_path / "own.py").write_text(OWN)
    if kind == "toml":
        namespace: dict = {}
        exec(OWN, namespace)
        for name, feed in (("encoder", torch.rand(1, 3, 32, 48)), ("decoder", torch.rand(1, 24, 4, 6))):
            graph.write(
                namespace[name], tmp_path / f"{name}.onnx", {"x": feed}, ["y"], {"x": 8 if name[0] == "e" else 1}
            )
        source.write_text('encoder = "encoder.onnx"\ndecoder = "decoder.onnx"\nminutes = 0.02\n')
    few = tmp_path / "photos"
    few.mkdir()
    for index, path in enumerate(find_pictures(PHOTOS)[:3]):
        write_picture(np.ascontiguousarray(read_picture(path)[:208, :208]), few / f"{index}.png")
    model = foreign.model_of_file(source, few, quiet)
    settings = pipeline.Settings("own", few)
    monkeypatch.setattr(pipeline, "QUALITY_LEVELS", (90,))
    manifest = pipeline.export_model(model, tmp_path / "bundle", settings, quiet)
    assert manifest["training"]["stride"] == 8
    codec = edgesem.load(tmp_path / "bundle")
    photo = read_picture(find_pictures(few)[0])[:160]
    small, large = (codec.encode(photo, quality=quality) for quality in (0.1, 0.8))
    assert len(small) < len(large)
    direct = model.parts["encoder"].inner(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255)
    ideal = model.parts["decoder"].inner(direct).detach()[0].permute(1, 2, 0).numpy() * 255
    distance = [np.abs(codec.decode(data) - ideal.clip(0, 255)).mean() for data in (small, large)]
    assert distance[1] < distance[0]
    assert distance[1] < 6


def test_own_models_with_another_interface_are_refused(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("encoder = 1\n")
    with pytest.raises(InputError, match="decoder"):
        foreign.model_of_file(path, PHOTOS, quiet)
    path.write_text("encoder = decoder = 1\n")
    with pytest.raises(InputError, match="torch modules"):
        foreign.model_of_file(path, PHOTOS, quiet)
    path.write_text("import torch\nencoder = torch.nn.Conv2d(3, 8, 3, stride=3)\ndecoder = encoder\n")
    with pytest.raises(InputError, match="stride"):
        foreign.model_of_file(path, PHOTOS, quiet)


def test_an_own_model_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "nets_beside_it.py").write_text("encoder = 1\n")
    (tmp_path / "own.py").write_text("from nets_beside_it import encoder\n")
    before = list(sys.path)
    with pytest.raises(InputError, match=r"wrong: \['decoder'\]"):
        foreign.model_of_file(tmp_path / "own.py", PHOTOS, quiet)
    assert sys.path == before


def test_what_goes_wrong_in_an_own_model_names_its_line(tmp_path):
    (tmp_path / "own.py").write_text("encoder = 1\nopen('weights that are not here')\n")
    with pytest.raises(InputError, match=r"FileNotFoundError.*weights.*line 2"):
        foreign.model_of_file(tmp_path / "own.py", PHOTOS, quiet)
    with pytest.raises(InputError, match="no such file"):
        foreign.model_of_file(tmp_path / "none.py", PHOTOS, quiet)


def test_a_context_model_is_kept_for_the_same_networks_and_pictures_only(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "_CROPS", 2)
    trained = []
    monkeypatch.setattr(foreign, "fit_context", lambda *_: trained.append(1) or foreign.ContextModel())
    namespace: dict = {}
    exec(OWN, namespace)
    own = foreign.OwnModel(namespace["encoder"], namespace["decoder"], minutes=1)
    first, again = (foreign.fit_model(own, PHOTOS, quiet, keep=tmp_path / "c.pt") for _ in range(2))
    assert len(trained) == 1
    weights = (model.parts["context"].state_dict() for model in (first, again))
    assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, weights), strict=True))
    foreign.fit_model(own, PHOTOS, quiet, seed=1, keep=tmp_path / "c.pt")  # other pieces of the pictures
    assert len(trained) == 2
    (tmp_path / "c.pt").write_bytes(b"half a file")
    foreign.fit_model(own, PHOTOS, quiet, keep=tmp_path / "c.pt")
    assert len(trained) == 3


def test_principal_axes_come_strongest_first_and_fill_up_with_nothing():
    torch.manual_seed(0)
    _, basis, std = axes.principal_axes(torch.randn(4, 8, 6, 6) * torch.arange(1.0, 9).view(1, 8, 1, 1))
    assert torch.allclose(basis[:8] @ basis[:8].T, torch.eye(8), atol=1e-5)
    assert not basis[8:].any()
    assert (std.diff() <= 0).all()


def test_a_step_meets_the_rate_it_is_asked_for():
    std = np.geomspace(4, 0.1, 96).astype(np.float32)
    coarse, fine = (axes.step_of_rate(std, bpp) for bpp in (0.03, 1.0))
    assert coarse > 4 * fine


def key(**changes) -> engines.EngineKey:
    values = {"graph_sha256": "0" * 64, "tensorrt": "10.3.0", "compute_capability": "8.7", "gpu": "Orin"}
    return engines.EngineKey(**{**values, "profile": "64x64-640x480-1920x1088", **changes})


def test_an_engine_of_another_gpu_tensorrt_or_graph_has_another_name():
    names = {key().digest}
    for change in ({"tensorrt": "10.7.0"}, {"compute_capability": "11.0"}, {"gpu": "Thor"}, {"graph_sha256": "1" * 64}):
        names.add(key(**change).digest)
    assert len(names) == 5
    assert key().digest == key().digest


def test_only_whole_engines_of_this_bundle_are_ever_found(bundle, quantized, tmp_path, monkeypatch):
    bundle = add(bundle, quantized[0] / "tensorrt.onnx", "encoder.trt-int8.onnx")
    mine = key(graph_sha256=bundle.files["encoder.trt-int8.onnx"])
    folder = tmp_path / "cache" / "engines"
    folder.mkdir(parents=True)
    assert "no engine was built" in engines.find_engine(bundle, "encoder", folder=tmp_path / "cache").reason
    plan = folder / f"{mine.digest}.engine"
    plan.write_bytes(b"an engine")
    digest = __import__("hashlib").sha256(b"an engine").hexdigest()
    record = {"key": engines.asdict(mine), "engine_sha256": digest}
    plan.with_suffix(".json").write_text(json.dumps(record))
    (folder / "strange.json").write_text("{")

    def here(version, capability):  # stands in for a Jetson: what it answers is all that is used of it
        trt = type("tensorrt", (), {"__version__": version})
        monkeypatch.setattr(engines, "require", lambda module, extra: trt)
        monkeypatch.setattr(engines, "gpu", lambda: engines.Gpu("Orin", capability, 1 << 30))
        return engines.find_engine(bundle, "encoder", folder=tmp_path / "cache")

    assert here("10.3.0", "8.7").path == plan
    assert here("10.7.0", "8.7").path is None
    assert here("10.3.0", "11.0").path is None
    plan.write_bytes(b"half an eng")
    assert here("10.3.0", "8.7").path is None


def test_sizes_of_a_camera():
    assert str(Sizes.of("1280x720")) == "64x64-1280x720-1920x1088"
    for wrong in ("large", "10x10", "640"):
        with pytest.raises(UsageError):
            Sizes.of(wrong)


def test_every_graph_builds_with_tensorrt_rtx_in_every_form(bundle, frames, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    found = tensorrt_builds(bundle, frames, quiet)
    forms = {f"{part}.trt-{form}.onnx" for part in ("encoder", "decoder", "flow") for form in ("fp16", "int8")}
    parts = {name.split(".")[0] for name in bundle.files if name.endswith(".onnx")} - {"head", "vision"}
    wanted = {name for name in forms if name.split(".")[0] in parts}
    wanted |= {f"{part}.onnx" for part in parts if part.startswith("context")}
    assert set(found) == {*wanted, "tensorrt_rtx", "compute_capabilities"}
    assert all(found[name]["engine_bytes"] > 1000 for name in wanted)
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="cannot read"):
        build_plan(trt, tmp_path / "broken.onnx", Sizes())


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_an_engine_is_built_once_and_again_when_it_was_damaged(bundle, tmp_path, monkeypatch):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    for_no_gpu = partial(build_plan, configure=partial(verification._aim, trt, ["SM86"]))
    monkeypatch.setattr(engine_builder, "build_plan", for_no_gpu)
    source = bundle.folder / "encoder.onnx"

    def build(version=trt.__version__):
        named = key(graph_sha256=bundle.files[source.name], tensorrt=version)
        here = engines.Gpu(named.gpu, named.compute_capability, 1 << 30)
        return engine_builder.build_cached(trt, named, source, Sizes.of("1280x720"), here, tmp_path)

    first, again, later = build(), build(), build("99.0")
    assert (first["built"], again["built"], later["built"]) == (True, False, True)
    assert first["engine"] == again["engine"] != later["engine"]
    first["engine"].write_bytes(b"half an eng")
    assert build()["built"]
    assert first["engine"].stat().st_size == first["size_bytes"]
    assert len(list(tmp_path.glob("timing-*.cache"))) == 2  # one for each TensorRT
    assert not list(tmp_path.rglob("*.part"))


def test_optimum_quantizes_the_same_graph(quantized, tmp_path):
    pytest.importorskip("optimum.onnxruntime", reason="needs the extra optimum")
    folder, feeds = quantized
    quantize.quantize_with_optimum(folder / "prepared.onnx", tmp_path / "o.onnx", feeds, quantize.CPU)
    plain, int8 = OrtRunner(DEFAULT / "encoder.onnx"), OrtRunner(tmp_path / "o.onnx")
    assert snr_db(plain.run(feeds[0]), int8.run(feeds[0])) > 8


def run_command(*words, code=0):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "edgesem", *map(str, words)], capture_output=True, text=True, env=env)
    assert done.returncode == code, done.stderr
    return done


def test_the_commands_say_what_is_wrong(bundle):
    assert "real pictures" in run_command("quantize", bundle.folder, code=2).stderr
    assert "tensorrt" in run_command("engine", bundle.folder, code=3).stderr.lower()
    (bundle.folder / "tables.npz").write_bytes(b"x")
    report = run_command("verify", bundle.folder, "--json", code=1)
    assert "digests" in report.stderr
