"""TensorRT engines: named by what they fit, built once, found whole."""

import hashlib
import json
from functools import partial

import pytest

from edgesem import engine_build as engine_builder
from edgesem.bundle import engine as engines
from edgesem.engine_build import Sizes, build_plan
from edgesem.errors import ExportError, UsageError
from export.bundle import verify as verification
from export.bundle.verify import tensorrt_builds
from export.graphs import exactness
from tests.support.bundles import quiet, with_file


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
    bundle = with_file(bundle, quantized[0] / "tensorrt.onnx", "encoder.trt-int8.onnx")
    mine = key(graph_sha256=bundle.files["encoder.trt-int8.onnx"])
    folder = tmp_path / "cache" / "engines"
    folder.mkdir(parents=True)
    assert "no engine was built" in engines.find_engine(bundle, "encoder", folder=tmp_path / "cache").reason
    plan = folder / f"{mine.digest}.engine"
    plan.write_bytes(b"an engine")
    digest = hashlib.sha256(b"an engine").hexdigest()
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


def test_a_record_that_cannot_be_read_costs_another_build(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_builder, "build_plan", lambda *_, **__: b"an engine")  # stands in for TensorRT
    here = engines.Gpu("Orin", "8.7", 1 << 30)

    def build():
        return engine_builder.build_cached(None, key(), tmp_path / "encoder.onnx", Sizes(), here, tmp_path)

    engine = build()["engine"]
    assert not build()["built"]
    for damaged in ("{", "[]", "[" * 100_000, json.dumps({"engine_sha256": hashlib.sha256(b"an engine").hexdigest()})):
        engine.with_suffix(".json").write_text(damaged)
        assert build()["built"]
        assert not build()["built"]


def test_sizes_of_a_camera():
    assert str(Sizes.of("1280x720")) == "64x64-1280x720-1920x1088"
    for wrong in ("large", "10x10", "640"):
        with pytest.raises(UsageError):
            Sizes.of(wrong)


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.long)])
def test_graphs_build_with_tensorrt_rtx_in_every_form(every, bundle, frames, tmp_path, monkeypatch):
    """Of the 22 context networks, which are of two kinds, one of each, or all of them."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    contexts = exactness.context_graphs(bundle)[::every]
    assert len(contexts) == 22 // every
    monkeypatch.setattr(verification, "context_graphs", lambda _: list(contexts))
    found = tensorrt_builds(bundle, frames[:2], quiet)
    forms = {f"{part}.trt-{form}.onnx" for part in ("encoder", "decoder", "flow") for form in ("fp16", "int8")}
    parts = {name.split(".")[0] for name in bundle.files if name.endswith(".onnx")}
    wanted = {name for name in forms if name.split(".")[0] in parts} | {path.name for path in contexts}
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
