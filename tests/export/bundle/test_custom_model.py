"""Custom models: networks that edgesem did not train become a bundle."""

import sys

import numpy as np
import onnx
import pytest
import torch

import edgesem
from edgesem.bundle.runner import OrtRunner
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture, write_picture
from export.bundle import custom_model, pipeline
from export.custom.adapter import principal_axes, step_of_rate
from runtime.capture.frame import PHOTOS
from tests.support.bundles import quiet
from tests.support.own_model import OWN, write_own


def test_own_onnx_files_and_the_axes_around_them_become_one_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(custom_model, "_CROPS", 4)
    write_own(tmp_path)
    own = custom_model.CustomModel(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", minutes=0.001)
    model = custom_model.fit_model(own, PHOTOS, quiet)
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
    monkeypatch.setattr(custom_model, "_CROPS", 6)
    source = tmp_path / f"own.{kind}"
    (tmp_path / "own.py").write_text(OWN)
    if kind == "toml":
        write_own(tmp_path)
        source.write_text('encoder = "encoder.onnx"\ndecoder = "decoder.onnx"\nminutes = 0.02\n')
    few = tmp_path / "photos"
    few.mkdir()
    for index, path in enumerate(find_pictures(PHOTOS)[:3]):
        write_picture(np.ascontiguousarray(read_picture(path)[:208, :208]), few / f"{index}.png")
    model = custom_model.model_of_file(source, few, quiet)
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
        custom_model.model_of_file(path, PHOTOS, quiet)
    path.write_text("encoder = decoder = 1\n")
    with pytest.raises(InputError, match="torch modules"):
        custom_model.model_of_file(path, PHOTOS, quiet)
    path.write_text("import torch\nencoder = torch.nn.Conv2d(3, 8, 3, stride=3)\ndecoder = encoder\n")
    with pytest.raises(InputError, match="stride"):
        custom_model.model_of_file(path, PHOTOS, quiet)


def test_an_own_model_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "nets_beside_it.py").write_text("encoder = 1\n")
    (tmp_path / "own.py").write_text("from nets_beside_it import encoder\n")
    before = list(sys.path)
    with pytest.raises(InputError, match=r"wrong: \['decoder'\]"):
        custom_model.model_of_file(tmp_path / "own.py", PHOTOS, quiet)
    assert sys.path == before


def test_what_goes_wrong_in_an_own_model_names_its_line(tmp_path):
    (tmp_path / "own.py").write_text("encoder = 1\nopen('weights that are not here')\n")
    with pytest.raises(InputError, match=r"FileNotFoundError.*weights.*line 2"):
        custom_model.model_of_file(tmp_path / "own.py", PHOTOS, quiet)
    with pytest.raises(InputError, match="no such file"):
        custom_model.model_of_file(tmp_path / "none.py", PHOTOS, quiet)


def test_a_context_model_is_kept_for_the_same_networks_and_pictures_only(tmp_path, monkeypatch):
    monkeypatch.setattr(custom_model, "_CROPS", 2)
    trained = []
    monkeypatch.setattr(custom_model, "fit_context", lambda *_: trained.append(1) or custom_model.ContextModel())
    namespace: dict = {}
    exec(OWN, namespace)
    own = custom_model.CustomModel(namespace["encoder"], namespace["decoder"], minutes=1)
    first, again = (custom_model.fit_model(own, PHOTOS, quiet, keep=tmp_path / "c.pt") for _ in range(2))
    assert len(trained) == 1
    weights = (model.parts["context"].state_dict() for model in (first, again))
    assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, weights), strict=True))
    custom_model.fit_model(own, PHOTOS, quiet, seed=1, keep=tmp_path / "c.pt")  # other pieces of the pictures
    assert len(trained) == 2
    (tmp_path / "c.pt").write_bytes(b"half a file")
    custom_model.fit_model(own, PHOTOS, quiet, keep=tmp_path / "c.pt")
    assert len(trained) == 3


def test_principal_axes_come_strongest_first_and_fill_up_with_nothing():
    torch.manual_seed(0)
    _, basis, std = principal_axes(torch.randn(4, 8, 6, 6) * torch.arange(1.0, 9).view(1, 8, 1, 1))
    assert torch.allclose(basis[:8] @ basis[:8].T, torch.eye(8), atol=1e-5)
    assert not basis[8:].any()
    assert (std.diff() <= 0).all()


def test_a_step_meets_the_rate_it_is_asked_for():
    std = np.geomspace(4, 0.1, 96).astype(np.float32)
    coarse, fine = (step_of_rate(std, bpp) for bpp in (0.03, 1.0))
    assert coarse > 4 * fine
