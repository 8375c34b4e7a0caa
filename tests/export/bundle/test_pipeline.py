"""Export and verification of bundles: gates, steps, signatures, and checks that find what was altered."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesem.bundle.runner import OrtRunner
from edgesem.cli import main as cli
from edgesem.codec.codec import Codec
from edgesem.entropy.schedule import context_graph
from edgesem.errors import BundleError, ExportError, UsageError
from edgesem.packet.keys import Identity
from edgesem.packet.signature import signed, signer
from export.bundle import pipeline
from export.bundle.folder import seal
from export.bundle.steps import Steps
from export.bundle.verify import verify
from export.cli.bundle import quantize
from export.graphs import exactness
from export.graphs.proof import largest_sum
from export.graphs.targets import TARGETS, target_of
from tests.support.bundles import quiet, with_file


def test_an_export_whose_bundle_does_not_verify_is_an_error(bundle, frames):
    pipeline.write_golden(Codec(bundle, precision="fp32"), frames[:3])
    seal(bundle.folder, bundle.manifest)
    assert pipeline._verified(bundle.folder, target_of("x86"), quiet)["golden packets"] is True
    golden = json.loads((bundle.folder / "golden.json").read_text())
    golden[0]["latent_sha256"][0] = "0" * 64
    (bundle.folder / "golden.json").write_text(json.dumps(golden))
    seal(bundle.folder, bundle.manifest)
    with pytest.raises(ExportError, match="golden packet 0"):
        pipeline._verified(bundle.folder, target_of("x86"), quiet)


def test_verify_passes_the_default_model_and_names_what_is_wrong_with_altered_ones(bundle, quantized, frames):
    bundle = with_file(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
    pipeline.write_golden(Codec(bundle), frames[:3])
    seal(bundle.folder, bundle.manifest)

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
    seal(bundle.folder, bundle.manifest)  # the digests hold again: now the packets themselves must notice
    assert outcome()["golden packets"] is False


def test_verify_measures_every_form_on_real_pictures(bundle, quantized, frames):
    bundle = with_file(bundle, quantized[0] / "cpu.onnx", "encoder.int8.onnx")
    checks = verify(bundle.folder, target=target_of("x86"), frames=frames[:2], packets=1, limit_percent=100)
    found = next(check for check in checks if check.name == "parity")
    assert found.ok
    row = found.findings["encoder.int8.onnx"]
    assert 0 < row["p99_error"] <= row["max_error"]
    assert found.findings["decoder.onnx"]["max_error"] < 1e-3
    strict = verify(bundle.folder, target=target_of("x86"), frames=frames[:2], packets=1, limit_percent=-100)
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


def test_a_signed_bundle_does_not_lose_its_signature_to_an_int8_form(bundle):
    seal(bundle.folder, bundle.manifest, Identity(bytes(32)))
    before = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    with pytest.raises(UsageError, match="is signed, and what is made of it would not be: name your key with --sign"):
        quantize(bundle.folder, data=bundle.folder)
    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == before


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


def test_the_commands_say_what_is_wrong(bundle, capsys):
    folder = str(bundle.folder)
    assert cli.main(["quantize", folder]) == 2
    assert "real pictures" in capsys.readouterr().err
    assert cli.main(["engine", folder]) == 3
    assert "tensorrt" in capsys.readouterr().err.lower()
    (bundle.folder / "tables.npz").write_bytes(b"x")
    assert cli.main(["verify", folder, "--json"]) == 1
    assert "digests" in capsys.readouterr().err
